"""The same directory again: only what differs from the latest version of its bundle is uploaded."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, Asset

from airflow_provider_hca.client.identifiers import bundle_uuid_of
from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator, DSSUploadTaskGroup
from tests.local.server import LocalDSS, new_uuid
from tests.running import (
    LOGICAL_DATE,
    event_extras,
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

LARGE = 150_000  # bytes: the local DSS of the tests copies it asynchronously


@pytest.fixture
def key() -> str:
    return f"project/{new_uuid()}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "cells + genes"
    (root / "reads").mkdir(parents=True)
    (root / "project.json").write_text(f'{{"name": "{new_uuid()}"}}')
    (root / "reads/r1.fastq").write_bytes(new_uuid().encode() * 10)
    (root / "reads/r2.fastq").write_bytes(new_uuid().encode() * 10)
    (root / "large.bin").write_bytes((new_uuid().encode() * 5_000)[:LARGE])
    return root


def night(number: int, dag_id: str = "nightly") -> Any:
    return new_context(dag_id=dag_id, logical_date=LOGICAL_DATE + timedelta(days=number))


def upload(dss: LocalDSS, directory: Path | str, context: Any, **options: Any) -> dict[str, Any]:
    return upload_operator(dss, directory, **options).execute(context)


def upload_operator(dss: LocalDSS, directory: Path | str, **options: Any) -> DSSUploadDirectoryOperator:
    return DSSUploadDirectoryOperator(
        task_id="upload", directory=str(directory), staging_bucket=dss.bucket, poll_interval=1, **options
    )


def fault(dss: LocalDSS, path: str) -> None:
    """Let the DSS refuse the next PUTs."""
    dss.control("POST", "faults", {"method": "PUT", "path": path, "status": 400, "times": 99})


def manifest(dss: LocalDSS, result: dict[str, Any]) -> dict[str, tuple[str, str, bool]]:
    """Return UUID, version and `indexed` of each file of a bundle."""
    answer = dss.call("GET", f"/bundles/{result['uuid']}", replica=result["replica"], version=result["version"])
    assert answer.status_code == 200, answer.text
    return {file["name"]: (file["uuid"], file["version"], file["indexed"]) for file in answer.json()["bundle"]["files"]}


def counts(result: dict[str, Any]) -> tuple[int, int, int, int]:
    names = ("added", "changed", "removed", "unchanged")
    return tuple(result["statistics"][f"{name}_file_count"] for name in names)


def versions(dss: LocalDSS, uuid: str) -> list[str]:
    return sorted(bundle["version"] for bundle in dss.control("GET", "store")["bundles"] if bundle["uuid"] == uuid)


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_nights_upload_only_what_changed(dss: LocalDSS, directory: Path, key: str, replica: str) -> None:
    one = upload(dss, directory, night(1), bundle_key=key, replica=replica)
    first = manifest(dss, one)
    assert (one["uuid"], counts(one)) == (bundle_uuid_of(key), (4, 0, 0, 0))

    (directory / "reads/r1.fastq").write_bytes(b"changed" * 10)
    (directory / "reads/r3.fastq").write_bytes(new_uuid().encode())
    (directory / "reads/r2.fastq").unlink()
    two = upload(dss, directory, night(2), bundle_key=key, replica=replica)
    second = manifest(dss, two)
    assert (two["uuid"], counts(two), two["created"]) == (one["uuid"], (1, 1, 1, 2), True)
    assert two["statistics"]["staged_file_count"] == two["statistics"]["registered_file_count"] == 2
    assert sorted(second) == ["large.bin", "project.json", "reads/r1.fastq", "reads/r3.fastq"]
    for name in ("large.bin", "project.json"):
        assert second[name] == first[name]
    for name in ("reads/r1.fastq", "reads/r3.fastq"):
        assert second[name][1] == two["version"]

    before = dss.control("GET", "store")
    three = upload(dss, directory, night(3), bundle_key=key, replica=replica)
    assert (three["fqid"], three["created"], counts(three)) == (two["fqid"], False, (0, 0, 0, 4))
    assert dss.control("GET", "store") == before


def test_unchanged_directory_sends_no_write(dss: LocalDSS, directory: Path, key: str) -> None:
    uuid = upload(dss, directory, night(1), bundle_key=key)["uuid"]
    puts = requests_of(dss, "PUT", "/v1/")
    upload(dss, directory, night(2), bundle_key=key)
    assert requests_of(dss, "PUT", f"/v1/bundles/{uuid}") == 1
    assert requests_of(dss, "PUT", "/v1/") == puts


@pytest.mark.parametrize(
    ("options", "counted", "registered"),
    [
        ({"indexed": ["*.fastq"]}, (0, 3, 0, 1), 0),
        ({"content_types": {"*.fastq": "text/plain"}}, (0, 2, 0, 2), 2),
        ({"exclude": ["*.fastq"]}, (0, 0, 2, 2), 0),
    ],
    ids=["indexed", "content type", "exclude"],
)
def test_changed_options_create_a_version(
    dss: LocalDSS, directory: Path, key: str, options: dict[str, Any], counted: tuple[int, ...], registered: int
) -> None:
    upload(dss, directory, night(1), bundle_key=key)
    result = upload(dss, directory, night(2), bundle_key=key, **options)
    assert (counts(result), result["statistics"]["registered_file_count"]) == (counted, registered)
    assert result["created"]


def test_size_and_time_are_compared_without_reading(dss: LocalDSS, directory: Path, key: str) -> None:
    old = LOGICAL_DATE.timestamp() - 86_400
    for path in directory.rglob("*"):
        os.utime(path, (old, old))
    upload(dss, directory, night(1), bundle_key=key, compare="size-mtime")
    path = directory / "reads/r1.fastq"
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, (old, old))
    assert counts(upload(dss, directory, night(2), bundle_key=key, compare="size-mtime")) == (0, 0, 0, 4)
    path.touch()
    assert counts(upload(dss, directory, night(2), bundle_key=key, compare="size-mtime")) == (0, 1, 0, 3)


def test_prefix_of_a_bucket_is_compared_without_reading(dss: LocalDSS, key: str) -> None:
    prefix = new_uuid()
    for name in ("a.json", "b.json"):
        dss.s3.put_object(Bucket=dss.bucket, Key=f"{prefix}/{name}", Body=new_uuid().encode())
    source = f"s3://{dss.bucket}/{prefix}"
    options: dict[str, Any] = {"bundle_key": key, "staging_prefix": "staged"}
    upload(dss, source, night(1), **options)
    assert counts(upload(dss, source, night(2), **options)) == (0, 0, 0, 2)
    dss.s3.put_object(Bucket=dss.bucket, Key=f"{prefix}/a.json", Body=new_uuid().encode())
    result = upload(dss, source, night(3), **options)
    assert (counts(result), result["statistics"]["staged_file_count"]) == ((0, 1, 0, 1), 1)


def test_retry_after_a_failure_registers_only_the_rest(dss: LocalDSS, directory: Path, key: str) -> None:
    first = manifest(dss, upload(dss, directory, night(1), bundle_key=key))
    for name in ("reads/r1.fastq", "reads/r2.fastq"):
        (directory / name).write_bytes(new_uuid().encode())
    failing = first["reads/r2.fastq"][0]
    dss.control("POST", "faults", {"method": "PUT", "path": failing, "action": "status", "status": 403, "times": 1})
    context = night(2)
    with pytest.raises(AirflowFailException):
        upload(dss, directory, context, bundle_key=key)
    result = upload(dss, directory, next_try(context), bundle_key=key)
    assert (counts(result), result["statistics"]["registered_file_count"]) == ((0, 2, 0, 2), 1)
    assert versions(dss, result["uuid"]) == sorted({first["large.bin"][1], result["version"]})


def test_wait_in_the_triggerer_keeps_unchanged_files(dss: LocalDSS, directory: Path, key: str) -> None:
    first = manifest(dss, upload(dss, directory, night(1), bundle_key=key))
    (directory / "new.bin").write_bytes((new_uuid().encode() * 5_000)[:LARGE])
    operator = DSSUploadDirectoryOperator(
        task_id="upload",
        directory=str(directory),
        staging_bucket=dss.bucket,
        bundle_key=key,
        deferrable=True,
        poll_interval=0.1,
    )
    result = execute(operator, night(2))
    second = manifest(dss, result)
    assert (counts(result), second.pop("new.bin")[1]) == ((1, 0, 0, 4), result["version"])
    assert second == first


def test_retry_after_the_bundle_was_created_reports_it(dss: LocalDSS, directory: Path, key: str) -> None:
    """A try that was killed between the bundle and its end sent no asset event; its retry does."""
    with new_dag(f"keyed_{new_uuid()}") as dag:
        operator = DSSUploadDirectoryOperator(
            task_id="upload",
            directory=str(directory),
            staging_bucket=dss.bucket,
            bundle_key=key,
            outlets=[Asset(f"x-test://{key}")],
        )
    upload(dss, directory, new_context(dag_id=dag.dag_id), bundle_key=key)
    del operator
    run(dag, logical_date=LOGICAL_DATE)
    assert len(event_extras(f"x-test://{key}")) == 1


def test_asset_event_is_sent_only_for_a_new_version(dss: LocalDSS, directory: Path, key: str) -> None:
    with new_dag(f"keyed_{new_uuid()}") as dag:
        DSSUploadDirectoryOperator(
            task_id="upload",
            directory=str(directory),
            staging_bucket=dss.bucket,
            bundle_key=key,
            outlets=[Asset(f"x-test://{key}")],
        )
    for day in range(3):
        if day == 2:
            (directory / "new.json").write_text("{}")
        dag_run = run(dag, logical_date=LOGICAL_DATE + timedelta(days=day))
        assert states(dag_run) == {"upload": "success"}
    assert len(event_extras(f"x-test://{key}")) == 2


def test_unchanged_directory_can_skip_the_task(dss: LocalDSS, directory: Path, key: str) -> None:
    upload(dss, directory, night(1), bundle_key=key, if_unchanged="skip")
    with pytest.raises(AirflowSkipException, match="has all files already"):
        upload(dss, directory, night(2), bundle_key=key, if_unchanged="skip")


def test_older_run_with_changes_is_refused(dss: LocalDSS, directory: Path, key: str) -> None:
    """The version of a backfill would never be the latest, so its content would not be seen."""
    result = upload(dss, directory, night(2), bundle_key=key)
    assert upload(dss, directory, night(1), bundle_key=key)["fqid"] == result["fqid"]  # nothing differs
    (directory / "new.json").write_text("{}")
    before = dss.control("GET", "store")
    with pytest.raises(AirflowFailException, match="would not be the latest"):
        upload(dss, directory, night(1), bundle_key=key)
    with pytest.raises(AirflowSkipException, match="would not be the latest"):
        upload(dss, directory, night(1), bundle_key=key, if_newer_exists="skip")
    with pytest.raises(AirflowFailException, match="no other task has this bundle_key"):
        upload(dss, directory, night(2), bundle_key=key)
    assert dss.control("GET", "store") == before


@pytest.mark.parametrize("max_changed", [1, 0.25])
def test_more_changes_than_allowed_are_refused(dss: LocalDSS, directory: Path, key: str, max_changed: float) -> None:
    upload(dss, directory, night(1), bundle_key=key, max_changed=max_changed)
    (directory / "reads/r1.fastq").unlink()
    upload(dss, directory, night(2), bundle_key=key, max_changed=max_changed)
    for name in ("project.json", "reads/r2.fastq"):
        (directory / name).unlink()
    with pytest.raises(AirflowFailException, match="2 files would change, more than max_changed="):
        upload(dss, directory, night(3), bundle_key=key, max_changed=max_changed)


def test_older_date_is_skipped_however_much_differs(dss: LocalDSS, directory: Path, key: str) -> None:
    upload(dss, directory, night(5), bundle_key=key)
    for path in directory.rglob("*.fastq"):
        path.write_text(new_uuid())
    with pytest.raises(AirflowSkipException, match="would not be the latest"):
        upload(dss, directory, night(4), bundle_key=key, if_newer_exists="skip", max_changed=1)


def test_bundle_of_another_program_is_replaced(dss: LocalDSS, directory: Path) -> None:
    """Its files can have names that a directory cannot have."""
    file, bundle = new_uuid(), new_uuid()
    dss.put_file(dss.stage((directory / "project.json").read_bytes(), kind="application/json"), file)
    members = [dss.entry(name, file, indexed=True) for name in ("dir//b", "project.json")]
    assert dss.put_bundle(members, bundle).status_code == 201
    result = upload(dss, directory, new_context(logical_date=LOGICAL_DATE), bundle_uuid=bundle)
    assert counts(result) == (3, 0, 1, 1)
    assert manifest(dss, result)["project.json"][0] == file


def test_cleared_run_uploads_only_what_changed(dss: LocalDSS, directory: Path) -> None:
    """Also without a key."""
    context = night(1)
    first = upload(dss, directory, context)
    context["dag_run"].clear_number = 1
    assert upload(dss, directory, next_try(context))["fqid"] == first["fqid"]
    (directory / "new.json").write_text(new_uuid())
    second = upload(dss, directory, context)
    assert (counts(second), second["statistics"]["registered_file_count"]) == ((1, 0, 0, 4), 1)
    assert second["version"] > first["version"]


def test_keys_of_different_bundles_do_not_mix() -> None:
    assert bundle_uuid_of("a") != bundle_uuid_of("b")
    assert bundle_uuid_of("a") == bundle_uuid_of("a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bundle_key": " "}, "bundle_key must be a non-empty text"),
        ({"bundle_key": "a", "bundle_uuid": new_uuid()}, "exclude each other"),
        ({"bundle_key": "a", "if_unchanged": "fail"}, "if_unchanged must be one of"),
        ({"bundle_key": "a", "if_newer_exists": "x"}, "if_newer_exists must be one of"),
        ({"bundle_key": "a", "compare": "mtime"}, "compare must be one of checksum, size-mtime"),
    ],
)
def test_invalid_arguments_fail_without_retries(
    dss: LocalDSS, directory: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        upload(dss, directory, night(1), **options)


def group(
    dss: LocalDSS, directory: Path, key: str, number: int, **options: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a task group for a night; return the result of its last task, and the states of its tasks."""
    outlet = Asset(f"x-dss-test://{key}")
    with new_dag("nightly_group") as dag:
        DSSUploadTaskGroup(
            directory=str(directory),
            staging_bucket=dss.bucket,
            bundle_key=key,
            max_shard_files=2,
            outlets=[outlet],
            retries=0,
            **options,
        )
    dag_run = run(dag, logical_date=LOGICAL_DATE + timedelta(days=number))
    return xcom(dag_run, "upload.bundle"), states(dag_run)


