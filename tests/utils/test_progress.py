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
    # Copied asynchronously, since the content is large and new to the DSS.
    (tmp_path / "large.bin").write_bytes((new_uuid().encode() * 5_000)[:150_000])
    return tmp_path


def _upload(dss: LocalDSS, directory: Path, **options: Any) -> DSSUploadDirectoryOperator:
    return DSSUploadDirectoryOperator(task_id="up", directory=str(directory), staging_bucket=dss.bucket, **options)


class Recorder(dict[str, Any]):
    """Context that records each report of progress."""

    def __init__(self) -> None:
        super().__init__(new_context())
        self.reports: list[dict[str, Any]] = []
        self["ti"].xcom_push = self._note

    def _note(self, key: str, value: Any) -> None:
        if key == PROGRESS_KEY:
            self.reports.append(value)


def test_upload_reports_all_phases(dss: LocalDSS, directory: Path) -> None:
    context = Recorder()
    _upload(dss, directory, bundle_uuid=new_uuid()).execute(context)  # type: ignore[arg-type]  # all that it reads
    phases = [report["phase"] for report in context.reports]
    assert list(dict.fromkeys(phases)) == ["plan", "compare", "stage", "register", "copy", "bundle", "done"]
    assert {report["file_count"] for report in context.reports[1:]} == {4}
    assert {report["byte_count"] for report in context.reports[1:]} == {150_003}
    by_phase = {report["phase"]: report for report in context.reports}
    assert by_phase["copy"]["phase_files"] == 1
    assert by_phase["register"]["sent_byte_count"] == by_phase["done"]["sent_byte_count"] == 150_003
    assert by_phase["done"]["rate"] > 0


def test_incremental_upload_reports_what_it_found(dss: LocalDSS, directory: Path) -> None:
    uuid = new_uuid()

    def upload(version: str) -> list[dict[str, Any]]:
        context = Recorder()
        _upload(dss, directory, bundle_uuid=uuid, bundle_version=version).execute(context)  # type: ignore[arg-type]  # all that it reads
        return context.reports

    first = upload("2026-03-01T000000.000000Z")
    assert {report.get("changes") for report in first} == {None}  # there was no version before
    assert first[-1]["copied_file_count"] == 1
    (directory / "0.json").write_text("changed")
    (directory / "1.json").unlink()
    (directory / "new.json").write_text("new")
    second = upload("2026-03-02T000000.000000Z")
    found = {"added": 1, "changed": 1, "removed": 1, "unchanged": 2}
    assert next(report["changes"] for report in second if report["phase"] == "stage") == found
    assert (second[-1]["changes"], second[-1]["copied_file_count"]) == (found, 0)


def test_retry_reports_look_ups_as_comparing(dss: LocalDSS, directory: Path) -> None:
    context = Recorder()
    _upload(dss, directory).execute(context)  # type: ignore[arg-type]  # all that it reads
    context.reports.clear()
    context["ti"].try_number = 2
    _upload(dss, directory).execute(context)  # type: ignore[arg-type]  # all that it reads
    compared = [report for report in context.reports if report["phase"] == "compare"]
    assert compared[0]["phase_files"] == 4


def test_progress_in_a_dag_does_not_need_do_xcom_push(dss: LocalDSS, directory: Path) -> None:
    with new_dag("progress") as dag:
        _upload(dss, directory, do_xcom_push=False, deferrable=True, poll_interval=0.2)
    dag_run = run(dag)
    assert states(dag_run) == {"up": "success"}
    report = xcom(dag_run, "up", PROGRESS_KEY)
    assert (report["phase"], report["file_count"], report["byte_count"]) == ("done", 4, 150_003)
    assert "error" not in report


def test_failures_are_grouped_by_cause(dss: LocalDSS, directory: Path) -> None:
    refused = {"method": "PUT", "path": "/files/", "action": "status", "status": 409, "times": 9}
    dss.control("POST", "faults", refused)
    context = Recorder()
    assert ending(_upload(dss, directory), context) == "failed"
    report = context.reports[-1]
    assert (report["phase"], report["rate"]) == ("register", 0.0)
    assert [(cause["count"], len(cause["names"])) for cause in report["failures"]] == [(4, 4)]
    assert "4 of 4 files failed" in report["error"]


@pytest.mark.parametrize("shard", [False, True])
def test_failure_in_the_triggerer_is_reported(dss: LocalDSS, directory: Path, shard: bool) -> None:
    refused = {"method": "PUT", "path": "/files/", "action": "fail_copy", "status": 422, "times": 9}
    dss.control("POST", "faults", refused)
    options: dict[str, Any] = {"directory": str(directory), "staging_bucket": dss.bucket, "bundle_uuid": new_uuid()}
    upload: DSSUploadDirectoryOperator = _upload(dss, directory, deferrable=True, poll_interval=0.2)
    if shard:
        plan = DSSPlanUploadOperator(task_id="plan", max_shard_files=9, max_shard_bytes=10**9, **options)
        (first,) = plan.execute(new_context())
        upload = DSSUploadShardOperator(task_id="shard", shard=first, deferrable=True, poll_interval=0.2, **options)
    context = Recorder()
    assert ending(upload, context) == "failed"
    assert context.reports[-1]["phase"] == "copy"
    assert "the DSS could not copy the staged object" in context.reports[-1]["error"]


@pytest.mark.parametrize("more", [0, 20])
def test_failures_that_the_error_does_not_name_are_logged_by_cause(
    dss: LocalDSS, directory: Path, caplog: pytest.LogCaptureFixture, more: int
) -> None:
    for number in range(more):
        (directory / f"more-{number}.json").write_text("{}")
    count = 4 + more
    dss.control("POST", "faults", {"method": "PUT", "path": "/files/", "action": "status", "status": 409, "times": 99})
    with pytest.raises(Exception, match=f"{count} of {count} files failed"):
        _upload(dss, directory).execute(Recorder())  # type: ignore[arg-type]  # all that it reads
    dss.control("DELETE", "faults")
    entries = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    if not more:
        assert entries == []
        return
    (entry,) = entries
    assert entry.startswith(f"{count} files failed: PUT /v1/files/...: 409 ")
    cause, *names = entry.splitlines()
    assert cause.endswith("That version exists with other content: clear the DAG run, or use another version")
    assert [name.strip() for name in names] == sorted(path.name for path in directory.rglob("*") if path.is_file())


def test_invalid_directory_is_reported(dss: LocalDSS) -> None:
    context = Recorder()
    with pytest.raises(Exception, match="no such directory"):
        _upload(dss, Path("/no/such/place")).execute(context)  # type: ignore[arg-type]  # all that it reads
    assert (context.reports[-1]["phase"], context.reports[-1]["failures"]) == ("plan", [])
    assert "no such directory" in context.reports[-1]["error"]


def test_failed_report_does_not_fail_the_upload(
    dss: LocalDSS, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = Recorder()

    def push(key: str, value: Any) -> None:
        if key == PROGRESS_KEY:
            raise OSError(f"database error, {len(value)} values are lost")

    context["ti"].xcom_push = push
    with caplog.at_level(logging.WARNING):
        assert _upload(dss, directory, bundle_uuid=new_uuid()).execute(context)["created"]  # type: ignore[arg-type]  # all that it reads
    assert "cannot report the progress of the upload" in caplog.text
