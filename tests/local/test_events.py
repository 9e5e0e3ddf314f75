"""Routes of events."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests

from .server import VERSION, LocalDSS, code_of, new_uuid, sums

if TYPE_CHECKING:
    from collections.abc import Iterator

LATER = "2025-01-01T000000.000000Z"


@pytest.fixture
def bundle(dss: LocalDSS) -> str:
    """Create a bundle with indexed and other metadata, malformed JSON, and a text file."""
    uuid = new_uuid()
    contents = {
        "project_0.json": ('{"short": "P"}', True),
        "project_1.json": ("[1, null]", False),
        "links.json": ("{}", False),
        "broken.json": ("{", True),
        "number.json": ('{"a": NaN}', True),
    }
    files = []
    for name, (content, indexed) in contents.items():
        file = new_uuid()
        dss.put_file(dss.stage(content.encode(), kind="application/json; dcp-type=metadata"), file)
        files.append(dss.entry(name, file, indexed=indexed))
    files.append(dss.entry("reads.txt", dss.new_file(b"{}"), indexed=True))
    dss.put_bundle(files, uuid)
    return uuid


def _delete(dss: LocalDSS, uuid: str, **query: str) -> None:
    response = dss.call("DELETE", f"/bundles/{uuid}", {"reason": "why not"}, replica="aws", **query)
    assert response.status_code == 200


def _event(dss: LocalDSS, uuid: str, version: str = VERSION, replica: str = "aws") -> requests.Response:
    return dss.call("GET", f"/events/{uuid}", version=version, replica=replica)


def test_create_event_contains_manifest_and_metadata(dss: LocalDSS, bundle: str) -> None:
    found = _event(dss, bundle).json()
    manifest = found.pop("manifest")
    assert [file["name"] for file in manifest["files"]][::5] == ["project_0.json", "reads.txt"]
    assert manifest["version"] == VERSION
    assert found == {
        "event_type": "CREATE",
        "bundle_info": {"uuid": bundle, "version": VERSION},
        "files": {"project_json": [{"short": "P"}, [1, None]], "links_json": [{}]},
    }


def test_tombstone_event_contains_reason(dss: LocalDSS, bundle: str) -> None:
    dss.put_bundle([], bundle, LATER)
    _delete(dss, bundle, version=LATER)
    event = {"event_type": "TOMBSTONE", "reason": "why not", "admin_deleted": True}
    assert _event(dss, bundle, LATER).json() == event | {"bundle_info": {"uuid": bundle, "version": LATER}}
    assert _event(dss, bundle).json()["event_type"] == "CREATE"
    _delete(dss, bundle)
    assert _event(dss, bundle).json() == event | {"bundle_info": {"uuid": bundle, "version": VERSION}}


def test_unknown_event_returns_404(dss: LocalDSS, bundle: str) -> None:
    for response in (_event(dss, new_uuid()), _event(dss, bundle, LATER), _event(dss, bundle, replica="gcp")):
        assert code_of(response) == (404, "not_found")
    assert code_of(dss.call("GET", f"/events/{bundle}", replica="aws")) == (400, "illegal_arguments")


def _streams(dss: LocalDSS, **query: Any) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield status and journals of each page."""
    response = dss.call("GET", "/events", **{"replica": "aws", **query})
    while True:
        assert response.headers["X-OpenAPI-Paginated-Content-Key"] == "event_streams"
        yield response.status_code, response.json()["event_streams"]
        link = re.fullmatch(r"<(.*)>; rel='next'", response.headers.get("Link", ""))
        if not link:
            return
        response = requests.get(link[1], timeout=10)


def _replay(stream: dict[str, Any], first: int = 0) -> list[Any]:
    """Read the events of a journal, starting with `first`, by a byte range as DSS clients do."""
    begin = stream["events"][first]["offset"]
    headers = {"Range": f"bytes={begin}-{stream['size'] - 1}"}
    response = requests.get(stream["stream_url"], headers=headers, timeout=10)
    assert (response.status_code, len(response.content)) == (206, stream["size"] - begin)
    places = [(event["offset"] - begin, event["size"]) for event in stream["events"][first:]]
    return [json.loads(response.content[offset : offset + size]) for offset, size in places]


