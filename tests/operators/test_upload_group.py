"""Test the task group that uploads a directory with many workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskGroup, task

from airflow_provider_hca.client.identifiers import derive_uuid
from airflow_provider_hca.exceptions import DSSAbortedError, InvalidDirectoryError
from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator, DSSUploadTaskGroup
from airflow_provider_hca.operators.upload_group import (
    PLANNED_KEY,
    DSSPlanUploadOperator,
    DSSUploadShardOperator,
    DSSUploadShardsBundleOperator,
)
from airflow_provider_hca.utils.ui_links import PROGRESS_KEY
from tests.local.server import LocalDSS, new_uuid
from tests.operators.stopping import accept_files, accepted_files, join_worker_threads, killed_when
from tests.running import (
    LOGICAL_DATE,
    connection,
    ending,
    new_context,
    new_dag,
    next_try,
    requests_of,
    run,
    states,
    xcom,
)

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")

LARGE = 150_000  # bytes: copied asynchronously by the tests' DSS


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return eleven files, one of them copied asynchronously; sorted names mix files and directories."""
    root = tmp_path / "cells"
    salt = new_uuid()
    for name in ("a.json", "a/1.txt", "a/2.json", "a/b/3", "a-b/4", "a0", "z/5 ü#%.json", "Z", "empty", ".hidden"):
        (root / name).parent.mkdir(parents=True, exist_ok=True) if name != "a.json" else root.mkdir()
        (root / name).write_text("" if name == "empty" else salt + name)
    (root / "large.bin").write_bytes(salt.encode() + bytes(LARGE))
    return root


def group(directory: Path, bucket: str, **options: Any) -> DSSUploadTaskGroup:
    options = {"retries": 0, "retry_delay": timedelta(0), "max_shard_files": 3, **options}
    return DSSUploadTaskGroup(directory=str(directory), staging_bucket=bucket, **options)


def state_of(dss: LocalDSS, uuid: str) -> dict[str, Any]:
    """Return everything that the DSS has, and that the bucket has of a bundle."""
    listed = dss.s3.list_objects_v2(Bucket=dss.bucket, Prefix=uuid).get("Contents", [])
    return {"store": dss.control("GET", "store"), "staged": {staged["Key"]: staged["ETag"] for staged in listed}}


def tries_of_shards(dag_run: Any) -> list[int]:
    """Return the number of tries of each shard."""
    shards = [ti for ti in dag_run.get_task_instances() if ti.task_id == "upload.shard"]
    return [ti.try_number for ti in sorted(shards, key=lambda ti: ti.map_index)]


OPTIONS: dict[str, Any] = {
    "exclude": ["a/b/*"],
    "hidden": "include",
    "indexed": ["a*"],
    "content_types": {"*.txt": "text/plain; dcp-type=data"},
    "creator_uid": 7,
    "staging_prefix": "",
}


def test_group_in_a_dag_creates_the_bundle_of_the_operator(dss: LocalDSS, directory: Path) -> None:
    """The DSS answers 409 to the operator if UUIDs, versions, order, types, checksums or creator differ."""
    with new_dag("as_operator") as dag:
        group(directory, dss.bucket, max_shard_files=3, **OPTIONS)
    dag_run = run(dag)
    by_group = xcom(dag_run, "upload.bundle")
    assert set(states(dag_run).values()) == {"success"}
    assert len(tries_of_shards(dag_run)) == by_group["statistics"].pop("shard_count") == 4
    before = state_of(dss, by_group["uuid"])
    operator = DSSUploadDirectoryOperator(
        task_id="upload", directory=str(directory), staging_bucket=dss.bucket, **OPTIONS
    )
    by_operator = operator.execute(
        new_context(dag_id="as_operator", task_id="upload", logical_date=dag_run.logical_date)
    )
    check_same(by_group, by_operator)
    assert len(before["staged"]) == 10
    assert state_of(dss, by_group["uuid"]) == before


