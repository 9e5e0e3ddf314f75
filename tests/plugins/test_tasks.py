from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_hca.operators import dss as operators
from airflow_provider_hca.operators import ingest, ingest_group, upload_group
from airflow_provider_hca.plugins.tasks import ACTIONS
from airflow_provider_hca.sensors import dss as sensors
from airflow_provider_hca.utils.ui_links import NAME_KEY
from tests.local.server import VERSION, new_uuid
from tests.plugins.database import Rows, link, new_dag, uploaded

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


def _run(api: TestClient, run: Rows) -> dict[str, Any]:
    answer = api.get("/api/run", params={"dag_id": run.dag_id, "run_id": run.run_id})
    assert answer.status_code == 200, answer.text
    return {task["task_id"]: task for task in answer.json()["ingests"]}


def test_every_operator_and_sensor_has_an_action() -> None:
    modules = (operators, upload_group, ingest_group, ingest, sensors)
    classes = [value for module in modules for value in vars(module).values()]
    names = {
        value.__name__
        for value in classes
        if isinstance(value, type) and issubclass(value, BaseOperator) and value.__name__.startswith("DSS")
    }
    assert names - {"DSSOperator", "DSSDeferrableOperator", "DSSSensor"} == set(ACTIONS)


FILE = {"uuid": new_uuid(), "version": VERSION, "replica": "aws", "name": "a.bam", "indexed": False}
COLLECTION = {"uuid": new_uuid(), "version": VERSION, "replica": "gcp", "item_count": 1, "created": True}


@pytest.mark.parametrize(
    ("operator", "xcoms", "action", "changed", "target"),
    [
        ("DSSPutFileOperator", FILE, "put_file", None, {"name": "a.bam", "item_count": None}),
        ("DSSPutCollectionOperator", COLLECTION, "put_collection", True, {"name": "", "item_count": 1}),
        ("DSSPatchCollectionOperator", {**COLLECTION, "created": False}, "change_collection", False, {"item_count": 1}),
        (
            "DSSDeleteCollectionOperator",
            {"uuid": COLLECTION["uuid"], "replica": "aws", "deleted": True},
            "delete_collection",
            True,
            {"version": "", "item_count": None},
        ),
        ("DSSDeleteBundleOperator", link(), "delete", None, None),
        ("DSSPatchBundleOperator", {**link(), "created": False}, "change", False, None),
        ("MyUpload", uploaded(), "create", None, None),
    ],
)
def test_run_shows_tasks_of_each_operator(
    page_api: TestClient,
    operator: str,
    xcoms: dict[str, Any],
    action: str,
    changed: bool | None,
    target: dict[str, Any] | None,
) -> None:
    run = Rows(new_dag())
    run.add("task", "success", xcoms, operator=operator)
    run.add("foreign", "success", FILE, operator="PythonOperator")
    tasks = _run(page_api, run)
    assert set(tasks) == {"task"}
    task = tasks["task"]
    assert (task["action"], task["changed"]) == (action, changed)
    assert (task["target"] is None) == (target is None)
    assert not target or target.items() <= task["target"].items()


def test_run_has_only_the_given_task(page_api: TestClient) -> None:
    run = Rows(new_dag())
    run.add("first", "success", uploaded())
    run.add("second", "success", uploaded())
    query = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": "second"}
    (task,) = page_api.get("/api/run", params=query).json()["ingests"]
    assert task["task_id"] == "second"


def test_run_shows_tasks_that_have_not_started(page_api: TestClient) -> None:
    run = Rows(new_dag(), "running")
    run.add("put", "running", operator="DSSPutFileOperator")
    run.add("after", None, operator="DSSDeleteBundleOperator")
    tasks = _run(page_api, run)
    assert {name: task["state"] for name, task in tasks.items()} == {"put": "running", "after": None}
    assert tasks["put"]["target"] is None


def _bundle_tasks(api: TestClient, uuid: str, **query: str) -> list[tuple[str, str]]:
    answer = api.get("/api/bundle-tasks", params={"connection": "hca_dss_default", "uuid": uuid, **query})
    assert answer.status_code == 200, answer.text
    return [(task["task_id"], task["action"]) for task in answer.json()["tasks"]]


def test_tasks_of_a_bundle_are_listed_newest_first(page_api: TestClient) -> None:
    uuid, run = new_uuid(), Rows(new_dag())
    run.add("upload", "success", uploaded(uuid), map_index=3)
    run.add("upload", "success", uploaded(), map_index=4)
    run.add("other", "success", uploaded())
    run.add("delete", "success", link(uuid), operator="DSSDeleteBundleOperator")
    assert _bundle_tasks(page_api, uuid) == [("delete", "delete"), ("upload", "create")]
    assert _bundle_tasks(page_api, uuid.upper()) == [("delete", "delete"), ("upload", "create")]
    assert _bundle_tasks(page_api, new_uuid()) == []
    assert _bundle_tasks(page_api, uuid, connection="other") == []
    assert page_api.get("/api/bundle-tasks", params={"uuid": "x", "connection": "x"}).status_code == 422


def test_tasks_of_a_version_of_a_bundle_include_those_of_the_latest(page_api: TestClient) -> None:
    uuid, run, other = new_uuid(), Rows(new_dag()), "2026-03-02T120000.000000Z"
    run.add("upload", "success", uploaded(uuid))
    run.add("download", "success", link(uuid, None), operator="DSSDownloadBundleOperator")
    run.add("again", "success", link(uuid, other))
    assert _bundle_tasks(page_api, uuid, version=VERSION) == [("download", "download"), ("upload", "create")]
    assert [name for name, _ in _bundle_tasks(page_api, uuid, version=other)] == ["again", "download"]


def _named(
    api: TestClient, text: str, connection: str = "hca_dss_default", replica: str = "aws"
) -> list[tuple[str, str]]:
    query = {"text": text, "connection": connection, "replica": replica}
    answer = api.get("/api/named-bundles", params=query)
    assert answer.status_code == 200, answer.text
    return [(bundle["uuid"], bundle["name"]) for bundle in answer.json()["bundles"]]


def test_bundles_are_found_by_name(page_api: TestClient) -> None:
    uuids = [new_uuid() for _ in range(3)]
    name = f'/data/{new_uuid()}/Donor "7" of Größe'
    run = Rows(new_dag())
    for number, state in enumerate(("success", "success", "failed")):
        created = {"created": True, "fqid": f"{uuids[number]}.{VERSION}"} if state == "success" else {}
        run.add(f"upload_{number}", state, {**uploaded(uuids[number]), **created, NAME_KEY: f"{name} {number}"})
    both = [(uuids[1], f"{name} 1"), (uuids[0], f"{name} 0")]
    for text in (name, name[:50].upper(), name[6:30]):
        assert _named(page_api, text) == both
    assert _named(page_api, f"{name} 1") == both[:1]
    assert _named(page_api, name, "other") == []
    assert _named(page_api, name, replica="gcp") == []
    assert _named(page_api, "%") == []
    fqid = f"{uuids[0]}.{VERSION}"
    creators = {
        connection: page_api.get("/api/creators", params={"fqid": fqid, "connection": connection}).json()["creators"]
        for connection in ("hca_dss_default", "other")
    }
    assert creators["other"] == {}
    creator = creators["hca_dss_default"][fqid]
    assert (creator["task_id"], creator["name"]) == ("upload_0", f"{name} 0")
    answer = page_api.get("/api/ingests", params={"text": f"{name} 2"}).json()["ingests"]
    assert [(ingest["task_id"], ingest["bundle"]["name"]) for ingest in answer] == [("upload_2", f"{name} 2")]
