"""Faults on demand, the requests seen, the shapes of errors."""

from __future__ import annotations

import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests

from .server import VERSION, LocalDSS, code_of, new_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _fault(dss: LocalDSS, **fault: Any) -> None:
    dss.control("POST", "faults", fault)


@pytest.mark.parametrize(
    ("status", "retry_after", "code"), [(503, 2, "read_only"), (504, None, "timed_out"), (401, None, "Unauthorized")]
)
def test_statuses(dss: LocalDSS, status: int, retry_after: int | None, code: str) -> None:
    """The next N matching requests answer the status asked for, with or without Retry-After; then all is well."""
    bundle = new_uuid()
    _fault(dss, method="PUT", path="/bundles/", times=2, status=status, retry_after=retry_after)
    for left in (1, 0):
        answer = dss.put_bundle([], bundle)
        assert code_of(answer) == (status, code)
        assert answer.headers.get("Retry-After") == (str(retry_after) if retry_after else None)
        assert [fault["times"] for fault in dss.control("GET", "faults")] == [left] * (left > 0)
    assert dss.put_bundle([], bundle).status_code == 201


def test_timed_out_though_done(dss: LocalDSS) -> None:
    """With `after` the work is done and only the answer is another."""
    bundle = new_uuid()
    _fault(dss, method="PUT", path="/bundles/", status=504, after=True)
    answer = dss.put_bundle([], bundle)
    assert (answer.status_code, answer.json().keys()) == (504, {"status", "code", "title", "traces"})
    assert dss.put_bundle([], bundle).status_code == 200


@pytest.mark.parametrize(("after", "status"), [(False, 201), (True, 200)])
def test_dropped(dss: LocalDSS, after: bool, status: int) -> None:
    """A dropped connection ends without an answer, before or after the work."""
    bundle = new_uuid()
    _fault(dss, method="PUT", path=bundle, action="drop", after=after)
    with pytest.raises(requests.ConnectionError):
        dss.put_bundle([], bundle)
    assert dss.put_bundle([], bundle).status_code == status


@pytest.mark.parametrize("after", [False, True])
def test_slow(dss: LocalDSS, after: bool) -> None:
    """A slow answer is the right one, later."""
    bundle = new_uuid()
    _fault(dss, path=bundle, action="slow", seconds=0.5, after=after)
    start = time.monotonic()
    assert dss.put_bundle([], bundle).status_code == 201
    assert time.monotonic() - start >= 0.5


def test_faults_can_be_cleared(dss: LocalDSS) -> None:
    """DELETE takes all faults away, and only matching requests meet one."""
    _fault(dss, method="GET", path="^/v1/bundles/all$", times=5)
    assert dss.put_bundle([]).status_code == 201
    assert dss.call("GET", "/bundles/all", replica="aws").status_code == 503
    dss.control("DELETE", "faults")
    assert dss.control("GET", "faults") == []
    assert dss.call("GET", "/bundles/all", replica="aws").ok


def test_senseless_faults(dss: LocalDSS) -> None:
    """A fault with an unknown field, action or pattern is refused rather than ignored."""
    url = f"{dss.url.removesuffix('/v1')}/_local/faults"
    for fault in ({"action": "explode"}, {"tiems": 2}, {"path": "("}, {"times": 0}):
        assert requests.post(url, json=fault, timeout=10).status_code == 400


def test_requests_are_counted(dss: LocalDSS) -> None:
    """Requests are counted by method, path and status; a dropped connection has the status 0."""
    file = new_uuid()
    for _ in range(3):
        dss.call("HEAD", f"/files/{file}", replica="aws")
    _fault(dss, action="drop")
    with pytest.raises(requests.ConnectionError):
        dss.call("HEAD", f"/files/{file}", replica="aws")
    common = {"method": "HEAD", "path": f"/v1/files/{file}"}
    assert dss.control("GET", "requests") == [
        {**common, "status": 0, "count": 1},
        {**common, "status": 404, "count": 3},
    ]
    dss.control("DELETE", "requests")
    assert dss.control("GET", "requests") == []


def test_every_answer_has_an_id(dss: LocalDSS) -> None:
    """Every answer, good or bad, has an X-AWS-REQUEST-ID of its own."""
    _fault(dss, path="/bundles/all")
    answers = [dss.call("GET", path, replica="aws") for path in ("/bundles/all", "/bundles/all", "/no/such/route")]
    ids = {str(uuid.UUID(answer.headers["X-AWS-REQUEST-ID"])) for answer in answers}
    assert len(ids) == 3


