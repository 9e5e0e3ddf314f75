"""Requests to a DSS for a user who waits for the page: through a connection, with few retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from fastapi import HTTPException, Path, Query
from pydantic import AfterValidator

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import Replica
from airflow_provider_hca.hooks.connection import AsyncAdvisingTransport, Settings
from airflow_provider_hca.hooks.dss import DSSHook

# Checked by the client, since a pattern accepts a 13th month. Invalid values are answered with 422.
_Uuid = Annotated[str, AfterValidator(lambda value: check_uuid(value))]
_Version = Annotated[str, AfterValidator(lambda value: check_version(value))]

ReplicaQuery = Annotated[Replica, Query()]
UuidPath = Annotated[_Uuid, Path()]
VersionQuery = Annotated[_Version, Query()]
LatestVersionQuery = Annotated[_Version | None, Query()]


_SECONDS = 30.0  # a DSS that copies a file before a download asks to retry every 10 s


@asynccontextmanager
async def open_api(
    connection_id: str,
    *,
    patient: bool = False,
    timeout_message: str = "the DSS takes too long to answer; try again later",
) -> AsyncIterator[tuple[DSSAPI, AsyncAdvisingTransport]]:
    """Yield the API of a connection's DSS and a driver for it.

    Requests carry no token: the page shows only data that a DSS shows without login.

    :param connection_id: Id of an Airflow connection of type `hca_dss`; others are answered like missing ones
    :param patient: Whether to retry as often as the connection allows
    :param timeout_message: Message of the 504 after 30 s
    :raises HTTPException: if the connection is missing or malformed, or the DSS takes too long
    """
    unknown = HTTPException(404, f"no connection {connection_id!r} of type {DSSHook.conn_type!r}")
    try:
        connection = await get_async_connection(connection_id)
    except AirflowNotFoundException:
        raise unknown from None
    if connection.conn_type != DSSHook.conn_type:
        raise unknown
    try:
        settings = Settings.from_connection(connection, connection_id, credentials=False)
        api = settings.api(patient=patient)
    except ValueError as error:
        raise HTTPException(409, str(error)) from None
    try:
        async with (
            asyncio.timeout(_SECONDS),
            AsyncAdvisingTransport(connection_id, verify=settings.verify) as transport,
        ):
            yield api, transport
    except TimeoutError:
        raise HTTPException(504, timeout_message) from None


def sendable(text: str) -> str:
    """Return a text without lone surrogates, which JSON can contain and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()
