"""What the client promises of search, subscriptions and events, on both transports, against a running DSS."""

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
CALLBACK = "http://127.0.0.1:9/told"
EVERYTHING: dict[str, Any] = {"query": {"match_all": {}}}


# Search


def tagged(dss: LocalDSS, tag: str, count: int) -> list[str]:
    """Make bundles whose metadata have a tag; return their FQIDs, the greatest first."""
    content, file = json.dumps({"tag": tag}).encode(), new_uuid()
    assert dss.put_file(dss.stage(content, labels=sums(content), kind="application/json"), file).ok
    uuids = [new_uuid() for _ in range(count)]
    for uuid in uuids:
        assert dss.put_bundle([dss.entry("project_0.json", file, indexed=True)], uuid).ok
    return [f"{uuid}.{VERSION}" for uuid in sorted(uuids, reverse=True)]


def test_bundles_are_found_by_their_metadata(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """All bundles that match come together from their pages, as a summary or with their metadata."""
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


def test_a_search_needs_no_token(run: Run, dss: LocalDSS) -> None:
    """Anybody may search."""
    (fqid,) = tagged(dss, tag := new_uuid(), 1)
    (found,) = run(DSSAPI(dss.url).post_search({"query": {"match": {"files.project_json.tag": tag}}}, replica="aws"))
    assert found["bundle_fqid"] == fqid


def test_a_query_that_is_not_understood(run: Run, api: DSSAPI) -> None:
    """A query that is none is refused once, with the words of the DSS."""
    with pytest.raises(DSSResponseError) as caught:
        run(api.post_search({"query": {"no_such": {}}}, replica="aws"))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "elasticsearch_bad_request", True)


