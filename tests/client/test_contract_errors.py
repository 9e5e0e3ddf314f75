"""The errors that a DSS documents, for each operation.

How an error is handled depends neither on the transport nor, except for the method, on the operation (test_retry.py has
all statuses). Each operation is therefore tested with one error of each kind of handling, on requests; a few operations
that differ in method and body are tested with all errors, on both transports.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSConflictError,
    DSSConnectionError,
    DSSNotFoundError,
    DSSResponseError,
)
from tests.local.server import VERSION, LocalDSS, new_uuid

from .contract import QUICK, fault
from .drivers import Run, driver

KINDS: dict[int, type[DSSResponseError]] = {
    401: DSSAuthError,
    403: DSSAuthError,
    404: DSSNotFoundError,
    409: DSSConflictError,
}
REPEATED = {429, 500, 502, 503, 504}
CLEAR = {429, 503}  # the fault's 503 is read-only mode
WRITING: dict[str, Any] = {"name": "n", "description": "d"}


@dataclass(frozen=True)
class Operation:
    """An operation.

    :ivar call: Returns its call for a UUID
    :ivar path: Path below `/v1`
    :ivar repeatable: Whether it may be repeated after an unclear response
    :ivar open: Whether it needs no token
    """

    call: Callable[[DSSAPI, str], Call[Any]]
    path: str
    repeatable: bool = True
    open: bool = False


OPERATIONS: dict[str, Operation] = {
    "HEAD file": Operation(lambda api, uuid: api.head_file(uuid, replica="aws"), "/files/{}", open=True),
    "GET file": Operation(lambda api, uuid: api.get_file(uuid, replica="aws", to=io.BytesIO()), "/files/{}", open=True),
    "PUT file": Operation(lambda api, uuid: api.put_file(uuid, VERSION, source_url="s3://b/k"), "/files/{}"),
    "GET bundles/all": Operation(
        lambda api, uuid: api.get_bundles_all(replica="aws", prefix=uuid), "/bundles/all", open=True
    ),
    "GET bundle": Operation(lambda api, uuid: api.get_bundle(uuid, replica="aws"), "/bundles/{}", open=True),
    "PUT bundle": Operation(lambda api, uuid: api.put_bundle(uuid, VERSION, replica="aws", files=[]), "/bundles/{}"),
    "PATCH bundle": Operation(
        lambda api, uuid: api.patch_bundle(uuid, VERSION, replica="aws"), "/bundles/{}", repeatable=False
    ),
    "DELETE bundle": Operation(lambda api, uuid: api.delete_bundle(uuid, replica="aws", reason="r"), "/bundles/{}"),
    "POST checkout": Operation(
        lambda api, uuid: api.post_bundles_checkout(uuid, replica="aws"),
        "/bundles/{}/checkout",
        repeatable=False,
        open=True,
    ),
    "GET checkout": Operation(
        lambda api, uuid: api.get_bundles_checkout(uuid, replica="aws"), "/bundles/checkout/{}", open=True
    ),
    "GET collections": Operation(lambda api, _: api.get_collections(), "/collections"),
    "PUT collection": Operation(
        lambda api, uuid: api.put_collection(uuid, VERSION, replica="aws", **WRITING), "/collections"
    ),
    "GET collection": Operation(lambda api, uuid: api.get_collection(uuid, replica="aws"), "/collections/{}"),
    "PATCH collection": Operation(
        lambda api, uuid: api.patch_collection(uuid, VERSION, replica="aws"), "/collections/{}", repeatable=False
    ),
    "DELETE collection": Operation(lambda api, uuid: api.delete_collection(uuid, replica="aws"), "/collections/{}"),
    "POST search": Operation(
        lambda api, _: api.post_search({"query": {"match_all": {}}}, replica="aws"), "/search", open=True
    ),
    "GET subscriptions": Operation(lambda api, _: api.get_subscriptions(replica="aws"), "/subscriptions"),
    "PUT subscription": Operation(
        lambda api, _: api.put_subscription(replica="aws", callback_url="https://me.example.org/"),
        "/subscriptions",
        repeatable=False,
    ),
    "GET subscription": Operation(lambda api, uuid: api.get_subscription(uuid, replica="aws"), "/subscriptions/{}"),
    "DELETE subscription": Operation(
        lambda api, uuid: api.delete_subscription(uuid, replica="aws"), "/subscriptions/{}"
    ),
    "GET events": Operation(lambda api, _: api.get_events(replica="aws"), "/events", open=True),
    "GET event": Operation(lambda api, uuid: api.get_event(uuid, VERSION, replica="aws"), "/events/{}", open=True),
}
# Without body, with a streamed body, with a JSON body and repeatable, with a JSON body and sent once.
DIFFERENT = ("HEAD file", "GET file", "PUT file", "PATCH bundle")
ALL_STATUSES = (400, 401, 403, 404, 409, 422, *sorted(REPEATED))
each_operation = pytest.mark.parametrize("name", OPERATIONS)
different_operations = pytest.mark.parametrize("name", DIFFERENT)


@pytest.fixture
def api(dss: LocalDSS) -> DSSAPI:
    return DSSAPI(dss.url, auth=StaticToken(dss.token()), retry=QUICK)


def seen(dss: LocalDSS, method: str, path: str) -> list[int]:
    """Return the statuses of the responses to a request; 0 is a dropped connection."""
    requests = dss.control("GET", "requests")
    found = [each for each in requests if (each["method"], each["path"]) == (method, f"/v1{path}")]
    return [each["status"] for each in found for _ in range(each["count"])]


def _check_error(run: Run, api: DSSAPI, dss: LocalDSS, name: str, status: int) -> None:
    """Check exception, data and number of attempts of an operation after a status."""
    operation, method, uuid = OPERATIONS[name], name.split()[0], new_uuid()
    path = operation.path.format(uuid)
    dss.control("DELETE", "requests")
    again = status in REPEATED and (operation.repeatable or status in CLEAR)
    fault(dss, method=method, path=f"{path}$", status=status, times=3 if again else 1)
    with pytest.raises(DSSResponseError) as caught:
        run(operation.call(api, uuid))
    error = caught.value
    assert type(error) is KINDS.get(status, DSSResponseError)
    assert (error.method, error.path, error.status) == (method, f"/v1{path}", status)
    assert error.request_id
    assert error.title or method == "HEAD"
    assert error.permanent is (status < 500 and status != 429)
    assert seen(dss, method, path) == [status] * (3 if again else 1)


@each_operation
def test_operation_with_documented_error_raises(run_requests: Run, api: DSSAPI, dss: LocalDSS, name: str) -> None:
    for status in (404, 503, 504):
        _check_error(run_requests, api, dss, name, status)


@different_operations
def test_every_documented_error_raises_its_exception(run: Run, api: DSSAPI, dss: LocalDSS, name: str) -> None:
    for status in ALL_STATUSES:
        _check_error(run, api, dss, name, status)


def _check_dropped(run: Run, api: DSSAPI, dss: LocalDSS, name: str) -> None:
    operation, method, uuid = OPERATIONS[name], name.split()[0], new_uuid()
    path = operation.path.format(uuid)
    fault(dss, method=method, path=f"{path}$", action="drop", times=9)
    with pytest.raises(DSSConnectionError) as caught:
        run(operation.call(api, uuid))
    assert (caught.value.kind, caught.value.method, caught.value.path) == ("dropped", method, f"/v1{path}")
    assert seen(dss, method, path) == [0] * (3 if operation.repeatable else 1)


@each_operation
def test_dropped_connection_is_raised_after_the_right_number_of_attempts(
    run_requests: Run, api: DSSAPI, dss: LocalDSS, name: str
) -> None:
    _check_dropped(run_requests, api, dss, name)


@different_operations
def test_dropped_connection_of_aiohttp_is_raised(api: DSSAPI, dss: LocalDSS, name: str) -> None:
    with driver("aiohttp") as run:
        _check_dropped(run, api, dss, name)


@each_operation
def test_operation_without_token_is_refused_only_if_it_needs_one(run_requests: Run, dss: LocalDSS, name: str) -> None:
    operation = OPERATIONS[name]
    call = operation.call(DSSAPI(dss.url, retry=QUICK), new_uuid())
    if operation.open:
        with suppress(DSSNotFoundError):  # no item has that UUID
            run_requests(call)
        return
    with pytest.raises(DSSAuthError) as caught:
        run_requests(call)
    assert (caught.value.status, caught.value.code) == (401, "OAuthProblem")
