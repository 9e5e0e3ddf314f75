"""The connections to DSSs: which there are, and how they are."""

from __future__ import annotations

import os
import time

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from airflow.secrets.environment_variables import CONN_ENV_PREFIX
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from sqlalchemy import select

from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.ui import access

router = APIRouter(prefix="/api/connections")

# A DSS that does not answer holds a thread for as long as its connection says; Airflow's own routes have others.
_LOOKING = CapacityLimiter(4)
_CREDENTIALS = {
    "StaticToken": "token",
    "ServiceAccountKey": "service account key",
    "UserToken": "OAuth2 login",
    "NoneType": "none: reads only",
}


class Connections(BaseModel):
    """The connections of the type `hca_dss`, by their ids.

    :ivar readable: whether the user may read connections, and so ask for their health
    """

    connections: list[str]
    readable: bool


class Health(BaseModel):
    """How a connection is.

    :ivar ok: whether the DSS answers, and takes the token if there is one
    :ivar message: what "Test" in the connection's form says
    :ivar host: of the API, with scheme and path
    :ivar credentials: their kind
    :ivar seconds: it took to find out
    """

    ok: bool
    message: str
    host: str
    credentials: str
    seconds: float


@router.get("")
def list_connections(user: access.User, session: SessionDep) -> Connections:
    """Return the connections that are stored, those of the API server's environment, and the default one."""
    stored = session.scalars(select(Connection.conn_id).where(Connection.conn_type == DSSHook.conn_type)).all()
    named = {name.removeprefix(CONN_ENV_PREFIX).lower() for name in os.environ if name.startswith(CONN_ENV_PREFIX)}
    elsewhere = {conn_id for conn_id in {*named, DSSHook.default_conn_name} - set(stored) if _is_dss(conn_id)}
    found = sorted({*stored, *elsewhere}, key=lambda conn_id: (conn_id != DSSHook.default_conn_name, conn_id))
    return Connections(connections=access.of_own_team(found, user), readable=access.reads_connections(user))


@router.get("/{connection_id}/health", dependencies=[access.READS_CONNECTIONS])
async def health(connection_id: str) -> Health:
    """Return how a connection is, by asking its DSS."""
    return await to_thread.run_sync(_look_at, connection_id, limiter=_LOOKING)


def _look_at(conn_id: str) -> Health:
    if not _is_dss(conn_id):
        raise HTTPException(404, f"there is no connection {conn_id!r} of the type {DSSHook.conn_type!r}")
    started = time.monotonic()
    hook = DSSHook(conn_id)
    ok, message = hook.test_connection()
    seconds = round(time.monotonic() - started, 3)
    return Health(ok=ok, message=message, host=_host(conn_id), credentials=_credentials(hook), seconds=seconds)


def _is_dss(conn_id: str) -> bool:
    try:
        return bool(BaseHook.get_connection(conn_id).conn_type == DSSHook.conn_type)
    except (AirflowNotFoundException, ValueError):  # not there, or not well-formed
        return False


def _host(conn_id: str) -> str:
    host = str(BaseHook.get_connection(conn_id).host or "")
    return "" if "@" in host else host  # somebody may have put a password there


def _credentials(hook: DSSHook) -> str:
    try:
        with hook:
            return _CREDENTIALS[type(hook.api.auth).__name__]
    except (DSSError, ValueError):  # the message says what is wrong
        return ""