def test_a_search_through_troubles(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A search changes nothing, so it is repeated."""
    fault(dss, method="POST", path="/search", status=504)
    fault(dss, method="POST", path="/search", action="drop")
    run(api.post_search({"query": {"match": {"files.project_json.tag": new_uuid()}}}, replica="aws"))
    assert counted(dss, "POST", "/search") == {0: 1, 200: 1, 504: 1}


# Subscriptions


def somebody(dss: LocalDSS, **claims: Any) -> DSSAPI:
    """Return the calls of somebody who has no subscriptions."""
    token = dss.token(claims={EMAIL: f"{new_uuid()}@example.org", **claims})
    return DSSAPI(dss.url, auth=StaticToken(token), retry=QUICK)


@pytest.fixture
def me(dss: LocalDSS) -> Iterator[DSSAPI]:
    """Return the calls of a user whose subscriptions are deleted in the end."""
    token = dss.token(claims={EMAIL: f"{new_uuid()}@example.org"})
    yield DSSAPI(dss.url, auth=StaticToken(token), retry=QUICK)
    dss.control("DELETE", "faults")
    delete_subscriptions(dss.url, {"Authorization": f"Bearer {token}"})


def test_a_subscription_is_kept_as_it_was_put(run: Run, me: DSSAPI) -> None:
    """A subscription is found by its uuid and in the list, with what was put, and each PUT makes another one."""
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


def test_subscriptions_of_both_types(run: Run, me: DSSAPI) -> None:
    """A subscription with an Elasticsearch query is of its own type, and found by that only."""
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
def test_subscriptions_that_are_refused(run: Run, me: DSSAPI, wish: dict[str, Any], code: str) -> None:
    """A query, an attachment or an address that a DSS does not take is told with its code, and nothing is made."""
    with pytest.raises(DSSResponseError) as caught:
        run(me.put_subscription(**{"replica": "aws", "callback_url": CALLBACK, **wish}))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, code, True)
    assert run(me.get_subscriptions(replica="aws")) == []


def test_too_many_subscriptions(run_requests: Run, me: DSSAPI) -> None:
    """More than a DSS lets one user have is refused."""
    run = run_requests
    for _ in range(100):
        run(me.put_subscription(replica="aws", callback_url=CALLBACK))
    with pytest.raises(DSSResponseError) as caught:
        run(me.put_subscription(replica="aws", callback_url=CALLBACK))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (406, "not_acceptable", True)


def test_a_subscription_is_deleted(run: Run, me: DSSAPI, dss: LocalDSS) -> None:
    """A deleted subscription is gone; one that is not there, or another's, cannot be found or deleted."""
    uuid = run(me.put_subscription(replica="aws", callback_url=CALLBACK))
    other = somebody(dss)
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


def test_another_owners_elasticsearch_subscription(run: Run, me: DSSAPI, dss: LocalDSS) -> None:
    """A DSS tells those of the older type from what is not there."""
    uuid = run(me.put_subscription(replica="aws", callback_url=CALLBACK, es_query=EVERYTHING))
    other = somebody(dss)
    for call in (other.get_subscription, other.delete_subscription):
        with pytest.raises(DSSAuthError) as caught:
            run(call(uuid, replica="aws", subscription_type="elasticsearch"))
        assert (caught.value.status, caught.value.code) == (403, "Forbidden")


def test_who_may_subscribe(run: Run, dss: LocalDSS) -> None:
    """Only whoever is in a group that the DSS knows may subscribe."""
    outsider = somebody(dss, **{GROUP: "other"})
    for call in (
        outsider.get_subscriptions(replica="aws"),
        outsider.put_subscription(replica="aws", callback_url=CALLBACK),
        outsider.get_subscription(new_uuid(), replica="aws"),
        outsider.delete_subscription(new_uuid(), replica="aws"),
    ):
        with pytest.raises(DSSAuthError) as caught:
            run(call)
        assert (caught.value.status, caught.value.code) == (403, "Forbidden")


def test_a_subscription_through_troubles(run: Run, me: DSSAPI, dss: LocalDSS) -> None:
    """A PUT is not repeated when it may have been done, and a DELETE that was done is a success."""
    fault(dss, method="PUT", path="/subscriptions", action="drop", after=True)
    with pytest.raises(Exception, match="connection dropped"):
        run(me.put_subscription(replica="aws", callback_url=CALLBACK))
    (found,) = run(me.get_subscriptions(replica="aws"))
    fault(dss, method="DELETE", path="/subscriptions/", status=504, after=True)
    run(me.delete_subscription(found["uuid"], replica="aws"))
    assert run(me.get_subscriptions(replica="aws")) == []


# Events


def test_events_are_replayed(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """What happened from a time to another is in the journals, with more of them than a page holds."""
    begun, uuids = make_version(), [new_uuid() for _ in range(101)]
    for uuid in uuids:
        dss.put_bundle([], uuid)
    ended = make_version()
    dss.put_bundle([])
    dss.control("DELETE", "requests")
    journals = run(api.get_events(replica="aws", from_date=begun, to_date=ended, per_page=1))
    assert sum(len(journal["events"]) for journal in journals) == 101
    assert counted(dss, "GET", "/events") == {206: 1, 200: 1}
    assert [journal["from_date"] for journal in journals] == sorted(journal["from_date"] for journal in journals)
    assert run(api.get_events(replica="gcp", from_date=begun, to_date=ended)) == []


def test_times_that_are_the_wrong_way_round(run: Run, api: DSSAPI) -> None:
    """An end before the beginning is refused."""
    with pytest.raises(DSSResponseError) as caught:
        run(api.get_events(replica="aws", from_date=LATER, to_date=VERSION))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "bad_request", True)


def test_what_an_event_tells(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """The event of a bundle tells its manifest, or why it was deleted; of another bundle there is none."""
    uuid = new_uuid()
    dss.put_bundle([member(dss, "a")], uuid)
    told = run(api.get_event(uuid.upper(), VERSION, replica="aws"))
    assert (told["event_type"], told["manifest"]["files"][0]["name"]) == ("CREATE", "a")
    run(api.delete_bundle(uuid, replica="aws", reason="a test"))
    told = run(api.get_event(uuid, VERSION, replica="aws"))
    assert (told["event_type"], told["reason"]) == ("TOMBSTONE", "a test")
    for other, version, replica in ((new_uuid(), VERSION, "aws"), (uuid, LATER, "aws"), (uuid, VERSION, "gcp")):
        with pytest.raises(DSSNotFoundError) as caught:
            run(api.get_event(other, version, replica=replica))
        assert caught.value.code == "not_found"
