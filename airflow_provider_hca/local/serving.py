"""Run several ASGI applications on uvicorn: connections can be dropped, and shutdown takes at most 2 s."""

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
_GRACE = 1  # seconds for running requests at shutdown


class Connections:
    """Open connections by client address; ASGI has no other way for an application to drop a connection."""

    def __init__(self) -> None:
        self._transports: dict[Any, asyncio.Transport] = {}

    def drop(self, client: Any) -> None:
        """Abort a connection without a response.

        :param client: client address from the ASGI scope
        """
        transport = self._transports.get(tuple(client))
        if transport:
            transport.abort()

    def protocol(self) -> type[HttpToolsProtocol]:
        """Return a protocol class for uvicorn that registers its connections."""
        transports = self._transports

        class RegisteredProtocol(HttpToolsProtocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's signature
                super().connection_made(transport)
                if self.client:
                    transports[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client:
                    transports.pop(self.client, None)
                super().connection_lost(exc)

        return RegisteredProtocol


class _LoopbackOnly:
    """ASGI middleware that rejects requests with an `Origin`, or with a `Host` other than this machine.

    Otherwise a web page in the user's browser could read, change and delete everything, also by DNS rebinding.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.lower() for name, value in scope["headers"] if name == b"host"]
        names = {host.rpartition(b":")[0] if _PORT.search(host) else host for host in hosts}
        if names <= _LOOPBACK and not any(name == b"origin" for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        await PlainTextResponse("Requests from web pages or to another host are rejected.", 403)(scope, receive, send)


class _Server(uvicorn.Server):
    """A server that does not handle signals, because several share the process."""

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
        timeout_graceful_shutdown=_GRACE,
    )
    return _Server(config)


async def serve(
    applications: list[tuple[ASGIApp, socket.socket]],
    connections: Connections,
    ready: Callable[[], None],
    stopping: asyncio.Event,
) -> bool:
    """Serve until SIGINT or SIGTERM; return whether it was SIGINT.

    :param applications: applications with their listening sockets
    :param connections: registry of the open connections
    :param ready: called when all applications accept requests
    :param stopping: set when shutdown starts
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
