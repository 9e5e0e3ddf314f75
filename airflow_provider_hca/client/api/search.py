"""Search calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from airflow_provider_hca.client.api.base import Calls
from airflow_provider_hca.client.models import check_replica
from airflow_provider_hca.client.sansio import MAX_VALUES, Call


class SearchCalls(Calls):
    """Search calls."""

    def post_search(
        self,
        es_query: Mapping[str, Any],
        *,
        replica: str,
        output_format: Literal["summary", "raw"] = "summary",
        per_page: int | None = None,
    ) -> Call[list[dict[str, Any]]]:
        """Return the bundles whose metadata match an Elasticsearch query, all pages (`POST /search`)."""
        size = per_page or (10 if output_format == "raw" else 500)
        query = {"replica": check_replica(replica), "output_format": output_format, "per_page": str(size)}
        request = self._request("POST", "/search", query, {"es_query": dict(es_query)})
        # Repeatable, since it changes nothing. Raw results have the whole metadata.
        return (yield from self._items(request, "results", repeatable=True, max_values=MAX_VALUES))
