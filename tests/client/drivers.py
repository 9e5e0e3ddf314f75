"""Both ways to run a call, behind one face."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Protocol, TypeVar

from airflow_provider_hca.client.messages import Call
from airflow_provider_hca.client.transports import AiohttpTransport, RequestsTransport

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