def check_same(by_group: dict[str, Any], by_operator: dict[str, Any]) -> None:
    """Check that the operator reports the bundle that the group created before."""
    assert (by_group.pop("created"), by_operator.pop("created")) == (True, False)
    ours, theirs = by_group.pop("statistics"), by_operator.pop("statistics")
    assert (ours["registered_file_count"], ours["copied_file_count"]) == (10, 1)
    assert set(ours["seconds"]) >= {"stage", "bundle"}
    assert len(ours["slowest_files"]) == 5
    assert theirs["registered_file_count"] == 0
    assert by_group == by_operator


@pytest.mark.parametrize(("max_files", "shards"), [(1, 10), (100, 1)])
def test_shards_of_any_size_create_the_bundle_of_the_operator(
    dss: LocalDSS, directory: Path, max_files: int, shards: int
) -> None:
    tasks = Tasks(dss, directory, max_files=max_files, **OPTIONS)
    tasks.register()
    by_group = tasks.put()
    assert by_group["statistics"].pop("shard_count") == shards
    check_same(by_group, tasks.operator().execute(new_context()))


def test_prefix_of_a_bucket_creates_the_bundle_of_a_directory(dss: LocalDSS, directory: Path) -> None:
    prefix = f"incoming/{new_uuid()}"
    for path in directory.rglob("*"):
        if path.is_file():
            dss.s3.upload_file(str(path), dss.bucket, f"{prefix}/{path.relative_to(directory)}")
    tasks = Tasks(dss, f"s3://{dss.bucket}/{prefix}")
    tasks.register()
    by_group = tasks.put()
    assert (by_group["statistics"]["shard_count"], by_group["statistics"]["staged_file_count"]) == (4, 10)
    assert by_group["created"] is True
    by_operator = tasks.operator(directory=str(directory)).execute(new_context())
    assert (by_operator["fqid"], by_operator["created"]) == (by_group["fqid"], False)


def test_object_changed_after_plan_is_an_error(dss: LocalDSS) -> None:
    prefix = f"incoming/{new_uuid()}"
    dss.s3.put_object(Bucket=dss.bucket, Key=f"{prefix}/a.json", Body=b"1")
    options: dict[str, Any] = {"directory": f"s3://{dss.bucket}/{prefix}", "staging_bucket": dss.bucket}
    plan = DSSPlanUploadOperator(task_id="up.plan", max_shard_files=9, max_shard_bytes=LARGE, **options)
    (shard,) = plan.execute(new_context())
    dss.s3.put_object(Bucket=dss.bucket, Key=f"{prefix}/a.json", Body=b"2")
    with pytest.raises(InvalidDirectoryError, match="after the upload was planned"):
        DSSUploadShardOperator(task_id="up.shard", shard=shard, **options).execute(new_context())


def test_deferrable_shards_wait_in_the_triggerer(dss: LocalDSS, directory: Path) -> None:
    with new_dag("group_deferrable") as dag:
        upload = group(directory, dss.bucket, deferrable=True, poll_interval=1)
        task(_twice)(upload.output["fqid"])
    dag_run = run(dag)
    result = xcom(dag_run, "upload.bundle")
    assert set(states(dag_run).values()) == {"success"}
    assert (result["file_count"], result["statistics"]["copied_file_count"], result["created"]) == (10, 1, True)
    progress = [xcom(dag_run, "upload.shard", PROGRESS_KEY, map_index=number) for number in range(4)]
    assert {shard["phase"] for shard in progress} == {"done"}
    assert [(shard["shard_number"], shard["shard_count"]) for shard in progress] == [(n, 4) for n in (1, 2, 3, 4)]
    assert sum(shard["file_count"] for shard in progress) == 10
    assert all(shard["rate"] > 0 for shard in progress)
    last = xcom(dag_run, "upload.bundle", PROGRESS_KEY)
    assert (last["phase"], last["rate"]) == ("done", 0)  # an average over shards that ran side by side
    assert last["staged_byte_count"] == sum(shard["staged_byte_count"] for shard in progress) == result["byte_count"]
    assert xcom(dag_run, "_twice") == result["fqid"] * 2


def _twice(text: str) -> str:
    return text * 2


