"""Both transports behind one interface."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Protocol, TypeVar

import pytest

from airflow_provider_hca.client.async_transport import AiohttpTransport
from airflow_provider_hca.client.sansio import Call, Request, Response
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import DSSConnectionError

T = TypeVar("T")

DRIVERS = ("requests", "aiohttp")


class Run(Protocol):
    """Runs a call on one of the transports."""

    def __call__(self, call: Call[T]) -> T:
        """Run a call and return its result."""


@contextlib.contextmanager
def driver(name: str, *, verify: bool | str = True) -> Iterator[Run]:
    """Open a transport.

    :param name: One of DRIVERS
    """
    if name == "requests":
        with RequestsTransport(verify=verify) as synchronous:
            yield synchronous.run
        return
    with asyncio.Runner() as runner:

        async def make() -> AiohttpTransport:
            return AiohttpTransport(verify=verify)

        def run(call: Call[T]) -> T:
            return runner.run(transport.run(call))

        transport = runner.run(make())
        yield run
        runner.run(transport.close())


def call(*requests: Request) -> Call[Response]:
    """Send requests one after the other and return the last response."""
    response = Response(0)
    for request in requests:
        response = yield request
    return response


def get(
    url: str, token: str = "", *, method: str = "GET", delay: float = 0.0, connect: float = 5.0, read: float = 5.0
) -> Request:
    """Return a request.

    :param token: Token; none if empty
    :param delay: Delay in seconds
    :param connect: Connect timeout in seconds
    :param read: Read timeout in seconds
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return Request(method, url, headers, None, delay, connect, read)


def failure(run: Run, request: Request) -> DSSConnectionError:
    """Return the error of a request."""
    with pytest.raises(DSSConnectionError) as caught:
        run(call(request))
    return caught.value
