"""The calls that find bundles by what is in them, and tell what happened to them: search, subscriptions, events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from airflow_provider_hca.client.api.base import DONE, Calls, objects, text
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import check_replica
from airflow_provider_hca.client.sansio import Call, json_object

SubscriptionType = Literal["jmespath", "elasticsearch"]


class EventCalls(Calls):
    """The calls about search, subscriptions and events."""

    def post_search(
        self,
        es_query: Mapping[str, Any],
        *,
        replica: str,
        output_format: Literal["summary", "raw"] = "summary",
        per_page: int | None = None,
    ) -> Call[list[dict[str, Any]]]:
        """Return the bundles whose metadata match an Elasticsearch query (`POST /search`).

        :param es_query: such as `{"query": {"match": {"files.project_json.project_title": "Mouse"}}}`
        :param replica: `aws` or `gcp`
        :param output_format: `summary` for `bundle_fqid`, `bundle_url` and `search_score` of each, `raw` to have its
            `metadata` too
        :param per_page: 10 to 500, at most 10 with `raw`; all pages are fetched anyway
        :raises DSSResponseError: when the query is not understood
        """
        size = per_page or (10 if output_format == "raw" else 500)
        query = {"replica": check_replica(replica), "output_format": output_format, "per_page": str(size)}
        request = self._request("POST", "/search", query, {"es_query": dict(es_query)})
        return (yield from self._items(request, "results", repeatable=True))  # a POST that changes nothing

    def get_subscriptions(
        self, *, replica: str, subscription_type: SubscriptionType = "jmespath"
    ) -> Call[list[dict[str, Any]]]:
        """Return your subscriptions (`GET /subscriptions`).

        :param replica: `aws` or `gcp`
        :param subscription_type: `jmespath` or `elasticsearch`
        """
        request = self._request("GET", "/subscriptions", _of_type(replica, subscription_type))
        answer = json_object(request, (yield from self._exchange.send(request, authorize=True)))
        return objects(request, answer, "subscriptions")

    def put_subscription(
        self,
        *,
        replica: str,
        callback_url: str,
        jmespath_query: str | None = None,
        es_query: Mapping[str, Any] | None = None,
        method: Literal["POST", "PUT"] | None = None,
        encoding: Literal["application/json", "multipart/form-data"] | None = None,
        form_fields: Mapping[str, str] | None = None,
        payload_form_field: str | None = None,
        attachments: Mapping[str, Any] | None = None,
        hmac_key_id: str | None = None,
        hmac_secret_key: str | None = None,
    ) -> Call[str]:
        """Have a URL told when something happens to bundles (`PUT /subscriptions`).

        It is sent once: each call makes another subscription. After an error `get_subscriptions` tells whether there is
        one.

        :param replica: `aws` or `gcp`
        :param callback_url: what is told
        :param jmespath_query: of which events, by JMESPath; of all if None
        :param es_query: of which new bundles, by an Elasticsearch query; one of the two at most
        :param method: with which it is told; the DSS's own choice is `POST`
        :param encoding: of what it is told; the DSS's own choice is `application/json`
        :param form_fields: to send besides, with `multipart/form-data`
        :param payload_form_field: in which the news are, with `multipart/form-data`
        :param attachments: metadata to send besides, by name, each `{"type": "jmespath", "expression": ...}`
        :param hmac_key_id: the name of the key
        :param hmac_secret_key: to sign with what is sent to the URL; a DSS does not tell it to anybody
        :return: the uuid of the subscription
        :raises DSSResponseError: when a query or an attachment is not understood, or there are too many subscriptions
        """
        if jmespath_query is not None and es_query is not None:
            raise ValueError("a subscription has a jmespath_query or an es_query, not both")
        if hmac_secret_key is not None and not isinstance(hmac_secret_key, str):
            raise ValueError("hmac_secret_key must be text")  # else the DSS's error would quote it
        given = {
            "callback_url": callback_url,
            "jmespath_query": jmespath_query,
            "es_query": es_query,
            "method": method,
            "encoding": encoding,
            "form_fields": form_fields,
            "payload_form_field": payload_form_field,
            "attachments": attachments,
            "hmac_key_id": hmac_key_id,
            "hmac_secret_key": hmac_secret_key,
        }
        body = {name: value for name, value in given.items() if value is not None}
        request = self._request("PUT", "/subscriptions", {"replica": check_replica(replica)}, body)
        response = yield from self._exchange.send(request, accept=DONE, authorize=True, repeatable=False)
        return text(request, json_object(request, response), "uuid")

    def get_subscription(
        self, uuid: str, *, replica: str, subscription_type: SubscriptionType = "jmespath"
    ) -> Call[dict[str, Any]]:
        """Return a subscription (`GET /subscriptions/{uuid}`).

        :param uuid: of the subscription
        :param replica: `aws` or `gcp`
        :param subscription_type: `jmespath` or `elasticsearch`
        :raises DSSNotFoundError: when there is none
        """
        path = f"/subscriptions/{check_uuid(uuid, 'subscription uuid')}"
        request = self._request("GET", path, _of_type(replica, subscription_type))
        return json_object(request, (yield from self._exchange.send(request, authorize=True)))

    def delete_subscription(
        self, uuid: str, *, replica: str, subscription_type: SubscriptionType = "jmespath"
    ) -> Call[None]:
        """Delete a subscription (`DELETE /subscriptions/{uuid}`).

        :param uuid: of the subscription
        :param replica: `aws` or `gcp`
        :param subscription_type: `jmespath` or `elasticsearch`
        :raises DSSNotFoundError: when there is none
        """
        path = f"/subscriptions/{check_uuid(uuid, 'subscription uuid')}"
        request = self._request("DELETE", path, _of_type(replica, subscription_type))
        yield from self._exchange.send(request, authorize=True, deletes=True)

    def get_events(
        self, *, replica: str, from_date: str | None = None, to_date: str | None = None, per_page: int = 10
    ) -> Call[list[dict[str, Any]]]:
        """Return the journals of events (`GET /events`), oldest first.

        :param replica: `aws` or `gcp`
        :param from_date: a DSS_VERSION; from the first event on if None
        :param to_date: a DSS_VERSION; to the last event if None
        :param per_page: journals a page, 1 to 10; all pages are fetched anyway
        :return: of each journal `journal_id`, `from_date`, `to_date`, `size` and `events`
        """
        query = {
            "replica": check_replica(replica),
            "from_date": None if from_date is None else check_version(from_date, "from_date"),
            "to_date": None if to_date is None else check_version(to_date, "to_date"),
            "per_page": str(per_page),
        }
        return (yield from self._items(self._request("GET", "/events", query), "event_streams"))

    def get_event(self, uuid: str, version: str, *, replica: str) -> Call[dict[str, Any]]:
        """Return the metadata document of a bundle as its event has it (`GET /events/{uuid}`).

        :param uuid: of the bundle
        :param version: of the bundle
        :param replica: `aws` or `gcp`
        :raises DSSNotFoundError: when there is no such event
        """
        query = {"version": check_version(version, "bundle version"), "replica": check_replica(replica)}
        request = self._request("GET", f"/events/{check_uuid(uuid, 'bundle uuid')}", query)
        return json_object(request, (yield from self._exchange.send(request)))


def _of_type(replica: str, subscription_type: SubscriptionType) -> dict[str, str]:
    return {"replica": check_replica(replica), "subscription_type": subscription_type}
