"""Server of one bundle with any manifest, which can break connections, answer slowly and fail."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.local.server import VERSION, new_uuid, opened, sums


class OneBundle:
    """Server of one bundle.

    :ivar break_after: Bytes of content after which the connection breaks; never if None
    :ivar breaks: Maximum number of broken connections
    :ivar slow: Pause in seconds after each 64 KiB
    :ivar fails_after: Number of requests for files after which further ones are answered with 503; unlimited if None
    :ivar checkout: Seconds from the first request for a file until it is ready
    :ivar sent: Bytes of content sent
    :ivar requests: Number of requests by `METHOD path`
    :ivar order: Paths of the requests in their order
    """

    def __init__(self) -> None:
        self.uuid = new_uuid()
        self.files: list[dict[str, Any]] = []
        self.contents: dict[str, bytes | Path] = {}
        self.break_after: int | None = None
        self.breaks = 0
        self.slow = 0.0
        self.fails_after: int | None = None
        self.checkout = 0.0
        self.ready: dict[str, float] = {}
        self.sent = 0
        self.requests: Counter[str] = Counter()
        self.order: list[str] = []
        self.tokens: list[str | None] = []
        self.lock = threading.Lock()

    def add(
        self, name: Any, content: bytes | Path = b"content", *, indexed: bool = False, **changes: Any
    ) -> dict[str, Any]:
        """Add a file, with content or that of a local file; return its entry in the manifest."""
        uuid = new_uuid()
        self.contents[uuid] = content
        entry = {
            "uuid": uuid,
            "version": VERSION,
            "name": name,
            "indexed": indexed,
            "size": _size(content),
            "content-type": "text/plain",
            **{key.removeprefix("hca-dss-"): value for key, value in sums(content).items()},
        }
        self.files.append(entry | changes)
        return self.files[-1]

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"bundle": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that disconnected
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def origin(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """URL of the API."""
        return f"{self.origin}/v1"

    def manifest(self) -> bytes:
        """Return the body of `GET /bundles/{uuid}`."""
        bundle = {"uuid": self.uuid, "version": VERSION, "creator_uid": 1, "files": self.files}
        return json.dumps({"bundle": bundle}).encode()

    def describe(self, uuid: str) -> dict[str, str]:
        """Return the headers of a file."""
        content = self.contents[uuid]
        headers = {key.removeprefix("hca-dss-").replace("_", "-"): value for key, value in sums(content).items()}
        headers |= {"version": VERSION, "size": str(_size(content)), "content-type": "text/plain", "creator-uid": "1"}
        return {f"X-DSS-{key.upper()}": value for key, value in headers.items()}


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


class _Handler(BaseHTTPRequestHandler):
    bundle: OneBundle
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        with self.bundle.lock:
            self.bundle.requests[f"GET {path}"] += 1
            self.bundle.order.append(path)
            self.bundle.tokens.append(self.headers.get("authorization"))
        uuid = path.rsplit("/", 1)[-1]
        with contextlib.suppress(OSError):  # the client may have disconnected
            if path.startswith("/v1/bundles/"):
                self._respond(200, {}, self.bundle.manifest())
            elif path.startswith("/v1/files/") and self._fails():
                self._respond(503, {}, json.dumps({"status": 503, "code": "x", "title": "Trouble"}).encode())
            elif path.startswith("/v1/files/") and uuid in self.bundle.contents and not self._is_ready(uuid):
                self._respond(301, {"Location": f"{self.bundle.origin}{self.path}", "Retry-After": "1"}, b"")
            elif path.startswith("/v1/files/") and uuid in self.bundle.contents:
                location = f"{self.bundle.origin}/content/{uuid}?Signature=s3cr3t"
                self._respond(302, {"Location": location, **self.bundle.describe(uuid)}, b"")
            elif path.startswith("/content/"):
                self._content(self.bundle.contents[uuid])
            else:
                self._respond(404, {}, json.dumps({"status": 404, "code": "not_found", "title": "No"}).encode())

    def _is_ready(self, uuid: str) -> bool:
        now = time.monotonic()
        with self.bundle.lock:
            return now >= self.bundle.ready.setdefault(uuid, now + self.bundle.checkout)

    def _fails(self) -> bool:
        with self.bundle.lock:
            requested = sum(
                count for request, count in self.bundle.requests.items() if request.startswith("GET /v1/files/")
            )
            return self.bundle.fails_after is not None and requested > self.bundle.fails_after

    def _content(self, content: bytes | Path) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        begin, size = int(match[1]) if match else 0, _size(content)
        length = max(size - begin, 0)
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        end = length
        with self.bundle.lock:
            if self.bundle.break_after is not None and self.bundle.breaks > 0 and end > self.bundle.break_after:
                self.bundle.breaks -= 1
                end = self.bundle.break_after
        with opened(content) as file:
            file.seek(begin)
            for start in range(0, end, 1 << 16):
                piece = file.read(min(1 << 16, end - start))
                with self.bundle.lock:  # before sending, so that a client that has all sees the full count
                    self.bundle.sent += len(piece)
                self.wfile.write(piece)
                time.sleep(self.bundle.slow)
        if end < length:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def _respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""
