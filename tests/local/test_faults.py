"""Injected faults, counted requests, and error responses."""

from __future__ import annotations

import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests

from .server import VERSION, LocalDSS, code_of, new_uuid

if TYPE_CHECKING:
    from pathlib import Path


def _fault(dss: LocalDSS, **fault: Any) -> None:
    dss.control("POST", "faults", fault)


@pytest.mark.parametrize(
    ("status", "retry_after", "code"), [(503, 2, "read_only"), (504, None, "timed_out"), (401, None, "Unauthorized")]
)
def test_status_fault_applies_to_next_requests(dss: LocalDSS, status: int, retry_after: int | None, code: str) -> None:
    bundle = new_uuid()
    _fault(dss, method="PUT", path="/bundles/", times=2, status=status, retry_after=retry_after)
    for remaining in (1, 0):
        response = dss.put_bundle([], bundle)
        assert code_of(response) == (status, code)
        assert response.headers.get("Retry-After") == (str(retry_after) if retry_after else None)
        assert [fault["times"] for fault in dss.control("GET", "faults")] == [remaining] * (remaining > 0)
    assert dss.put_bundle([], bundle).status_code == 201


def test_fault_after_work_changes_response_only(dss: LocalDSS) -> None:
    bundle = new_uuid()
    _fault(dss, method="PUT", path="/bundles/", status=504, after=True)
    response = dss.put_bundle([], bundle)
    assert (response.status_code, response.json().keys()) == (504, {"status", "code", "title", "traces"})
    assert dss.put_bundle([], bundle).status_code == 200


@pytest.mark.parametrize(("after", "status"), [(False, 201), (True, 200)])
def test_drop_fault_closes_connection(dss: LocalDSS, after: bool, status: int) -> None:
    bundle = new_uuid()
    _fault(dss, method="PUT", path=bundle, action="drop", after=after)
    with pytest.raises(requests.ConnectionError):
        dss.put_bundle([], bundle)
    assert dss.put_bundle([], bundle).status_code == status


@pytest.mark.parametrize("after", [False, True])
def test_slow_fault_delays_response(dss: LocalDSS, after: bool) -> None:
    bundle = new_uuid()
    _fault(dss, path=bundle, action="slow", seconds=0.5, after=after)
    start = time.monotonic()
    assert dss.put_bundle([], bundle).status_code == 201
    assert time.monotonic() - start >= 0.5


def test_read_only_fault_refuses_writes_as_a_dss_does(dss: LocalDSS) -> None:
    bundle, collection = f"/bundles/{new_uuid()}", f"/collections/{new_uuid()}"
    _fault(dss, action="read_only", times=5)
    calls = [
        ("PUT", bundle),
        ("DELETE", bundle),
        ("PATCH", collection),
        ("PATCH", bundle),
        ("POST", f"{bundle}/checkout"),
    ]
    responses = [dss.call(method, path, {}, replica="aws", version=VERSION) for method, path in calls]
    assert [(one.status_code, one.headers.get("Retry-After")) for one in responses] == [
        (503, "10"),
        (503, "10"),
        (503, "600"),
        (500, None),
        (500, None),
    ]
    assert {one.json().get("code") for one in responses[:3]} == {"read_only"}
    assert all(one.json()["detail"].startswith("'read_only' is not one of") for one in responses[3:])


def test_cleared_faults_do_not_apply(dss: LocalDSS) -> None:
    _fault(dss, method="GET", path="^/v1/bundles/all$", times=5)
    assert dss.put_bundle([]).status_code == 201
    assert dss.call("GET", "/bundles/all", replica="aws").status_code == 503
    dss.control("DELETE", "faults")
    assert dss.control("GET", "faults") == []
    assert dss.call("GET", "/bundles/all", replica="aws").ok


def test_invalid_fault_is_rejected(dss: LocalDSS) -> None:
    url = f"{dss.url.removesuffix('/v1')}/_local/faults"
    for fault in ({"action": "explode"}, {"tiems": 2}, {"path": "("}, {"times": 0}):
        assert requests.post(url, json=fault, timeout=10).status_code == 400


def test_requests_are_counted_by_status(dss: LocalDSS) -> None:
    """A dropped connection has the status 0."""
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


def test_every_response_has_unique_request_id(dss: LocalDSS) -> None:
    _fault(dss, path="/bundles/all")
    responses = [dss.call("GET", path, replica="aws") for path in ("/bundles/all", "/bundles/all", "/no/such/route")]
    ids = {str(uuid.UUID(response.headers["X-AWS-REQUEST-ID"])) for response in responses}
    assert len(ids) == 3


def test_error_has_usual_fields(dss: LocalDSS) -> None:
    response = dss.call("GET", f"/bundles/{new_uuid()}", replica="aws")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json().keys() == {"status", "code", "title", "stacktrace"}


def test_unknown_route_returns_403_of_gateway(dss: LocalDSS) -> None:
    for path in ("/nowhere", "/bundles/", "/../elsewhere"):
        response = dss.call("GET", path)
        assert (response.status_code, response.json()) == (403, {"message": "Missing Authentication Token"})


def test_unhandled_error_returns_bare_500_and_logs_traceback(tmp_path: Path) -> None:
    with LocalDSS(tmp_path / "state", errors=tmp_path / "errors") as dss:
        file, bundle = new_uuid(), new_uuid()
        dss.put_file(dss.stage(b"{}", kind="application/json"), file)
        dss.put_bundle([dss.entry("a.json", file)], bundle)
        shutil.rmtree(tmp_path / "state" / "blobs")
        response = dss.call("GET", f"/events/{bundle}", replica="aws", version=VERSION)
    assert (response.status_code, response.json().keys()) == (500, {"Code", "Message"})
    assert "Retry-After" not in response.headers
    assert "\nFileNotFoundError" in (tmp_path / "errors").read_text()