def test_nights_of_a_group_upload_only_what_changed(dss: LocalDSS, directory: Path, key: str) -> None:
    one, _ = group(dss, directory, key, 1)
    first = manifest(dss, one)
    assert (one["uuid"], counts(one), one["statistics"]["shard_count"]) == (bundle_uuid_of(key), (4, 0, 0, 0), 2)

    (directory / "reads/r1.fastq").write_bytes(b"changed" * 10)
    (directory / "reads/r3.fastq").write_bytes(new_uuid().encode())
    (directory / "reads/r2.fastq").unlink()
    two, _ = group(dss, directory, key, 2)
    second = manifest(dss, two)
    assert (counts(two), two["created"], two["statistics"]["shard_count"]) == ((1, 1, 1, 2), True, 1)
    assert two["statistics"]["staged_file_count"] == two["statistics"]["registered_file_count"] == 2
    assert [second[name] for name in ("large.bin", "project.json")] == [first["large.bin"], first["project.json"]]
    assert {second[name][1] for name in ("reads/r1.fastq", "reads/r3.fastq")} == {two["version"]}

    before = dss.control("GET", "store")
    three, found = group(dss, directory, key, 3)
    assert (three["fqid"], three["created"], counts(three)) == (two["fqid"], False, (0, 0, 0, 4))
    assert found["upload.shard"] == "skipped"
    assert dss.control("GET", "store") == before

    (directory / "large.bin").unlink()
    four, found = group(dss, directory, key, 4)
    assert (counts(four), found["upload.shard"], found["upload.bundle"]) == ((0, 0, 1, 3), "skipped", "success")
    assert manifest(dss, four) == {name: file for name, file in second.items() if name != "large.bin"}


