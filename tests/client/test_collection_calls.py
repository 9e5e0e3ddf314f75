"""Collection calls, without network."""

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
FIELDS: dict[str, Any] = {"name": "n", "description": "d"}


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=3))


def test_put_collection_sends_details_and_lower_case_uuids(dss: DSSAPI) -> None:
    items = [link | {"uuid": link["uuid"].upper()} for link in links([10])]
    fed = feed(dss.put_collection(UUID.upper(), VERSION, replica="aws", contents=items, **FIELDS), ok(MADE, 201))
    assert fed.value == FQID(UUID, VERSION)
    assert fed.sent == [f"PUT /collections?uuid={UUID}&version={VERSION}&replica=aws"]
    assert json.loads(fed.requests[0].body or b"") == {**FIELDS, "details": {}, "contents": links([10])}
    assert fed.tokens == ["tok-3"]


def test_get_collection_sends_token_and_returns_collection(dss: DSSAPI) -> None:
    collection = {**FIELDS, "details": {}, "contents": links([1]), "owner": "me@example.org"}
    fed = feed(dss.get_collection(UUID, replica="gcp", version=VERSION), ok(collection))
    assert fed.value == collection
    assert (fed.sent, fed.tokens) == ([f"GET /collections/{UUID}?replica=gcp&version={VERSION}"], ["tok-3"])
    assert feed(dss.get_collection(UUID, replica="gcp"), ok(collection)).sent == [
        f"GET /collections/{UUID}?replica=gcp"
    ]


@pytest.mark.parametrize("answer", [ok({}), ok({"contents": None}), ok({"contents": ["x"]}), ok([])])
def test_collection_without_contents_is_protocol_error(dss: DSSAPI, answer: Answer) -> None:
    feed(dss.get_collection(UUID, replica="aws"), answer).failed(DSSProtocolError)


def test_patch_collection_sends_only_given_fields(dss: DSSAPI) -> None:
    fed = feed(
        dss.patch_collection(UUID.upper(), VERSION, replica="aws", add_contents=links([1]), details={}), ok(MADE)
    )
    assert fed.value == FQID(UUID, VERSION)
    assert fed.sent == [f"PATCH /collections/{UUID}?version={VERSION}&replica=aws"]
    body = {"add_contents": links([1]), "remove_contents": [], "details": {}}
    assert json.loads(fed.requests[0].body or b"") == body


@pytest.mark.parametrize("answer", [ok({"uuid": UUID}), ok({"version": ""}), ok(["x"])])
def test_patch_collection_without_version_is_protocol_error(dss: DSSAPI, answer: Answer) -> None:
    feed(dss.patch_collection(UUID, VERSION, replica="aws"), answer).failed(DSSProtocolError)


def test_get_collections_joins_pages_with_token(dss: DSSAPI) -> None:
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
        lambda dss: dss.put_collection("x", VERSION, replica="aws", **FIELDS),
        lambda dss: dss.put_collection(UUID, "1", replica="aws", **FIELDS),
        lambda dss: dss.put_collection(UUID, VERSION, replica="x", **FIELDS),
        lambda dss: dss.put_collection(UUID, VERSION, replica="aws", contents=links(range(1001)), **FIELDS),
        lambda dss: dss.put_collection(UUID, VERSION, replica="aws", contents=links([1], path="/"), **FIELDS),
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
def test_invalid_argument_is_value_error_before_any_request(dss: DSSAPI, make: Callable[[DSSAPI], Call[Any]]) -> None:
    fed = feed(make(dss))
    assert fed.failed(ValueError)
    assert fed.requests == []


# Deletions whose repeat is answered 404

DELETIONS: dict[str, Callable[[DSSAPI], Call[None]]] = {
    "collection": lambda dss: dss.delete_collection(UUID, replica="aws"),
    "subscription": lambda dss: dss.delete_subscription(UUID, replica="aws"),
}
deletions = pytest.mark.parametrize("delete", DELETIONS.values(), ids=DELETIONS)


@deletions
@pytest.mark.parametrize("failure", [problem(500), problem(503), problem(504), broken(), broken("read timeout")])
def test_delete_with_404_after_unclear_failure_is_success(
    dss: DSSAPI, clock: Clock, delete: Callable[[DSSAPI], Call[None]], failure: Answer
) -> None:
    fed = feed(delete(dss), failure, problem(404, "not_found"), clock=clock)
    assert fed.error is None
    assert fed.sent[0] == fed.sent[1]
    assert fed.delays[1] > 0


@deletions
def test_delete_of_missing_collection_is_not_found(dss: DSSAPI, delete: Callable[[DSSAPI], Call[None]]) -> None:
    feed(delete(dss), problem(404, "not_found")).failed(DSSNotFoundError)
    feed(delete(dss), problem(429), problem(404, "not_found")).failed(DSSNotFoundError)
    feed(delete(dss), broken("refused"), problem(404, "not_found")).failed(DSSNotFoundError)


@deletions
def test_delete_with_404_of_another_server_is_no_success(dss: DSSAPI, delete: Callable[[DSSAPI], Call[None]]) -> None:
    page = Response(404, {"content-type": "text/html"}, b"<title>Not here</title>")
    feed(delete(dss), problem(500), page).failed(DSSProtocolError)


@deletions
def test_delete_is_retried_and_ends_with_a_refusal(dss: DSSAPI, delete: Callable[[DSSAPI], Call[None]]) -> None:
    feed(delete(dss), *[problem(503)] * 3).failed(DSSResponseError)
    feed(delete(dss), *[broken()] * 3).failed(DSSConnectionError)
    assert feed(delete(dss), problem(500), problem(403)).error is not None


@deletions
def test_delete_with_long_retry_after_is_not_retried(dss: DSSAPI, delete: Callable[[DSSAPI], Call[None]]) -> None:
    feed(delete(dss), problem(503, retry_after="3600")).failed(DSSResponseError)
