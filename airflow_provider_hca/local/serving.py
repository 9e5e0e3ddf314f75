"""Serving: dropping a connection on demand, and ending within two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK = {b"127.0.0.1", b"localhost", b"[::1]"}
_PORT = re.compile(rb":\d+$")
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

    def protocol(self) -> type[HttpToolsProtocol]:
        """Return a protocol for uvicorn whose connections are known here."""
        transports = self._transports

        class Known(HttpToolsProtocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
                super().connection_made(transport)
                if self.client:
                    transports[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client:
                    transports.pop(self.client, None)
                super().connection_lost(exc)

        return Known


class _LoopbackOnly:
    """Refuses what a web page in the user's browser could send: any `Origin`, and any `Host` but this machine.

    Without it a page could read, change and delete everything here, also by DNS rebinding.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.lower() for name, value in scope["headers"] if name == b"host"]
        names = {host.rpartition(b":")[0] if _PORT.search(host) else host for host in hosts}
        if names <= _LOOPBACK and not any(name == b"origin" for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        await PlainTextResponse("Requests from web pages, or to another host, are refused.", 403)(scope, receive, send)


class _Server(uvicorn.Server):
    """Several servers share the process, so that none may take the signals for itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: ASGIApp, protocol: type[HttpToolsProtocol]) -> _Server:
    config = uvicorn.Config(
        _LoopbackOnly(app),
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
    applications: list[tuple[ASGIApp, socket.socket]],
    connections: Connections,
    ready: Callable[[], None],
    stopping: asyncio.Event,
) -> bool:
    """Serve until INT or TERM; return whether it was INT, as Ctrl-C sends it.

    :param applications: each with its socket
    :param connections: keeps the open connections of all of them
    :param ready: called once all of them answer
    :param stopping: set when the end begins
    """
    interrupted = False
    protocol = connections.protocol()
    servers = [_server(app, protocol) for app, _ in applications]

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
        for server, (_, listener) in zip(servers, applications, strict=True)
    ]
    while not all(server.started for server in servers):
        if any(task.done() for task in tasks):
            break
        await asyncio.sleep(0.01)
    else:
        ready()
    await asyncio.gather(*tasks)
    return interrupted
