"""Connections of the type `hca_dss` and their health."""

from __future__ import annotations

import os
import time

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import BaseHook, conf
from airflow.secrets.environment_variables import CONN_ENV_PREFIX, EnvironmentVariablesBackend
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from sqlalchemy import select

from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.plugins import access
from airflow_provider_hca.plugins.dss import InvalidConnectionError, open_api
from airflow_provider_hca.plugins.text import plain_text

router = APIRouter(prefix="/api/connections")

# Own threads: a DSS that does not answer holds one until its time-out, and Airflow's routes need theirs.
_LIMITER = CapacityLimiter(4)
_READ_ONLY = "none, read only"
_CREDENTIALS = {
    "StaticToken": "token",
    "ServiceAccountKey": "service account key",
    "UserToken": "OAuth2 login",
    "NoneType": _READ_ONLY,
}


class Connections(BaseModel):
    """Ids of the connections of the type `hca_dss`.

    :ivar readable: Whether the user may read connections, and therefore see their health
    """

    connections: list[str]
    readable: bool


class Health(BaseModel):
    """Health of a connection.

    :ivar ok: Whether the DSS answers and accepts the token, if there is one that may be tested
    :ivar message: Result of "Test" in the form of the connection
    :ivar host: URL of the API
    :ivar credentials: Kind of the credentials; empty if they were not tested
    :ivar read_only: Whether the connection has no credentials, so that it can only read
    :ivar seconds: Time in which the DSS answered; None if it did not
    """

    ok: bool
    message: str
    host: str
    credentials: str
    read_only: bool
    seconds: float | None


@router.get("")
def list_connections(user: access.User, session: SessionDep) -> Connections:
    """Return stored connections, those in the environment of the API server, and the default one."""
    stored = session.scalars(select(Connection.conn_id).where(Connection.conn_type == DSSHook.conn_type)).all()
    named = {name.removeprefix(CONN_ENV_PREFIX).lower() for name in os.environ if name.startswith(CONN_ENV_PREFIX)}
    found = {*stored, *filter(_is_dss_in_environment, named)}
    if DSSHook.default_conn_name not in found and _is_dss(DSSHook.default_conn_name):
        found.add(DSSHook.default_conn_name)
    in_order = sorted(found, key=lambda conn_id: (conn_id != DSSHook.default_conn_name, conn_id))
    return Connections(connections=access.of_own_team(in_order, user), readable=access.reads_connections(user))


@router.get("/{connection_id}/health", dependencies=[access.READS_CONNECTIONS])
async def health(connection_id: str, user: access.User) -> Health:
    """Return the health of a connection; its credentials are tested only if Airflow's form would test them."""
    if not await to_thread.run_sync(_is_dss, connection_id, limiter=_LIMITER):
        raise HTTPException(404, f"no connection {connection_id!r} of type {DSSHook.conn_type!r}")
    reason = await to_thread.run_sync(_reason_not_to_test, connection_id, user, limiter=_LIMITER)
    if not reason:
        return await to_thread.run_sync(_test, connection_id, limiter=_LIMITER)
    started = time.monotonic()
    ok, message = await _reach(connection_id)
    seconds = _seconds_since(started) if ok else None
    host = await to_thread.run_sync(_host, connection_id, limiter=_LIMITER)
    read_only = await to_thread.run_sync(_credentials, connection_id, limiter=_LIMITER) == _READ_ONLY
    if ok and read_only:
        message = f"{message} answers. The connection has no credentials, so it can only read"
    elif ok:
        message = f"{message} answers. Credentials were not tested: {reason}"
    credentials = _READ_ONLY if read_only else ""
    return Health(ok=ok, message=message, host=host, credentials=credentials, read_only=read_only, seconds=seconds)


def _seconds_since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _reason_not_to_test(conn_id: str, user: BaseUser) -> str:
    """Return why the credentials of a connection must not be tested; empty if they may be."""
    setting = conf.get("core", "test_connection", fallback="Disabled").strip()
    if setting.lower() != "enabled":
        return f"[core] test_connection is {setting}"
    return "" if access.tests_connection(conn_id, user) else "you may read connections, but not test them"


async def _reach(conn_id: str) -> tuple[bool, str]:
    """Return whether the DSS answers without a token, and its URL or the problem."""
    try:
        async with open_api(conn_id) as (api, transport):
            await transport.run(api.check_reachable())
    except HTTPException as error:  # the DSS takes too long
        return False, error.detail
    except (DSSError, InvalidConnectionError) as error:
        return False, plain_text(str(error))
    return True, api.url


def _test(conn_id: str) -> Health:
    started = time.monotonic()
    ok, message = DSSHook(conn_id).test_connection()
    seconds = _seconds_since(started) if ok else None
    credentials = _credentials(conn_id)
    return Health(
        ok=ok,
        message=plain_text(message),
        host=_host(conn_id),
        credentials=credentials,
        read_only=credentials == _READ_ONLY,
        seconds=seconds,
    )


def _is_dss(conn_id: str) -> bool:
    try:
        return bool(BaseHook.get_connection(conn_id).conn_type == DSSHook.conn_type)
    except Exception:  # noqa: BLE001 - missing or malformed; Airflow's parser raises errors of many classes
        return False


def _is_dss_in_environment(conn_id: str) -> bool:
    # Not through all secrets backends: each may be a remote service.
    try:
        connection = EnvironmentVariablesBackend().get_connection(conn_id)
    except Exception:  # noqa: BLE001 - malformed
        return False
    return connection is not None and connection.conn_type == DSSHook.conn_type


def _host(conn_id: str) -> str:
    host = str(BaseHook.get_connection(conn_id).host or "")
    return "" if "@" in host else host  # may contain a password


def _credentials(conn_id: str) -> str:
    """Return the kind of the credentials, without sending them; empty if they are not valid on this machine."""
    try:
        with DSSHook(conn_id) as hook:
            return _CREDENTIALS[type(hook.api.auth).__name__]
    except (DSSError, ValueError):
        return ""
