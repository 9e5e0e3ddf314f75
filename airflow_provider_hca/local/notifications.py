"""Telling subscribers of what happened: which of them, what, and how often it is tried."""

from __future__ import annotations

import json
import sys
import traceback
import uuid
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jmespath
import requests
from jmespath.exceptions import JMESPathError

from .documents import index_document, index_tombstone
from .queries import parse, values_of

if TYPE_CHECKING:
    from .event_records import Event
    from .journals import Journals
    from .subscription_records import Notification, Subscription, SubscriptionRecords

_BATCH = 100  # how many events are looked through at once
_TIMEOUTS = (5, 10)  # seconds, for the connection and for the answer
_CLAIM = 60.0  # seconds after which somebody else tries a delivery that never ended
_DELAYS = (0.5, 1, 2, 4)  # seconds from a failed attempt to the next
_MOST_ATTACHED = 128 * 1024  # bytes


class _Occasion:
    """An event with the documents that are made of it, each only when it is needed."""

    def __init__(self, event: Event, journals: Journals) -> None:
        self.event = event
        self._journals = journals

    @cached_property
    def told(self) -> dict[str, Any]:
        """What the event tells, for subscriptions by JMESPath."""
        return self._journals.document(self.event)

    @cached_property
    def indexed(self) -> dict[str, Any]:
        """The document that is found by a search from now on, for subscriptions by Elasticsearch query."""
        event = self.event
        if event.type == "TOMBSTONE":
            return index_tombstone(event.uuid, event.version, event.reason or "")
        return index_document(self._journals.blobs, event.uuid, self.told["manifest"])

    def payload(self, subscription: Subscription) -> dict[str, Any] | None:
        """Return what a subscriber is to be told, None when the event is not for him."""
        by_query = subscription.type == "elasticsearch"
        if not (self._found(subscription) if by_query else self._selected(subscription)):
            return None
        told = {
            "transaction_id": str(uuid.uuid4()),
            "subscription_id": subscription.uuid,
            "match": {"bundle_uuid": self.event.uuid, "bundle_version": self.event.version},
        }
        if not by_query:
            told["event_type"] = self.event.type
        told |= {name: subscription.body[name] for name in ("es_query", "jmespath_query") if name in subscription.body}
        if "attachments" in subscription.body and (by_query or self.event.type == "CREATE"):
            told["attachments"] = attachments(subscription.body["attachments"], self.indexed if by_query else self.told)
        return told

    def _found(self, subscription: Subscription) -> bool:
        return parse(subscription.body["es_query"])(values_of(self.indexed))

    def _selected(self, subscription: Subscription) -> bool:
        query = subscription.body.get("jmespath_query")
        try:
            return not query or bool(jmespath.search(query, self.told))
        except JMESPathError:  # such as a function that is given the wrong type by this bundle
            return False


def attachments(wanted: dict[str, dict[str, str]], document: dict[str, Any]) -> dict[str, Any]:
    """Return what a subscriber wants to have attached.

    :param wanted: the expression of each attachment, by name
    :param document: what the expressions are about
    """
    attached: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, attachment in wanted.items():
        try:
            attached[name] = jmespath.search(attachment["expression"], document)
        except Exception as error:  # noqa: BLE001 - the subscriber is to be told of any
            errors[name] = str(error)
    if errors:
        attached["_errors"] = errors
    size = len(json.dumps(attached, ensure_ascii=False).encode())
    return attached if size <= _MOST_ATTACHED else {"_errors": f"Attachments too large ({size} bytes)"}


class Notifications:
    """The two steps from an event to its subscribers: finding them, and telling them."""

    def __init__(self, records: SubscriptionRecords, journals: Journals) -> None:
        self._records = records
        self._journals = journals

    def find(self) -> bool:
        """Look through the oldest events that nobody looked through yet; tell whether there were any."""
        events = self._journals.events.after(self._records.notified_until(), _BATCH)
        if not events:
            return False
        subscriptions = self._records.everybodys()
        payloads: list[tuple[str, dict[str, Any]]] = []
        for event in events:
            occasion = _Occasion(event, self._journals)
            for subscription in subscriptions:
                if subscription.replica == event.replica and subscription.since < event.at:
                    payload = _payload(occasion, subscription)
                    payloads += [(subscription.uuid, payload)] if payload else []
        self._records.notify(events[-1].at, payloads)
        return True

    def deliver(self) -> bool:
        """Make one attempt to deliver what is due the longest; tell whether there was anything."""
        notification = self._records.take(_CLAIM)
        if notification is None:
            return False
        why = _send(notification)
        if why is None:
            self._records.drop(notification)
        elif notification.attempts < len(_DELAYS):
            self._records.put_off(notification, _DELAYS[notification.attempts])
        else:
            subscription = notification.subscription.uuid
            print(f"dss-local: subscription {subscription} could not be notified: {why}", file=sys.stderr)
            self._records.drop(notification)
        return True


def _payload(occasion: _Occasion, subscription: Subscription) -> dict[str, Any] | None:
    try:
        return occasion.payload(subscription)
    except Exception:  # noqa: BLE001 - all later events would wait for ever behind one that cannot be told
        traceback.print_exc()
        return None


def _send(notification: Notification) -> str | None:
    """Deliver a notification; return why that failed, None when it did not. The URL may hold a secret: not shown."""
    wish, content = notification.subscription.body, json.dumps(notification.payload)
    body: dict[str, Any] = {"data": content, "headers": {"Content-Type": "application/json"}}
    if wish.get("encoding") == "multipart/form-data":
        fields = {**wish.get("form_fields", {}), wish.get("payload_form_field", "payload"): content}
        body = {"files": {name: (None, value) for name, value in fields.items()}}
    try:
        with requests.Session() as session:
            session.trust_env = False  # or it would send what the machine's .netrc has for the host
            with session.request(
                wish.get("method", "POST"),
                wish["callback_url"],
                timeout=_TIMEOUTS,
                allow_redirects=False,
                stream=True,  # what a subscriber answers beside the status is not read, however long it is
                **body,
            ) as answer:
                return None if answer.ok and answer.status_code < 300 else f"it answered {answer.status_code}"
    except (requests.RequestException, ValueError) as error:
        return type(error).__name__
