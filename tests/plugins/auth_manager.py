"""An auth manager with finer permissions than roles, as those for production have."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

HIDDEN_DAG = "hidden"
STRANGER = "stranger"  # may not see plugins
OUTSIDER = "outsider"  # may not see the hidden DAG
ONLOOKER = "onlooker"  # may see it, but none of its XComs
READER = "reader"  # may read connections, and do nothing else with them


class PickyAuthManager(SimpleAuthManager):
    """Airflow's simple one, in which four users may not all that their role allows."""

    def is_authorized_view(self, *, access_view: AccessView, user: Any) -> bool:
        """Keep the stranger from plugins."""
        if user.username == STRANGER and access_view == AccessView.PLUGINS:
            return False
        return super().is_authorized_view(access_view=access_view, user=user)

    def is_authorized_connection(self, *, method: Any, user: Any, details: Any = None) -> bool:
        """Keep the reader from all but reading."""
        if user.username == READER and method != "GET":
            return False
        return super().is_authorized_connection(method=method, user=user, details=details)

    def is_authorized_dag(self, *, user: Any, details: Any = None, **options: Any) -> bool:
        """Keep the outsider from the hidden DAG, and the onlooker from its XComs."""
        if details is not None and details.id == HIDDEN_DAG:
            xcom = options.get("access_entity") == DagAccessEntity.XCOM
            if user.username == OUTSIDER or (user.username == ONLOOKER and xcom):
                return False
        return super().is_authorized_dag(user=user, details=details, **options)