def test_journals_list_events_in_order(dss: LocalDSS, bundle: str) -> None:
    _delete(dss, bundle)
    journals = [stream for _, streams in _streams(dss, per_page=10) for stream in streams]
    last = journals[-1]
    assert [event["event_id"] for event in last["events"][-2:]] == [f"{bundle}.{VERSION}", f"{bundle}.{VERSION}.dead"]
    times = [event["timestamp"] for stream in journals for event in stream["events"]]
    assert times == sorted(set(times))
    assert (last["from_date"], last["to_date"]) == (last["events"][0]["timestamp"], times[-1])
    events = _replay(last)
    assert (events[-2]["event_type"], events[-2]["files"]["links_json"]) == ("CREATE", [{}])
    assert events[-1] == _event(dss, bundle).json()
    assert _replay(last, len(events) - 1) == events[-1:]


def test_list_events_between_dates(dss: LocalDSS) -> None:
    """`from_date` is inclusive, `to_date` exclusive."""
    uuids = [new_uuid() for _ in range(3)]
    for uuid in uuids:
        dss.put_bundle([], uuid)
    *_, (_, streams) = _streams(dss, per_page=10)
    times = [event["timestamp"] for event in streams[-1]["events"][-3:]]
    for query, expected in (
        ({"from_date": times[0]}, uuids),
        ({"from_date": times[0], "to_date": times[2]}, uuids[:2]),
        ({"from_date": times[1], "to_date": times[1]}, []),
    ):
        found = [
            event["event_id"] for _, page in _streams(dss, **query) for stream in page for event in stream["events"]
        ]
        assert found == [f"{uuid}.{VERSION}" for uuid in expected]
    for query in ({"from_date": times[1], "to_date": times[0]}, {"from_date": "1"}, {"to_date": ""}, {"token": "x"}):
        assert code_of(dss.call("GET", "/events", replica="aws", **query)) == (400, "bad_request")
    for size in (0, 11):
        assert code_of(dss.call("GET", "/events", replica="aws", per_page=size)) == (400, "illegal_arguments")


def test_list_events_returns_pages_of_journals(dss: LocalDSS) -> None:
    """A journal has up to 100 events."""
    file = dss.new_file()
    first = new_uuid()
    dss.put_bundle([], first)
    *_, (_, streams) = _streams(dss, per_page=10)
    begin = streams[-1]["events"][-1]["timestamp"]
    uuids = [first, *(new_uuid() for _ in range(230))]
    for uuid in uuids[1:]:
        dss.put_bundle([dss.entry("a", file)], uuid)
    for size, expected in ((1, [(206, [100]), (206, [100]), (200, [31])]), (2, [(206, [100, 100]), (200, [31])])):
        pages = list(_streams(dss, from_date=begin, per_page=size))
        assert [(status, [len(stream["events"]) for stream in page]) for status, page in pages] == expected
        ids = [event["event_id"] for _, page in pages for stream in page for event in stream["events"]]
        assert ids == [f"{uuid}.{VERSION}" for uuid in uuids]


def test_event_belongs_to_its_replica(dss: LocalDSS) -> None:
    uuid, file = new_uuid(), new_uuid()
    dss.put_file(dss.stage_gcs(b"x", sums(b"x")), file)
    dss.put_bundle([dss.entry("a", file)], uuid, replica="gcp")
    assert _event(dss, uuid).status_code == 404
    assert _event(dss, uuid, replica="gcp").json()["manifest"]["files"][0]["uuid"] == file


def test_changed_journal_url_is_rejected(dss: LocalDSS, bundle: str) -> None:
    *_, (_, streams) = _streams(dss)
    url = streams[-1]["stream_url"]
    assert requests.get(url, timeout=10).status_code == 200
    assert requests.get(re.sub(r"/aws/\d+/", "/aws/0/", url), timeout=10).status_code == 403
    assert requests.get(url, headers=dss.authorization, timeout=10).status_code == 400
