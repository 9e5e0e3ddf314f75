"""Test the operators that wait, in the worker and in the triggerer."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, Context, TaskDeferred

from airflow_provider_hca.exceptions import DSSResponseError, DSSWaitError, InvalidDirectoryError
from airflow_provider_hca.operators.dss import (
    DSSCheckoutBundleOperator,
    DSSPutBundleOperator,
    DSSPutFileOperator,
    DSSUploadDirectoryOperator,
)
from airflow_provider_hca.triggers import wait
from tests.local.server import VERSION, LocalDSS, new_uuid, sums
from tests.running import (
    TaskState,
    connection,
    ending,
    execute,
    new_context,
    new_dag,
    next_try,
    requests_of,
    run,
    states,
    xcom,
)

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")

WAYS = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])
NOW = {"retry_delay": timedelta(0), "poll_interval": timedelta(seconds=1)}


def large() -> bytes:
    """Return content that is new to the DSS and that it copies asynchronously."""
    return new_uuid().encode() * 4_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "cells"
    root.mkdir()
    (root / "project.json").write_text('{"name": "cells"}')
    for number in range(3):
        (root / f"large_{number}.bin").write_bytes(large())
    return root


def upload(directory: Path, bucket: str, **options: Any) -> DSSUploadDirectoryOperator:
    return DSSUploadDirectoryOperator(
        task_id="upload", directory=str(directory), staging_bucket=bucket, **{**NOW, **options}
    )


def put_file(dss: LocalDSS, content: bytes, **options: Any) -> DSSPutFileOperator:
    return DSSPutFileOperator(task_id="put", source_url=dss.stage(content), **{**NOW, **options})


@WAYS
def test_put_file_waits_for_the_copy(dss: LocalDSS, deferrable: bool) -> None:
    content = large()
    file = execute(put_file(dss, content, name="a.bin", deferrable=deferrable))
    assert (file["name"], file["indexed"], list(file)) == (
        "a.bin",
        False,
        ["uuid", "version", "fqid", "replica", "name", "indexed"],
    )
    response = dss.call("HEAD", f"/files/{file['uuid']}", replica="aws", version=file["version"])
    assert response.headers["x-dss-sha256"] == sums(content)["hca-dss-sha256"]


def test_put_file_in_a_dag_waits_in_the_triggerer(dss: LocalDSS) -> None:
    with new_dag("put_copy") as dag:
        put_file(dss, large(), name="a.bin", deferrable=True)
    dag_run = run(dag)
    assert states(dag_run) == {"put": "success"}
    assert xcom(dag_run, "put")["name"] == "a.bin"
    assert requests_of(dss, "HEAD", "/v1/files/") > 0


@WAYS
def test_put_file_failed_copy_fails_without_retries(dss: LocalDSS, deferrable: bool) -> None:
    dss.control("POST", "faults", {"method": "PUT", "path": "/files/", "action": "fail_copy", "status": 422})
    assert ending(put_file(dss, large(), deferrable=deferrable)) == "failed"


@WAYS
def test_put_file_retry_after_copy_timeout_succeeds(dss: LocalDSS, deferrable: bool) -> None:
    dss.control("POST", "faults", {"method": "HEAD", "path": "/files/", "action": "status", "status": 404})
    context, uuid = new_context(), new_uuid()
    operator = put_file(dss, large(), copy_timeout=0, file_uuid=uuid, file_version=VERSION, deferrable=deferrable)
    assert ending(operator, context) == "up_for_retry"
    dss.wait_for_head(uuid, 200)
    assert ending(operator, next_try(context)) == "success"


@WAYS
def test_put_file_accepts_an_uppercase_sha256(dss: LocalDSS, deferrable: bool) -> None:
    content = large()
    execute(put_file(dss, content, sha256=sums(content)["hca-dss-sha256"].upper(), deferrable=deferrable))


def test_put_file_invalid_sha256_sends_no_request(dss: LocalDSS) -> None:
    with pytest.raises(AirflowFailException, match="sha256 must be 64 hexadecimal digits, got 'abab'"):
        put_file(dss, large(), sha256="abab").execute(new_context())
    assert requests_of(dss, "PUT", "/v1/files/") == 0


def test_put_file_small_file_is_not_deferred(dss: LocalDSS) -> None:
    put_file(dss, new_uuid().encode(), deferrable=True).execute(new_context())
    assert requests_of(dss, "HEAD", "/v1/files/") == 0


@WAYS
def test_upload_waits_for_all_copies(dss: LocalDSS, directory: Path, deferrable: bool) -> None:
    result = execute(upload(directory, dss.bucket, deferrable=deferrable))
    bundle = dss.call("GET", f"/bundles/{result['uuid']}", replica="aws", version=result["version"]).json()["bundle"]
    size = sum(path.stat().st_size for path in directory.iterdir())
    assert [file["name"] for file in bundle["files"]] == sorted(path.name for path in directory.iterdir())
    assert (result["file_count"], result["byte_count"]) == (4, size)
    statistics = {
        name: count for name, count in result["statistics"].items() if name not in {"seconds", "slowest_files"}
    }
    assert statistics == {
        "added_file_count": 4,
        "changed_file_count": 0,
        "removed_file_count": 0,
        "unchanged_file_count": 0,
        "staged_file_count": 4,
        "staged_byte_count": size,
        "skipped_file_count": 0,
        "registered_file_count": 4,
        "copied_file_count": 3,
        "retry_count": 0,
    }
    assert requests_of(dss, "PUT", "/v1/bundles/") == 1


def test_too_many_files_for_a_trigger_are_awaited_in_the_worker(
    dss: LocalDSS, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "_MAX_SIZE", 100)
    assert upload(directory, dss.bucket, deferrable=True).execute(new_context())["created"]
    dss.control("DELETE", "requests")
    with pytest.raises(DSSResponseError, match="file_missing"):
        put_bundle_of(new_uuid(), 0, deferrable=True).execute(new_context())
    assert requests_of(dss, "PUT", "/v1/bundles/") == 2


def deferred(operator: Any, context: Context) -> TaskDeferred:
    """Run an operator until it defers."""
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    return caught.value


@pytest.fixture
def deferred_upload(dss: LocalDSS, directory: Path) -> tuple[DSSUploadDirectoryOperator, Context, dict[str, Any]]:
    """Return an upload that waits in the triggerer, its context, and the event of a success."""
    operator, context = upload(directory, dss.bucket, deferrable=True, bundle_uuid=new_uuid()), new_context()
    deferral = deferred(operator, context)
    assert deferral.method_name == "execute_complete"
    carried = deferral.trigger.serialize()[1]["carried"]
    return operator, context, {"status": "success", "result": {}, "carried": carried}


def test_trigger_carries_counts_but_no_files(deferred_upload: Any) -> None:
    operator, _, event = deferred_upload
    assert event["carried"]["registered_file_count"] == 4
    names = [path.name for path in Path(operator.directory).iterdir()]
    slowest = {name for name, _ in event["carried"].pop("slowest_files")}
    assert slowest <= set(names)
    assert not [name for name in names if name in json.dumps(event["carried"])]


def test_resumed_upload_only_puts_the_bundle(dss: LocalDSS, deferred_upload: Any) -> None:
    operator, context, event = deferred_upload
    for path in Path(operator.directory).glob("*.bin"):
        dss.wait_for_head(_uuid_of(dss, operator, path.name), 200, version=_version(operator, context))
    dss.control("DELETE", "requests")
    result = operator.execute_complete(context, event)
    assert result["created"]
    assert result["statistics"]["registered_file_count"] == 4
    assert requests_of(dss, "PUT", "/v1/files/") == 0
    assert requests_of(dss, "HEAD", "/v1/files/") == 0
    assert requests_of(dss, "PUT", "/v1/bundles/") == 1


def _uuid_of(dss: LocalDSS, operator: DSSUploadDirectoryOperator, name: str) -> str:
    from airflow_provider_hca.client.identifiers import derive_uuid

    assert operator.bundle_uuid
    return derive_uuid(operator.bundle_uuid, name)


def _version(operator: DSSUploadDirectoryOperator, context: Context) -> str:
    from airflow_provider_hca.utils.identity import run_version

    return operator.bundle_version or run_version(context)


def test_resumed_upload_of_a_changed_directory_fails(dss: LocalDSS, deferred_upload: Any) -> None:
    operator, context, event = deferred_upload
    (Path(operator.directory) / "new.json").write_text("{}")
    dss.control("DELETE", "requests")
    with pytest.raises(InvalidDirectoryError, match="while the DSS was copying"):
        operator.execute_complete(context, event)
    assert requests_of(dss, "PUT", "/v1/") == 0


def test_resumed_upload_keeps_its_name_when_another_task_is_cleared(dss: LocalDSS, deferred_upload: Any) -> None:
    operator, context, event = deferred_upload
    context["dag_run"].clear_number += 1
    carried = event["carried"]
    assert operator.execute_complete(context, event)["fqid"] == f"{carried['uuid']}.{carried['version']}"


def test_resumed_upload_after_copy_timeout_fails(deferred_upload: Any) -> None:
    operator, context, event = deferred_upload
    with pytest.raises(DSSWaitError, match="copy_timeout"):
        operator.execute_complete(context, {"status": "timeout", "carried": event["carried"]})


@WAYS
def test_upload_retry_after_copy_timeout_registers_nothing_again(
    dss: LocalDSS, directory: Path, deferrable: bool
) -> None:
    context, options = new_context(), {"bundle_uuid": new_uuid(), "bundle_version": VERSION, "copy_timeout": 0}
    # Without this fault the files could be copied before the first poll.
    dss.control("POST", "faults", {"method": "HEAD", "path": "/files/", "action": "status", "status": 404, "times": 9})
    operator = upload(directory, dss.bucket, deferrable=deferrable, **options)
    assert ending(operator, context) == "up_for_retry"
    dss.control("DELETE", "faults")
    for path in directory.glob("*.bin"):
        dss.wait_for_head(_uuid_of(dss, operator, path.name), 200)
    result = execute(operator, next_try(context))
    statistics = result["statistics"]
    assert (statistics["staged_file_count"], statistics["registered_file_count"], result["file_count"]) == (0, 0, 4)
    assert requests_of(dss, "PUT", "/v1/bundles/") == 1


def put_bundle_of(file: str, timeout: Any, **options: Any) -> DSSPutBundleOperator:
    member = {"uuid": file, "version": VERSION, "name": "a.bin", "indexed": False}
    return DSSPutBundleOperator(
        task_id="put",
        files=[member],
        file_missing_timeout=timeout,
        **{"bundle_uuid": new_uuid(), "bundle_version": VERSION, **NOW, **options},
    )


@WAYS
def test_put_bundle_missing_file_is_waited_for(dss: LocalDSS, deferrable: bool) -> None:
    file, source = new_uuid(), dss.stage(new_uuid().encode())

    def register() -> None:
        while not requests_of(dss, "PUT", "/v1/bundles/"):  # counted with the response
            time.sleep(0.05)
        assert dss.put_file(source, file).status_code == 201

    with ThreadPoolExecutor() as pool:
        registered = pool.submit(register)
        result = execute(put_bundle_of(file, timedelta(seconds=600), deferrable=deferrable))
        registered.result()
    assert result["created"]
    assert requests_of(dss, "PUT", "/v1/bundles/") >= 2


@WAYS
def test_put_bundle_file_missing_timeout_fails_the_try(dss: LocalDSS, deferrable: bool) -> None:
    operator = put_bundle_of(new_uuid(), 0, deferrable=deferrable)
    with pytest.raises((DSSResponseError, DSSWaitError), match=r"file_missing"):
        execute(operator)
    assert requests_of(dss, "PUT", "/v1/bundles/") == 1


def test_put_bundle_deferred_keeps_its_name_when_another_task_is_cleared(dss: LocalDSS) -> None:
    file, context = new_uuid(), new_context()
    operator = put_bundle_of(file, 60, bundle_uuid=None, bundle_version=None, deferrable=True)
    carried = deferred(operator, context).trigger.serialize()[1]["carried"]
    assert dss.put_file(dss.stage(new_uuid().encode()), file).status_code == 201
    context["dag_run"].clear_number += 1
    result = operator.execute_complete(context, {"status": "success", "result": {}, "carried": carried})
    assert result["fqid"] == ".".join(carried["bundle"])


def test_put_bundle_other_errors_are_not_deferred(dss: LocalDSS) -> None:
    with pytest.raises(AirflowFailException, match="duplicates"):
        DSSPutBundleOperator(task_id="put", files=[dss.entry("a")] * 2, deferrable=True).execute(new_context())
    dss.control("POST", "faults", {"method": "PUT", "path": "/bundles/", "action": "status", "status": 409})
    with pytest.raises(AirflowFailException, match="409"):
        put_bundle_of(dss.new_file(), 60, deferrable=True).execute(new_context())


def checkout(bundle: str, **options: Any) -> DSSCheckoutBundleOperator:
    return DSSCheckoutBundleOperator(task_id="checkout", bundle_uuid=bundle, **{**NOW, **options})


@pytest.fixture
def bundle(dss: LocalDSS) -> str:
    uuid = new_uuid()
    assert dss.put_bundle([dss.entry("a.txt")], uuid).status_code == 201
    return uuid


@WAYS
def test_checkout_waits_for_the_files(dss: LocalDSS, bundle: str, deferrable: bool) -> None:
    result = execute(checkout(bundle, destination=dss.bucket, deferrable=deferrable))
    listed = dss.s3.list_objects_v2(Bucket=dss.bucket, Prefix=result["location"].split(f"{dss.bucket}/")[1])
    assert any(copy["Key"].endswith("/a.txt") for copy in listed["Contents"])


def test_checkout_in_a_dag_waits_in_the_triggerer(dss: LocalDSS, bundle: str) -> None:
    with new_dag("checkout") as dag:
        checkout(bundle, destination=dss.bucket, deferrable=True)
    dag_run = run(dag)
    assert states(dag_run) == {"checkout": "success"}
    assert xcom(dag_run, "checkout", "location") == xcom(dag_run, "checkout")["location"]


@WAYS
def test_checkout_failure_reports_the_cause_and_retries_start_anew(
    dss: LocalDSS, bundle: str, deferrable: bool
) -> None:
    context = new_context()
    operator = checkout(bundle, destination="no-such-bucket-here", deferrable=deferrable)
    for _ in range(2):
        with pytest.raises(Exception, match="no-such-bucket-here") as caught:
            execute(operator, context)
        assert not isinstance(caught.value, AirflowFailException)
    assert requests_of(dss, "POST", "/v1/bundles/") == 2


def test_checkout_retry_resumes_and_a_clear_starts_anew(dss: LocalDSS, bundle: str) -> None:
    store = TaskState()
    context = new_context(state=store)
    first = deferred(checkout(bundle, deferrable=True), context)
    job = first.trigger.serialize()[1]["wait"]["checkout_job_id"]
    assert checkout(bundle).execute(context)["checkout_job_id"] == job
    assert requests_of(dss, "POST", "/v1/bundles/") == 1
    assert store == {}
    assert checkout(bundle).execute(context)["checkout_job_id"] != job


@pytest.mark.parametrize("change", [{"destination": "another-bucket"}, {"bundle_version": VERSION}, {"bundle": ""}])
def test_checkout_retry_with_other_arguments_starts_anew(dss: LocalDSS, bundle: str, change: dict[str, Any]) -> None:
    store = TaskState()
    context = new_context(state=store)
    jobs = []
    for options in ({"bundle": bundle}, {"bundle": bundle, **change}):
        if not options["bundle"]:
            options["bundle"] = new_uuid()
            assert dss.put_bundle([dss.entry("b.txt")], options["bundle"]).status_code == 201
        deferral = deferred(checkout(**options, deferrable=True), context)
        jobs.append(deferral.trigger.serialize()[1]["wait"]["checkout_job_id"])
    assert len(set(jobs)) == 2
    assert requests_of(dss, "POST", "/v1/bundles/") == 2


@pytest.mark.parametrize("interval", ["soon", None])
def test_invalid_poll_interval_is_an_error_when_the_dag_is_parsed(interval: Any) -> None:
    with pytest.raises(ValueError, match="poll_interval must be a number of seconds or a timedelta"):
        checkout(new_uuid(), poll_interval=interval)


def test_checkout_timeout_is_an_error(dss: LocalDSS, bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss))
    with pytest.raises(Exception, match="checkout_timeout"):
        checkout(bundle, checkout_timeout=0).execute(new_context())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bundle": "x"}, "bundle uuid"), ({"bundle_version": "1"}, "bundle version"), ({"replica": "x"}, "replica must")],
)
def test_checkout_with_invalid_arguments_sends_no_request(dss: LocalDSS, options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        checkout(**{"bundle": new_uuid(), **options}).execute(new_context())
    assert requests_of(dss, "POST", "/v1/") == 0
