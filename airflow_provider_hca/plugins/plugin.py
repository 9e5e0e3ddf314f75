"""Airflow plugin of the page.

Every component of Airflow, workers too, loads plugins at start. So the page is imported only when the API server reads
`fastapi_apps`.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

log = logging.getLogger(__name__)


class DSSPlugin(AirflowPlugin):
    """Add the page to the navigation, and a tab to every DAG run."""

    name = "hca_dss"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # created on first access
        """Application of the page, for the API server."""
        if not AIRFLOW_V_3_1_PLUS:
            return []
        try:
            from airflow_provider_hca.plugins.app import make_app
            from airflow_provider_hca.utils.ui_links import ROUTE
        except ImportError:
            # A future Airflow may move what the page imports; it must start without the page then.
            log.exception("cannot load the DSS page in this version of Airflow")
            return []
        return [{"app": make_app(), "url_prefix": ROUTE, "name": "DSS"}]

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]  # created on first access
        """Places of the page in the UI."""
        if not self.fastapi_apps:
            return []
        from airflow_provider_hca.utils.ui_links import FRAME, ROUTE

        root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + ROUTE
        return [
            {
                "name": "DSS",
                "href": f"{root}/",
                "destination": "nav",
                "url_route": FRAME.rsplit("/", 1)[-1],
                "nav_top_level": True,
                "icon": f"{root}/static/icon.svg",
            },
            {
                "name": "DSS",
                "href": f"{root}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
                "destination": "dag_run",
                "url_route": "dss-run",
                "icon": f"{root}/static/icon.svg",
            },
        ]
