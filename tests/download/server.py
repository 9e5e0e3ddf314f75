"""A server that speaks as much of a DSS as a download needs, with any manifest, and breaks connections when told."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from tests.local.server import VERSION, new_uuid, sums


class OneBundle:
    """Serves one bundle.

    :ivar break_after: how many bytes of an answer come before the connection breaks; all of them if None
    :ivar breaks: how often it breaks at most
    :ivar slow: seconds between 64 KiB and the next
    :ivar fails_after: after how many questions for files each further one is answered 503; never if None
    :ivar checkout: seconds from the first question for a file until it is ready for download
    :ivar sent: bytes of content sent
    :ivar asked: requests by `METHOD path`
    :ivar order: paths of the requests, in their order
    """

    def __init__(self) -> None:
        self.uuid = new_uuid()
        self.files: list[dict[str, Any]] = []
        self.contents: dict[str, bytes] = {}
        self.break_after: int | None = None
        self.breaks = 0
        self.slow = 0.0
        self.fails_after: int | None = None
        self.checkout = 0.0
        self.ready: dict[str, float] = {}
        self.sent = 0
        self.asked: Counter[str] = Counter()
        self.order: list[str] = []
        self.tokens: list[str | None] = []
        self.lock = threading.Lock()

    def add(self, name: Any, content: bytes = b"content", *, indexed: bool = False, **changes: Any) -> dict[str, Any]:
        """Add a file to the manifest, as it is described there."""
        uuid = new_uuid()
        self.contents[uuid] = content
        described = {
            "uuid": uuid,
            "version": VERSION,
            "name": name,
            "indexed": indexed,
            "size": len(content),
            "content-type": "text/plain",
            **{key.removeprefix("hca-dss-"): value for key, value in sums(content).items()},
        }
        self.files.append(described | changes)
        return self.files[-1]

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"bundle": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that went away
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def origin(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """What a client takes for the address of a DSS."""
        return f"{self.origin}/v1"

    def manifest(self) -> bytes:
        """Return the answer to GET bundle."""
        bundle = {"uuid": self.uuid, "version": VERSION, "creator_uid": 1, "files": self.files}
        return json.dumps({"bundle": bundle}).encode()

    def describe(self, uuid: str) -> dict[str, str]:
        """Return the headers of a file."""
        content = self.contents[uuid]
        told = {key.removeprefix("hca-dss-").replace("_", "-"): value for key, value in sums(content).items()}
        told |= {"version": VERSION, "size": str(len(content)), "content-type": "text/plain", "creator-uid": "1"}
        return {f"X-DSS-{key.upper()}": value for key, value in told.items()}


class _Handler(BaseHTTPRequestHandler):
    bundle: OneBundle
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        with self.bundle.lock:
            self.bundle.asked[f"GET {path}"] += 1
            self.bundle.order.append(path)
            self.bundle.tokens.append(self.headers.get("authorization"))
        uuid = path.rsplit("/", 1)[-1]
        with contextlib.suppress(OSError):  # the client may be gone
            if path.startswith("/v1/bundles/"):
                self._say(200, {}, self.bundle.manifest())
            elif path.startswith("/v1/files/") and self._fails():
                self._say(503, {}, json.dumps({"status": 503, "code": "x", "title": "Trouble"}).encode())
            elif path.startswith("/v1/files/") and uuid in self.bundle.contents and not self._is_ready(uuid):
                self._say(301, {"Location": f"{self.bundle.origin}{self.path}", "Retry-After": "1"}, b"")
            elif path.startswith("/v1/files/") and uuid in self.bundle.contents:
                location = f"{self.bundle.origin}/content/{uuid}?Signature=s3cr3t"
                self._say(302, {"Location": location, **self.bundle.describe(uuid)}, b"")
            elif path.startswith("/content/"):
                self._content(self.bundle.contents[uuid])
            else:
                self._say(404, {}, json.dumps({"status": 404, "code": "not_found", "title": "No"}).encode())

    def _is_ready(self, uuid: str) -> bool:
        now = time.monotonic()
        with self.bundle.lock:
            return now >= self.bundle.ready.setdefault(uuid, now + self.bundle.checkout)

    def _fails(self) -> bool:
        with self.bundle.lock:
            asked = sum(count for what, count in self.bundle.asked.items() if what.startswith("GET /v1/files/"))
            return self.bundle.fails_after is not None and asked > self.bundle.fails_after

    def _content(self, content: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        begin = int(found[1]) if found else 0
        part = content[begin:]
        self.send_response(206 if found else 200)
        if found:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        end = len(part)
        with self.bundle.lock:
            if self.bundle.break_after is not None and self.bundle.breaks > 0 and end > self.bundle.break_after:
                self.bundle.breaks -= 1
                end = self.bundle.break_after
        for start in range(0, end, 1 << 16):
            piece = part[start : min(start + (1 << 16), end)]
            with self.bundle.lock:  # before, since whoever has all of it may look at once
                self.bundle.sent += len(piece)
            self.wfile.write(piece)
            time.sleep(self.bundle.slow)
        if end < len(part):
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def sha256(content: bytes) -> str:
    """Return a sum in another way than the download does."""
    return hashlib.new("sha256", content).hexdigest()
