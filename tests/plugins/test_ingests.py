from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_hca.plugins.models import Ingest, most_telling
from tests.plugins.conftest import Ingested

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.server import LocalDSS
    from tests.plugins.airflow import AirflowWithUI

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]


def _tasks(airflow: AirflowWithUI, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
    run = airflow.page("run", dag_id=dag_id, run_id=run_id)
    return {each["task_id"]: each for each in run["ingests"]}


def test_a_run_tells_what_its_tasks_did(airflow: AirflowWithUI, ingested: Ingested) -> None:
    """Of a run those tasks are told that make or await a bundle, with the bundle and, of an upload, the counts."""
    tasks = _tasks(airflow, "ingest", ingested.run_id)
    upload, sensor = tasks["upload"], tasks["available"]
    bundle = {"connection": "hca_dss_default", "replica": "aws", "uuid": ingested.uuid, "version": ingested.version}
    assert upload["bundle"] == sensor["bundle"] == bundle
    assert (upload["action"], sensor["action"]) == ("make", "see")
    assert (upload["state"], upload["operator"]) == ("success", "DSSUploadDirectoryOperator")
    progress = upload["progress"]
    assert (progress["phase"], progress["error"], progress["failures"]) == ("done", "", [])
    assert upload["file_count"] == progress["file_count"] == 21
    assert upload["byte_count"] == progress["byte_count"] == progress["sent_byte_count"] > 900_000
    assert progress["rate"] > 0


def test_a_failed_upload_tells_its_files_by_cause(airflow: AirflowWithUI, failed: Ingested) -> None:
    """Seven files that failed alike are one cause, with what to change, and it is told where the upload stood."""
    upload = _tasks(airflow, "ingest", failed.run_id)["upload"]
    assert upload["state"] == "failed"
    assert upload["progress"]["phase"] == "register"
    (failure,) = upload["progress"]["failures"]
    assert failure["count"] == 7
    assert failure["names"] == [f"read_{number}.fastq" for number in range(5)]
    assert failure["cause"].endswith("clear the run, or give another version")
    assert "7 of 7 files failed" in upload["progress"]["error"]


def test_ingests_are_listed_newest_first(airflow: AirflowWithUI, ingested: Ingested, failed: Ingested) -> None:
    """All uploads are listed, those that failed too; a task that only waits for a bundle is none."""
    listed = airflow.page("ingests")["ingests"]
    runs = [each["run_id"] for each in listed]
    assert {ingested.run_id, failed.run_id} <= set(runs)
    assert {each["task_id"] for each in listed} <= {"upload", "upload.bundle", "upload.shard"}
    assert sorted(listed, key=lambda each: str(each["started"]), reverse=True) == listed
    assert len(airflow.page("ingests", limit=1)["ingests"]) == 1


def test_a_download_has_a_bundle_and_made_none(airflow: AirflowWithUI, ingested: Ingested, tmp_path: Path) -> None:
    """A download shows the bundle that it fetches, is no ingest, and does not pass for who made it."""
    for number in (1, 2):
        run_id = airflow.run("fetch", bundle_uuid=ingested.uuid, directory=str(tmp_path / f"fetched {number}"))
    task = _tasks(airflow, "fetch", run_id)["download"]
    assert (task["state"], task["action"], task["bundle"]["uuid"]) == ("success", "fetch", ingested.uuid)
    assert "fetch" not in {each["dag_id"] for each in airflow.page("ingests")["ingests"]}
    assert len(airflow.page("ingests", limit=1)["ingests"]) == 1  # however many downloads are newer
    fqid = f"{ingested.uuid}.{ingested.version}"
    maker = {"dag_id": "ingest", "run_id": ingested.run_id, "task_id": "upload", "map_index": -1}
    assert airflow.page("makers", fqid=fqid)["makers"] == {fqid: maker}


def test_of_very_many_tasks_the_telling_ones_are_shown() -> None:
    """Of more tasks, or shards, than can be shown those that failed or are under way are kept, and the newest."""

    def task(number: int, state: str, shards: list[Ingest]) -> Ingest:
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        values: dict[str, Any] = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": number, "state": state}
        values |= {"operator": "x", "run_state": "running", "try_number": 1, "started": started, "shards": shards}
        values |= dict.fromkeys(("ended", "bundle", "file_count", "byte_count", "progress", "told"))
        return Ingest(**values, action="make")

    states = ["failed", *["success"] * 6, "running", "success"]
    shards = [task(number, state, []) for number, state in enumerate(states)]
    shown, omitted = most_telling([task(number, state, shards) for number, state in enumerate(states)], 4)
    assert [each.map_index for each in shown] == [0, 6, 7, 8]
    assert [each.map_index for each in shown[0].shards] == [0, 6, 7, 8]
    assert omitted == 5 + 4 * 5
    assert most_telling(shown[:1], 9) == (shown[:1], 0)


def test_nobody_made_what_airflow_does_not_know(airflow: AirflowWithUI) -> None:
    """A bundle from elsewhere has no maker, and no run of that name is a 404."""
    assert airflow.page("makers", fqid="x.y")["makers"] == {}
    answer = airflow.call("GET", "/hca-dss/api/run?dag_id=ingest&run_id=none")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no run 'none' of the DAG 'ingest'")


def test_other_peoples_xcoms_do_no_harm(airflow: AirflowWithUI, hidden: Ingested) -> None:
    """XComs of the same names that hold something else, which any task may push, are shown as nothing."""
    path = f"/dags/hidden/dagRuns/{hidden.run_id}/taskInstances/upload/xcomEntries"
    before = {key: airflow.api("GET", f"{path}/{key}")["value"] for key in ("dss_progress", "_link_DSSBundleLink")}
    foreign: list[tuple[Any, Any]] = [
        (3, 4),
        ({"phase": []}, "javascript:alert(1)"),
        (None, "https://x/plugin/dss?uuid=1"),
        (3, "http://[/plugin/dss?x"),
    ]
    for progress, link in foreign:
        for key, value in (("dss_progress", progress), ("_link_DSSBundleLink", link)):
            airflow.api("PATCH", f"{path}/{key}", {"value": value})
        task = _tasks(airflow, "hidden", hidden.run_id)["upload"]
        assert (task["progress"], task["bundle"]) == (None, None)
        assert airflow.page("ingests")["ingests"]
    for key, value in before.items():
        airflow.api("PATCH", f"{path}/{key}", {"value": value})
    assert _tasks(airflow, "hidden", hidden.run_id)["upload"]["bundle"]["uuid"] == hidden.uuid


def test_progress_and_link_are_there_while_the_upload_runs(
    airflow: AirflowWithUI, ui_dss: LocalDSS, tmp_path: Path
) -> None:
    """While files are still being registered, the run tells how many, and Airflow has the link to the bundle."""
    for number in range(30):
        (tmp_path / f"{number}.json").write_text(f"{number}")
    slow = {"method": "PUT", "path": "/files/", "action": "slow", "seconds": 1, "times": 99}
    ui_dss.control("POST", "faults", slow)
    run_id = airflow.start_run("ingest", directory=str(tmp_path))

    def registering() -> bool:
        task = _tasks(airflow, "ingest", run_id).get("upload")
        progress = task and task["progress"]
        return bool(progress and progress["phase"] == "register" and progress["phase_done"])

    airflow.wait_for("some files to be registered", registering)
    task = _tasks(airflow, "ingest", run_id)["upload"]
    links = airflow.api("GET", f"/dags/ingest/dagRuns/{run_id}/taskInstances/upload/links")["extra_links"]
    ui_dss.control("DELETE", "faults")
    assert task["state"] == "running"
    assert 0 < task["progress"]["phase_done"] < task["progress"]["phase_files"] == 30
    assert f"uuid={task['bundle']['uuid']}" in links["DSS bundle"]
    airflow.wait_for("the end", lambda: airflow.run_state("ingest", run_id) == "success")
    assert _tasks(airflow, "ingest", run_id)["upload"]["progress"]["phase"] == "done"


def test_a_group_is_one_ingest_and_shows_its_shards(airflow: AirflowWithUI, grouped: str) -> None:
    """A run shows the shards of a group as one, each of them done, beside the bundle; the list has the bundle alone."""
    tasks = _tasks(airflow, "grouped", grouped)
    shards, bundle = tasks["upload.shard"], tasks["upload.bundle"]
    assert [each["progress"]["phase"] for each in shards["shards"]] == ["done"] * 3
    assert [each["progress"]["shard_number"] for each in shards["shards"]] == [1, 2, 3]
    assert [each["file_count"] for each in shards["shards"]] == [4, 4, 2]
    assert (shards["state"], shards["file_count"], shards["byte_count"]) == ("success", 10, 90)
    assert (shards["progress"]["phase_done"], shards["progress"]["phase_files"]) == (3, 3)
    assert (bundle["progress"]["phase"], bundle["file_count"]) == ("done", 10)
    assert shards["bundle"] == bundle["bundle"]
    (listed,) = [each for each in airflow.page("ingests")["ingests"] if each["run_id"] == grouped]
    assert (listed["task_id"], listed["state"], listed["shards"]) == ("upload.bundle", "success", [])


def test_a_group_that_fails_is_one_ingest_too(airflow: AirflowWithUI, ui_dss: LocalDSS, tmp_path: Path) -> None:
    """What failed in several shards for the same reason is told once, of all of them together."""
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(f"failing {number}")
    refused = {"method": "PUT", "path": "/files/", "action": "status", "status": 409, "times": 99}
    ui_dss.control("POST", "faults", refused)
    run_id = airflow.run("grouped", directory=str(tmp_path))
    ui_dss.control("DELETE", "faults")
    (listed,) = [each for each in airflow.page("ingests")["ingests"] if each["run_id"] == run_id]
    assert (listed["task_id"], listed["state"], listed["file_count"]) == ("upload.shard", "failed", 6)
    (failure,) = listed["progress"]["failures"]
    assert (failure["count"], len(failure["names"])) == (6, 5)
