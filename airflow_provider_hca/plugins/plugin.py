"""Airflow plugin of the page.

Every component of Airflow, workers too, loads plugins at start. So the page is imported only when the API server reads
`fastapi_apps`.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any, get_args
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_4_PLUS

log = logging.getLogger(__name__)


class DSSPlugin(AirflowPlugin):
    """Add the page to the navigation, and a tab to every DAG run, to tasks of this package and to bundles as assets."""

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
        from airflow_provider_hca.client.models import Replica
        from airflow_provider_hca.utils.ui_links import FRAME, ROUTE

        root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + ROUTE
        run = f"{root}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}"
        views: list[dict[str, Any]] = [
            {
                "href": f"{root}/",
                "destination": "nav",
                "url_route": FRAME.rsplit("/", 1)[-1],
                "nav_top_level": True,
            },
            # On all runs: Airflow compares fields of DAG and run, and neither has the operators of its tasks.
            {"href": run, "destination": "dag_run", "url_route": "dss-run"},
        ]
        if AIRFLOW_V_3_4_PLUS:  # older versions show the tab on all tasks and refuse the destination `asset`
            from airflow_provider_hca.plugins.tasks import ACTIONS

            views += [
                {
                    "href": f"{run}&task_id={{TASK_ID}}",
                    "destination": "task_instance",
                    "url_route": "dss-task",
                    "applies_to": {"task.operator_name": list(ACTIONS)},
                },
                {
                    "href": f"{root}/asset?asset_id={{ASSET_ID}}",
                    "destination": "asset",
                    "url_route": "dss-asset",
                    "applies_to": {"extra.replica": list(get_args(Replica))},
                },
            ]
        return [{"name": "DSS", "icon": f"{root}/static/icon.svg", **view} for view in views]
