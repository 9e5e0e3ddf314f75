from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.server import VERSION, new_uuid
from tests.plugins.conftest import Ingested

if TYPE_CHECKING:
    from tests.airflow_processes import Airflow
    from tests.local.server import LocalDSS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_FILES = "connections/hca_dss_default/files"
_VERSION: dict[str, Any] = {"replica": "aws", "version": VERSION}
_DEEP = b"[" * 100_000


def test_links_are_a_graph_in_columns(airflow: Airflow, ingested: Ingested) -> None:
    bundle = airflow.page(f"connections/hca_dss_default/bundles/{ingested.uuid}", replica="aws")
    links = next(file for file in bundle["files"] if file["name"] == "links.json")
    graph = airflow.page(f"{_FILES}/{links['uuid']}/links", replica="aws", version=links["version"])
    types = [node["type"] for node in sorted(graph["nodes"], key=lambda node: node["x"])]
    assert (types[0], types[-1]) == ("donor_organism", "analysis_file")
    assert graph["columns"] == 9
    assert len(graph["edges"]) == 13


def test_document_has_id_type_and_name(airflow: Airflow, ingested: Ingested) -> None:
    bundle = airflow.page(f"connections/hca_dss_default/bundles/{ingested.uuid}", replica="aws")
    file = next(file for file in bundle["files"] if file["name"] == "cell_suspension_0.json")
    document = airflow.page(f"{_FILES}/{file['uuid']}/document", replica="aws", version=file["version"])
    assert document.pop("id")
    assert document == {"type": "cell_suspension", "name": "islets_17"}


def test_document_name_is_cut_to_200_characters_without_surrogates(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    content = json.dumps({"describedBy": "x/" + "t" * 9000, "x_core": {"file_name": "\ud800" + "n" * 9000}}).encode()
    document = airflow.page(f"{_FILES}/{airflow_dss.new_file(content)}/document", **_VERSION)
    assert document == {"id": "", "type": "t" * 200, "name": "?" + "n" * 199}


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]", b'{"provenance": 3, "x_core": []}', b"\xff\xfe", _DEEP])
def test_document_of_other_content_is_empty(airflow: Airflow, airflow_dss: LocalDSS, content: bytes) -> None:
    document = airflow.page(f"{_FILES}/{airflow_dss.new_file(content)}/document", **_VERSION)
    assert document == {"id": "", "type": "", "name": ""}


@pytest.mark.parametrize("content", [b"", b"{}", b'{"links": [1]}', b'{"links": {"a": 1}}', b"\xff\xfe", _DEEP])
def test_links_without_a_list_are_answered_with_422(airflow: Airflow, airflow_dss: LocalDSS, content: bytes) -> None:
    answer = airflow.call("GET", f"/hca-dss/api/{_FILES}/{airflow_dss.new_file(content)}/links", params=_VERSION)
    assert answer.status_code == 422
    assert "cannot draw this links.json" in answer.json()["detail"]


def test_document_above_1_mib_is_answered_with_413(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    content = json.dumps({"x": "y" * 1_100_000}).encode()
    answer = airflow.call("GET", f"/hca-dss/api/{_FILES}/{airflow_dss.new_file(content)}/document", params=_VERSION)
    assert answer.status_code == 413
    assert "is larger than 1,048,576 bytes" in answer.json()["detail"]


def test_missing_file_is_answered_with_404(airflow: Airflow) -> None:
    assert airflow.call("GET", f"/hca-dss/api/{_FILES}/{new_uuid()}/document", params=_VERSION).status_code == 404


def test_responses_for_a_file_version_may_be_cached_privately(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    answer = airflow.call("GET", f"/hca-dss/api/{_FILES}/{airflow_dss.new_file(b'{}')}/document", params=_VERSION)
    assert answer.headers["cache-control"] == "private, max-age=86400"
    assert "Cookie, Authorization" in answer.headers["vary"]  # not for the next user of the same browser
