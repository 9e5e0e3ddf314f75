"""A web server that is no DSS: it answers what it is told to, and keeps what it was asked."""

from __future__ import annotations

import contextlib
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
    """One request that came in."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass
class Reply:
    """What to answer."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b"{}"
    after: float = 0.0
    drop: bool = False


@dataclass
class Server:
    """Runs in a thread.

    :ivar replies: the answers still to come; the last one stays
    :ivar tls: to speak TLS with
    """

    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    tls: ssl.SSLContext | None = None
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_of": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that went away
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """What a client takes for the address of a DSS."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server_of: Server
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Answer as told."""
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
        """Say nothing."""