def test_retry_of_a_shard_registers_only_missing_files(
    dss: LocalDSS, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_seconds=0))
    tasks = Tasks(dss, directory)
    broken = derive_uuid(tasks.bundle, "a/2.json")
    dss.control("POST", "faults", {"method": "PUT", "path": f"/files/{broken}", "action": "status", "status": 503})
    context = new_context()
    assert [ending(tasks.shard(number), context) for number in range(4)] == [
        "success",
        "up_for_retry",
        *["success"] * 2,
    ]
    requests = [request for request in dss.control("GET", "requests") if _is_put_file(request)]
    before = sum(request["count"] for request in requests if request["status"] in {200, 201, 202})
    again = tasks.shard(1).execute(next_try(context))
    assert (again["tries"], before + again["registered_file_count"]) == (2, 10)


def _is_put_file(request: dict[str, Any]) -> bool:
    return bool(request["method"] == "PUT" and request["path"].startswith("/v1/files/"))


def _files_of(dss: LocalDSS, bundle: str) -> list[dict[str, Any]]:
    """Return the files of the only version of a bundle."""
    (version,) = [stored for stored in dss.control("GET", "store")["bundles"] if stored["uuid"] == bundle]
    members: list[dict[str, Any]] = version["manifest"]["files"]
    return members


# Single tasks


class Tasks:
    """Tasks of a group, run one by one."""

    def __init__(self, dss: LocalDSS, directory: Path | str, *, max_files: int = 3, **options: Any) -> None:
        self.bundle = new_uuid()
        self._options: dict[str, Any] = {
            "directory": str(directory),
            "staging_bucket": dss.bucket,
            "bundle_uuid": self.bundle,
            **options,
        }
        plan = DSSPlanUploadOperator(task_id="plan", max_shard_files=max_files, max_shard_bytes=10**9, **self._options)
        context = new_context()
        self.shards = json.loads(json.dumps(plan.execute(context)))
        self.planned = json.loads(json.dumps(context["ti"].pushed[PLANNED_KEY]))
        self.done: list[Any] = []

    def shard(self, number: int) -> DSSUploadShardOperator:
        """Return the operator of a shard."""
        return DSSUploadShardOperator(task_id="shard", shard=self.shards[number], **self._options)

    def register(self) -> None:
        """Run all shards."""
        self.done = [json.loads(json.dumps(self.shard(n).execute(new_context()))) for n in range(len(self.shards))]

    def put(self) -> dict[str, Any]:
        """Run the task `bundle`."""
        operator = DSSUploadShardsBundleOperator(
            task_id="bundle", planned=self.planned, shards=self.shards, registered=self.done, **self._options
        )
        return operator.execute(new_context())

    def operator(self, **changes: Any) -> DSSUploadDirectoryOperator:
        """Return the operator that creates the same bundle."""
        return DSSUploadDirectoryOperator(task_id="upload", **{**self._options, **changes})


CHANGES: dict[str, tuple[Callable[[Path], Any], int]] = {
    "changed": (lambda root: (root / "a" / "1.txt").write_text("other"), 1),
    "touched": (lambda root: os.utime(root / "a" / "1.txt", ns=(1, 1)), 1),
    "removed": (lambda root: (root / "a" / "1.txt").unlink(), 1),
    "added at the beginning": (lambda root: (root / "A").write_text("new"), 0),
    "added inside": (lambda root: (root / "a" / "1a").write_text("new"), 1),
    "added with a directory": (lambda root: _write(root / "b" / "c" / "d", "new"), 2),
    "added at the end": (lambda root: (root / "zz").write_text("new"), 3),
    "shard emptied": (lambda root: (root / "z" / "5 ü#%.json").unlink(), 3),
}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


@pytest.mark.parametrize("change", CHANGES)
def test_directory_changed_after_plan_is_an_error_of_the_shard(dss: LocalDSS, directory: Path, change: str) -> None:
    tasks = Tasks(dss, directory)
    act, hit = CHANGES[change]
    act(directory)
    if change == "added inside":
        for number in {*range(len(tasks.shards))} - {hit}:
            tasks.shard(number).execute(new_context())
    before = requests_of(dss, "PUT", "/v1/")
    with pytest.raises(
        InvalidDirectoryError, match=rf"shard {hit + 1} of 4': files .* after the upload was planned"
    ) as caught:
        tasks.shard(hit).execute(new_context())
    assert str(directory) in str(caught.value)
    assert requests_of(dss, "PUT", "/v1/") == before


