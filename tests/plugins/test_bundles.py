from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import HTTPException

from airflow_provider_hca.plugins import dss as ui_of_dss
from airflow_provider_hca.plugins.bundles import get_bundle, list_bundles
from tests.local.server import UNUSED_UUID, VERSION, new_uuid
from tests.plugins.conftest import Ingested
from tests.plugins.samples import HOSTILE

if TYPE_CHECKING:
    from tests.local.server import LocalDSS
    from tests.plugins.airflow import AirflowWithUI

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

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
    """A bundle of a replica is listed there; of the other it is told whether it is there, if the DSS can say."""
    uuid = new_uuid()
    assert ui_dss.put_bundle([ui_dss.entry("a")], uuid).status_code == 201
    assert airflow.page(_BUNDLES, replica="aws", prefix=uuid)["bundles"]

    def replicas(seen_in: str) -> dict[str, bool | None]:
        told: dict[str, bool | None] = airflow.page(f"{_BUNDLES}/{uuid}", replica=seen_in)["replicas"]
        return told

    airflow.wait_for("the bundle to be synced", lambda: replicas("aws") == {"aws": True, "gcp": True})
    there = {"method": "GET", "path": f"/bundles/{uuid}", "action": "slow", "seconds": 0}
    ui_dss.control("POST", "faults", there)
    ui_dss.control("POST", "faults", {**there, "action": "status", "status": 500, "times": 9})
    assert replicas("gcp") == {"aws": None, "gcp": True}
    ui_dss.control("DELETE", "faults")


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
        (f"{_BUNDLES}/{UNUSED_UUID}?replica=aws", 404, "404 not_found"),
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
        f"{_BUNDLES}/{UNUSED_UUID}?replica=aws&version=1",
        f"{_BUNDLES}/{UNUSED_UUID}?replica=aws&version=2024-13-01T000000.000000Z",
        f"connections/hca_dss_default/files/{UNUSED_UUID}/document?replica=aws&version=2024-02-30T000000.000000Z",
        f"connections/hca_dss_default/files/{UNUSED_UUID}/links?replica=aws",
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