def test_group_skips_an_older_date(dss: LocalDSS, directory: Path, key: str) -> None:
    group(dss, directory, key, 5)
    (directory / "new").write_text(new_uuid())
    _, found = group(dss, directory, key, 4, if_newer_exists="skip")
    assert {*found.values()} == {"skipped"}
    _, found = group(dss, directory, key, 3)
    assert found["upload.plan"] == "failed"


def test_group_refuses_more_changes_than_allowed_before_it_stages(dss: LocalDSS, directory: Path, key: str) -> None:
    group(dss, directory, key, 1)
    for name in ("project.json", "reads/r2.fastq"):
        (directory / name).write_text(new_uuid())
    puts = requests_of(dss, "PUT", "/")
    _, found = group(dss, directory, key, 2, max_changed=1)
    assert (found["upload.plan"], found["upload.bundle"]) == ("failed", "upstream_failed")
    assert requests_of(dss, "PUT", "/") == puts


@pytest.mark.parametrize("replica", ["aws", "gcp"])
@pytest.mark.parametrize("named", [True, False], ids=["key", "cleared"])
def test_next_run_uses_what_a_failed_run_staged(
    dss: LocalDSS, directory: Path, key: str, replica: str, *, named: bool
) -> None:
    """Only the files that changed in between are sent."""
    options: dict[str, Any] = {"replica": replica, **({"bundle_key": key} if named else {})}
    fault(dss, "/files/")
    with pytest.raises(AirflowFailException):
        upload(dss, directory, night(1, key), **options)
    dss.control("DELETE", "faults")
    (directory / "reads/r1.fastq").write_text(new_uuid())
    context = night(2) if named else next_try(night(1, key))
    context["dag_run"].clear_number = 0 if named else 1
    result = upload(dss, directory, context, **options)
    statistics = result["statistics"]
    assert (statistics["staged_file_count"], statistics["skipped_file_count"]) == (1, 3)
    assert statistics["registered_file_count"] == 4
    assert {version for _, version, _ in manifest(dss, result).values()} == {result["version"]}


