"""Contract of search, subscriptions and events, on both transports against a running DSS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.identifiers import make_version
from airflow_provider_hca.exceptions import DSSAuthError, DSSNotFoundError, DSSResponseError
from tests.local.server import EMAIL, VERSION, LocalDSS, new_uuid, sums
from tests.local.subscribed import delete_subscriptions

from .contract import LATER, QUICK, counted, fault, member
from .drivers import Run

GROUP = "https://auth.data.humancellatlas.org/group"
CALLBACK = "http://127.0.0.1:9/notified"
EVERYTHING: dict[str, Any] = {"query": {"match_all": {}}}


# Search


def tagged(dss: LocalDSS, tag: str, count: int) -> list[str]:
    """Create bundles whose metadata have a tag, and return their FQIDs, the greatest first."""
    content, file = json.dumps({"tag": tag}).encode(), new_uuid()
    assert dss.put_file(dss.stage(content, labels=sums(content), kind="application/json"), file).ok
    uuids = [new_uuid() for _ in range(count)]
    for uuid in uuids:
        assert dss.put_bundle([dss.entry("project_0.json", file, indexed=True)], uuid).ok
    return [f"{uuid}.{VERSION}" for uuid in sorted(uuids, reverse=True)]


def test_search_joins_pages_of_summaries_or_metadata(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    tag = new_uuid()
    fqids = tagged(dss, tag, 11)
    query = {"query": {"match": {"files.project_json.tag": tag}}}
    found = run(api.post_search(query, replica="aws", per_page=10))
    assert [each["bundle_fqid"] for each in found] == fqids
    assert counted(dss, "POST", "/search") == {206: 1, 200: 1}
    raw = run(api.post_search(query, replica="aws", output_format="raw"))
    assert [each["bundle_fqid"] for each in raw] == fqids
    assert all(each["metadata"]["files"]["project_json"] == [{"tag": tag}] for each in raw)
    assert run(api.post_search({"query": {"match": {"files.project_json.tag": new_uuid()}}}, replica="aws")) == []


def test_search_needs_no_token(run: Run, dss: LocalDSS) -> None:
    (fqid,) = tagged(dss, tag := new_uuid(), 1)
    (found,) = run(DSSAPI(dss.url).post_search({"query": {"match": {"files.project_json.tag": tag}}}, replica="aws"))
    assert found["bundle_fqid"] == fqid


def test_search_with_invalid_query_is_refused_once(run: Run, api: DSSAPI) -> None:
    with pytest.raises(DSSResponseError) as caught:
        run(api.post_search({"query": {"no_such": {}}}, replica="aws"))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "elasticsearch_bad_request", True)


def test_search_is_retried(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    fault(dss, method="POST", path="/search", status=504)
    fault(dss, method="POST", path="/search", action="drop")
    run(api.post_search({"query": {"match": {"files.project_json.tag": new_uuid()}}}, replica="aws"))
    assert counted(dss, "POST", "/search") == {0: 1, 200: 1, 504: 1}


# Subscriptions


def new_user(dss: LocalDSS, **claims: Any) -> DSSAPI:
    """Return the calls of a user without subscriptions."""
    token = dss.token(claims={EMAIL: f"{new_uuid()}@example.org", **claims})
    return DSSAPI(dss.url, auth=StaticToken(token), retry=QUICK)


@pytest.fixture
def me(dss: LocalDSS) -> Iterator[DSSAPI]:
    """Return the calls of a user whose subscriptions are deleted at the end."""
    token = dss.token(claims={EMAIL: f"{new_uuid()}@example.org"})
    yield DSSAPI(dss.url, auth=StaticToken(token), retry=QUICK)
    dss.control("DELETE", "faults")
    delete_subscriptions(dss.url, {"Authorization": f"Bearer {token}"})


def test_put_subscription_is_stored_and_each_put_creates_another(run: Run, me: DSSAPI) -> None:
    wish: dict[str, Any] = {
        "callback_url": CALLBACK,
        "jmespath_query": "event_type=='CREATE'",
        "method": "PUT",
        "encoding": "multipart/form-data",
        "form_fields": {"a": "b"},
        "payload_form_field": "p",
        "attachments": {"taxon": {"type": "jmespath", "expression": "files.donor_json[].taxon"}},
    }
    uuids = [run(me.put_subscription(replica="aws", **wish)) for _ in range(2)]
    assert len(set(uuids)) == 2
    found = run(me.get_subscription(uuids[0].upper(), replica="aws"))
    assert {name: found[name] for name in wish} == wish
    assert found["owner"].endswith("@example.org")
    assert {each["uuid"] for each in run(me.get_subscriptions(replica="aws"))} == set(uuids)
    assert run(me.get_subscriptions(replica="gcp")) == []


def test_subscription_is_found_by_its_type_only(run: Run, me: DSSAPI) -> None:
    uuid = run(me.put_subscription(replica="aws", callback_url=CALLBACK, es_query=EVERYTHING))
    assert run(me.get_subscriptions(replica="aws")) == []
    (found,) = run(me.get_subscriptions(replica="aws", subscription_type="elasticsearch"))
    assert (found["uuid"], found["es_query"]) == (uuid, EVERYTHING)
    with pytest.raises(DSSNotFoundError):
        run(me.get_subscription(uuid, replica="aws"))
    run(me.delete_subscription(uuid, replica="aws", subscription_type="elasticsearch"))
    assert run(me.get_subscriptions(replica="aws", subscription_type="elasticsearch")) == []


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"jmespath_query": "a["}, "invalid_jmespath"),
        ({"es_query": {"query": {"no_such": {}}}}, "elasticsearch_error"),
        ({"attachments": {"_a": {"type": "jmespath", "expression": "a"}}}, "invalid_attachment_name"),
        ({"attachments": {"a": {"type": "jmespath", "expression": "a["}}}, "invalid_attachment_expression"),
        ({"callback_url": "ftp://127.0.0.1/"}, "illegal_arguments"),
    ],
)
def test_invalid_subscription_is_refused_with_code(run: Run, me: DSSAPI, wish: dict[str, Any], code: str) -> None:
    with pytest.raises(DSSResponseError) as caught:
        run(me.put_subscription(**{"replica": "aws", "callback_url": CALLBACK, **wish}))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, code, True)
    assert run(me.get_subscriptions(replica="aws")) == []


def test_too_many_subscriptions_are_refused(run_requests: Run, me: DSSAPI) -> None:
    run = run_requests
    for _ in range(100):
        run(me.put_subscription(replica="aws", callback_url=CALLBACK))
    with pytest.raises(DSSResponseError) as caught:
        run(me.put_subscription(replica="aws", callback_url=CALLBACK))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (406, "not_acceptable", True)


def test_deleted_missing_or_foreign_subscription_is_an_error(run: Run, me: DSSAPI, dss: LocalDSS) -> None:
    uuid = run(me.put_subscription(replica="aws", callback_url=CALLBACK))
    other = new_user(dss)
    for call in (
        other.get_subscription(uuid, replica="aws"),
        other.delete_subscription(uuid, replica="aws"),
        me.get_subscription(new_uuid(), replica="aws"),
        me.delete_subscription(new_uuid(), replica="aws"),
    ):
        with pytest.raises(DSSNotFoundError) as caught:
            run(call)
        assert caught.value.code == "not_found"
    run(me.delete_subscription(uuid.upper(), replica="aws"))
    assert run(me.get_subscriptions(replica="aws")) == []
    with pytest.raises(DSSNotFoundError):
        run(me.delete_subscription(uuid, replica="aws"))


def test_foreign_elasticsearch_subscription_is_not_a_missing_one(run: Run, me: DSSAPI, dss: LocalDSS) -> None:
    uuid = run(me.put_subscription(replica="aws", callback_url=CALLBACK, es_query=EVERYTHING))
    other = new_user(dss)
    for call in (other.get_subscription, other.delete_subscription):
        with pytest.raises(DSSAuthError) as caught:
            run(call(uuid, replica="aws", subscription_type="elasticsearch"))
        assert (caught.value.status, caught.value.code) == (403, "Forbidden")


def test_subscription_without_known_group_is_refused(run: Run, dss: LocalDSS) -> None:
    outsider = new_user(dss, **{GROUP: "other"})
    for call in (
        outsider.get_subscriptions(replica="aws"),
        outsider.put_subscription(replica="aws", callback_url=CALLBACK),
        outsider.get_subscription(new_uuid(), replica="aws"),
        outsider.delete_subscription(new_uuid(), replica="aws"),
    ):
        with pytest.raises(DSSAuthError) as caught:
            run(call)
        assert (caught.value.status, caught.value.code) == (403, "Forbidden")


def test_put_subscription_is_not_repeated_and_delete_is(run: Run, me: DSSAPI, dss: LocalDSS) -> None:
    fault(dss, method="PUT", path="/subscriptions", action="drop", after=True)
    with pytest.raises(Exception, match="connection dropped"):
        run(me.put_subscription(replica="aws", callback_url=CALLBACK))
    (found,) = run(me.get_subscriptions(replica="aws"))
    fault(dss, method="DELETE", path="/subscriptions/", status=504, after=True)
    run(me.delete_subscription(found["uuid"], replica="aws"))
    assert run(me.get_subscriptions(replica="aws")) == []


# Events


def test_get_events_returns_journals_of_a_period_from_all_pages(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    start, uuids = make_version(), [new_uuid() for _ in range(101)]
    for uuid in uuids:
        dss.put_bundle([], uuid)
    ended = make_version()
    dss.put_bundle([])
    dss.control("DELETE", "requests")
    journals = run(api.get_events(replica="aws", from_date=start, to_date=ended, per_page=1))
    assert sum(len(journal["events"]) for journal in journals) == 101
    assert counted(dss, "GET", "/events") == {206: 1, 200: 1}
    assert [journal["from_date"] for journal in journals] == sorted(journal["from_date"] for journal in journals)
    assert run(api.get_events(replica="gcp", from_date=start, to_date=ended)) == []


def test_get_events_with_end_before_start_is_refused(run: Run, api: DSSAPI) -> None:
    with pytest.raises(DSSResponseError) as caught:
        run(api.get_events(replica="aws", from_date=LATER, to_date=VERSION))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "bad_request", True)


def test_get_event_returns_manifest_or_deletion(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid = new_uuid()
    dss.put_bundle([member(dss, "a")], uuid)
    event = run(api.get_event(uuid.upper(), VERSION, replica="aws"))
    assert (event["event_type"], event["manifest"]["files"][0]["name"]) == ("CREATE", "a")
    run(api.delete_bundle(uuid, replica="aws", reason="a test"))
    event = run(api.get_event(uuid, VERSION, replica="aws"))
    assert (event["event_type"], event["reason"]) == ("TOMBSTONE", "a test")
    for other, version, replica in ((new_uuid(), VERSION, "aws"), (uuid, LATER, "aws"), (uuid, VERSION, "gcp")):
        with pytest.raises(DSSNotFoundError) as caught:
            run(api.get_event(other, version, replica=replica))
        assert caught.value.code == "not_found"
