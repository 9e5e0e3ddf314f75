"""Small HTTP server that reads bodies into one buffer, discards them and responds after a set time.

It uses asyncio directly and takes 15 µs of processor time per request and 0.2 s per GiB, a tenth of the fastest client,
so that it is not what a benchmark measures.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import parse_qsl, unquote

# The kept part of a discarded body: handlers identify the content by it.
FIRST_BYTES = 32
_BUFFER_SIZE = 1 << 19
_HEADERS = re.compile(
    r"\r\n(content-length|content-type|expect|transfer-encoding|x-amz-checksum-crc32c|x-amz-meta-hca-dss-sha256):"
    r"[ \t]*([^\r]*)",
    re.IGNORECASE,
)
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Request(NamedTuple):
    """A request, without most of its body.

    :ivar body: whole body of a POST, first bytes of others unless the service keeps bodies
    :ivar size: size of the body, in bytes
    :ivar headers: the few that services need, with names in lower case
    """

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    size: int
    headers: dict[str, str]


class Answer(NamedTuple):
    """Response to a request.

    :ivar headers: lines, each with its line end; Content-Length is added
    :ivar file: file to send as the body, by the kernel
    """

    status: int
    body: bytes = b""
    headers: str = ""
    file: Path | None = None


Handler = Callable[[Request], Answer]


class NullService:
    """A service on a port of 127.0.0.1.

    :param handler: answers requests
    :param latency: seconds between a request's last byte and its answer
    :param keeps_bodies: whether the handler gets whole bodies
    """

    def __init__(self, handler: Handler, latency: float, *, keeps_bodies: bool = False) -> None:
        self.handler, self.latency, self.keeps_bodies = handler, latency, keeps_bodies
        self.buffer = bytearray(_BUFFER_SIZE)  # one for all connections: received bytes are processed immediately
        self.requests: Counter[str] = Counter()

    async def listen(self) -> int:
        """Start to serve, and return the port."""
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        port: int = server.sockets[0].getsockname()[1]
        return port


class _Connection(asyncio.BufferedProtocol):
    """A connection of a client that waits for each answer before it sends the next request."""

    def __init__(self, service: NullService) -> None:
        self._service = service
        self._view = memoryview(service.buffer)
        self._head = b""  # received part of the head
        self._headers: dict[str, str] = {}
        self._begin("", "", {}, 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's
        return self._service.buffer

    def buffer_updated(self, count: int) -> None:
        if self._left:
            self._receive(self._view[:count])
            return
        received = len(self._head)
        head, end, _ = (self._head + self._view[:count]).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return
        self._head = b""
        self._parse(head)
        if not self._left:
            self._finish()
        elif len(head) + len(end) < received + count:
            self._receive(self._view[len(head) + len(end) - received : count])

    def _parse(self, head: bytes) -> None:
        method, target, _ = head[: head.find(b"\r\n")].decode("latin-1").split(" ")
        path, _, query = target.partition("?")
        self._headers = {name.lower(): value for name, value in _HEADERS.findall(head.decode("latin-1"))}
        if "expect" in self._headers:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "transfer-encoding" in self._headers:
            raise ValueError(f"{method} {target}: only bodies of a known length are supported")
        asked = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
        self._begin(method, unquote(path), asked, int(self._headers.get("content-length", 0)))

    def _begin(self, method: str, path: str, query: dict[str, str], size: int) -> None:
        self._method, self._path, self._query, self._size = method, path, query, size
        is_kept = method == "POST" or self._service.keeps_bodies
        self._left, self._keep, self._body = size, size if is_kept else FIRST_BYTES, b""

    def _receive(self, chunk: memoryview) -> None:
        if len(self._body) < self._keep:
            self._body += chunk[: self._keep - len(self._body)]
        self._left -= len(chunk)
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        service = self._service
        answer = service.handler(Request(self._method, self._path, self._query, self._body, self._size, self._headers))
        service.requests[f"{self._method} {answer.status}"] += 1
        size = len(answer.body) if answer.file is None else answer.file.stat().st_size
        head = f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\nContent-Length: {size}\r\n"
        wire = f"{head}{answer.headers}\r\n".encode() + (b"" if self._method == "HEAD" else answer.body)
        if service.latency:
            asyncio.get_running_loop().call_later(service.latency, self._send, wire, answer.file)
        else:
            self._send(wire, answer.file)

    def _send(self, wire: bytes, file: Path | None) -> None:
        self._transport.write(wire)
        if file is not None:
            self._sending = asyncio.create_task(self._send_file(file))  # kept: the loop has weak references only

    async def _send_file(self, path: Path) -> None:
        with path.open("rb") as file:
            await asyncio.get_running_loop().sendfile(self._transport, file)
