"""Event calls."""

from __future__ import annotations

from typing import Any

from airflow_provider_hca.client.api.base import Calls
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import check_replica
from airflow_provider_hca.client.sansio import Call, json_object


class EventCalls(Calls):
    """Event calls."""

    def get_events(
        self, *, replica: str, from_date: str | None = None, to_date: str | None = None, per_page: int = 10
    ) -> Call[list[dict[str, Any]]]:
        """Return the journals of events, oldest first, all pages (`GET /events`)."""
        query = {
            "replica": check_replica(replica),
            "from_date": None if from_date is None else check_version(from_date, "from_date"),
            "to_date": None if to_date is None else check_version(to_date, "to_date"),
            "per_page": str(per_page),
        }
        return (yield from self._items(self._request("GET", "/events", query), "event_streams"))

    def get_event(self, uuid: str, version: str, *, replica: str) -> Call[dict[str, Any]]:
        """Return the metadata document of a bundle from its event (`GET /events/{uuid}`)."""
        query = {"version": check_version(version, "bundle version"), "replica": check_replica(replica)}
        request = self._request("GET", f"/events/{check_uuid(uuid, 'bundle uuid')}", query)
        return json_object(request, (yield from self._exchange.send(request)))
