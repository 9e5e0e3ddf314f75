from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator
from airflow_provider_hca.operators.upload_group import DSSPlanUploadOperator, DSSUploadShardOperator
from airflow_provider_hca.utils.ui_links import PROGRESS_KEY
from tests.local.server import LocalDSS, new_uuid
from tests.running import ending, new_context, new_dag, run, states, xcom

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(f"{number}")
    # Copied asynchronously by the tests' DSS, which it does only with content that it does not have yet.
    (tmp_path / "large.bin").write_bytes((new_uuid().encode() * 5_000)[:150_000])
    return tmp_path


def _upload(dss: LocalDSS, directory: Path, **options: Any) -> DSSUploadDirectoryOperator:
    return DSSUploadDirectoryOperator(task_id="up", directory=str(directory), staging_bucket=dss.bucket, **options)


class Listener(dict[str, Any]):
    """A task instance's XComs, which notes each that is pushed."""

    def __init__(self) -> None:
        super().__init__(new_context())
        self.told: list[dict[str, Any]] = []
        self["ti"].xcom_push = self._note

    def _note(self, key: str, value: Any) -> None:
        if key == PROGRESS_KEY:
            self.told.append(value)


def test_an_upload_tells_each_of_its_phases(dss: LocalDSS, directory: Path) -> None:
    """From the plan to the end each phase is told when it begins, with the counts of the whole."""
    context = Listener()
    _upload(dss, directory, bundle_uuid=new_uuid()).execute(context)  # type: ignore[arg-type]  # all that it reads
    phases = [told["phase"] for told in context.told]
    assert list(dict.fromkeys(phases)) == ["plan", "stage", "register", "copy", "bundle", "done"]
    assert {told["file_count"] for told in context.told[1:]} == {4}
    assert {told["byte_count"] for told in context.told[1:]} == {150_003}
    by_phase = {told["phase"]: told for told in context.told}
    assert by_phase["copy"]["phase_files"] == 1
    assert by_phase["register"]["sent_byte_count"] == by_phase["done"]["sent_byte_count"] == 150_003
    assert by_phase["done"]["rate"] > 0


def test_progress_in_a_dag_is_an_xcom_without_do_xcom_push(dss: LocalDSS, directory: Path) -> None:
    """The XCom says in the end that the upload is done, also after a wait in the triggerer."""
    with new_dag("progress") as dag:
        _upload(dss, directory, do_xcom_push=False, deferrable=True, poll_interval=0.2)
    dag_run = run(dag)
    assert states(dag_run) == {"up": "success"}
    told = xcom(dag_run, "up", PROGRESS_KEY)
    assert (told["phase"], told["file_count"], told["byte_count"]) == ("done", 4, 150_003)
    assert "error" not in told


def test_a_failure_is_told_by_cause(dss: LocalDSS, directory: Path) -> None:
    """Files that the DSS refused alike are one cause; told are the phase, the error, and names of files."""
    refused = {"method": "PUT", "path": "/files/", "action": "status", "status": 409, "times": 9}
    dss.control("POST", "faults", refused)
    context = Listener()
    assert ending(_upload(dss, directory), context) == "failed"
    told = context.told[-1]
    assert (told["phase"], told["rate"]) == ("register", 0.0)
    assert [(each["count"], len(each["names"])) for each in told["failures"]] == [(4, 4)]
    assert "4 of 4 files failed" in told["error"]


@pytest.mark.parametrize("shard", [False, True])
def test_failure_in_the_triggerer_is_reported(dss: LocalDSS, directory: Path, shard: bool) -> None:
    """A copy that the DSS refuses while the task waits in the triggerer is in its progress, in a group's shard too."""
    refused = {"method": "PUT", "path": "/files/", "action": "fail_copy", "status": 422, "times": 9}
    dss.control("POST", "faults", refused)
    options: dict[str, Any] = {"directory": str(directory), "staging_bucket": dss.bucket, "bundle_uuid": new_uuid()}
    upload: DSSUploadDirectoryOperator = _upload(dss, directory, deferrable=True, poll_interval=0.2)
    if shard:
        plan = DSSPlanUploadOperator(task_id="plan", max_shard_files=9, max_shard_bytes=10**9, **options)
        (first,) = plan.execute(new_context())
        upload = DSSUploadShardOperator(task_id="shard", shard=first, deferrable=True, poll_interval=0.2, **options)
    context = Listener()
    assert ending(upload, context) == "failed"
    assert context.told[-1]["phase"] == "copy"
    assert "the DSS could not copy the staged object" in context.told[-1]["error"]


def test_a_failure_is_logged_by_cause(dss: LocalDSS, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log has one entry for files that failed alike: how many, why, what to change, and all their names."""
    dss.control("POST", "faults", {"method": "PUT", "path": "/files/", "action": "status", "status": 409, "times": 9})
    with pytest.raises(Exception, match="4 of 4 files failed"):
        _upload(dss, directory).execute(Listener())  # type: ignore[arg-type]  # all that it reads
    (entry,) = (each.getMessage() for each in caplog.records if each.levelno == logging.ERROR)
    assert entry.startswith("4 files failed: PUT /v1/files/...: 409 ")
    told, *names = entry.splitlines()
    assert told.endswith("That version has other content: clear the run, or give another version")
    assert [name.strip() for name in names] == sorted(path.name for path in directory.rglob("*") if path.is_file())


def test_bad_input_is_told(dss: LocalDSS) -> None:
    """A directory that is not there is told as the error that it is, of the very first phase."""
    context = Listener()
    with pytest.raises(Exception, match="no such directory"):
        _upload(dss, Path("/no/such/place")).execute(context)  # type: ignore[arg-type]  # all that it reads
    assert (context.told[-1]["phase"], context.told[-1]["failures"]) == ("plan", [])
    assert "no such directory" in context.told[-1]["error"]


def test_an_upload_goes_on_when_it_cannot_tell(
    dss: LocalDSS, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the progress cannot be stored there is a warning, and a bundle."""
    context = Listener()

    def push(key: str, value: Any) -> None:
        if key == PROGRESS_KEY:
            raise OSError(f"the database is away, {len(value)} values are lost")

    context["ti"].xcom_push = push
    with caplog.at_level(logging.WARNING):
        assert _upload(dss, directory, bundle_uuid=new_uuid()).execute(context)["created"]  # type: ignore[arg-type]  # all that it reads
    assert "cannot report the progress of the upload" in caplog.text
