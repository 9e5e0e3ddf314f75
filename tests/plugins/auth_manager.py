"""Auth manager with finer permissions than roles, like those for production."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

HIDDEN_DAG = "hidden"
STRANGER = "stranger"  # may not see plugins
OUTSIDER = "outsider"  # may not see the hidden DAG
ONLOOKER = "onlooker"  # may see it, but none of its XComs
READER = "reader"  # may read connections, and do nothing else with them
ROLES = ("viewer", "user", "op", "admin")
# Role of each user; the password is the name.
USERS = {**{role: role for role in ROLES}, STRANGER: "admin", OUTSIDER: "viewer", ONLOOKER: "viewer", READER: "op"}


class PickyAuthManager(SimpleAuthManager):
    """Simple auth manager in which four users have fewer permissions than their role."""

    def is_authorized_view(self, *, access_view: AccessView, user: Any) -> bool:
        """Deny plugins to the stranger."""
        if user.username == STRANGER and access_view == AccessView.PLUGINS:
            return False
        return super().is_authorized_view(access_view=access_view, user=user)

    def is_authorized_connection(self, *, method: Any, user: Any, details: Any = None) -> bool:
        """Deny the reader all but reading."""
        if user.username == READER and method != "GET":
            return False
        return super().is_authorized_connection(method=method, user=user, details=details)

    def is_authorized_dag(self, *, user: Any, details: Any = None, **options: Any) -> bool:
        """Deny the hidden DAG to the outsider, and its XComs to the onlooker."""
        if details is not None and details.id == HIDDEN_DAG:
            xcom = options.get("access_entity") == DagAccessEntity.XCOM
            if user.username == OUTSIDER or (user.username == ONLOOKER and xcom):
                return False
        return super().is_authorized_dag(user=user, details=details, **options)