def test_usual_shape(dss: LocalDSS) -> None:
    """The usual error is problem+json with status, code, title and stacktrace."""
    answer = dss.call("GET", f"/bundles/{new_uuid()}", replica="aws")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json().keys() == {"status", "code", "title", "stacktrace"}


def test_unknown_route(dss: LocalDSS) -> None:
    """An unknown route is 403 with the gateway's own words."""
    for path in ("/nowhere", "/bundles/", "/../elsewhere"):
        answer = dss.call("GET", path)
        assert (answer.status_code, answer.json()) == (403, {"message": "Missing Authentication Token"})


def test_wrong_method(dss: LocalDSS) -> None:
    """A method a route does not have is 405."""
    answer = requests.post(f"{dss.url}/files/{new_uuid()}", timeout=10)
    assert (answer.status_code, answer.json().keys()) == (405, {"type", "title", "detail", "status"})


def test_wrong_content_type(dss: LocalDSS) -> None:
    """A body that does not say it is JSON is 415."""
    answer = requests.put(
        f"{dss.url}/bundles/{new_uuid()}",
        data="files=1",
        params={"replica": "aws", "version": VERSION},
        headers={**dss.authorization, "Content-Type": "text/plain"},
        timeout=10,
    )
    assert (answer.status_code, answer.json().keys()) == (415, {"type", "title", "detail", "status"})


@pytest.fixture
def remembering(dss: LocalDSS) -> Iterator[LocalDSS]:
    """Give a server that never looks at a manifest again, and afterwards does again."""
    dss.control("POST", "manifests/settings", {"stale": True})
    yield dss
    dss.control("POST", "manifests/settings", {"stale": False})


def _versions(dss: LocalDSS, bundle: str, *asked: str | None) -> list[str | int]:
    """Return what GET answers for each version asked for, None being the latest: a version or a status."""
    answers = [dss.call("GET", f"/bundles/{bundle}", replica="aws", version=version) for version in asked]
    return [answer.json()["bundle"]["version"] if answer.ok else answer.status_code for answer in answers]


def test_stale_manifests(remembering: LocalDSS) -> None:
    """Switched on, an old version shows the patched content, the latest stays, and deletions go unnoticed."""
    bundle, late = new_uuid(), "2026-01-01T000000.000000Z"
    remembering.put_bundle([remembering.entry("a")], bundle)
    assert _versions(remembering, bundle, None) == [VERSION]
    new = remembering.call("PATCH", f"/bundles/{bundle}", {}, replica="aws", version=VERSION).json()["version"]
    remembering.put_bundle([], bundle, late)
    assert _versions(remembering, bundle, None, VERSION, new, late) == [VERSION, new, new, late]
    remembering.call("DELETE", f"/bundles/{bundle}", {"reason": "test"}, replica="aws")
    assert _versions(remembering, bundle, None, VERSION, new, late) == [VERSION, new, new, late]
    remembering.control("POST", "manifests/settings", {"stale": False})
    assert _versions(remembering, bundle, None, VERSION, new, late) == [404] * 4


def test_manifests_are_fresh(dss: LocalDSS) -> None:
    """Unless switched on, what is read is what is stored."""
    bundle = new_uuid()
    dss.put_bundle([dss.entry("a")], bundle)
    assert _versions(dss, bundle, None) == [VERSION]
    new = dss.call("PATCH", f"/bundles/{bundle}", {}, replica="aws", version=VERSION).json()["version"]
    assert _versions(dss, bundle, None, VERSION) == [new, VERSION]
    dss.call("DELETE", f"/bundles/{bundle}", {"reason": "test"}, replica="aws")
    assert _versions(dss, bundle, None, VERSION) == [404, 404]


def test_what_nobody_foresaw(tmp_path: Path) -> None:
    """A failure nobody caught is a bare 500 without Retry-After, and its traceback is on stderr, to be found."""
    with LocalDSS(tmp_path / "state", errors=tmp_path / "errors") as dss:
        file, bundle = new_uuid(), new_uuid()
        dss.put_file(dss.stage(b"{}", kind="application/json"), file)
        dss.put_bundle([dss.entry("a.json", file)], bundle)
        shutil.rmtree(tmp_path / "state" / "blobs")
        answer = dss.call("GET", f"/events/{bundle}", replica="aws", version=VERSION)
    assert (answer.status_code, answer.json().keys()) == (500, {"Code", "Message"})
    assert "Retry-After" not in answer.headers
    assert "\nFileNotFoundError" in (tmp_path / "errors").read_text()
