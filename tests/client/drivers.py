"""Both ways to run a call, behind one face."""

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
        """Return the result of the call."""


@contextlib.contextmanager
def driver(name: str, *, verify: bool | str = True) -> Iterator[Run]:
    """Give a transport by its name.

    :param name: one of DRIVERS
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
    """Send requests one after the other and return the last answer."""
    response = Response(0)
    for request in requests:
        response = yield request
    return response


def get(
    url: str, token: str = "", *, method: str = "GET", delay: float = 0.0, connect: float = 5.0, read: float = 5.0
) -> Request:
    """Return a request.

    :param token: none if empty
    :param delay: seconds to wait before it
    :param connect: seconds to wait for a connection
    :param read: seconds to wait for each part of the answer
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return Request(method, url, headers, None, delay, connect, read)


def failure(run: Run, request: Request) -> DSSConnectionError:
    """Return how a request fails."""
    with pytest.raises(DSSConnectionError) as caught:
        run(call(request))
    return caught.value
