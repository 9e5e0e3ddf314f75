from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import HTTPException

from airflow_provider_hca.plugins import dss as plugin_dss
from airflow_provider_hca.plugins.bundles import get_bundle, list_bundles
from tests.local.server import UNUSED_UUID, VERSION, new_uuid
from tests.plugins.conftest import Ingested
from tests.plugins.samples import NAME_WITH_MARKUP

if TYPE_CHECKING:
    from tests.airflow_processes import Airflow
    from tests.local.server import LocalDSS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_BUNDLES = "connections/hca_dss_default/bundles"


def test_bundles_are_listed_newest_first(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    file = airflow_dss.new_file()
    versions = [f"2999-01-01T00000{number}.000000Z" for number in (3, 1, 2)]
    uuids = {version: new_uuid() for version in versions}
    for version, uuid in uuids.items():
        assert airflow_dss.put_bundle([airflow_dss.entry("a", file)], uuid, version).status_code == 201
    listed = airflow.page(_BUNDLES, replica="aws")
    newest = [(bundle["uuid"], bundle["version"]) for bundle in listed["bundles"][:3]]
    assert newest == [(uuids[version], version) for version in sorted(versions, reverse=True)]
    assert listed["complete"]
    assert listed["listed"] >= 3


def test_prefix_in_either_case_filters_bundles(airflow: Airflow, ingested: Ingested) -> None:
    for prefix in (ingested.uuid[:9], ingested.uuid[:9].upper(), ingested.uuid):
        found = airflow.page(_BUNDLES, replica="aws", prefix=prefix)["bundles"]
        assert found == [{"uuid": ingested.uuid, "version": ingested.version}]


def test_bundle_reports_its_replicas(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    uuid = new_uuid()
    assert airflow_dss.put_bundle([airflow_dss.entry("a")], uuid).status_code == 201
    assert airflow.page(_BUNDLES, replica="aws", prefix=uuid)["bundles"]

    def replicas(replica: str) -> dict[str, bool | None]:
        available: dict[str, bool | None] = airflow.page(f"{_BUNDLES}/{uuid}", replica=replica)["replicas"]
        return available

    airflow.wait_for("the bundle to be synced", lambda: replicas("aws") == {"aws": True, "gcp": True})
    first = {"method": "GET", "path": f"/bundles/{uuid}", "action": "slow", "seconds": 0}
    airflow_dss.control("POST", "faults", first)
    airflow_dss.control("POST", "faults", {**first, "action": "status", "status": 500, "times": 9})
    assert replicas("gcp") == {"aws": None, "gcp": True}
    airflow_dss.control("DELETE", "faults")


def test_bundle_lists_files_with_checksums(airflow: Airflow, ingested: Ingested, airflow_dss: LocalDSS) -> None:
    shown = airflow.page(f"{_BUNDLES}/{ingested.uuid}", replica="aws", version=ingested.version)
    stored = airflow_dss.call("GET", f"/bundles/{ingested.uuid}", replica="aws", version=ingested.version).json()[
        "bundle"
    ]
    assert shown["byte_count"] == sum(file["size"] for file in stored["files"])
    assert (shown["uuid"], shown["version"]) == (ingested.uuid, ingested.version)
    assert shown["versions"] == [ingested.version]
    assert NAME_WITH_MARKUP in {file["name"] for file in shown["files"]}
    keys = ["name", "uuid", "version", "size", "indexed", "sha256", "sha1", "s3_etag", "crc32c"]
    for one, other in zip(shown["files"], stored["files"], strict=True):
        assert {key: one[key] for key in keys} == {key: other[key] for key in keys}
        assert one["content_type"] == other["content-type"]


def test_bundle_without_version_is_the_latest_and_lists_all(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    uuid, file = new_uuid(), airflow_dss.new_file()
    versions = ["2025-01-01T000000.000000Z", "2025-01-02T000000.000000Z"]
    for version in versions:
        assert airflow_dss.put_bundle([airflow_dss.entry("a", file)], uuid, version).status_code == 201
    shown = airflow.page(f"{_BUNDLES}/{uuid}", replica="aws")
    assert (shown["version"], shown["versions"]) == (versions[1], versions[::-1])


@pytest.mark.parametrize(
    ("path", "status", "detail", "summary"),
    [
        (
            f"{_BUNDLES}/{UNUSED_UUID}?replica=aws",
            404,
            "404 not_found",
            "the DSS does not have this in this replica",
        ),
        (
            "connections/dss_down/bundles?replica=aws",
            502,
            "Check the host of connection 'dss_down'",
            "the DSS does not answer",
        ),
    ],
)
def test_errors_of_the_dss_are_explained_to_readers_of_connections(
    airflow: Airflow, path: str, status: int, detail: str, summary: str
) -> None:
    answer = airflow.call("GET", f"/hca-dss/api/{path}")
    assert answer.status_code == status
    assert detail in answer.json()["detail"]
    answer = airflow.call("GET", f"/hca-dss/api/{path}", "viewer")
    assert (answer.status_code, answer.json()["missing"]) == (status, status == 404)
    assert answer.json()["detail"] == f"{summary}. Users who may read connections see the reason"


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
def test_malformed_parameters_are_not_sent_to_the_dss(airflow: Airflow, airflow_dss: LocalDSS, path: str) -> None:
    def sends_nothing() -> bool:
        airflow_dss.control("DELETE", "requests")
        assert airflow.call("GET", f"/hca-dss/api/{path}").status_code == 422
        return bool(airflow_dss.control("GET", "requests") == [])

    # Repeated, because the page of an earlier test may still be asking.
    airflow.wait_for("an answer without a request to the DSS", sends_nothing, 60)


def test_malformed_connection_is_explained_to_readers_of_connections(airflow: Airflow) -> None:
    wrong = {
        "connection_id": "dss_wrong",
        "conn_type": "hca_dss",
        "host": "https://dss.example.org/v1?api_key=hunter22",
    }
    airflow.api("POST", "/connections", wrong)
    try:
        address = "/hca-dss/api/connections/dss_wrong/bundles?replica=aws"
        answer = airflow.call("GET", address)
        assert answer.status_code == 409
        assert "(no user, no query), got 'https://dss.example.org/v1?..." in answer.json()["detail"]
        answer = airflow.call("GET", address, "viewer")
        assert (answer.status_code, answer.json()["detail"]) == (
            409,
            "the connection has an invalid setting. Users who may read connections see the reason",
        )
    finally:
        airflow.api("DELETE", "/connections/dss_wrong")


def test_bundle_of_more_than_10000_files_lists_the_first_and_links_json(
    airflow: Airflow, airflow_dss: LocalDSS
) -> None:
    uuid, file = new_uuid(), airflow_dss.new_file()
    names = [*(f"{number}.txt" for number in range(10_002)), "links.json"]
    assert airflow_dss.put_bundle([airflow_dss.entry(name, file) for name in names], uuid).status_code == 201
    shown = airflow.page(f"{_BUNDLES}/{uuid}", replica="aws")
    assert [file["name"] for file in shown["files"]] == [*names[:10_000], "links.json"]
    assert (shown["omitted"], shown["byte_count"]) == (2, len(names) * len(b"content"))
    first = airflow.page(f"{_BUNDLES}/{uuid}", replica="aws", first=True)
    assert [file["name"] for file in first["files"]] == names[:500]
    assert (shown["complete"], first["complete"]) == (True, False)


class MalformedDSS:
    """Content of a DSS that answers with malformed data, and has nothing in `gcp`.

    :ivar bundle: Manifest of each bundle
    :ivar listed: List of bundles
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
            return 404, {"status": 404, "code": "not_found", "title": "missing, half \ud800"}
        return 200, {"bundles": self.listed} if "/bundles/all" in path else {"bundle": self.bundle}


@pytest.fixture
def malformed_dss(monkeypatch: pytest.MonkeyPatch) -> Iterator[MalformedDSS]:
    """Start a DSS with malformed answers, and add a connection to it to the environment."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = dss.answer(self.path)
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if status == 200 else "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        dss = MalformedDSS(f"http://127.0.0.1:{server.server_address[1]}/v1")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AIRFLOW_CONN_MALFORMED", json.dumps({"conn_type": "hca_dss", "host": dss.url}))
        yield dss
        server.shutdown()
        thread.join()


def _shown(dss: MalformedDSS) -> Any:
    async def content() -> str:
        answer = await get_bundle("malformed", dss.uuid, "aws")
        return "".join([str(piece) async for piece in answer.body_iterator])

    return json.loads(asyncio.run(content()))


def test_bundle_with_lone_surrogates_is_shown(malformed_dss: MalformedDSS) -> None:
    malformed_dss.file["name"] = "half \ud800"
    shown = _shown(malformed_dss)
    assert [file["name"] for file in shown["files"]] == ["half ?"]
    assert shown["replicas"] == {"aws": True, "gcp": False}


@pytest.mark.parametrize("size", ["twelve", "12", -1, [], {"a": 1}, float("inf"), float("nan"), None])
def test_invalid_size_is_shown_as_zero(malformed_dss: MalformedDSS, size: Any) -> None:
    malformed_dss.bundle["files"].append({**malformed_dss.file, "name": "b", "size": size})
    shown = _shown(malformed_dss)
    assert ([file["size"] for file in shown["files"]], shown["byte_count"]) == ([1, 0], 1)


def test_bundle_of_an_invalid_version_is_shown_without_replicas(malformed_dss: MalformedDSS) -> None:
    malformed_dss.bundle["version"] = version = "half \ud800 of a version"
    shown = _shown(malformed_dss)
    assert shown["version"] == shown["versions"][0] == version.replace("\ud800", "?")
    assert shown["replicas"] == {"aws": True, "gcp": None}


def test_incomplete_manifest_is_an_error_of_the_dss(airflow: Airflow, malformed_dss: MalformedDSS) -> None:
    stored = {"connection_id": "dss_malformed", "conn_type": "hca_dss", "host": malformed_dss.url}
    airflow.api("POST", "/connections", stored)
    page = "/hca-dss/api/connections/dss_malformed/bundles"

    def statuses() -> list[int]:
        return [airflow.call("GET", f"{page}{path}?replica=aws").status_code for path in ("", f"/{malformed_dss.uuid}")]

    try:
        del malformed_dss.bundle["creator_uid"]
        assert (
            airflow.page("connections/dss_malformed/bundles/" + malformed_dss.uuid, replica="aws")["creator_uid"]
            is None
        )
        malformed_dss.listed = [{"uuid": "half \ud800", "version": "half \ud800"}]
        assert statuses() == [200, 200]
        for wrong in ({"uuid": malformed_dss.uuid}, {"version": VERSION}, {"uuid": 1, "version": 2}, "text"):
            malformed_dss.listed = [wrong]
            assert statuses() == [502, 200]
        del malformed_dss.bundle["files"]
        assert statuses() == [502, 502]
        assert (
            airflow.call("GET", f"{page}/{malformed_dss.uuid}?replica=gcp")
            .json()["detail"]
            .endswith("half ? (replica gcp)")
        )
    finally:
        airflow.api("DELETE", "/connections/dss_malformed")


def test_slow_dss_is_answered_with_504(airflow_dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_dss, "_SECONDS", 0.5)
    monkeypatch.setenv("AIRFLOW_CONN_SLOW", json.dumps({"conn_type": "hca_dss", "host": airflow_dss.url}))
    slow = {"method": "GET", "path": "/bundles/", "action": "slow", "seconds": 3, "times": 2}
    airflow_dss.control("POST", "faults", slow)
    for request in (list_bundles("slow", "aws"), get_bundle("slow", new_uuid(), "aws")):
        with pytest.raises(HTTPException, match="takes too long") as caught:
            asyncio.run(request)
        assert caught.value.status_code == 504
    airflow_dss.control("DELETE", "faults")
