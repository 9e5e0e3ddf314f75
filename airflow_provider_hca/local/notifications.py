"""Notify subscribers of events: match events with subscriptions, build payloads, deliver with retries."""

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
from .queries import field_values, parse

if TYPE_CHECKING:
    from .event_records import Event
    from .journals import Journals
    from .subscription_records import Notification, Subscription, SubscriptionRecords

_BATCH = 100  # events per step
_TIMEOUTS = (5, 10)  # seconds, to connect and to read
_CLAIM = 60.0  # seconds until another thread may retry a delivery that has not ended
_DELAYS = (0.5, 1, 2, 4)  # seconds before each retry
_MAX_ATTACHMENTS = 128 * 1024  # bytes


class _EventDocuments:
    """The documents of an event, each built on first use."""

    def __init__(self, event: Event, journals: Journals) -> None:
        self.event = event
        self._journals = journals

    @cached_property
    def event_document(self) -> dict[str, Any]:
        """Document of the event, for subscriptions by JMESPath."""
        return self._journals.document(self.event)

    @cached_property
    def index_document(self) -> dict[str, Any]:
        """Search document of the bundle, for subscriptions by Elasticsearch query."""
        event = self.event
        if event.type == "TOMBSTONE":
            return index_tombstone(event.uuid, event.version, event.reason or "")
        return index_document(self._journals.blobs, event.uuid, self.event_document["manifest"])

    def payload(self, subscription: Subscription) -> dict[str, Any] | None:
        """Return the payload of the notification, or None if the subscription does not select the event."""
        by_query = subscription.type == "elasticsearch"
        if not (self._matches_query(subscription) if by_query else self._matches_jmespath(subscription)):
            return None
        payload = {
            "transaction_id": str(uuid.uuid4()),
            "subscription_id": subscription.uuid,
            "match": {"bundle_uuid": self.event.uuid, "bundle_version": self.event.version},
        }
        if not by_query:
            payload["event_type"] = self.event.type
        payload |= {
            name: subscription.body[name] for name in ("es_query", "jmespath_query") if name in subscription.body
        }
        if "attachments" in subscription.body and (by_query or self.event.type == "CREATE"):
            document = self.index_document if by_query else self.event_document
            payload["attachments"] = _attachments(subscription.body["attachments"], document)
        return payload

    def _matches_query(self, subscription: Subscription) -> bool:
        return parse(subscription.body["es_query"])(field_values(self.index_document))

    def _matches_jmespath(self, subscription: Subscription) -> bool:
        query = subscription.body.get("jmespath_query")
        try:
            return not query or bool(jmespath.search(query, self.event_document))
        except JMESPathError:  # for example a function whose argument has the wrong type in this bundle
            return False


def _attachments(definitions: dict[str, dict[str, str]], document: dict[str, Any]) -> dict[str, Any]:
    attachments: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, definition in definitions.items():
        try:
            attachments[name] = jmespath.search(definition["expression"], document)
        except Exception as error:  # noqa: BLE001 - every error is reported to the subscriber
            errors[name] = str(error)
    if errors:
        attachments["_errors"] = errors
    size = len(json.dumps(attachments, ensure_ascii=False).encode())
    return attachments if size <= _MAX_ATTACHMENTS else {"_errors": f"Attachments too large ({size} bytes)"}


class Notifications:
    """The steps from an event to its subscribers: match, then deliver."""

    def __init__(self, records: SubscriptionRecords, journals: Journals) -> None:
        self._records = records
        self._journals = journals

    def match_events(self) -> bool:
        """Match the oldest unprocessed events with the subscriptions; return whether there were any."""
        events = self._journals.events.after(self._records.last_processed(), _BATCH)
        if not events:
            return False
        subscriptions = self._records.all()
        payloads: list[tuple[str, dict[str, Any]]] = []
        for event in events:
            documents = _EventDocuments(event, self._journals)
            for subscription in subscriptions:
                if subscription.replica == event.replica and subscription.since < event.at:
                    payload = _payload(documents, subscription)
                    payloads += [(subscription.uuid, payload)] if payload else []
        self._records.enqueue(events[-1].at, payloads)
        return True

    def deliver(self) -> bool:
        """Attempt the delivery that is due longest; return whether there was one."""
        notification = self._records.claim(_CLAIM)
        if notification is None:
            return False
        error = _send(notification)
        if error is None:
            self._records.delete(notification)
        elif notification.attempts < len(_DELAYS):
            self._records.reschedule(notification, _DELAYS[notification.attempts])
        else:
            subscription = notification.subscription.uuid
            print(f"dss-local: subscription {subscription} could not be notified: {error}", file=sys.stderr)
            self._records.delete(notification)
        return True


def _payload(documents: _EventDocuments, subscription: Subscription) -> dict[str, Any] | None:
    try:
        return documents.payload(subscription)
    except Exception:  # noqa: BLE001 - otherwise all later events would wait behind this one forever
        traceback.print_exc()
        return None


def _send(notification: Notification) -> str | None:
    """Deliver a notification; return the error or None. The URL may contain a secret: it is not in the error."""
    subscription, content = notification.subscription.body, json.dumps(notification.payload)
    body: dict[str, Any] = {"data": content, "headers": {"Content-Type": "application/json"}}
    if subscription.get("encoding") == "multipart/form-data":
        fields = {**subscription.get("form_fields", {}), subscription.get("payload_form_field", "payload"): content}
        body = {"files": {name: (None, value) for name, value in fields.items()}}
    try:
        with requests.Session() as session:
            session.trust_env = False  # otherwise credentials from ~/.netrc would be sent
            with session.request(
                subscription.get("method", "POST"),
                subscription["callback_url"],
                timeout=_TIMEOUTS,
                allow_redirects=False,
                stream=True,  # the body of the response is not read: it may be endless
                **body,
            ) as response:
                return None if response.ok and response.status_code < 300 else f"status {response.status_code}"
    except (requests.RequestException, ValueError) as error:
        return type(error).__name__
