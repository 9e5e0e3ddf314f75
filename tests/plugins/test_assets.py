from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from airflow.models.asset import AssetModel
from airflow.utils.session import create_session

from airflow_provider_hca.assets.dss import bundle_uri
from tests.local.server import VERSION, new_uuid

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

URL = "https://dss.assets.example.org/v1"


@pytest.fixture(autouse=True)
def _connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, host in {"ASSETS_OTHER": "https://other.example.org/v1", "ASSETS_DSS": URL, "ASSETS_BAD": ":::"}.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "hca_dss", "host": host}))


def _asset(uri: str) -> int:
    with create_session() as session:
        asset = AssetModel(name=uri, uri=uri, group="asset")
        session.add(asset)
        session.flush()
        return asset.id


@pytest.mark.parametrize("version", [VERSION, None])
def test_asset_leads_to_its_bundle_by_the_connection_to_its_host(page_api: TestClient, version: str | None) -> None:
    uuid = new_uuid()
    asset_id = _asset(bundle_uri(URL, replica="gcp", uuid=uuid, version=version))
    expected = {"connection": "assets_dss", "replica": "gcp", "uuid": uuid, "version": version, "name": ""}
    assert page_api.get(f"/api/assets/{asset_id}").json() == expected


def test_asset_without_a_connection_to_its_host_is_an_error(page_api: TestClient) -> None:
    answer = page_api.get(f"/api/assets/{_asset(f'dss://unknown.example.org/aws/{new_uuid()}')}")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "no connection of type 'hca_dss' that you may use leads to 'unknown.example.org'"


@pytest.mark.parametrize("uri", ["dss://dss.assets.example.org/aws/cells/42", "s3://dss.assets.example.org/aws"])
def test_asset_that_is_not_a_bundle_is_an_error(page_api: TestClient, uri: str) -> None:
    answer = page_api.get(f"/api/assets/{_asset(f'{uri}/{new_uuid()}')}")
    assert answer.status_code == 404
    assert "is not a bundle" in answer.json()["detail"]


def test_missing_asset_is_an_error(page_api: TestClient) -> None:
    assert page_api.get("/api/assets/999999").status_code == 404
