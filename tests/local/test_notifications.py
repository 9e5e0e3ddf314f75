"""Notifications: selected events, payloads, retries."""

from __future__ import annotations

import itertools
import json
import time
import uuid as uuids
from typing import TYPE_CHECKING, Any

import pytest

from .receiver import Delivery, Receiver
from .server import VERSION, LocalDSS, User, new_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LATER = "2025-01-01T000000.000000Z"


# The tests with the synced server run on one worker.
pytestmark = pytest.mark.xdist_group("synced-dss")


@pytest.fixture
def dss(synced_dss: LocalDSS) -> LocalDSS:
    """Return a server whose replicas are synced."""
    return synced_dss


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def user(dss: LocalDSS) -> User:
    return User(dss)


def _subscribe(user: User, receiver: Receiver, replica: str = "aws", /, **fields: Any) -> str:
    response = user.call("PUT", "/subscriptions", {"callback_url": receiver.url, **fields}, replica=replica)
    assert response.status_code == 201, response.text
    return str(response.json()["uuid"])


def _bundle(dss: LocalDSS, species: str = "", uuid: str = "", version: str = VERSION) -> str:
    """Create a bundle with indexed metadata on a species, or an empty one."""
    files, uuid = [], uuid or new_uuid()
    if species:
        file = new_uuid()
        content = json.dumps({"species": species}).encode()
        assert dss.put_file(dss.stage(content, kind="application/json"), file).status_code == 201
        files.append(dss.entry("donor_0.json", file, indexed=True))
    assert dss.put_bundle(files, uuid, version).status_code == 201
    return uuid


def _about(*bundles: str) -> str:
    """Return a query for the events of these bundles only: other tests may run at the same time."""
    return " || ".join(f"bundle_info.uuid=='{uuid}'" for uuid in bundles)


def _delivered(receiver: Receiver) -> list[str]:
    """Return the bundle uuids of the deliveries, in order."""
    return [delivery.payload["match"]["bundle_uuid"] for delivery in receiver.deliveries]


def _of(species: str) -> dict[str, Any]:
    return {"query": {"match": {"files.donor_json.species.text": species}}}


def _delete(dss: LocalDSS, uuid: str, **query: str) -> None:
    dss.call("DELETE", f"/bundles/{uuid}", {"reason": "gone"}, replica="aws", **query)


def test_jmespath_subscription_is_notified_of_selected_events(dss: LocalDSS, user: User, receiver: Receiver) -> None:
    species = new_uuid()
    query = f"files.donor_json[?species=='{species}']"
    subscription = _subscribe(user, receiver, jmespath_query=query)
    _bundle(dss, "another")
    uuid = _bundle(dss, species)
    (delivery,) = receiver.wait(1)
    payload = delivery.payload
    assert uuids.UUID(payload.pop("transaction_id"))
    assert payload == {
        "subscription_id": subscription,
        "event_type": "CREATE",
        "match": {"bundle_uuid": uuid, "bundle_version": VERSION},
        "jmespath_query": query,
    }
    assert (delivery.method, delivery.path, delivery.headers["content-type"]) == ("POST", "/hook", "application/json")
    assert "authorization" not in delivery.headers


def test_query_subscription_is_notified_of_matching_bundles(dss: LocalDSS, user: User, receiver: Receiver) -> None:
    """The payload has no event type."""
    species = new_uuid()
    subscription = _subscribe(user, receiver, es_query=_of(species), method="PUT")
    _bundle(dss, "another")
    uuid = _bundle(dss, species)
    (delivery,) = receiver.wait(1)
    payload = delivery.payload
    del payload["transaction_id"]
    assert payload == {
        "subscription_id": subscription,
        "match": {"bundle_uuid": uuid, "bundle_version": VERSION},
        "es_query": _of(species),
    }
    assert delivery.method == "PUT"


def test_deletion_notifies_once_per_version(dss: LocalDSS, user: User, receiver: Receiver) -> None:
    uuid, older, newer = new_uuid(), VERSION, LATER
    for version in (older, newer, "2026-01-01T000000.000000Z"):
        _bundle(dss, uuid=uuid, version=version)
    by_path = _subscribe(user, receiver, jmespath_query=f"event_type=='TOMBSTONE' && bundle_info.uuid=='{uuid}'")
    admin = {"bool": {"must": [{"term": {"uuid": uuid}}, {"term": {"admin_deleted": True}}]}}
    by_query = _subscribe(user, receiver, es_query={"query": admin})
    _delete(dss, uuid, version=newer)
    assert {delivery.payload["match"]["bundle_version"] for delivery in receiver.wait(2)} == {newer}
    _delete(dss, uuid)
    payloads = [delivery.payload for delivery in receiver.wait(6)]
    assert sorted((payload["subscription_id"], payload["match"]["bundle_version"]) for payload in payloads) == sorted(
        (subscription, version)
        for subscription in (by_path, by_query)
        for version in (older, newer, "2026-01-01T000000.000000Z")
    )


def test_subscription_is_not_notified_of_earlier_events(dss: LocalDSS, user: User, receiver: Receiver) -> None:
    earlier, later = new_uuid(), new_uuid()
    _bundle(dss, uuid=earlier)
    _subscribe(user, receiver, jmespath_query=_about(earlier, later))
    _bundle(dss, uuid=later)
    receiver.wait(1)  # the earlier one would be delivered first
    assert _delivered(receiver) == [later]


