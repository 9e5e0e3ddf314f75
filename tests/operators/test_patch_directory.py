"""Test the operator that adds the files of a directory to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_hca.client.identifiers import derive_uuid
from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.operators.dss import DSSPatchBundleOperator, DSSUploadDirectoryOperator
from airflow_provider_hca.utils.ui_links import PROGRESS_KEY
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.operators.stopping import accept_files, accepted_files, killed_when
from tests.running import (
    LOGICAL_DATE,
    connection,
    ending,
    event_of,
    execute,
    new_context,
    new_dag,
    next_try,
    requests_of,
    run,
    xcom,
)

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")

LARGE = 150_000  # bytes: the local DSS of the tests copies it asynchronously
REPLICAS = pytest.mark.parametrize("replica", ["aws", "gcp"])
Files = dict[str, dict[str, Any]]  # by name


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with a new, a changed and an identical file for `bundle`."""
    root = tmp_path / "more"
    _write(root, "new/n.json", new_uuid())
    _write(root, "changed.txt", new_uuid())
    _write(root, "same.json", '{"same": 1}')
    return root


def _write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def upload(dss: LocalDSS, tmp_path: Path, replica: str = "aws") -> str:
    """Create a bundle of another day; return its UUID."""
    root, context = tmp_path / "bundle", new_context(logical_date=LOGICAL_DATE - timedelta(days=1))
    for name, text in {"changed.txt": "old", "same.json": '{"same": 1}', "other.txt": new_uuid()}.items():
        _write(root, name, text)
    options: dict[str, Any] = {"staging_bucket": dss.bucket, "replica": replica}
    operator = DSSUploadDirectoryOperator(task_id="upload", directory=str(root), **options)
    return str(operator.execute(context)["uuid"])


def patch(dss: LocalDSS, uuid: str, directory: Path | str, **options: Any) -> DSSPatchBundleOperator:
    options = {"staging_bucket": dss.bucket, **options}
    return DSSPatchBundleOperator(task_id="patch", bundle_uuid=uuid, add_directory=str(directory), **options)


def stored(dss: LocalDSS, uuid: str, replica: str = "aws") -> list[Files]:
    """Return the files of each version of a bundle in the store, oldest first."""
    bundles = [
        one for one in dss.control("GET", "store")["bundles"] if (one["uuid"], one["replica"]) == (uuid, replica)
    ]
    bundles.sort(key=lambda bundle: str(bundle["version"]))
    return [{file["name"]: file for file in bundle["manifest"]["files"]} for bundle in bundles]


def check_patched(files: list[Files], uuid: str) -> None:
    """Check that the new, the changed and no other file were added, each with the names of the run."""
    before, after = files
    assert sorted(after) == ["changed.txt", "new/n.json", "other.txt", "same.json"]
    for name in ("other.txt", "same.json"):
        assert after[name] == before[name]
    for name in ("changed.txt", "new/n.json"):
        assert (after[name]["uuid"], after[name]["version"]) == (derive_uuid(uuid, name), "2026-03-01T123000.000000Z")
    assert after["changed.txt"]["sha256"] != before["changed.txt"]["sha256"]
    assert (after["new/n.json"]["indexed"], after["changed.txt"]["indexed"]) == (True, False)


def writes(dss: LocalDSS) -> int:
    return sum(requests_of(dss, method, "/v1/") for method in ("PUT", "PATCH", "POST"))


@REPLICAS
def test_directory_is_added_in_one_change(dss: LocalDSS, tmp_path: Path, directory: Path, replica: str) -> None:
    uuid = upload(dss, tmp_path, replica)
    context = new_context()
    result = patch(dss, uuid, directory, replica=replica).execute(context)
    check_patched(stored(dss, uuid, replica), uuid)
    statistics = result["statistics"]
    assert (result["uuid"], result["file_count"], result["created"], result["replica"]) == (uuid, 4, True, replica)
    assert (statistics["patch_count"], statistics["staged_file_count"], statistics["registered_file_count"]) == (
        1,
        2,
        2,
    )
    assert (statistics["added_file_count"], statistics["changed_file_count"]) == (1, 1)
    assert (statistics["removed_file_count"], statistics["unchanged_file_count"]) == (0, 1)
    assert context["ti"].pushed[PROGRESS_KEY]["phase"] == "done"

    store = dss.control("GET", "store")
    again = patch(dss, uuid, directory, replica=replica).execute(next_try(context))
    assert (again["fqid"], again["created"], again["statistics"]["patch_count"]) == (result["fqid"], False, 0)
    assert dss.control("GET", "store") == store


