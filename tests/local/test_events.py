"""The events of bundles, and replaying them."""

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
    """Make a bundle with metadata that is indexed, metadata that is not, and what is no metadata."""
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
    answer = dss.call("DELETE", f"/bundles/{uuid}", {"reason": "why not"}, replica="aws", **query)
    assert answer.status_code == 200


def _event(dss: LocalDSS, uuid: str, version: str = VERSION, replica: str = "aws") -> requests.Response:
    return dss.call("GET", f"/events/{uuid}", version=version, replica=replica)


def test_created(dss: LocalDSS, bundle: str) -> None:
    """The event of a new bundle tells its manifest and all its metadata, by name without dot and number."""
    found = _event(dss, bundle).json()
    manifest = found.pop("manifest")
    assert [file["name"] for file in manifest["files"]][::5] == ["project_0.json", "reads.txt"]
    assert manifest["version"] == VERSION
    assert found == {
        "event_type": "CREATE",
        "bundle_info": {"uuid": bundle, "version": VERSION},
        "files": {"project_json": [{"short": "P"}, [1, None]], "links_json": [{}]},
    }


def test_deleted(dss: LocalDSS, bundle: str) -> None:
    """The event of a deletion tells the reason, for the version deleted, or for each that was left."""
    dss.put_bundle([], bundle, LATER)
    _delete(dss, bundle, version=LATER)
    told = {"event_type": "TOMBSTONE", "reason": "why not", "admin_deleted": True}
    assert _event(dss, bundle, LATER).json() == told | {"bundle_info": {"uuid": bundle, "version": LATER}}
    assert _event(dss, bundle).json()["event_type"] == "CREATE"
    _delete(dss, bundle)
    assert _event(dss, bundle).json() == told | {"bundle_info": {"uuid": bundle, "version": VERSION}}


def test_unknown(dss: LocalDSS, bundle: str) -> None:
    """What never happened, or not in that version or replica, is 404; without a version it is 400."""
    for answer in (_event(dss, new_uuid()), _event(dss, bundle, LATER), _event(dss, bundle, replica="gcp")):
        assert code_of(answer) == (404, "not_found")
    assert code_of(dss.call("GET", f"/events/{bundle}", replica="aws")) == (400, "illegal_arguments")


def _streams(dss: LocalDSS, **query: Any) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Give each page's status and journals."""
    answer = dss.call("GET", "/events", **{"replica": "aws", **query})
    while True:
        assert answer.headers["X-OpenAPI-Paginated-Content-Key"] == "event_streams"
        yield answer.status_code, answer.json()["event_streams"]
        link = re.fullmatch(r"<(.*)>; rel='next'", answer.headers.get("Link", ""))
        if not link:
            return
        answer = requests.get(link[1], timeout=10)


def _replay(stream: dict[str, Any], first: int = 0) -> list[Any]:
    """Read the events of a journal from one on, as the clients of a DSS do: by a range of bytes."""
    begin = stream["events"][first]["offset"]
    headers = {"Range": f"bytes={begin}-{stream['size'] - 1}"}
    answer = requests.get(stream["stream_url"], headers=headers, timeout=10)
    assert (answer.status_code, len(answer.content)) == (206, stream["size"] - begin)
    places = [(event["offset"] - begin, event["size"]) for event in stream["events"][first:]]
    return [json.loads(answer.content[offset : offset + size]) for offset, size in places]


def test_replayed(dss: LocalDSS, bundle: str) -> None:
    """Journals list events in order with their places, and their content is what each event tells."""
    _delete(dss, bundle)
    found = [stream for _, streams in _streams(dss, per_page=10) for stream in streams]
    last = found[-1]
    assert [event["event_id"] for event in last["events"][-2:]] == [f"{bundle}.{VERSION}", f"{bundle}.{VERSION}.dead"]
    times = [event["timestamp"] for stream in found for event in stream["events"]]
    assert times == sorted(set(times))
    assert (last["from_date"], last["to_date"]) == (last["events"][0]["timestamp"], times[-1])
    told = _replay(last)
    assert (told[-2]["event_type"], told[-2]["files"]["links_json"]) == ("CREATE", [{}])
    assert told[-1] == _event(dss, bundle).json()
    assert _replay(last, len(told) - 1) == told[-1:]


def test_dates(dss: LocalDSS) -> None:
    """from_date is inclusive and to_date exclusive; wrong dates, or in the wrong order, are 400 bad_request."""
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


def test_pages(dss: LocalDSS) -> None:
    """A journal has a hundred events at most, and a page as many journals as asked for: 206 until the last, 200."""
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


def test_replicas_are_separate(dss: LocalDSS) -> None:
    """What happens in a replica is an event of that replica."""
    uuid, file = new_uuid(), new_uuid()
    dss.put_file(dss.stage_gcs(b"x", sums(b"x")), file)
    dss.put_bundle([dss.entry("a", file)], uuid, replica="gcp")
    assert _event(dss, uuid).status_code == 404
    assert _event(dss, uuid, replica="gcp").json()["manifest"]["files"][0]["uuid"] == file


def test_urls_of_journals_cannot_be_made_up(dss: LocalDSS, bundle: str) -> None:
    """The content of a journal is had only by the URL as it was given."""
    *_, (_, streams) = _streams(dss)
    url = streams[-1]["stream_url"]
    assert requests.get(url, timeout=10).status_code == 200
    assert requests.get(re.sub(r"/aws/\d+/", "/aws/0/", url), timeout=10).status_code == 403
    assert requests.get(url, headers=dss.authorization, timeout=10).status_code == 400