def test_directory_missing_on_a_worker_can_be_retried(dss: LocalDSS, directory: Path) -> None:
    tasks = Tasks(dss, directory)
    directory.rename(directory.parent / "away")
    tasks.done = [{"tries": 1}] * len(tasks.shards)
    with pytest.raises(InvalidDirectoryError, match="no such directory on this worker"):
        tasks.shard(0).execute(new_context())
    with pytest.raises(InvalidDirectoryError, match="no such directory on this worker"):
        tasks.put()


def test_directory_changed_after_the_shards_is_an_error_of_the_bundle(dss: LocalDSS, directory: Path) -> None:
    tasks = Tasks(dss, directory)
    tasks.register()
    (directory / "b").write_text("new")
    with pytest.raises(Exception, match=r"shard 3 of 4': files .* after the upload was planned"):
        tasks.put()
    assert requests_of(dss, "PUT", "/v1/bundles/") == 0
    (directory / "b").unlink()
    assert tasks.put()["created"] is True


def test_shard_without_a_result_is_an_error_of_the_bundle(dss: LocalDSS, directory: Path) -> None:
    """A user can mark a task as a success that registered nothing."""
    tasks = Tasks(dss, directory)
    tasks.register()
    del tasks.done[2]
    with pytest.raises(AirflowFailException, match="only 3 of 4 shards returned a result"):
        tasks.put()
    assert requests_of(dss, "PUT", "/v1/bundles/") == 0


def test_version_changes_with_a_cleared_plan_but_not_with_a_cleared_shard(dss: LocalDSS, directory: Path) -> None:
    options: dict[str, Any] = {"directory": str(directory), "staging_bucket": dss.bucket}
    plan = DSSPlanUploadOperator(task_id="upload.plan", max_shard_files=3, max_shard_bytes=10**9, **options)
    context = new_context()
    first = plan.execute(context)
    cleared = next_try(context)
    cleared["dag_run"] = SimpleNamespace(**{**vars(context["dag_run"]), "clear_number": 1})
    second = plan.execute(cleared)
    operator = DSSUploadShardOperator(task_id="upload.shard", shard=first[0], **options)
    operator.execute(context)
    operator.execute(cleared)
    registered = {file["version"] for file in dss.control("GET", "store")["files"] if file["uuid"] == _uuid(first, "Z")}
    assert {shard["bundle_uuid"] for shard in first} == {shard["bundle_uuid"] for shard in second}
    assert {shard["bundle_version"] for shard in first} == {"2026-03-01T123000.000000Z"} == registered
    assert {shard["bundle_version"] for shard in second} == {"2026-03-01T123000.000001Z"}


def _uuid(shards: list[dict[str, Any]], name: str) -> str:
    return derive_uuid(shards[0]["bundle_uuid"], name)


def test_xcoms_do_not_grow_with_the_number_of_files(dss: LocalDSS, tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"a file with a name that is not short {number}").touch()
    tasks = Tasks(dss, tmp_path, max_files=2000)
    assert [shard["file_count"] for shard in tasks.shards] == [2000, 1000]
    assert len(json.dumps(tasks.shards)) < 1200


def test_more_shards_than_max_map_length_is_an_error(
    dss: LocalDSS, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "9")
    with pytest.raises(Exception, match=r"10 shards exceed the limit of Airflow .* is 9\): increase max_shard_files"):
        Tasks(dss, directory, max_files=1)


# Kills


