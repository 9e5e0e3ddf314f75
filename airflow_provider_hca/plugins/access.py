"""Who may see what: the same that Airflow lets them see elsewhere.

- Those who may see plugins see the page, its bundles and files: what a DSS tells everybody.
- The health of connections is for those who may read connections.
- Their credentials are tried for those who may also test them, which to Airflow is to create one.
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
    DagDetails,
)
from airflow.api_fastapi.core_api.security import (
    get_user,
    requires_access_connection,
    requires_access_dag,
    requires_access_view,
)
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import conf
from airflow.utils.session import create_session
from fastapi import Depends, HTTPException
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from airflow_provider_hca.utils.ui_links import LINK_KEY, PROGRESS_KEY

User = Annotated[BaseUser, Depends(get_user)]

SEES_PAGE = Depends(requires_access_view(AccessView.PLUGINS))
READS_CONNECTIONS = Depends(requires_access_connection("GET"))
READS_XCOMS = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))


def reads_connections(user: BaseUser) -> bool:
    """Return whether somebody may read connections."""
    return get_auth_manager().is_authorized_connection(method="GET", user=user)


def tests_connection(conn_id: str, user: BaseUser) -> bool:
    """Return whether somebody may have the credentials of a connection tried, as by Airflow's own form."""
    details = ConnectionDetails(conn_id=conn_id)
    if _has_teams():
        details = ConnectionDetails(conn_id=conn_id, team_name=Connection.get_team_name(conn_id))
    return get_auth_manager().is_authorized_connection(method="POST", details=details, user=user)


def readable_dags(user: BaseUser) -> set[str]:
    """Return the ids of the DAGs whose XComs somebody may read, of those that left some for the page."""
    left = select(XComModel.dag_id).where(XComModel.key.in_((LINK_KEY, PROGRESS_KEY))).distinct()
    with create_session() as session:
        dag_ids = set(session.scalars(left))
    return {
        dag_id
        for dag_id in dag_ids & get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
        if get_auth_manager().is_authorized_dag(
            method="GET", access_entity=DagAccessEntity.XCOM, details=_dag(dag_id), user=user
        )
    }


def _dag(dag_id: str) -> DagDetails:
    if not _has_teams():
        return DagDetails(id=dag_id)
    return DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))


def _has_teams() -> bool:
    return bool(conf.getboolean("core", "multi_team", fallback=False))


def of_own_team(conn_ids: Iterable[str], user: BaseUser) -> list[str]:
    """Return those connections that are not another team's."""
    if not _has_teams():
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