def test_prefix_of_a_bucket_is_added(dss: LocalDSS, tmp_path: Path) -> None:
    uuid, prefix = upload(dss, tmp_path), f"incoming/{new_uuid()}"
    for name in ("a.json", "deep/b.txt", "c.skip"):
        dss.s3.put_object(Bucket=dss.bucket, Key=f"{prefix}/{name}", Body=new_uuid().encode())
    options: dict[str, Any] = {"exclude": ["*.skip"], "indexed": ["*.txt"], "content_types": {"*.txt": "text/csv"}}
    patch(dss, uuid, f"s3://{dss.bucket}/{prefix}", **options).execute(new_context())
    _, after = stored(dss, uuid)
    assert sorted(after) == ["a.json", "changed.txt", "deep/b.txt", "other.txt", "same.json"]
    assert (after["a.json"]["indexed"], after["deep/b.txt"]["indexed"]) == (False, True)
    assert after["deep/b.txt"]["content-type"] == "text/csv"


def test_directory_with_other_files_is_one_change(dss: LocalDSS, tmp_path: Path, directory: Path) -> None:
    uuid, file = upload(dss, tmp_path), dss.new_file()
    (before,) = stored(dss, uuid)
    removed = [before["other.txt"], before["changed.txt"]]
    operator = patch(dss, uuid, directory, add_files=[dss.entry("registered", file)], remove_files=removed)
    assert operator.execute(new_context())["statistics"]["patch_count"] == 1
    _, after = stored(dss, uuid)
    assert sorted(after) == ["changed.txt", "new/n.json", "registered", "same.json"]
    assert after["changed.txt"]["sha256"] != before["changed.txt"]["sha256"]


def test_given_version_is_changed(dss: LocalDSS, tmp_path: Path, directory: Path) -> None:
    uuid = upload(dss, tmp_path)
    first = patch(dss, uuid, directory).execute(new_context())
    _write(directory, "later.txt", new_uuid())
    context = new_context(logical_date=LOGICAL_DATE + timedelta(days=1))
    patch(dss, uuid, directory, bundle_version=first["version"], include=["later*"]).execute(context)
    patch(dss, uuid, directory, bundle_version=first["version"], include=["later*"]).execute(next_try(context))
    *_, after = versions = stored(dss, uuid)
    assert len(versions) == 3
    assert sorted(after) == ["changed.txt", "later.txt", "new/n.json", "other.txt", "same.json"]


def test_templates_are_rendered_in_a_dag(dss: LocalDSS, tmp_path: Path, directory: Path) -> None:
    uuid = upload(dss, tmp_path)
    with new_dag("patch_directory") as dag:
        DSSPatchBundleOperator(
            task_id="patch",
            bundle_uuid="{{ params.uuid }}",
            add_directory="{{ params.directory }}",
            staging_bucket="{{ params.bucket }}",
            params={"uuid": uuid, "directory": str(directory), "bucket": dss.bucket},
        )
    dag_run = run(dag)
    assert xcom(dag_run, "patch", "file_count") == len(stored(dss, uuid)[1]) == 4


# Retries


FAULTS: dict[str, dict[str, Any]] = {
    "bundle is read": {"method": "GET", "path": "/bundles/"},
    "first file is registered": {"method": "PUT", "path": "/files/"},
    "response to a registration is lost": {"method": "PUT", "path": "/files/", "after": True},
    "bundle is patched": {"method": "PATCH", "path": "/bundles/"},
    "response to the patch is lost": {"method": "PATCH", "path": "/bundles/", "after": True},
}


@REPLICAS
@pytest.mark.parametrize("step", FAULTS)
@pytest.mark.parametrize("named", [True, False], ids=["version", "latest"])
def test_retry_after_a_failure_ends_in_the_same_store(
    dss: LocalDSS, tmp_path: Path, directory: Path, step: str, replica: str, *, named: bool
) -> None:
    uuid, context = upload(dss, tmp_path, replica), new_context()
    ((version, *_),) = ({file["version"] for file in files.values()} for files in stored(dss, uuid, replica))
    options: dict[str, Any] = {"replica": replica, "bundle_version": version if named else None}
    before = len(dss.control("GET", "store")["files"])
    dss.control("POST", "faults", {**FAULTS[step], "action": "status", "status": 403, "times": 1})
    assert ending(patch(dss, uuid, directory, **options), context) == "failed"
    result = patch(dss, uuid, directory, **options).execute(next_try(context))
    check_patched(stored(dss, uuid, replica), uuid)
    assert len(dss.control("GET", "store")["files"]) == before + 2
    assert result["created"] is (step != "response to the patch is lost")


