"""Requests to a DSS for a user who waits for the page: through a connection, with few retries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, TypeVar

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from fastapi import HTTPException, Path, Query
from pydantic import AfterValidator

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import Replica
from airflow_provider_hca.client.sansio import Call, Request, Response, count_values
from airflow_provider_hca.exceptions import DSSConnectionError, DSSProtocolError
from airflow_provider_hca.hooks.connection import AsyncAdvisingTransport, Settings
from airflow_provider_hca.hooks.dss import DSSHook

log = logging.getLogger(__name__)

T = TypeVar("T")

# Checked by the client, since a pattern accepts a 13th month. Invalid values are answered with 422.
_Uuid = Annotated[str, AfterValidator(lambda value: check_uuid(value))]
_Version = Annotated[str, AfterValidator(lambda value: check_version(value))]

ReplicaQuery = Annotated[Replica, Query()]
UuidPath = Annotated[_Uuid, Path()]
VersionQuery = Annotated[_Version, Query()]
LatestVersionQuery = Annotated[_Version | None, Query()]

_SECONDS = 30.0  # a DSS that copies a file before a download asks to retry every 10 s
# Of all responses to one call, such as the pages of a manifest: 20,000 files in 60 MB of memory.
_MAX_SIZE = 24 * 1024 * 1024
_MAX_VALUES = 250_000


class InvalidConnectionError(Exception):
    """A setting of a connection is missing or wrong; the message may quote it."""


class PageTransport(AsyncAdvisingTransport):
    """Runs calls whose responses together fit into the memory of the API server."""

    async def run(self, call: Call[T]) -> T:
        """Run a call and return its result; see `AiohttpTransport.run`."""
        return await super().run(bounded(call))


@asynccontextmanager
async def open_api(
    connection_id: str,
    *,
    patient: bool = False,
    timeout_message: str = "the DSS takes too long to answer; try again later",
) -> AsyncIterator[tuple[DSSAPI, PageTransport]]:
    """Yield the API of a connection's DSS and a driver for it.

    Requests carry no token: the page shows only data that a DSS shows without login.

    :param connection_id: Id of an Airflow connection of type `hca_dss`; others are answered like missing ones
    :param patient: Whether to retry as often as the connection allows
    :param timeout_message: Message of the 504 after 30 s
    :raises HTTPException: if the connection is missing, or the DSS takes too long
    :raises InvalidConnectionError: if the connection is malformed
    """
    unknown = HTTPException(404, f"no connection {connection_id!r} of type {DSSHook.conn_type!r}")
    try:
        connection = await get_async_connection(connection_id)
    except AirflowNotFoundException:
        raise unknown from None
    except Exception as error:  # noqa: BLE001 - malformed; Airflow's parser raises errors of many classes
        # Its type is unknown, and its text may hold a password.
        log.warning("cannot read connection %r: %s", connection_id, type(error).__name__)
        raise unknown from None
    if connection.conn_type != DSSHook.conn_type:
        raise unknown
    try:
        settings = Settings.from_connection(connection, connection_id, credentials=False)
        api = settings.api(patient=patient)
    except ValueError as error:
        raise InvalidConnectionError(str(error)) from None
    try:
        async with (
            asyncio.timeout(_SECONDS),
            PageTransport(connection_id, verify=settings.verify) as transport,
        ):
            yield api, transport
    except TimeoutError:
        raise HTTPException(504, timeout_message) from None


def bounded(call: Call[T]) -> Call[T]:
    """Return the result of a call.

    :param call: Call, which keeps its responses in memory
    :raises DSSProtocolError: if the responses are together too large
    """
    size = values = 0

    def check(request: Request, response: Response) -> Response:
        nonlocal size, values
        size += len(response.body)
        values += count_values(response.body)
        if size > _MAX_SIZE or values > _MAX_VALUES:
            raise DSSProtocolError(f"{request.method} {request.path}: the responses are too large for the page")
        return response

    return _with_responses(call, check)


def first_page(call: Call[T]) -> Call[tuple[T, bool]]:
    """Return the result of a call from the first page of responses only, and whether there are no other pages.

    :param call: Call that follows `Link` headers
    """
    complete = True

    def end(_: Request, response: Response) -> Response:
        nonlocal complete
        if "link" not in response.headers:
            return response
        complete = False
        return replace(response, headers={**response.headers, "link": ""})

    return (yield from _with_responses(call, end)), complete


def _with_responses(call: Call[T], change: Callable[[Request, Response], Response]) -> Call[T]:
    """Return the result of a call that receives changed responses.

    :param change: Function that returns a response in place of another; it may raise
    """
    try:
        request = next(call)
        while True:
            try:
                response = yield request
            except DSSConnectionError as error:
                request = call.throw(error)
                continue
            request = call.send(change(request, response))
    except StopIteration as result:
        value: T = result.value
        return value
    finally:
        call.close()