def test_of_very_many_files_the_first_are_listed(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """Of a bundle with more than 10,000 files those and `links.json` are listed, and the others counted."""
    uuid, file = new_uuid(), ui_dss.new_file()
    names = [*(f"{number}.txt" for number in range(10_002)), "links.json"]
    assert ui_dss.put_bundle([ui_dss.entry(name, file) for name in names], uuid).status_code == 201
    shown = airflow.page(f"{_BUNDLES}/{uuid}", replica="aws")
    assert [each["name"] for each in shown["files"]] == [*names[:10_000], "links.json"]
    assert (shown["omitted"], shown["byte_count"]) == (2, len(names) * len(b"content"))


class OddDSS:
    """A DSS that answers what a test tells it to, and has nothing in `gcp`.

    :ivar bundle: what it says of any bundle
    :ivar listed: what it says that there are
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.uuid = new_uuid()
        self.file: dict[str, Any] = {"name": "a", "uuid": new_uuid(), "version": VERSION, "size": 1}
        self.bundle: dict[str, Any] = {
            "uuid": self.uuid,
            "version": VERSION,
            "creator_uid": 1,
            "files": [self.file],
        }
        self.listed: list[Any] = []

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return status and body."""
        if "replica=aws" not in path:
            return 404, {"status": 404, "code": "not_found", "title": "not there, half \ud800"}
        return 200, {"bundles": self.listed} if "/bundles/all" in path else {"bundle": self.bundle}


@pytest.fixture
def odd_dss(monkeypatch: pytest.MonkeyPatch) -> Iterator[OddDSS]:
    """Start a DSS whose answers are odd, and name it in a connection of this process."""

    class Odd(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, told = dss.answer(self.path)
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if status == 200 else "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        dss = OddDSS(f"http://127.0.0.1:{server.server_address[1]}/v1")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AIRFLOW_CONN_ODD", json.dumps({"conn_type": "hca_dss", "host": dss.url}))
        yield dss
        server.shutdown()
        thread.join()


def _shown(dss: OddDSS) -> Any:
    return json.loads(bytes(asyncio.run(get_bundle("odd", dss.uuid, "aws")).body))


def test_an_odd_bundle_is_shown(odd_dss: OddDSS) -> None:
    """What cannot be sent of a name is a question mark, and a replica without the bundle is told to be so."""
    odd_dss.file["name"] = "half \ud800"
    shown = _shown(odd_dss)
    assert [file["name"] for file in shown["files"]] == ["half ?"]
    assert shown["replicas"] == {"aws": True, "gcp": False}


@pytest.mark.parametrize("size", ["twelve", "12", -1, [], {"a": 1}, float("inf"), float("nan"), None])
def test_an_odd_size_counts_as_none(odd_dss: OddDSS, size: Any) -> None:
    """A size that is no number of bytes is shown as 0, and the bundle is shown all the same."""
    odd_dss.bundle["files"].append({**odd_dss.file, "name": "b", "size": size})
    shown = _shown(odd_dss)
    assert ([file["size"] for file in shown["files"]], shown["byte_count"]) == ([1, 0], 1)


def test_a_bundle_of_an_odd_version_is_shown(odd_dss: OddDSS) -> None:
    """Of a version that is none nothing can be asked in the other replica, which is told to be so."""
    odd_dss.bundle["version"] = odd = "half \ud800 of a version"
    shown = _shown(odd_dss)
    assert shown["version"] == shown["versions"][0] == odd.replace("\ud800", "?")
    assert shown["replicas"] == {"aws": True, "gcp": None}


def test_what_a_dss_leaves_out_is_no_error_of_the_server(airflow: AirflowWithUI, odd_dss: OddDSS) -> None:
    """Without a creator a bundle is shown; without files, names or sense an answer is told to be no DSS's."""
    stored = {"connection_id": "dss_odd", "conn_type": "hca_dss", "host": odd_dss.url}
    airflow.api("POST", "/connections", stored)
    page = "/hca-dss/api/connections/dss_odd/bundles"

    def statuses() -> list[int]:
        return [airflow.call("GET", f"{page}{path}?replica=aws").status_code for path in ("", f"/{odd_dss.uuid}")]

    try:
        del odd_dss.bundle["creator_uid"]
        assert airflow.page("connections/dss_odd/bundles/" + odd_dss.uuid, replica="aws")["creator_uid"] is None
        odd_dss.listed = [{"uuid": "half \ud800", "version": "half \ud800"}]
        assert statuses() == [200, 200]
        for wrong in ({"uuid": odd_dss.uuid}, {"version": VERSION}, {"uuid": 1, "version": 2}, "text"):
            odd_dss.listed = [wrong]
            assert statuses() == [502, 200]
        del odd_dss.bundle["files"]
        assert statuses() == [502, 502]
        assert airflow.call("GET", f"{page}/{odd_dss.uuid}?replica=gcp").json()["detail"].endswith("half ?")
    finally:
        airflow.api("DELETE", "/connections/dss_odd")


def test_nobody_waits_for_ever(ui_dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DSS that takes too long is given up, and it is told so."""
    monkeypatch.setattr(ui_of_dss, "_SECONDS", 0.5)
    monkeypatch.setenv("AIRFLOW_CONN_SLOW", json.dumps({"conn_type": "hca_dss", "host": ui_dss.url}))
    slow = {"method": "GET", "path": "/bundles/", "action": "slow", "seconds": 3, "times": 2}
    ui_dss.control("POST", "faults", slow)
    for ask in (list_bundles("slow", "aws"), get_bundle("slow", new_uuid(), "aws")):
        with pytest.raises(HTTPException, match="takes too long") as caught:
            asyncio.run(ask)
        assert caught.value.status_code == 504
    ui_dss.control("DELETE", "faults")