@pytest.fixture
def endless_directory(dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory of two shards of 60 files; the DSS registers 20 files only."""
    root = tmp_path / "endless"
    root.mkdir()
    for number in range(120):
        (root / f"{number:03}.txt").write_text(f"{tmp_path} {number}")
    accept_files(dss, monkeypatch, 20)
    return root


def test_shard_stopped_by_on_kill_is_resumed(dss: LocalDSS, endless_directory: Path) -> None:
    tasks = Tasks(dss, endless_directory, max_files=60)
    operator = tasks.shard(0)
    with killed_when(operator, lambda: accepted_files(dss) == 20), pytest.raises(DSSAbortedError):
        operator.execute(new_context())
    join_worker_threads()
    _resume(dss, tasks)


_WORKER = """
import json, sys
from airflow_provider_hca.operators.upload_group import DSSUploadShardOperator
from tests.running import new_context
DSSUploadShardOperator(task_id="shard", **json.load(sys.stdin)).execute(new_context())
"""


@pytest.mark.system
def test_shard_of_a_killed_worker_is_resumed(dss: LocalDSS, endless_directory: Path) -> None:
    tasks = Tasks(dss, endless_directory, max_files=60)
    options = {"shard": tasks.shards[0], "directory": str(endless_directory), "staging_bucket": dss.bucket}
    with subprocess.Popen([sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(options))
        worker.stdin.close()
        while accepted_files(dss) < 20:
            assert worker.poll() is None
            time.sleep(0.05)
        worker.send_signal(signal.SIGKILL)
    _resume(dss, tasks)


def _resume(dss: LocalDSS, tasks: Tasks) -> None:
    """Run a stopped shard again, then the other one, and put the bundle."""
    dss.control("DELETE", "faults")
    assert len(_registered(dss, tasks)) == 20
    again = tasks.shard(0).execute(new_context(2))
    assert (again["registered_file_count"], again["staged_file_count"]) == (40, 0)
    tasks.done = [again, tasks.shard(1).execute(new_context())]
    assert tasks.put()["file_count"] == len(_registered(dss, tasks)) == len(_files_of(dss, tasks.bundle)) == 120


def _registered(dss: LocalDSS, tasks: Tasks) -> list[dict[str, Any]]:
    uuids = {derive_uuid(tasks.bundle, f"{number:03}.txt") for number in range(120)}
    return [file for file in dss.control("GET", "store")["files"] if file["uuid"] in uuids and file["replica"] == "aws"]


def test_retried_shard_keeps_multipart_uploads_of_other_shards(dss: LocalDSS, directory: Path) -> None:
    """The task `bundle` aborts those that are left."""
    tasks = Tasks(dss, directory)
    version = tasks.shards[0]["bundle_version"]
    key = f"{tasks.bundle}.{version}/{derive_uuid(tasks.bundle, 'z/other')}.00000000"
    dss.s3.create_multipart_upload(Bucket=dss.bucket, Key=key)
    tasks.register()
    tasks.done[0] = tasks.shard(0).execute(new_context(2))
    assert _open(dss, tasks) == [key]
    tasks.put()
    assert _open(dss, tasks) == []


def _open(dss: LocalDSS, tasks: Tasks) -> list[str]:
    uploads = dss.s3.list_multipart_uploads(Bucket=dss.bucket).get("Uploads") or []
    return [upload["Key"] for upload in uploads if upload["Key"].startswith(tasks.bundle)]


def test_delete_staged_empties_the_bucket(dss: LocalDSS, directory: Path) -> None:
    tasks = Tasks(dss, directory, delete_staged=True)
    tasks.register()
    assert state_of(dss, tasks.bundle)["staged"] != {}
    assert tasks.put()["created"] is True
    assert state_of(dss, tasks.bundle)["staged"] == {}


# Parsing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replica": "azure"}, "replica must be 'aws' or 'gcp'"),
        ({"directory": "gs://data/x"}, "give replica='gcp'"),
        ({"directory": "s3://bucket"}, "would be in s3://bucket"),
        ({"staging_bucket": "s3://b/c"}, "staging_bucket must be a bucket's name"),
        ({"bundle_uuid": "not-a-uuid"}, "bundle_uuid must be a UUID"),
        ({"bundle_version": "2026-01-01"}, "bundle_version must be a DSS_VERSION"),
        ({"symlinks": "maybe"}, "symlinks must be one of"),
        ({"hidden": "maybe"}, "hidden must be one of"),
        ({"max_workers": 0}, "max_workers must be an integer of at least 1"),
        ({"max_shard_files": 0}, "max_shard_files must be an integer of at least 1"),
        ({"max_shard_bytes": "1 GB"}, "max_shard_bytes must be an integer of at least 1"),
        ({"max_requests_per_second": 0}, "max_requests_per_second must be above 0"),
        ({"creator_uid": "abc"}, "creator_uid must be an integer"),
        ({"copy_timeout": "soon"}, "copy_timeout must be a number of seconds"),
        ({"poll_interval": "often"}, "poll_interval must be a number of seconds"),
        ({"content_types": {"*": "text"}}, "must be a media type"),
        ({"include": "*.json"}, "include must be a list of patterns"),
        ({"exclude": None}, "exclude must be a list of patterns"),
        ({"max_worker": 3}, "max_worker"),
        ({"task_id": "upload"}, "does not accept task_id"),
        ({"do_xcom_push": False}, "does not accept do_xcom_push"),
    ],
)
def test_invalid_arguments_are_errors_when_the_dag_is_parsed(change: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"directory": "/data", "staging_bucket": "bucket", **change}
    with new_dag("group_bad"), pytest.raises(Exception, match=message):
        DSSUploadTaskGroup(**options)


def test_templates_are_rendered_for_all_tasks(dss: LocalDSS, directory: Path) -> None:
    params: dict[str, Any] = {"where": str(directory), "bundle": new_uuid(), "creator": 11, "only": ["*.json"]}
    with new_dag("group_templates", render_template_as_native_obj=True, params=params) as dag:
        group(
            Path("{{ params.where }}"),
            "{{ 'dss-staging' }}",
            group_id="ingest",
            bundle_uuid="{{ params.bundle }}",
            include="{{ params.only }}",
            creator_uid="{{ params.creator }}",
            replica="{{ 'aws' }}",
            max_shard_files=2,
        )
    result = xcom(run(dag), "ingest.bundle")
    assert (result["uuid"], result["statistics"]["shard_count"]) == (params["bundle"], 2)
    assert [file["name"] for file in _files_of(dss, params["bundle"])] == ["a.json", "a/2.json", "z/5 ü#%.json"]


def test_group_can_be_nested_and_have_dependencies(dss: LocalDSS, directory: Path) -> None:
    with new_dag("group_in_group") as dag:
        with TaskGroup("outer"):
            upload = group(directory, dss.bucket, group_id="inner")
        begin, end = (task(task_id=name)(_nothing)() for name in ("begin", "end"))
        begin >> upload >> end
    assert dag.get_task("outer.inner.plan").upstream_task_ids == {"begin"}
    assert dag.get_task("end").upstream_task_ids == {"outer.inner.bundle"}
    context = new_context(dag_id=dag.dag_id, task_id="outer.inner.plan")
    plan: Any = dag.get_task("outer.inner.plan")
    (first, *_) = plan.execute(context)
    assert first["bundle_uuid"] == derive_uuid(dag.dag_id, LOGICAL_DATE.isoformat(), "outer.inner", -1)


def _nothing() -> None:
    return None


def test_group_accepts_all_parameters_of_the_operator(dss: LocalDSS) -> None:
    import inspect

    of_one_worker = {"bundle_key", "compare", "if_unchanged", "if_newer_exists", "max_changed"}
    names = {*inspect.signature(DSSUploadDirectoryOperator.__init__).parameters} - {"self", "kwargs", *of_one_worker}
    operator = DSSUploadDirectoryOperator(task_id="t", directory="/data", staging_bucket=dss.bucket)
    options = {name: getattr(operator, name) for name in names - {"creator_uid"}}
    with new_dag("group_takes_all") as dag:
        DSSUploadTaskGroup(**options, deferrable=True, poll_interval=5, creator_uid=1, retries=4, pool="dss")
    assert {operator.retries for operator in dag.tasks} == {4}
    assert {operator.pool for operator in dag.tasks} == {"dss"}
    documented = DSSUploadTaskGroup.__doc__ or ""
    for name in set(inspect.signature(DSSUploadTaskGroup).parameters):
        assert f":param {name}:" in documented