@pytest.mark.parametrize("named", [True, False], ids=["key", "cleared"])
@pytest.mark.parametrize("deferrable", [True, False])
def test_next_run_uses_what_a_failed_run_registered(
    dss: LocalDSS, directory: Path, key: str, *, named: bool, deferrable: bool
) -> None:
    """The bundle of the next run has their versions; one that changed in between gets the run's."""
    options: dict[str, Any] = {"bundle_key": key} if named else {}
    fault(dss, "/bundles/")
    with pytest.raises(AirflowFailException):
        upload(dss, directory, night(1, key), **options)
    dss.control("DELETE", "faults")
    (directory / "reads/r1.fastq").write_text(new_uuid())
    (directory / "large.bin").write_bytes((new_uuid().encode() * 5_000)[:LARGE])
    context = night(2) if named else next_try(night(1, key))
    context["dag_run"].clear_number = 0 if named else 1
    result = execute(upload_operator(dss, directory, deferrable=deferrable, **options), context)
    statistics = result["statistics"]
    assert (statistics["staged_file_count"], statistics["registered_file_count"]) == (2, 2)
    versions_of = {name: version for name, (_, version, _) in manifest(dss, result).items()}
    changed = {name for name, version in versions_of.items() if version == result["version"]}
    assert changed == {"reads/r1.fastq", "large.bin"}
    assert len({*versions_of.values()}) == 2

    context = night(3) if named else next_try(context)
    context["dag_run"].clear_number = 0 if named else 2
    assert upload(dss, directory, context, **options)["fqid"] == result["fqid"]


def test_group_uses_what_a_failed_run_registered(dss: LocalDSS, directory: Path, key: str) -> None:
    fault(dss, "/bundles/")
    _, found = group(dss, directory, key, 1)
    assert found["upload.bundle"] == "failed"
    dss.control("DELETE", "faults")
    (directory / "reads/r1.fastq").write_text(new_uuid())
    result, _ = group(dss, directory, key, 2)
    statistics = result["statistics"]
    assert (statistics["staged_file_count"], statistics["registered_file_count"]) == (1, 1)
    assert sum(version == result["version"] for _, version, _ in manifest(dss, result).values()) == 1
