"""Asking a DSS for somebody who looks on: through a connection of Airflow, and without the patience of a task."""

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

# Checked as the client does, which a pattern cannot: there is no 13th month. What is wrong is answered 422.
_Uuid = Annotated[str, AfterValidator(lambda value: check_uuid(value))]
_Version = Annotated[str, AfterValidator(lambda value: check_version(value))]

ReplicaQuery = Annotated[Replica, Query()]
UuidPath = Annotated[_Uuid, Path()]
VersionQuery = Annotated[_Version, Query()]
LatestVersionQuery = Annotated[_Version | None, Query()]


_SECONDS = 30.0  # a DSS that has to make a copy of a file first asks to come again every 10 s


@asynccontextmanager
async def asking(
    connection_id: str, *, patient: bool = False, late: str = "the DSS takes too long to answer: come again later"
) -> AsyncIterator[tuple[DSSAPI, AsyncAdvisingTransport]]:
    """Give the calls of a connection, and what runs them.

    They carry no token, since what the page shows needs none: nobody sees by another's credentials.

    :param connection_id: of an Airflow connection of the type `hca_dss`; any other counts as not there
    :param patient: whether to retry as the connection says
    :param late: what to say when it takes longer than somebody waits who looks on
    :raises HTTPException: when there is no such connection, it is not well-formed, or it takes too long
    """
    unknown = HTTPException(404, f"there is no connection {connection_id!r} of the type {DSSHook.conn_type!r}")
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
        raise HTTPException(504, late) from None


def sendable(text: str) -> str:
    """Return a text without the halves of characters that JSON may hold, and that cannot be sent."""
    return text.encode("utf-8", "replace").decode()
