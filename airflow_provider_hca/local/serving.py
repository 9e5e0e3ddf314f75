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
    from collections.abc import Callable, Iterable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
_PORT = re.compile(r":\d+$")
REFUSAL = "Requests from web pages or to another host are rejected."
_GRACE = 1  # seconds for running requests at shutdown
_KEEP_ALIVE = 75  # s; a client that sends a request just as its connection is closed sees it dropped


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


def is_refused(hosts: Iterable[str], origins: Iterable[str]) -> bool:
    """Return whether a request has an `Origin`, or a `Host` other than this machine.

    Otherwise a web page in the user's browser could read, change and delete everything, also by DNS rebinding.

    :param hosts: Values of `Host`
    :param origins: Values of `Origin`
    """
    return any(True for _ in origins) or not {_PORT.sub("", host.lower()) for host in hosts} <= _LOOPBACK


class _LoopbackOnly:
    """ASGI middleware that rejects requests by `is_refused`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts, origins = (
            [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
            for wanted in (b"host", b"origin")
        )
        app = PlainTextResponse(REFUSAL, 403) if is_refused(hosts, origins) else self._app
        await app(scope, receive, send)


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
        timeout_keep_alive=_KEEP_ALIVE,
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
