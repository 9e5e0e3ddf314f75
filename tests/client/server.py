"""Web servers with configurable replies."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Asked:
    """A received request."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass
class Reply:
    """A reply."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b"{}"
    after: float = 0.0
    drop: bool = False


@dataclass
class Server:
    """A web server in a thread, which records its requests.

    :ivar replies: Next replies; the last one is repeated
    :ivar tls: TLS context; plain HTTP if None
    """

    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    tls: ssl.SSLContext | None = None
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_of": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that disconnected
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Port of the server."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """URL of the server, with a base path."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server_of: Server
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Send the next reply."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        owner = self.server_of
        owner.asked.append(Asked(self.command, self.path, self.headers, body))
        reply = owner.replies.pop(0) if len(owner.replies) > 1 else owner.replies[0]
        time.sleep(reply.after)
        if reply.drop:
            self.close_connection = True
            return
        with contextlib.suppress(OSError):  # the client may be gone
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - what http.server calls

    def log_message(self, *_: object) -> None:
        """Log nothing."""


Script = bytes | tuple[bytes, float, bytes]  # an answer; or two parts of it with seconds between them


class ScriptedServer:
    """Sends raw bytes in answer to each request, in a thread; accepts connections one after the other.

    :param answers: Bytes to send to one request after the other; the last closes the connection
    :param step: Bytes to send at a time; all at once if 0
    :param closes: Whether to close the connection after each answer
    :param reads: Bytes of a request to read before it is answered
    :ivar connections: Number of connections accepted
    """

    def __init__(self, answers: Sequence[Script], *, step: int = 0, closes: bool = False, reads: int = 65_536) -> None:
        self._answers, self._step, self._closes, self._reads = list(answers), step, closes, reads
        self.connections = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while self._answers:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, contextlib.suppress(OSError):
                while self._answers and connection.recv(self._reads):
                    self._send(connection, self._answers.pop(0))
                    if self._closes:
                        break

    def _send(self, connection: socket.socket, script: Script) -> None:
        parts = (script, 0.0, b"") if isinstance(script, bytes) else script
        for part in (parts[0], parts[2]):
            step = self._step or len(part) or 1
            for start in range(0, len(part), step):
                connection.sendall(part[start : start + step])
            if part is parts[0]:
                time.sleep(parts[1])
