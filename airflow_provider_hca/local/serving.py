"""Serving: dropping a connection on demand, and ending within two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

_PATIENCE = 1  # seconds running requests are given to finish


class Connections:
    """The open connections by client address: an application cannot close its own connection in any other way."""

    def __init__(self) -> None:
        self._transports: dict[Any, asyncio.Transport] = {}

    def drop(self, client: Any) -> None:
        """Cut a connection without an answer.

        :param client: the client's address, as the request's scope has it
        """
        transport = self._transports.get(tuple(client))
        if transport:
            transport.abort()

    def protocol(self) -> type[H11Protocol]:
        """Return a protocol for uvicorn whose connections are known here."""
        transports = self._transports

        class Known(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
                super().connection_made(transport)
                if self.client:
                    transports[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client:
                    transports.pop(self.client, None)
                super().connection_lost(exc)

        return Known


class _Server(uvicorn.Server):
    """Two servers share the process, so that neither may take the signals for itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: ASGIApp, protocol: type[H11Protocol]) -> _Server:
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_PATIENCE,
    )
    return _Server(config)


async def serve(
    applications: list[tuple[ASGIApp, socket.socket, type[H11Protocol]]],
    ready: Callable[[], None],
    stopping: asyncio.Event,
) -> bool:
    """Serve until INT or TERM; return whether it was INT, as Ctrl-C sends it.

    :param applications: each with its socket and protocol
    :param ready: called once all of them answer
    :param stopping: set when the end begins
    """
    interrupted = False
    servers = [_server(app, protocol) for app, _, protocol in applications]

    def stop(number: signal.Signals) -> None:
        nonlocal interrupted
        interrupted = number == signal.SIGINT
        stopping.set()
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    tasks = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, (_, listener, _) in zip(servers, applications, strict=True)
    ]
    while not all(server.started for server in servers):
        if any(task.done() for task in tasks):
            break
        await asyncio.sleep(0.01)
    else:
        ready()
    await asyncio.gather(*tasks)
    return interrupted
