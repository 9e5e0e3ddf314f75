"""Search, subscription and event calls, without network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.exceptions import DSSError, DSSNotFoundError, DSSProtocolError

from .feeding import URL, UUID, VERSION, Answer, Clock, broken, feed, ok, problem

QUERY: dict[str, Any] = {"query": {"match_all": {}}}
CALLBACK = "https://me.example.org/notified"


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=3))


def test_search_sends_the_query_for_each_page_without_token(dss: DSSAPI) -> None:
    pages = [
        ok({"results": [{"bundle_fqid": "a"}]}, 206, link=f"<{URL}/search?search_after=x>; rel='next'"),
        ok({"results": [{"bundle_fqid": "b"}]}),
    ]
    fed = feed(dss.post_search(QUERY, replica="aws"), *pages)
    assert [found["bundle_fqid"] for found in fed.value] == ["a", "b"]
    assert fed.sent == ["POST /search?replica=aws&output_format=summary&per_page=500", "POST /search?search_after=x"]
    assert [json.loads(request.body or b"") for request in fed.requests] == [{"es_query": QUERY}] * 2
    assert fed.tokens == [None, None]


@pytest.mark.parametrize(("options", "size"), [({"output_format": "raw"}, 10), ({"per_page": 20}, 20)])
def test_pages_are_the_largest_by_default(dss: DSSAPI, options: dict[str, Any], size: int) -> None:
    (sent,) = feed(dss.post_search(QUERY, replica="aws", **options), ok({"results": []})).sent
    assert sent.endswith(f"per_page={size}")


def test_search_is_retried(dss: DSSAPI, clock: Clock) -> None:
    assert (
        feed(dss.post_search(QUERY, replica="aws"), problem(503), broken(), ok({"results": []}), clock=clock).value
        == []
    )


def test_put_subscription_sends_given_fields_and_returns_uuid(dss: DSSAPI) -> None:
    fed = feed(
        dss.put_subscription(replica="aws", callback_url=CALLBACK, method="PUT", hmac_secret_key="s3cr3t"),
        ok({"uuid": UUID, "hmac_secret_key": "s3cr3t"}, 201),
    )
    assert fed.value == UUID
    assert (fed.sent, fed.tokens) == (["PUT /subscriptions?replica=aws"], ["tok-3"])
    body = {"callback_url": CALLBACK, "method": "PUT", "hmac_secret_key": "s3cr3t"}
    assert json.loads(fed.requests[0].body or b"") == body


@pytest.mark.parametrize("failure", [problem(500), problem(504), broken(), broken("read timeout")])
def test_put_subscription_is_sent_once(dss: DSSAPI, failure: Answer) -> None:
    assert isinstance(feed(dss.put_subscription(replica="aws", callback_url=CALLBACK), failure).error, DSSError)


@pytest.mark.parametrize(
    "options", [{"jmespath_query": "a", "es_query": QUERY}, {"hmac_secret_key": 5}, {"es_query": {"a": float("inf")}}]
)
def test_invalid_subscription_is_value_error_before_any_request(dss: DSSAPI, options: dict[str, Any]) -> None:
    fed = feed(dss.put_subscription(replica="aws", callback_url=CALLBACK, **options))
    assert fed.failed(ValueError)
    assert fed.requests == []


def test_subscription_calls_send_type_and_token(dss: DSSAPI) -> None:
    one = feed(dss.get_subscription(UUID, replica="aws"), ok({"uuid": UUID}))
    several = feed(dss.get_subscriptions(replica="gcp", subscription_type="elasticsearch"), ok({"subscriptions": []}))
    gone = feed(dss.delete_subscription(UUID, replica="aws"), ok({"timeDeleted": VERSION}))
    assert (one.value, several.value, gone.error) == ({"uuid": UUID}, [], None)
    assert one.sent == [f"GET /subscriptions/{UUID}?replica=aws&subscription_type=jmespath"]
    assert several.sent == ["GET /subscriptions?replica=gcp&subscription_type=elasticsearch"]
    assert gone.sent == [f"DELETE /subscriptions/{UUID}?replica=aws&subscription_type=jmespath"]
    assert one.tokens + several.tokens + gone.tokens == ["tok-3"] * 3


def test_events_join_pages_without_token(dss: DSSAPI) -> None:
    pages = [
        ok({"event_streams": [{"journal_id": "a"}]}, 206, link=f"<{URL}/events?token=x>; rel='next'"),
        ok({"event_streams": [{"journal_id": "b"}]}),
    ]
    fed = feed(dss.get_events(replica="aws", from_date=VERSION), *pages)
    assert [journal["journal_id"] for journal in fed.value] == ["a", "b"]
    assert fed.sent[0] == f"GET /events?replica=aws&from_date={VERSION}&per_page=10"
    one = feed(dss.get_event(UUID.upper(), VERSION, replica="aws"), ok({"manifest": {}}))
    assert (one.value, one.sent) == ({"manifest": {}}, [f"GET /events/{UUID}?version={VERSION}&replica=aws"])
    assert fed.tokens + one.tokens == [None] * 3


def test_response_without_expected_content_is_error(dss: DSSAPI) -> None:
    feed(dss.post_search(QUERY, replica="aws"), ok({"hits": []})).failed(DSSProtocolError)
    feed(dss.get_events(replica="aws"), ok({})).failed(DSSProtocolError)
    feed(dss.get_subscriptions(replica="aws"), ok({})).failed(DSSProtocolError)
    feed(dss.put_subscription(replica="aws", callback_url=CALLBACK), ok({}, 201)).failed(DSSProtocolError)
    feed(dss.get_event(UUID, VERSION, replica="aws"), problem(404, "not_found")).failed(DSSNotFoundError)
    feed(dss.get_subscription(UUID, replica="aws"), problem(404, "not_found")).failed(DSSNotFoundError)
