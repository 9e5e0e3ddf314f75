from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_hca.plugins import groups, tasks
from airflow_provider_hca.utils.ui_links import ERROR_KEY
from tests.local.server import new_uuid
from tests.plugins.database import Rows, link, new_dag, uploaded

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


def _get(api: TestClient, path: str, **query: Any) -> Any:
    answer = api.get(f"/api/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _samples(state: str = "running", count: int = 3) -> Rows:
    """Add a run with an upload mapped over samples; the first one failed, and the last one has not started."""
    run = Rows(new_dag(), state)
    for index in reversed(range(count)):
        states = {0: "failed", count - 1: None}
        one = states.get(index, "success")
        label = f"sample_{index}" if one else None  # rendered when a task starts
        run.add("upload", one, uploaded() if one else None, map_index=index, label=label)
    return run


def test_mapped_tasks_of_a_run_are_one_ingest(page_api: TestClient) -> None:
    run = _samples()
    listed = _get(page_api, "ingests", dag_id=run.dag_id)
    (ingest,) = listed["ingests"]
    assert listed["total"] == 1
    assert (ingest["run_id"], ingest["task_id"], ingest["map_index"]) == (run.run_id, "upload", -1)
    assert ingest["states"] == {"failed": 1, "success": 1, "no_state": 1}
    assert (ingest["state"], ingest["bundle"], ingest["members"]) == ("running", None, [])
    assert (ingest["file_count"], ingest["byte_count"]) == (20, 2000)
    assert (ingest["progress"]["phase"], ingest["progress"]["phase_done"]) == ("tasks", 1)
    assert ingest["progress"]["phase_files"] == 3


def test_mapped_tasks_with_a_divided_directory_are_not_its_shards(page_api: TestClient) -> None:
    run, uuid = Rows(new_dag(), "running"), new_uuid()
    for index in range(2):
        shard = uploaded(uuid, shard_number=index + 1, shard_count=2)
        run.add("ingest.ingest", "success", shard, map_index=index, operator="DSSIngestOperator")
    for index in range(2, 5):
        run.add("ingest.ingest", "success", map_index=index, operator="DSSIngestOperator")
    (ingest,) = _get(page_api, "ingests", dag_id=run.dag_id)["ingests"]
    assert (ingest["bundle"], ingest["progress"]["phase"]) == (None, "tasks")
    assert (ingest["progress"]["phase_done"], ingest["progress"]["phase_files"]) == (5, 5)


@pytest.mark.parametrize(
    ("states", "run_state", "state"),
    [
        (["success", "success"], "running", "success"),
        (["success", "failed"], "running", "failed"),
        (["success", None], "running", "running"),
        (["success", None], "success", "success"),
        (["queued", "queued"], "running", "queued"),
        (["deferred", "failed"], "running", "running"),
        (["skipped", "success"], "success", "success"),
        (["upstream_failed", "success"], "failed", "upstream_failed"),
    ],
)
def test_state_of_mapped_tasks(page_api: TestClient, states: list[str | None], run_state: str, state: str) -> None:
    run = Rows(new_dag(), run_state)
    for index, one in enumerate(states):
        run.add("upload", one, uploaded(), map_index=index)
    assert _get(page_api, "ingests", dag_id=run.dag_id)["ingests"][0]["state"] == state


def test_mapped_tasks_are_listed_by_index_with_labels(page_api: TestClient) -> None:
    run = _samples(count=12)
    query = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": "upload"}
    listed = _get(page_api, "mapped", **query)
    assert [task["map_index"] for task in listed["ingests"]] == [*range(12)]
    assert [task["label"] for task in listed["ingests"]] == [*(f"sample_{number}" for number in range(11)), ""]
    listed = _get(page_api, "mapped", **query, limit=10)
    assert ([task["map_index"] for task in listed["ingests"]], listed["total"]) == ([*range(10)], 12)
    for state, indexes in {"failed": [0], "running": [11], "success": [*range(1, 11)], "skipped": []}.items():
        tasks = _get(page_api, "mapped", **query, state=state)["ingests"]
        assert [task["map_index"] for task in tasks] == indexes
    for text, count in {"SAMPLE_1": 2, run.dag_id: 12}.items():
        assert _get(page_api, "mapped", **query, text=text)["total"] == count


def test_batch_is_one_ingest_with_its_report(page_api: TestClient) -> None:
    run = Rows(new_dag(), "failed")
    for index in range(3):
        run.add("ingest.ingest", "success", uploaded(), map_index=index, operator="DSSIngestOperator")
    (ingest,) = _get(page_api, "ingests", dag_id=run.dag_id)["ingests"]
    assert (ingest["task_id"], ingest["report"]) == ("ingest.ingest", None)
    cause = {"outcome": "invalid", "cause": "it has no files", "count": 7, "directories": ["/data/a", "/data/b"]}
    report = {"created": 3, "unchanged": 2, "skipped": 0, "invalid": 7, "failed": 0, "causes": [cause]}
    more = {"file_count": 9, "byte_count": 90, "bundles": []}
    run.add("ingest.report", "failed", {"report": {**report, **more}}, operator="DSSReportIngestOperator")
    (ingest,) = _get(page_api, "ingests", dag_id=run.dag_id)["ingests"]
    assert (ingest["task_id"], ingest["report"]) == ("ingest.report", report)
    assert (ingest["file_count"], ingest["byte_count"]) == (9, 90)
    tasks = _get(page_api, "run", dag_id=run.dag_id, run_id=run.run_id)["ingests"]
    assert [task["task_id"] for task in tasks] == ["ingest.ingest", "ingest.report"]


def test_group_took_as_long_as_all_of_its_tasks(page_api: TestClient) -> None:
    run = Rows(new_dag())
    run.add("upload.plan", "success", operator="DSSPlanUploadOperator", seconds=1)
    for index in range(2):
        run.add("upload.shard", "success", uploaded(), map_index=index, operator="DSSUploadShardOperator", seconds=1)
    last = uploaded(rate=0.0, staged_byte_count=500)  # the others were in the latest version of the bundle
    run.add("upload.bundle", "success", last, operator="DSSUploadShardsBundleOperator", seconds=7)
    (ingest,) = _get(page_api, "ingests", dag_id=run.dag_id)["ingests"]
    started, ended = (datetime.fromisoformat(ingest[key]) for key in ("started", "ended"))
    assert (ended - started).total_seconds() == 10  # each task starts a second after the one before
    assert ingest["progress"]["rate"] == 50
    tasks = _get(page_api, "run", dag_id=run.dag_id, run_id=run.run_id)["ingests"]
    assert tasks[-1]["started"] > ingest["started"]


def test_mapped_tasks_beyond_the_limit_are_counted(page_api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_MAX_READ", 7)
    dag_id = new_dag()
    old, single, new = (Rows(dag_id, "success") for _ in range(3))
    for index, state in enumerate(["success", "failed", "success", "upstream_failed"]):
        old.add("upload", state, uploaded(), map_index=index)
    single.add("upload", "success", uploaded())
    for index in range(4):
        new.add("upload", "success", uploaded(), map_index=index)
    found = {ingest["run_id"]: ingest for ingest in _get(page_api, "ingests", dag_id=dag_id)["ingests"]}
    assert list(found) == [new.run_id, single.run_id, old.run_id]
    assert [ingest["file_count"] for ingest in found.values()] == [40, 10, None]
    counted = found[old.run_id]
    assert counted["states"] == {"success": 2, "failed": 1, "upstream_failed": 1}
    assert (counted["state"], counted["error"]) == ("failed", "Open the row for the reasons")
    assert (counted["action"], counted["started"] is None, counted["map_index"]) == ("create", False, -1)


def test_reasons_that_were_not_read_are_not_invented(page_api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Rows(new_dag(), "failed")
    for index in range(3):
        run.add("upload", "failed", uploaded(), map_index=index)
    query = {"dag_id": run.dag_id, "run_id": run.run_id}
    (task,) = _get(page_api, "run", **query)["ingests"]
    assert [bool(member["error"]) for member in task["members"]] == [True] * 3
    monkeypatch.setattr(tasks, "_MAX_ROWS", 4)
    (task,) = _get(page_api, "run", **query)["ingests"]
    assert [member["error"] for member in task["members"]] == [""] * 3


def test_mapped_tasks_of_others_do_not_use_up_the_limit(page_api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Rows(new_dag())
    for index in range(5):
        run.add("before", "success", {"file_count": 1}, map_index=index, operator="PythonOperator")
    run.add("upload", "success", {"file_count": 1, **uploaded()})
    monkeypatch.setattr(tasks, "_MAX_ROWS", 4)
    (task,) = _get(page_api, "run", dag_id=run.dag_id, run_id=run.run_id)["ingests"]
    assert task["task_id"] == "upload"


def test_run_has_mapped_tasks_as_members_of_one(page_api: TestClient) -> None:
    run = _samples()
    run.add("other", "success", operator="PythonOperator")
    (task,) = _get(page_api, "run", dag_id=run.dag_id, run_id=run.run_id)["ingests"]
    assert [(member["map_index"], member["state"]) for member in task["members"]] == [
        (0, "failed"),
        (1, "success"),
        (2, None),
    ]


def test_ingests_are_paged_newest_first(page_api: TestClient) -> None:
    dag_id = new_dag()
    runs = [Rows(dag_id) for _ in range(5)]
    for run in runs:
        run.add("upload", "success", uploaded())
    pages = [_get(page_api, "ingests", dag_id=dag_id, limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [ingest["run_id"] for page in pages for ingest in page["ingests"]] == [run.run_id for run in runs[::-1]]
    assert {page["total"] for page in pages} == {5}


def test_filters_select_ingests(page_api: TestClient) -> None:
    dags = [new_dag(), new_dag()]
    failed, running = Rows(dags[0], "failed"), Rows(dags[1], "running")
    uuid = new_uuid()
    failed.add("upload", "failed", uploaded(uuid))
    running.add("first", "success", uploaded())
    running.add("second", "deferred", uploaded(), map_index=0, label="100%_done")
    running.add("second", None, map_index=1)

    def found(**query: Any) -> set[str]:
        listed = _get(page_api, "ingests", limit=200, **query)["ingests"]
        return {ingest["task_id"] for ingest in listed if ingest["dag_id"] in dags}

    assert found() == {"upload", "first", "second"}
    assert found(dag_id=dags[1]) == {"first", "second"}
    assert found(state="failed") == {"upload"}
    assert found(state="success") == {"first"}
    assert found(state="running") == {"second"}
    assert found(text=uuid[:8].upper()) == {"upload"}
    assert found(text=failed.run_id) == {"upload"}
    assert found(text="SECOND") == {"second"}
    assert found(text="0%_d") == {"second"}
    assert found(text="%") == {"second"}
    assert found(text="hca_dss_default") == set()
    assert found(dag_id=dags[1], state="failed") == set()
    assert set(dags) <= set(_get(page_api, "ingests", state="failed")["dag_ids"])


def test_unknown_dag_has_no_ingests(page_api: TestClient) -> None:
    assert _get(page_api, "ingests", dag_id="unknown")["ingests"] == []


def test_tasks_that_use_bundles_otherwise_are_no_ingests(page_api: TestClient) -> None:
    run = Rows(new_dag())
    run.add("upload", "success", uploaded())
    run.add("wait", "success", link(), operator="DSSBundleSensor")
    run.add("foreign", "success", {"created": True}, operator="PythonOperator")
    assert [ingest["task_id"] for ingest in _get(page_api, "ingests", dag_id=run.dag_id)["ingests"]] == ["upload"]


def test_shards_are_an_ingest_until_their_bundle_task_starts(page_api: TestClient) -> None:
    run, uuid = Rows(new_dag(), "running"), new_uuid()
    for index in range(2):
        shard = uploaded(uuid, shard_number=index + 1, shard_count=2)
        run.add("upload.shard", "success", shard, map_index=index, operator="DSSUploadShardOperator")
    (ingest,) = _get(page_api, "ingests", dag_id=run.dag_id)["ingests"]
    assert (ingest["state"], ingest["action"], ingest["bundle"]["uuid"]) == ("running", "create", uuid)
    assert (ingest["progress"]["phase"], ingest["file_count"]) == ("shards", 20)
    run.add("upload.bundle", "running", uploaded(uuid), operator="DSSUploadShardsBundleOperator")
    listed = _get(page_api, "ingests", dag_id=run.dag_id)["ingests"]
    assert [ingest["task_id"] for ingest in listed] == ["upload.bundle"]


def _errors(api: TestClient, run: Rows) -> dict[str, str]:
    tasks = _get(api, "run", dag_id=run.dag_id, run_id=run.run_id)["ingests"]
    return {task["task_id"]: task["error"] for task in tasks}


def test_failed_tasks_have_their_reason(page_api: TestClient) -> None:
    run = Rows(new_dag(), "failed")
    run.add("early", "failed", {ERROR_KEY: "The conn_id `x` isn't defined"})
    run.add("upload", "failed", {**uploaded(error="no such directory"), ERROR_KEY: "no such directory"})
    run.add("retried", "up_for_retry", {ERROR_KEY: "the DSS does not answer"}, operator="DSSPutBundleOperator")
    run.add("killed", "failed", uploaded(phase="stage"))
    run.add("after", "upstream_failed", link())
    run.add("good", "success", {**uploaded(), ERROR_KEY: "of an earlier poke"})
    assert _errors(page_api, run) == {
        "early": "The conn_id `x` isn't defined",
        "upload": "no such directory",
        "retried": "the DSS does not answer",
        "killed": "The task failed without a reported reason, for example because it was killed. "
        "Its log may have the reason",
        "after": "A task before this one failed",
        "good": "",
    }


def test_upload_that_waits_for_its_retry_is_a_running_ingest_with_the_last_reason(page_api: TestClient) -> None:
    """Also on Airflow 3.4, where the XComs belong to the failed try."""
    run, uuid = Rows(new_dag(), "running"), new_uuid()
    run.add("upload", "up_for_retry", uploaded(uuid, phase="stage", error="the DSS does not answer"))
    (ingest,) = _get(page_api, "ingests", dag_id=run.dag_id, state="running")["ingests"]
    assert (ingest["state"], ingest["error"], ingest["file_count"]) == ("up_for_retry", "the DSS does not answer", 10)
    assert _get(page_api, "ingests", dag_id=run.dag_id, state="failed")["total"] == 0
    (task,) = _get(page_api, "bundle-tasks", uuid=uuid, connection="hca_dss_default")["tasks"]
    assert task["bundle"]["uuid"] == uuid


def test_retry_shows_its_own_xcoms_only(page_api: TestClient) -> None:
    run = Rows(new_dag(), "running")
    run.add("upload", "up_for_retry", uploaded(phase="stage", error="the DSS does not answer"))
    run.retry("upload", "failed")
    (task,) = _get(page_api, "run", dag_id=run.dag_id, run_id=run.run_id)["ingests"]
    assert task["error"].startswith("The task failed without a reported reason")
    assert task["progress"] is None


def test_task_that_failed_before_planning_is_an_ingest(page_api: TestClient) -> None:
    run = Rows(new_dag(), "failed")
    run.add("upload", "failed", {ERROR_KEY: "no host"})
    run.add("download", "failed", {ERROR_KEY: "no host"}, operator="DSSDownloadBundleOperator")
    (ingest,) = _get(page_api, "ingests", dag_id=run.dag_id)["ingests"]
    assert (ingest["task_id"], ingest["error"], ingest["bundle"]) == ("upload", "no host", None)


def test_mapped_tasks_have_the_most_frequent_reason(page_api: TestClient) -> None:
    run = Rows(new_dag(), "failed")
    for index, reason in enumerate(("a", "b", "b", "c")):
        run.add("upload", "failed", {ERROR_KEY: reason}, map_index=index)
    assert _errors(page_api, run) == {"upload": "b (and 2 other reasons)"}
