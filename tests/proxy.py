"""A proxy in front of a service that records each request, the progress of its body, and the status."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qs, urlsplit

_CHUNK = 1 << 18
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass
class ProxiedRequest:
    """A request, complete or in progress.

    :ivar target: path and query
    :ivar size: size of the body in bytes
    :ivar sent: bytes of the body that were sent to the service
    :ivar status: status that was returned to the client; 0 if it disconnected before
    """

    method: str
    target: str
    size: int
    sent: int = 0
    status: int = 0

    @property
    def path(self) -> str:
        """Path without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """First value of each query parameter."""
        parsed = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[0] for name, values in parsed.items()}


class Proxy:
    """A proxy on 127.0.0.1 in its own thread.

    :param url: URL of the service
    :param rate: limit in bytes of bodies per second, over all connections, so that uploads are slow on any machine
    """

    def __init__(self, url: str, *, rate: float = float("inf")) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._rate = parts.hostname, parts.port, rate
        self.requests: list[ProxiedRequest] = []
        self._free_at = 0.0
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0, limit=_CHUNK))
        port = server.sockets[0].getsockname()[1]
        self.url = parts._replace(netloc=f"127.0.0.1:{port}").geturl()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def sent(self) -> int:
        """Number of bytes of bodies that were sent to the service."""
        return sum(request.sent for request in self.requests)

    @property
    def is_idle(self) -> bool:
        """True if no client is connected, so that no request is in progress."""
        return not self._connections

    async def _end(self) -> None:
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client or the service disconnected
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_service, to_service = await asyncio.open_connection(self._host, self._port, limit=_CHUNK)
        connection = _Connection()
        responses = asyncio.create_task(connection.forward_responses(from_service, writer))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                request = connection.start_request(head)
                self.requests.append(request)
                to_service.write(head)
                while request.sent < request.size:
                    chunk = await reader.read(min(_CHUNK, request.size - request.sent))
                    if not chunk:
                        return
                    await self._wait(len(chunk))
                    request.sent += len(chunk)
                    to_service.write(chunk)
                    await to_service.drain()
        finally:
            connection.has_client = False
            responses.cancel()
            to_service.transport.abort()

    async def _wait(self, count: int) -> None:
        now = self._loop.time()
        self._free_at = max(now, self._free_at) + count / self._rate
        await asyncio.sleep(self._free_at - now if self._free_at > now else 0)


class _Connection:
    """A connection of a client, which waits for each response before it sends the next request."""

    def __init__(self) -> None:
        self.has_client = True
        self._request: ProxiedRequest | None = None

    def start_request(self, head: bytes) -> ProxiedRequest:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        self._request = ProxiedRequest(method, target, int(headers.get("content-length", 0)))
        return self._request

    async def forward_responses(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            head = chunk.removeprefix(_CONTINUE)
            if self._request and not self._request.status and head.startswith(b"HTTP/1.1 ") and self.has_client:
                self._request.status = int(head[9:12])
            writer.write(chunk)
            await writer.drain()
        writer.close()


@contextlib.contextmanager
def proxies(*urls: str, rate: float) -> Iterator[list[Proxy]]:
    """Run a proxy for each URL."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Proxy(url, rate=rate)) for url in urls]
