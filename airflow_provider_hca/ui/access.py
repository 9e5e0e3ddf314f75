"""Who may see what: the same that Airflow lets them see elsewhere.

- Those who may see plugins see the page, its bundles and files: what a DSS tells everybody.
- The health of connections is for those who may read connections.
- What tasks left, which are XComs, is for those who may read the XComs of that DAG.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AccessView,
    ConnectionDetails,
    DagAccessEntity,
)
from airflow.api_fastapi.core_api.security import (
    get_user,
    requires_access_connection,
    requires_access_dag,
    requires_access_view,
)
from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import conf
from fastapi import Depends, HTTPException
from starlette.concurrency import run_in_threadpool

User = Annotated[BaseUser, Depends(get_user)]

SEES_PAGE = Depends(requires_access_view(AccessView.PLUGINS))
READS_CONNECTIONS = Depends(requires_access_connection("GET"))
READS_XCOMS = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))


def reads_connections(user: BaseUser) -> bool:
    """Return whether somebody may read connections."""
    return get_auth_manager().is_authorized_connection(method="GET", user=user)


def readable_dags(user: BaseUser) -> set[str]:
    """Return the ids of the DAGs that somebody may read."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def of_own_team(conn_ids: Iterable[str], user: BaseUser) -> list[str]:
    """Return those connections that are not another team's."""
    if not conf.getboolean("core", "multi_team", fallback=False):
        return list(conn_ids)
    manager = get_auth_manager()
    return [
        conn_id
        for conn_id in conn_ids
        if (team := Connection.get_team_name(conn_id)) is None
        or manager.is_authorized_connection(
            method="GET", details=ConnectionDetails(conn_id=conn_id, team_name=team), user=user
        )
    ]


async def _uses_connection(connection_id: str, user: User) -> None:
    if not await run_in_threadpool(of_own_team, [connection_id], user):
        raise HTTPException(403, "Forbidden")


USES_CONNECTION = Depends(_uses_connection)
