"""DSS with only GET /bundles/all, which omits versions at page boundaries."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from airflow_provider_hca.client.identifiers import make_version
from tests.local.server import new_uuid


class LossyDSS:
    """Server that runs in a thread.

    :param uuids: Number of bundles at the start
    :param versions: Number of versions of each
    :ivar lost: Number of versions omitted by listings
    :ivar page_sizes: Page sizes requested
    """

    def __init__(self, *, uuids: int, versions: int) -> None:
        self._count, self._versions = uuids, versions
        self.bundles: list[tuple[str, str]] = []
        self.lost = 0
        self.page_sizes: set[int] = set()
        self.more()

    def more(self) -> None:
        """Add as many bundles again."""
        new = [new_uuid() for _ in range(self._count)]
        bundles = [(uuid, make_version(later=number)) for uuid in new for number in range(self._versions)]
        self.bundles = sorted([*self.bundles, *bundles])

    @property
    def fqids(self) -> list[str]:
        """FQIDs of all bundles."""
        return [f"{uuid}.{version}" for uuid, version in self.bundles]

    def page(self, per_page: int, after: str) -> tuple[list[dict[str, str]], str]:
        """Return a page, and the UUID that the next page starts after; further versions of that UUID are lost."""
        self.page_sizes.add(per_page)
        rest = [(uuid, version) for uuid, version in self.bundles if uuid > after]
        shown, others = rest[:per_page], rest[per_page:]
        last = shown[-1][0] if others else ""
        self.lost += sum(uuid == last for uuid, _ in others)
        return [{"uuid": uuid, "version": version} for uuid, version in shown], last

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"dss": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """URL of the API."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    dss: LossyDSS

    def do_GET(self) -> None:
        """Answer with a page."""
        query = parse_qs(urlsplit(self.path).query)
        per_page = int(query["per_page"][0])
        shown, last = self.dss.page(per_page, query.get("search_after", [""])[0])
        body = json.dumps({"bundles": shown, "has_more": bool(last)}).encode()
        self.send_response(206 if last else 200)
        if last:
            link = f"{self.dss.url}/bundles/all?replica=aws&per_page={per_page}&search_after={last}"
            self.send_header("Link", f"<{link}>; rel='next'")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""