@pytest.mark.parametrize("seed", range(4))
def test_retry_after_a_patch_that_only_caches_have(
    dss: LocalDSS, tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The failed PATCH leaves its changes in the cache of a process of the DSS."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_seconds=0))
    uuid, context, late = upload(dss, tmp_path), new_context(), new_uuid()
    dss.control("POST", "processes", {"count": 2, "seed": seed})
    operator = patch(dss, uuid, directory, add_files=[dss.entry("late", late)])
    assert ending(operator, context) == "up_for_retry"
    assert len(stored(dss, uuid)) == 1
    assert dss.put_file(dss.stage(b"late"), late).status_code == 201
    operator.execute(next_try(context))
    *_, after = stored(dss, uuid)
    assert after.pop("late")
    check_patched([stored(dss, uuid)[0], after], uuid)


def test_retry_after_a_kill_registers_only_the_rest(
    dss: LocalDSS, tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, context, before = upload(dss, tmp_path), new_context(), accepted_files(dss)
    accept_files(dss, monkeypatch, 1)
    operator = patch(dss, uuid, directory)
    with killed_when(operator, lambda: accepted_files(dss) > before):
        assert ending(operator, context) == "up_for_retry"
    dss.control("DELETE", "faults")
    result = patch(dss, uuid, directory).execute(next_try(context))
    check_patched(stored(dss, uuid), uuid)
    assert result["statistics"]["registered_file_count"] == 1


def test_retry_of_a_second_change_stages_nothing_again(dss: LocalDSS, tmp_path: Path, directory: Path) -> None:
    """The version to change, of a PATCH, is later than that of the DAG run."""
    uuid = upload(dss, tmp_path)
    patch(dss, uuid, directory).execute(new_context())
    _write(directory, "later.txt", new_uuid())
    context = new_context(logical_date=LOGICAL_DATE + timedelta(days=1))
    dss.control("POST", "faults", {**FAULTS["first file is registered"], "action": "status", "status": 403, "times": 1})
    assert ending(patch(dss, uuid, directory), context) == "failed"
    statistics = patch(dss, uuid, directory).execute(next_try(context))["statistics"]
    assert (statistics["staged_file_count"], statistics["registered_file_count"]) == (0, 1)


def test_file_that_the_run_registered_with_other_content_is_refused(
    dss: LocalDSS, tmp_path: Path, directory: Path
) -> None:
    uuid, context = upload(dss, tmp_path), new_context()
    patch(dss, uuid, directory).execute(context)
    _write(directory, "changed.txt", "once more")
    store = dss.control("GET", "store")
    with pytest.raises(AirflowFailException, match=r"with other content.*: 'changed.txt'\. Replace them in a later"):
        patch(dss, uuid, directory).execute(next_try(context))
    assert dss.control("GET", "store") == store
    context["dag_run"].clear_number = 1
    patch(dss, uuid, directory).execute(context)
    assert len(stored(dss, uuid)) == 3


# Asynchronous copies


@REPLICAS
@pytest.mark.parametrize("deferrable", [True, False])
def test_large_file_is_waited_for(
    dss: LocalDSS, tmp_path: Path, directory: Path, replica: str, *, deferrable: bool
) -> None:
    uuid = upload(dss, tmp_path, replica)
    _write(directory, "changed.txt", new_uuid() * (LARGE // 36))
    operator = patch(dss, uuid, directory, replica=replica, deferrable=deferrable, poll_interval=0.1)
    context = new_context()
    if deferrable:
        with pytest.raises(TaskDeferred):
            operator.execute(context)
        assert context["ti"].pushed[PROGRESS_KEY]["phase"] == "copy"
        assert requests_of(dss, "PATCH", "/v1/") == 0
    result = execute(operator, next_try(context))
    check_patched(stored(dss, uuid, replica), uuid)
    assert (result["created"], result["statistics"]["unchanged_file_count"]) == (True, 1)


def test_change_after_the_wait_is_of_the_latest_version(dss: LocalDSS, tmp_path: Path, directory: Path) -> None:
    """Another program has replaced the same file during the wait."""
    uuid, file = upload(dss, tmp_path), dss.new_file()
    _write(directory, "changed.txt", new_uuid() * (LARGE // 36))
    operator, context = patch(dss, uuid, directory, deferrable=True, poll_interval=0.1), new_context()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    (before,) = stored(dss, uuid)
    add = [dss.entry("theirs", file), dss.entry("changed.txt", file)]
    other = DSSPatchBundleOperator(
        task_id="other", bundle_uuid=uuid, add_files=add, remove_files=[before["changed.txt"]]
    )
    other.execute(new_context())
    operator.execute_complete(context, event_of(deferred.value.trigger))
    *_, after = stored(dss, uuid)
    assert after.pop("theirs")["uuid"] == file
    check_patched([before, after], uuid)


def test_directory_changed_during_the_wait_is_an_error(dss: LocalDSS, tmp_path: Path, directory: Path) -> None:
    uuid = upload(dss, tmp_path)
    _write(directory, "large.txt", new_uuid() * (LARGE // 36))
    operator, context = patch(dss, uuid, directory, deferrable=True, poll_interval=0.1), new_context()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    _write(directory, "added.txt", new_uuid())
    event = event_of(deferred.value.trigger)
    with pytest.raises(InvalidDirectoryError, match="added or removed while the DSS was copying"):
        operator.execute_complete(context, event)
    assert len(stored(dss, uuid)) == 1


# Refused before anything is sent


INVALID: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "no bucket": (lambda _: {"staging_bucket": None}, "staging_bucket is required with add_directory"),
    "bucket as URL": (lambda _: {"staging_bucket": "s3://staging"}, "staging_bucket must be a bucket's name"),
    "no directory": (lambda root: {"directory": root / "missing"}, "missing cannot be uploaded"),
    "empty path": (lambda _: {"directory": ""}, "directory is empty: give a path"),
    "nothing selected": (lambda _: {"include": ["*.csv"]}, "no files to upload"),
    "refused name": (lambda root: {"directory": root.parent / "names"}, "names cannot be uploaded"),
    "other cloud": (lambda _: {"directory": "gs://bucket/prefix"}, "is not in the cloud of replica 'aws'"),
    "name twice": (
        lambda _: {"add_files": [{"uuid": new_uuid(), "version": VERSION, "name": "same.json", "indexed": True}]},
        "more and add_files both have: 'same.json'",
    ),
    "invalid file": (lambda _: {"remove_files": [{"name": "c"}]}, "uuid, version, indexed is missing"),
    "empty version": (lambda _: {"bundle_version": ""}, "version must be a DSS_VERSION"),
    "other bundle": (lambda _: {"uuid": new_uuid()}, "404 not_found"),
    "other version": (lambda _: {"bundle_version": VERSION}, "404 not_found"),
}


def test_name_that_stays_in_the_bundle_fails_before_anything_is_staged(
    dss: LocalDSS, tmp_path: Path, directory: Path
) -> None:
    uuid = upload(dss, tmp_path)
    clash = {"uuid": new_uuid(), "version": VERSION, "name": "other.txt", "indexed": True}
    before = dss.control("GET", "store"), dss.s3.list_objects_v2(Bucket=dss.bucket)["KeyCount"]
    with pytest.raises(AirflowFailException, match="already has another file named 'other"):
        patch(dss, uuid, directory, add_files=[clash]).execute(new_context())
    assert (dss.control("GET", "store"), dss.s3.list_objects_v2(Bucket=dss.bucket)["KeyCount"]) == before


@pytest.mark.parametrize("case", INVALID)
def test_invalid_argument_fails_before_anything_is_sent(
    dss: LocalDSS, tmp_path: Path, directory: Path, case: str
) -> None:
    change, message = INVALID[case]
    options: dict[str, Any] = {"uuid": upload(dss, tmp_path), "directory": directory, **change(directory)}
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "a\nb").write_text("x")
    before = writes(dss), dss.s3.list_objects_v2(Bucket=dss.bucket)["KeyCount"]
    with pytest.raises(AirflowFailException, match=message):
        patch(dss, **options).execute(new_context())
    assert (writes(dss), dss.s3.list_objects_v2(Bucket=dss.bucket)["KeyCount"]) == before
