"""The calls about collections, one by one, without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.models import FQID
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.sansio import Call, Response
from airflow_provider_hca.exceptions import (
    DSSConnectionError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

from .feeding import URL, UUID, VERSION, Answer, Clock, broken, feed, ok, problem
from .shelf import links

MADE = {"uuid": UUID, "version": VERSION}
SAID: dict[str, Any] = {"name": "n", "description": "d"}


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=3))


def test_put(dss: DSSAPI) -> None:
    """PUT collection is as the interface definition has it, details always there, uuids in lower case."""
    items = [link | {"uuid": link["uuid"].upper()} for link in links([10])]
    fed = feed(dss.put_collection(UUID.upper(), VERSION, replica="aws", contents=items, **SAID), ok(MADE, 201))
    assert fed.value == FQID(UUID, VERSION)
    assert fed.sent == [f"PUT /collections?uuid={UUID}&version={VERSION}&replica=aws"]
    assert json.loads(fed.requests[0].body or b"") == {**SAID, "details": {}, "contents": links([10])}
    assert fed.tokens == ["tok-3"]


def test_get(dss: DSSAPI) -> None:
    """GET collection wants a token and answers the collection itself."""
    collection = {**SAID, "details": {}, "contents": links([1]), "owner": "me@example.org"}
    fed = feed(dss.get_collection(UUID, replica="gcp", version=VERSION), ok(collection))
    assert fed.value == collection
    assert (fed.sent, fed.tokens) == ([f"GET /collections/{UUID}?replica=gcp&version={VERSION}"], ["tok-3"])
    assert feed(dss.get_collection(UUID, replica="gcp"), ok(collection)).sent == [
        f"GET /collections/{UUID}?replica=gcp"
    ]


@pytest.mark.parametrize("answer", [ok({}), ok({"contents": None}), ok({"contents": ["x"]}), ok([])])
def test_what_is_no_collection(dss: DSSAPI, answer: Answer) -> None:
    """An answer without links is that of no DSS."""
    feed(dss.get_collection(UUID, replica="aws"), answer).failed(DSSProtocolError)


def test_patch(dss: DSSAPI) -> None:
    """PATCH collection sends what is given and nothing else."""
    fed = feed(
        dss.patch_collection(UUID.upper(), VERSION, replica="aws", add_contents=links([1]), details={}), ok(MADE)
    )
    assert fed.value == FQID(UUID, VERSION)
    assert fed.sent == [f"PATCH /collections/{UUID}?version={VERSION}&replica=aws"]
    body = {"add_contents": links([1]), "remove_contents": [], "details": {}}
    assert json.loads(fed.requests[0].body or b"") == body


@pytest.mark.parametrize("answer", [ok({"uuid": UUID}), ok({"version": ""}), ok(["x"])])
def test_a_patch_that_made_nothing(dss: DSSAPI, answer: Answer) -> None:
    """An answer that does not tell the new version is that of no DSS."""
    feed(dss.patch_collection(UUID, VERSION, replica="aws"), answer).failed(DSSProtocolError)


def test_the_list(dss: DSSAPI) -> None:
    """The pages of the list of collections come together, each asked for with the token."""
    pages = [
        ok({"collections": [MADE]}, 206, link=f"<{URL}/collections?start_at=10>; rel='next'"),
        ok({"collections": []}),
    ]
    fed = feed(dss.get_collections(per_page=10), *pages)
    assert (fed.value, fed.tokens) == ([MADE], ["tok-3"] * 2)
    assert fed.sent == ["GET /collections?per_page=10", "GET /collections?start_at=10"]


@pytest.mark.parametrize(
    "make",
    [
        lambda dss: dss.put_collection("x", VERSION, replica="aws", **SAID),
        lambda dss: dss.put_collection(UUID, "1", replica="aws", **SAID),
        lambda dss: dss.put_collection(UUID, VERSION, replica="x", **SAID),
        lambda dss: dss.put_collection(UUID, VERSION, replica="aws", contents=links(range(1001)), **SAID),
        lambda dss: dss.put_collection(UUID, VERSION, replica="aws", contents=links([1], path="/"), **SAID),
        lambda dss: dss.get_collection("x", replica="aws"),
        lambda dss: dss.get_collection(UUID, replica="aws", version=""),
        lambda dss: dss.patch_collection(UUID, "1", replica="aws"),
        lambda dss: dss.patch_collection(UUID, VERSION, replica="aws", add_contents=links(range(1001))),
        lambda dss: dss.patch_collection(UUID, VERSION, replica="aws", remove_contents=links(range(1001))),
        lambda dss: dss.delete_collection("x", replica="aws"),
        lambda dss: dss.delete_collection(UUID, replica="x"),
        lambda dss: dss.delete_subscription("x", replica="aws"),
    ],
)
def test_wrong_use_sends_nothing(dss: DSSAPI, make: Callable[[DSSAPI], Call[Any]]) -> None:
    """What a DSS would refuse is a ValueError before any request."""
    fed = feed(make(dss))
    assert fed.failed(ValueError)
    assert fed.requests == []


# Deletions that are answered 404 when they are repeated

DELETIONS: dict[str, Callable[[DSSAPI], Call[None]]] = {
    "collection": lambda dss: dss.delete_collection(UUID, replica="aws"),
    "subscription": lambda dss: dss.delete_subscription(UUID, replica="aws"),
}
deletions = pytest.mark.parametrize("delete", DELETIONS.values(), ids=DELETIONS)


@deletions
@pytest.mark.parametrize("failure", [problem(500), problem(503), problem(504), broken(), broken("read timeout")])
def test_a_deletion_that_was_done_behind_a_failure(
    dss: DSSAPI, clock: Clock, delete: Callable[[DSSAPI], Call[None]], failure: Answer
) -> None:
    """When a repeat is told that there is nothing any more, the one before has deleted it, and that is a success."""
    fed = feed(delete(dss), failure, problem(404, "not_found"), clock=clock)
    assert fed.error is None
    assert fed.sent[0] == fed.sent[1]
    assert fed.delays[1] > 0


@deletions
def test_a_deletion_of_what_is_not_there(dss: DSSAPI, delete: Callable[[DSSAPI], Call[None]]) -> None:
    """What is told to be unknown at once is an error, also when it could only be asked for the second time."""
    feed(delete(dss), problem(404, "not_found")).failed(DSSNotFoundError)
    feed(delete(dss), problem(429), problem(404, "not_found")).failed(DSSNotFoundError)
    feed(delete(dss), broken("refused"), problem(404, "not_found")).failed(DSSNotFoundError)


@deletions
def test_a_route_that_is_not_there(dss: DSSAPI, delete: Callable[[DSSAPI], Call[None]]) -> None:
    """A 404 of another web server is no deletion, also after a failure."""
    page = Response(404, {"content-type": "text/html"}, b"<title>Not here</title>")
    feed(delete(dss), problem(500), page).failed(DSSProtocolError)


@deletions
def test_a_deletion_that_fails(dss: DSSAPI, delete: Callable[[DSSAPI], Call[None]]) -> None:
    """A deletion is tried as often as everything that may be repeated, and refusals end it."""
    feed(delete(dss), *[problem(503)] * 3).failed(DSSResponseError)
    feed(delete(dss), *[broken()] * 3).failed(DSSConnectionError)
    assert feed(delete(dss), problem(500), problem(403)).error is not None


@deletions
def test_a_server_that_wants_much_time(dss: DSSAPI, delete: Callable[[DSSAPI], Call[None]]) -> None:
    """A deletion is not repeated before the time that the DSS asks for, so if that is too long it is not repeated."""
    feed(delete(dss), problem(503, retry_after="3600")).failed(DSSResponseError)
