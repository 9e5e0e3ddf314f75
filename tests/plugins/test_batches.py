"""Test that the page finds the bundles of batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_hca.plugins import access, batches
from airflow_provider_hca.utils.ui_links import PROGRESS_KEY
from tests.local.server import VERSION, new_uuid
from tests.plugins.database import Rows, new_dag

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


def _add_batch(*bundles: tuple[str, str], operator: str = "DSSReportIngestOperator", **report: Any) -> Rows:
    """Add a batch that created bundles with the given directories and UUIDs."""
    entries = [{"directory": f"/data/{key}", "bundle_key": key, "fqid": f"{uuid}.{VERSION}"} for key, uuid in bundles]
    value = {"dss_conn_id": "hca_dss_default", "replica": "aws", "bundles": entries, **report}
    run = Rows(new_dag())
    run.add("night.ingest", "success", {PROGRESS_KEY: {"phase": "directories"}}, operator="DSSIngestOperator")
    run.add("night.report", "success", {"report": value}, operator=operator)
    return run


def _named(api: TestClient, text: str, **place: str) -> list[tuple[str, str]]:
    query = {"connection": "hca_dss_default", "replica": "aws", "text": text, **place}
    answer = api.get("/api/named-bundles", params=query)
    assert answer.status_code == 200, answer.text
    return [(bundle["uuid"], bundle["name"]) for bundle in answer.json()["bundles"]]


def _creators(api: TestClient, *uuids: str, connection: str = "hca_dss_default") -> dict[str, Any]:
    query = {"connection": connection, "fqid": [f"{uuid}.{VERSION}" for uuid in uuids]}
    answer = api.get("/api/creators", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["creators"]
    return found


def test_bundles_of_batches_have_names_and_creators(page_api: TestClient) -> None:
    first, second, key = new_uuid(), new_uuid(), new_uuid()
    run = _add_batch((f"{key}/Liver", first), (f"{key}/lung", second))
    for text in (f"{key}/LIV", f"/data/{key}/liver"):
        assert _named(page_api, text) == [(first, f"{key}/Liver")]
    assert {uuid for uuid, _ in _named(page_api, key)} == {first, second}
    creator = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": "night.report", "map_index": -1}
    found = _creators(page_api, first, second, new_uuid())
    assert found[f"{first}.{VERSION}"] == {**creator, "name": f"{key}/Liver"}
    assert len(found) == 2


def test_bundles_of_another_place_are_not_found(page_api: TestClient) -> None:
    uuid, key = new_uuid(), new_uuid()
    _add_batch((key, uuid))
    assert _named(page_api, key, replica="gcp") == []
    assert _named(page_api, key, connection="other") == []
    assert _creators(page_api, uuid, connection="other") == {}
    assert page_api.get("/api/named-bundles", params={"text": key, "connection": "x"}).status_code == 422


@pytest.mark.parametrize(
    "report",
    [
        {"dss_conn_id": None, "replica": "azure"},
        {"bundles": "text"},
        {"bundles": [None, "text", {"fqid": 7, "bundle_key": "KEY"}, {"fqid": "x.y", "bundle_key": "KEY"}]},
    ],
)
def test_report_of_another_form_is_ignored(page_api: TestClient, report: dict[str, Any]) -> None:
    key, uuid = new_uuid(), new_uuid()
    if isinstance(report.get("bundles"), list):
        report = {"bundles": [{**e, "bundle_key": key} if isinstance(e, dict) else e for e in report["bundles"]]}
    _add_batch((key, uuid), **report)
    _add_batch((key, uuid), operator="PythonOperator")
    assert _named(page_api, key) == []
    assert _creators(page_api, uuid) == {}


def test_newest_bundles_are_read(page_api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    key, uuids = new_uuid(), [new_uuid() for _ in range(4)]
    runs = [_add_batch((key, first), (key, second)) for first, second in (uuids[:2], uuids[2:])]
    # Other tests ran batches in this database.
    monkeypatch.setattr(access, "readable_dags", lambda _: {run.dag_id for run in runs})
    monkeypatch.setattr(batches, "_MAX_BUNDLES", 3)
    assert {uuid for uuid, _ in _named(page_api, key)} == {uuids[2], uuids[3], uuids[0]}
    monkeypatch.setattr(batches, "_MAX_REPORTS", 1)
    assert {uuid for uuid, _ in _named(page_api, key)} == {uuids[2], uuids[3]}
