from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.server import VERSION, new_uuid
from tests.plugins.conftest import Ingested

if TYPE_CHECKING:
    from tests.local.server import LocalDSS
    from tests.plugins.airflow import AirflowWithUI

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_FILES = "connections/hca_dss_default/files"
_WHICH: dict[str, Any] = {"replica": "aws", "version": VERSION}
_DEEP = b"[" * 100_000


def test_the_links_of_a_bundle_are_read(airflow: AirflowWithUI, ingested: Ingested) -> None:
    """The `links.json` of a bundle becomes its graph: from the donor to the results, in columns."""
    bundle = airflow.page(f"connections/hca_dss_default/bundles/{ingested.uuid}", replica="aws")
    links = next(file for file in bundle["files"] if file["name"] == "links.json")
    graph = airflow.page(f"{_FILES}/{links['uuid']}/links", replica="aws", version=links["version"])
    types = [node["type"] for node in sorted(graph["nodes"], key=lambda node: node["x"])]
    assert (types[0], types[-1]) == ("donor_organism", "analysis_file")
    assert graph["columns"] == 9
    assert len(graph["edges"]) == 13


def test_metadata_is_called_by_its_name(airflow: AirflowWithUI, ingested: Ingested) -> None:
    """A metadata document gives the id that links know it by, its type, and the name that people gave it."""
    bundle = airflow.page(f"connections/hca_dss_default/bundles/{ingested.uuid}", replica="aws")
    file = next(file for file in bundle["files"] if file["name"] == "cell_suspension_0.json")
    document = airflow.page(f"{_FILES}/{file['uuid']}/document", replica="aws", version=file["version"])
    assert document.pop("id")
    assert document == {"type": "cell_suspension", "name": "islets_17"}


def test_a_name_is_cut_to_what_can_be_sent_and_drawn(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """Of a book as a name the first 200 characters are told, without the halves of characters that JSON may hold."""
    content = json.dumps({"describedBy": "x/" + "t" * 9000, "x_core": {"file_name": "\ud800" + "n" * 9000}}).encode()
    document = airflow.page(f"{_FILES}/{ui_dss.new_file(content)}/document", **_WHICH)
    assert document == {"id": "", "type": "t" * 200, "name": "?" + "n" * 199}


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]", b'{"provenance": 3, "x_core": []}', b"\xff\xfe", _DEEP])
def test_what_is_no_metadata_has_no_name(airflow: AirflowWithUI, ui_dss: LocalDSS, content: bytes) -> None:
    """A file that is something else describes nothing, and is no error."""
    document = airflow.page(f"{_FILES}/{ui_dss.new_file(content)}/document", **_WHICH)
    assert document == {"id": "", "type": "", "name": ""}


@pytest.mark.parametrize("content", [b"", b"{}", b'{"links": [1]}', b'{"links": {"a": 1}}', b"\xff\xfe", _DEEP])
def test_links_that_are_none_are_told_to_be(airflow: AirflowWithUI, ui_dss: LocalDSS, content: bytes) -> None:
    """A `links.json` that holds no links is told so."""
    answer = airflow.call("GET", f"/hca-dss/api/{_FILES}/{ui_dss.new_file(content)}/links", params=_WHICH)
    assert answer.status_code == 422
    assert "this links.json cannot be drawn" in answer.json()["detail"]


def test_what_is_too_large_is_not_read(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """Of a document of more than a MiB no more than that is read."""
    content = json.dumps({"x": "y" * 1_100_000}).encode()
    answer = airflow.call("GET", f"/hca-dss/api/{_FILES}/{ui_dss.new_file(content)}/document", params=_WHICH)
    assert answer.status_code == 413
    assert "too large" in answer.json()["detail"]


def test_a_file_that_is_not_there_is_told(airflow: AirflowWithUI) -> None:
    """The DSS's own 404 is passed on."""
    assert airflow.call("GET", f"/hca-dss/api/{_FILES}/{new_uuid()}/document", params=_WHICH).status_code == 404


def test_what_never_changes_is_kept_by_the_browser(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """A version of a file is for ever, so the browser of who asked need not ask again."""
    answer = airflow.call("GET", f"/hca-dss/api/{_FILES}/{ui_dss.new_file(b'{}')}/document", params=_WHICH)
    assert answer.headers["cache-control"] == "private, max-age=86400"
    assert "Cookie, Authorization" in answer.headers["vary"]  # of who asked, and of nobody else there
