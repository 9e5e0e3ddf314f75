from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_hca.plugins.models import Ingest, select_most_relevant
from tests.plugins.conftest import Ingested

if TYPE_CHECKING:
    from pathlib import Path

    from tests.airflow_processes import Airflow
    from tests.local.server import LocalDSS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]


def _tasks(airflow: Airflow, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
    run = airflow.page("run", dag_id=dag_id, run_id=run_id)
    return {task["task_id"]: task for task in run["ingests"]}


def test_run_lists_tasks_with_bundles_and_counts(airflow: Airflow, ingested: Ingested) -> None:
    tasks = _tasks(airflow, "ingest", ingested.run_id)
    upload, sensor = tasks["upload"], tasks["available"]
    bundle = {"connection": "hca_dss_default", "replica": "aws", "uuid": ingested.uuid, "version": ingested.version}
    assert upload["bundle"].pop("name").endswith("islets0")  # the directory
    assert sensor["bundle"].pop("name") == ""
    assert upload["bundle"] == sensor["bundle"] == bundle
    assert (upload["action"], sensor["action"]) == ("create", "use")
    assert (upload["state"], upload["operator"]) == ("success", "DSSUploadDirectoryOperator")
    progress = upload["progress"]
    assert (progress["phase"], progress["error"], progress["failures"]) == ("done", "", [])
    assert upload["file_count"] == progress["file_count"] == 21
    assert upload["byte_count"] == progress["byte_count"] == progress["sent_byte_count"] > 900_000
    assert progress["rate"] > 0


def test_failed_upload_lists_files_by_cause(airflow: Airflow, failed: Ingested) -> None:
    upload = _tasks(airflow, "ingest", failed.run_id)["upload"]
    assert upload["state"] == "failed"
    assert upload["progress"]["phase"] == "register"
    (failure,) = upload["progress"]["failures"]
    assert failure["count"] == 7
    assert failure["names"] == [f"read_{number}.fastq" for number in range(5)]
    assert failure["cause"].endswith("clear the DAG run, or use another version")
    assert "7 of 7 files failed" in upload["progress"]["error"]


def test_ingests_list_uploads_newest_first(airflow: Airflow, ingested: Ingested, failed: Ingested) -> None:
    listed = [ingest for ingest in airflow.page("ingests")["ingests"] if ingest["dag_id"] == "ingest"]
    runs = [ingest["run_id"] for ingest in listed]
    assert {ingested.run_id, failed.run_id} <= set(runs)
    assert {ingest["task_id"] for ingest in listed} == {"upload"}
    assert sorted(listed, key=lambda ingest: str(ingest["started"]), reverse=True) == listed
    assert len(airflow.page("ingests", limit=1)["ingests"]) == 1


def test_download_is_not_the_creator_of_its_bundle(airflow: Airflow, ingested: Ingested, tmp_path: Path) -> None:
    for number in (1, 2):
        run_id = airflow.run("fetch", bundle_uuid=ingested.uuid, directory=str(tmp_path / f"fetched {number}"))
    task = _tasks(airflow, "fetch", run_id)["download"]
    assert (task["state"], task["action"], task["bundle"]["uuid"]) == ("success", "download", ingested.uuid)
    assert "fetch" not in {ingest["dag_id"] for ingest in airflow.page("ingests")["ingests"]}
    assert len(airflow.page("ingests", limit=1)["ingests"]) == 1  # although two downloads are newer
    fqid = f"{ingested.uuid}.{ingested.version}"
    creator = {"dag_id": "ingest", "run_id": ingested.run_id, "task_id": "upload", "map_index": -1}
    found = airflow.page("creators", fqid=fqid, connection="hca_dss_default")["creators"]
    assert found[fqid].pop("name").endswith("islets0")
    assert found == {fqid: creator}


def test_too_many_tasks_show_failed_and_running_ones_first() -> None:
    def task(number: int, state: str, members: list[Ingest]) -> Ingest:
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        values: dict[str, Any] = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": number, "state": state}
        values |= {"operator": "x", "run_state": "running", "try_number": 1, "started": started, "members": members}
        values |= dict.fromkeys(("ended", "bundle", "file_count", "byte_count", "progress", "updated"))
        return Ingest(**values, action="create")

    states = ["failed", *["success"] * 6, "running", "success"]
    members = [task(number, state, []) for number, state in enumerate(states)]
    shown, omitted = select_most_relevant([task(number, state, members) for number, state in enumerate(states)], 4)
    assert [task.map_index for task in shown] == [0, 6, 7, 8]
    assert [member.map_index for member in shown[0].members] == [0, 6, 7, 8]
    assert omitted == 5 + 4 * 5
    assert select_most_relevant(shown[:1], 9) == (shown[:1], 0)


def test_unknown_bundle_has_no_creator(airflow: Airflow) -> None:
    assert airflow.page("creators", fqid="x.y", connection="hca_dss_default")["creators"] == {}
    answer = airflow.call("GET", "/hca-dss/api/run?dag_id=ingest&run_id=none")
    assert (answer.status_code, answer.json()["detail"]) == (404, "no run 'none' of DAG 'ingest'")


def test_xcoms_of_other_providers_are_ignored(airflow: Airflow, hidden: Ingested) -> None:
    """Any task may push XComs of the same names."""
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


def test_running_upload_has_progress_and_link(airflow: Airflow, airflow_dss: LocalDSS, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.json").write_text(f"{number}")
    slow = {"method": "PUT", "path": "/files/", "action": "slow", "seconds": 1, "times": 99}
    airflow_dss.control("POST", "faults", slow)
    run_id = airflow.start_run("ingest", directory=str(tmp_path))

    def registering() -> bool:
        task = _tasks(airflow, "ingest", run_id).get("upload")
        progress = task and task["progress"]
        return bool(progress and progress["phase"] == "register" and progress["phase_done"])

    airflow.wait_for("some files to be registered", registering)
    task = _tasks(airflow, "ingest", run_id)["upload"]
    links = airflow.api("GET", f"/dags/ingest/dagRuns/{run_id}/taskInstances/upload/links")["extra_links"]
    airflow_dss.control("DELETE", "faults")
    assert task["state"] == "running"
    assert 0 < task["progress"]["phase_done"] < task["progress"]["phase_files"] == 30
    assert f"uuid={task['bundle']['uuid']}" in links["DSS bundle"]
    airflow.wait_for("the end", lambda: airflow.run_state("ingest", run_id) == "success")
    assert _tasks(airflow, "ingest", run_id)["upload"]["progress"]["phase"] == "done"


def test_upload_group_is_one_ingest_with_shards(airflow: Airflow, grouped: str) -> None:
    tasks = _tasks(airflow, "grouped", grouped)
    shards, bundle = tasks["upload.shard"], tasks["upload.bundle"]
    assert [shard["progress"]["phase"] for shard in shards["members"]] == ["done"] * 3
    assert [shard["progress"]["shard_number"] for shard in shards["members"]] == [1, 2, 3]
    assert [shard["file_count"] for shard in shards["members"]] == [4, 4, 2]
    assert (shards["state"], shards["file_count"], shards["byte_count"]) == ("success", 10, 90)
    assert (shards["progress"]["phase_done"], shards["progress"]["phase_files"]) == (3, 3)
    assert (bundle["progress"]["phase"], bundle["file_count"]) == ("done", 10)
    assert [shard["label"] for shard in shards["members"]] == ["1 of 3", "2 of 3", "3 of 3"]
    assert shards["bundle"] == bundle["bundle"]
    (listed,) = [ingest for ingest in airflow.page("ingests")["ingests"] if ingest["run_id"] == grouped]
    assert (listed["task_id"], listed["state"], listed["members"]) == ("upload.bundle", "success", [])


def test_failed_upload_group_merges_failures_of_its_shards(
    airflow: Airflow, airflow_dss: LocalDSS, tmp_path: Path
) -> None:
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(f"failing {number}")
    conflict = {"method": "PUT", "path": "/files/", "action": "status", "status": 409, "times": 99}
    airflow_dss.control("POST", "faults", conflict)
    run_id = airflow.run("grouped", directory=str(tmp_path))
    airflow_dss.control("DELETE", "faults")
    (listed,) = [ingest for ingest in airflow.page("ingests")["ingests"] if ingest["run_id"] == run_id]
    assert (listed["task_id"], listed["state"], listed["file_count"]) == ("upload.shard", "failed", 6)
    (failure,) = listed["progress"]["failures"]
    assert (failure["count"], len(failure["names"])) == (6, 5)
