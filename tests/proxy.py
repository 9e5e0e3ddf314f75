"""A proxy in front of a service that notes what passes: each request, how much of its body, and its answer."""

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
class Passing:
    """A request that passes or has passed.

    :ivar target: path and query, as they were sent
    :ivar size: that its body is to have, in bytes
    :ivar sent: of its body, in bytes
    :ivar status: that the client was given; 0 when it had gone before
    """

    method: str
    target: str
    size: int
    sent: int = 0
    status: int = 0

    @property
    def path(self) -> str:
        """Return the path without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """Return the query, of each name the first value."""
        parsed = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[0] for name, values in parsed.items()}


class Proxy:
    """A proxy on 127.0.0.1, in a thread of its own.

    :param url: of the service
    :param rate: bytes of bodies that pass in a second, all connections together; so that an upload takes its time on a
        fast machine too
    """

    def __init__(self, url: str, *, rate: float = float("inf")) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._rate = parts.hostname, parts.port, rate
        self.requests: list[Passing] = []
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
        """Return how many bytes of bodies have passed to the service."""
        return sum(each.sent for each in self.requests)

    @property
    def is_idle(self) -> bool:
        """Return whether nobody is connected, so that what a client had under way has come to its end here."""
        return not self._connections

    async def _end(self) -> None:
        for each in list(self._connections):
            each.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two has gone
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_service, to_service = await asyncio.open_connection(self._host, self._port, limit=_CHUNK)
        connection = _Connection()
        answers = asyncio.create_task(connection.pass_answers(from_service, writer))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                passing = connection.begin(head)
                self.requests.append(passing)
                to_service.write(head)
                while passing.sent < passing.size:
                    chunk = await reader.read(min(_CHUNK, passing.size - passing.sent))
                    if not chunk:
                        return
                    await self._wait(len(chunk))
                    passing.sent += len(chunk)
                    to_service.write(chunk)
                    await to_service.drain()
        finally:
            connection.client_is_there = False
            answers.cancel()
            to_service.transport.abort()

    async def _wait(self, count: int) -> None:
        now = self._loop.time()
        self._free_at = max(now, self._free_at) + count / self._rate
        await asyncio.sleep(self._free_at - now if self._free_at > now else 0)


class _Connection:
    """A connection of a client, which waits for each answer before it sends the next request."""

    def __init__(self) -> None:
        self.client_is_there = True
        self._passing: Passing | None = None

    def begin(self, head: bytes) -> Passing:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        self._passing = Passing(method, target, int(headers.get("content-length", 0)))
        return self._passing

    async def pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            answer = chunk.removeprefix(_CONTINUE)
            if self._passing and not self._passing.status and answer.startswith(b"HTTP/1.1 ") and self.client_is_there:
                self._passing.status = int(answer[9:12])
            writer.write(chunk)
            await writer.drain()
        writer.close()


@contextlib.contextmanager
def proxies(*urls: str, rate: float) -> Iterator[list[Proxy]]:
    """Run a proxy for each URL."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Proxy(url, rate=rate)) for url in urls]
