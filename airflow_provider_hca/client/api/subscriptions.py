"""Subscription calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from airflow_provider_hca.client.api.base import DONE, Calls, objects, text
from airflow_provider_hca.client.identifiers import check_uuid
from airflow_provider_hca.client.models import check_replica
from airflow_provider_hca.client.sansio import Call, json_object

SubscriptionType = Literal["jmespath", "elasticsearch"]


class SubscriptionCalls(Calls):
    """Subscription calls; all need a token."""

    def get_subscriptions(
        self, *, replica: str, subscription_type: SubscriptionType = "jmespath"
    ) -> Call[list[dict[str, Any]]]:
        """Return your subscriptions (`GET /subscriptions`)."""
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
        """Subscribe a URL to events of bundles (`PUT /subscriptions`)."""
        if jmespath_query is not None and es_query is not None:
            raise ValueError("jmespath_query and es_query exclude each other")
        if hmac_secret_key is not None and not isinstance(hmac_secret_key, str):
            raise ValueError("hmac_secret_key must be text")  # the DSS's error would quote it
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
        """Return a subscription (`GET /subscriptions/{uuid}`)."""
        path = f"/subscriptions/{check_uuid(uuid, 'subscription uuid')}"
        request = self._request("GET", path, _of_type(replica, subscription_type))
        return json_object(request, (yield from self._exchange.send(request, authorize=True)))

    def delete_subscription(
        self, uuid: str, *, replica: str, subscription_type: SubscriptionType = "jmespath"
    ) -> Call[None]:
        """Delete a subscription (`DELETE /subscriptions/{uuid}`)."""
        path = f"/subscriptions/{check_uuid(uuid, 'subscription uuid')}"
        request = self._request("DELETE", path, _of_type(replica, subscription_type))
        yield from self._exchange.send(request, authorize=True, deletes=True)


def _of_type(replica: str, subscription_type: SubscriptionType) -> dict[str, str]:
    return {"replica": check_replica(replica), "subscription_type": subscription_type}