def test_synced_bundle_notifies_subscriptions_of_each_replica_once(
    dss: LocalDSS, user: User, receiver: Receiver
) -> None:
    uuid, next_one = new_uuid(), new_uuid()
    query = _about(uuid, next_one)
    subscriptions = [_subscribe(user, receiver, replica, jmespath_query=query) for replica in ("aws", "gcp")]
    for bundle in (uuid, next_one):  # a duplicate notification of the first would be delivered before those of the next
        _bundle(dss, uuid=bundle)
        receiver.wait(2 if bundle == uuid else 4)
    payloads = [delivery.payload for delivery in receiver.deliveries]
    assert sorted((payload["subscription_id"], payload["match"]["bundle_uuid"]) for payload in payloads) == sorted(
        (subscription, bundle) for subscription in subscriptions for bundle in (uuid, next_one)
    )


def test_notification_as_form_has_payload_field(dss: LocalDSS, user: User, receiver: Receiver) -> None:
    fields, uuid = {"who": "ü\r\n--x", "b": ""}, new_uuid()
    form_options = {"encoding": "multipart/form-data", "form_fields": fields, "payload_form_field": "what"}
    _subscribe(user, receiver, jmespath_query=_about(uuid), **form_options)
    _bundle(dss, uuid=uuid)
    (delivery,) = receiver.wait(1)
    form = delivery.form
    assert json.loads(form.pop("what"))["match"]["bundle_uuid"] == uuid
    assert form == fields


def test_attachments_contain_selected_metadata_and_errors(dss: LocalDSS, user: User, receiver: Receiver) -> None:
    """Notifications of deletions have no attachments."""
    expressions = {
        "species": "files.donor_json[].species",
        "wrong": "abs(files.donor_json[0].species)",
        "none": "files.x",
    }
    definition = {name: {"type": "jmespath", "expression": expression} for name, expression in expressions.items()}
    uuid = new_uuid()
    _subscribe(user, receiver, attachments=definition, jmespath_query=_about(uuid))
    _bundle(dss, "Größe", uuid)
    (delivery,) = receiver.wait(1)
    attached = delivery.payload["attachments"]
    errors = attached.pop("_errors")
    assert attached == {"species": ["Größe"], "none": None}
    assert list(errors) == ["wrong"]
    assert "abs" in errors["wrong"]
    _delete(dss, uuid)
    assert "attachments" not in receiver.wait(2)[1].payload


@pytest.mark.parametrize(("size", "fits"), [(128 * 1024, True), (128 * 1024 + 1, False)])
def test_attachments_above_128_kib_are_replaced_by_error(
    dss: LocalDSS, user: User, receiver: Receiver, size: int, fits: bool
) -> None:
    text = "ü" + "x" * (size - len(b'{"a": ""}') - 2)
    definition = {"a": {"type": "jmespath", "expression": "files.donor_json[0].species"}}
    uuid = new_uuid()
    _subscribe(user, receiver, attachments=definition, jmespath_query=_about(uuid))
    _bundle(dss, text, uuid)
    (delivery,) = receiver.wait(1)
    expected = {"a": text} if fits else {"_errors": f"Attachments too large ({size} bytes)"}
    assert delivery.payload["attachments"] == expected


def _pauses(deliveries: list[Delivery]) -> list[float]:
    """Return the seconds between the attempts to deliver one notification."""
    assert len({delivery.payload["transaction_id"] for delivery in deliveries}) == 1
    return [later.at - earlier.at for earlier, later in itertools.pairwise(deliveries)]


def test_failed_delivery_is_retried_with_growing_delays(dss: LocalDSS, user: User, receiver: Receiver) -> None:
    """Redirects are not followed and count as failures."""
    receiver.statuses = [500, 302]
    uuid, next_one = new_uuid(), new_uuid()
    _subscribe(user, receiver, jmespath_query=_about(uuid, next_one))
    _bundle(dss, uuid=uuid)
    pauses = _pauses(receiver.wait(3)[:3])
    assert all(pause > minimum for pause, minimum in zip(pauses, (0.45, 0.95), strict=True))
    _bundle(dss, uuid=next_one)
    receiver.wait(4)
    assert _delivered(receiver) == [uuid] * 3 + [next_one]
    assert {delivery.path for delivery in receiver.deliveries} == {"/hook"}


def test_deleted_subscription_is_not_retried(dss: LocalDSS, user: User, receiver: Receiver) -> None:
    receiver.statuses = [500] * 20
    uuid = new_uuid()
    deleted, kept = (_subscribe(user, receiver, jmespath_query=_about(uuid)) for _ in range(2))
    _bundle(dss, uuid=uuid)

    def wait_for(subscription: str, count: int) -> None:
        deadline = time.monotonic() + 60
        while attempts(subscription) < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def attempts(subscription: str) -> int:
        return [delivery.payload["subscription_id"] for delivery in receiver.deliveries].count(subscription)

    wait_for(deleted, 1)
    assert user.call("DELETE", f"/subscriptions/{deleted}", replica="aws").status_code == 200
    wait_for(kept, 4)
    assert attempts(deleted) < 4  # one, unless deleting it took as long as an attempt


@pytest.mark.system
def test_pending_notification_survives_kill(tmp_path: Path, receiver: Receiver) -> None:
    errors = tmp_path / "errors"
    with LocalDSS(tmp_path / "state", "--sync-delay", "off", errors=errors) as dss:
        receiver.statuses = [503] * 10
        uuid = new_uuid()
        subscription = _subscribe(User(dss), receiver, jmespath_query=_about(uuid))
        _bundle(dss, uuid=uuid)
        receiver.wait(1)
        dss.stop(9)
        dss.start()
        # One attempt may not have been recorded when the process was killed.
        assert len(_pauses(receiver.wait(5))) in {4, 5}
        deadline = time.monotonic() + 60
        while f"subscription {subscription} could not be notified: status 503" not in errors.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(receiver.deliveries) in {5, 6}
