from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.local.server import new_uuid
from tests.ui.conftest import Ingested
from tests.ui.samples import HOSTILE

if TYPE_CHECKING:
    from tests.local.server import LocalDSS
    from tests.ui.airflow import AirflowWithUI

_BUNDLES = "connections/hca_dss_default/bundles"


def test_the_newest_are_first(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """Bundles are listed by their versions, newest first, whatever their uuids."""
    file = ui_dss.new_file()
    versions = [f"2999-01-01T00000{number}.000000Z" for number in (3, 1, 2)]
    put = {version: new_uuid() for version in versions}
    for version, uuid in put.items():
        assert ui_dss.put_bundle([ui_dss.entry("a", file)], uuid, version).status_code == 201
    listed = airflow.page(_BUNDLES, replica="aws")
    newest = [(each["uuid"], each["version"]) for each in listed["bundles"][:3]]
    assert newest == [(put[version], version) for version in sorted(versions, reverse=True)]
    assert listed["complete"]
    assert listed["looked_at"] >= 3


def test_a_prefix_finds_those_that_begin_with_it(airflow: AirflowWithUI, ingested: Ingested) -> None:
    """A search by the beginning of the uuid, in either case, finds that bundle and no other."""
    for prefix in (ingested.uuid[:9], ingested.uuid[:9].upper(), ingested.uuid):
        found = airflow.page(_BUNDLES, replica="aws", prefix=prefix)["bundles"]
        assert found == [{"uuid": ingested.uuid, "version": ingested.version}]


def test_a_replica_has_its_own(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """A bundle of a replica is listed there, and is told to be there."""
    uuid = new_uuid()
    assert ui_dss.put_bundle([ui_dss.entry("a")], uuid).status_code == 201
    assert airflow.page(_BUNDLES, replica="aws", prefix=uuid)["bundles"]
    assert airflow.page(f"{_BUNDLES}/{uuid}", replica="aws")["replicas"]["aws"] is True


def test_a_bundle_has_its_files(airflow: AirflowWithUI, ingested: Ingested, ui_dss: LocalDSS) -> None:
    """A bundle is shown with name, type, size, version and all four checksums of each file, as the DSS says."""
    shown = airflow.page(f"{_BUNDLES}/{ingested.uuid}", replica="aws", version=ingested.version)
    there = ui_dss.call("GET", f"/bundles/{ingested.uuid}", replica="aws", version=ingested.version).json()["bundle"]
    assert shown["byte_count"] == sum(file["size"] for file in there["files"])
    assert (shown["uuid"], shown["version"]) == (ingested.uuid, ingested.version)
    assert shown["versions"] == [ingested.version]
    assert HOSTILE in {file["name"] for file in shown["files"]}
    keys = ["name", "uuid", "version", "size", "indexed", "sha256", "sha1", "s3_etag", "crc32c"]
    for one, other in zip(shown["files"], there["files"], strict=True):
        assert {key: one[key] for key in keys} == {key: other[key] for key in keys}
        assert one["content_type"] == other["content-type"]


def test_all_versions_of_a_bundle_are_told(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """Without a version the latest is shown, and the others are listed."""
    uuid, file = new_uuid(), ui_dss.new_file()
    versions = ["2025-01-01T000000.000000Z", "2025-01-02T000000.000000Z"]
    for version in versions:
        assert ui_dss.put_bundle([ui_dss.entry("a", file)], uuid, version).status_code == 201
    shown = airflow.page(f"{_BUNDLES}/{uuid}", replica="aws")
    assert (shown["version"], shown["versions"]) == (versions[1], versions[::-1])


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        (f"{_BUNDLES}/{new_uuid()}?replica=aws", 404, "404 not_found"),
        ("connections/dss_down/bundles?replica=aws", 502, "Check the host of connection 'dss_down'"),
    ],
)
def test_errors_are_told_in_the_words_of_the_package(airflow: AirflowWithUI, path: str, status: int, told: str) -> None:
    """What the DSS, or the way there, says is what the page says, with what to change."""
    answer = airflow.call("GET", f"/hca-dss/api/{path}")
    assert answer.status_code == status
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        f"{_BUNDLES}?replica=azure",
        f"{_BUNDLES}?replica=aws&prefix=xyz",
        f"{_BUNDLES}/not-a-uuid?replica=aws",
        f"{_BUNDLES}/{new_uuid()}?replica=aws&version=1",
        f"connections/hca_dss_default/files/{new_uuid()}/links?replica=aws",
    ],
)
def test_what_is_not_well_formed_is_not_sent(airflow: AirflowWithUI, ui_dss: LocalDSS, path: str) -> None:
    """An address that is no such thing is refused before the DSS hears of it."""
    ui_dss.control("DELETE", "requests")
    assert airflow.call("GET", f"/hca-dss/api/{path}").status_code == 422
    assert ui_dss.control("GET", "requests") == []


def test_a_connection_that_is_not_well_formed_says_why(airflow: AirflowWithUI) -> None:
    """A connection whose host is no URL is told to be so, on the page as in a task."""
    airflow.api("POST", "/connections", {"connection_id": "dss_wrong", "conn_type": "hca_dss", "host": "dss"})
    try:
        answer = airflow.call("GET", "/hca-dss/api/connections/dss_wrong/bundles?replica=aws")
        assert answer.status_code == 409
        assert "connection 'dss_wrong': its host must be the full URL" in answer.json()["detail"]
    finally:
        airflow.api("DELETE", "/connections/dss_wrong")
