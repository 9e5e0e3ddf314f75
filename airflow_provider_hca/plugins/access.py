"""Permissions of the page, which are those that Airflow requires elsewhere.

| view | permission |
|---|---|
| page, bundles, files (public in a DSS) | see plugins |
| health of connections | read connections |
| test of their credentials | create connections, as for Airflow's own test |
| bundle of an asset | read the asset |
| data that tasks report, which are XComs | read the XComs of that DAG |
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
    requires_access_asset,
    requires_access_connection,
    requires_access_dag,
    requires_access_view,
)
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import conf
from airflow.utils.session import create_session
from fastapi import Depends, HTTPException, Request
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from airflow_provider_hca.plugins.tasks import ALL_TRIES
from airflow_provider_hca.utils.ui_links import ERROR_KEY, LINK_KEY, PROGRESS_KEY

User = Annotated[BaseUser, Depends(get_user)]

SEES_PAGE = Depends(requires_access_view(AccessView.PLUGINS))
READS_CONNECTIONS = Depends(requires_access_connection("GET"))
READS_ASSET = Depends(requires_access_asset("GET"))
READS_XCOMS = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))


async def _remember_user(request: Request, user: User) -> None:
    request.state.user = user


REMEMBERS_USER = Depends(_remember_user)  # for handlers of errors, which have no dependencies


def reads_connections(user: BaseUser) -> bool:
    """Return whether a user may read connections."""
    return get_auth_manager().is_authorized_connection(method="GET", user=user)


def tests_connection(conn_id: str, user: BaseUser) -> bool:
    """Return whether a user may test the credentials of a connection, as in Airflow's form."""
    details = ConnectionDetails(conn_id=conn_id)
    if _has_teams():
        details = ConnectionDetails(conn_id=conn_id, team_name=Connection.get_team_name(conn_id))
    return get_auth_manager().is_authorized_connection(method="POST", details=details, user=user)


def readable_dags(user: BaseUser) -> set[str]:
    """Return the ids of DAGs that have XComs for the page which the user may read."""
    reported = select(XComModel.dag_id).where(XComModel.key.in_((LINK_KEY, PROGRESS_KEY, ERROR_KEY))).distinct()
    with create_session() as session:
        dag_ids = set(session.scalars(reported.execution_options(**ALL_TRIES)))
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
    """Return the connections that do not belong to another team."""
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
