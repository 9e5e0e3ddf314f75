"""The local DSS in this process, without sockets and threads: 0.4 ms per request."""

from __future__ import annotations

import asyncio
import functools
import io
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import fastapi.dependencies.utils
import fastapi.routing
import starlette.concurrency

from airflow_provider_hca.local import process
from airflow_provider_hca.local.app import create_app
from airflow_provider_hca.local.keys import load_secrets
from airflow_provider_hca.local.presigned import objects_app
from airflow_provider_hca.local.routes import bundles, collections
from airflow_provider_hca.local.settings import parse
from airflow_provider_hca.local.staging import StagedObject

from .clock import Clock

HOME = "http://dss.example.org"
OBJECTS = "http://objects.example.org"
ASYNC_ABOVE = 64  # bytes
COPY_DELAY = 3.0  # seconds
SYNC_DELAY = 29.987  # seconds
FILE_WAIT = 15.0  # seconds
CHECKOUT_DELAY = 2.003  # seconds


class MemoryStore:
    """A staging bucket in memory.

    :ivar objects: Content, content type and labels by URL
    """

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self.objects: dict[str, tuple[bytes, str, Mapping[str, str]]] = {}

    def find(self, bucket: str, key: str) -> StagedObject | None:
        """Return an object, or None."""
        url = f"{self._scheme}://{bucket}/{key}"
        if url not in self.objects:
            return None
        content, content_type, labels = self.objects[url]
        return StagedObject(url, len(content), content_type, labels, None)

    def open(self, bucket: str, key: str) -> BinaryIO | None:
        """Open the content of an object; return None if it does not exist."""
        stored = self.objects.get(f"{self._scheme}://{bucket}/{key}")
        return io.BytesIO(stored[0]) if stored else None

    def write(self, bucket: str, key: str, content: Path, content_type: str) -> None:
        """Store a file as an object."""
        self.objects[f"{self._scheme}://{bucket}/{key}"] = content.read_bytes(), content_type, {}


class InProcessDSS:
    """The local DSS, called as an ASGI application. Copies and replication run when the model calls them.

    :param state: State directory, on a fast file system
    :param wait: Called with seconds when a request waits for files
    """

    def __init__(self, state: Path, clock: Clock, wait: Callable[[float], None]) -> None:
        self._state, self._clock = state, clock
        self.staging = {"aws": MemoryStore("s3"), "gcp": MemoryStore("gs")}
        self._options = parse(
            f"--async-above {ASYNC_ABOVE} --file-wait {FILE_WAIT} --sync-delay {SYNC_DELAY} "
            f"--checkout-delay {CHECKOUT_DELAY}".split()
        )
        self._secrets = load_secrets(state, f"{HOME}/_local/oauth/token")
        _run_without_threads(clock, wait)
        self.services, self._sync = self._build()
        root: Any = create_app(self.services, [], f"{HOME}/v1")
        # Without the application around it, which takes a seventh of the time.
        self._api: Any = next(route for route in root.routes if getattr(route, "path", "") == "/v1").app
        self._objects = objects_app(self.services.presigner, self.services.blobs, self.services.journals)
        self._loop = asyncio.new_event_loop()
        self._records = sqlite3.connect(state / "records.sqlite", isolation_level=None)
        names = self._records.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        self._tables = [name for (name,) in names]

    def _build(self) -> tuple[Any, Callable[[], bool]]:
        services, workers = process.build_services(self._options, self._state, self.staging, OBJECTS, self._secrets)
        sync: Any = workers[-1]
        return services, sync.step

    def token(self, number: int) -> str:
        """Return a token that never expires; different numbers give different tokens."""
        return str(self.services.authority.issue(user=False, expires_in=1e9, claims={"model": number}))

    def clear(self) -> None:
        """Remove all records and staged objects."""
        for name in self._tables:
            self._records.execute(f"DELETE FROM {name}")  # noqa: S608 - names from the schema
        for store in self.staging.values():
            store.objects.clear()

    def restart(self) -> None:
        """Restart: what is not on disk is gone."""
        self.services, self._sync = self._build()
        self._api.state.services = self.services

    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, **extensions: Any
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request; return status, headers and body of the response."""
        parts = urlsplit(url)
        messages: list[Any] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": parts.scheme,
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "" if url.startswith(OBJECTS) else "/v1",
            "headers": [
                (b"host", parts.netloc.encode()),
                (b"content-length", str(len(body or b"")).encode()),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
            "client": ("127.0.0.1", 1),
            "server": (parts.hostname, 80),
            **extensions,
        }

        received = False

        async def receive() -> Any:
            nonlocal received
            if received:
                await asyncio.Event().wait()  # a response that is streamed watches for the end of the connection
            received = True
            return {"type": "http.request", "body": body or b"", "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        if url.startswith(OBJECTS):  # reads files in threads
            self._loop.run_until_complete(self._objects(scope, receive, send))
        else:
            _finish(self._api(scope, receive, send))
        found = {name.decode().lower(): value.decode() for name, value in messages[0]["headers"]}
        found.setdefault("x-aws-request-id", "local")
        return messages[0]["status"], found, b"".join(message.get("body", b"") for message in messages[1:])

    def sync(self) -> None:
        """Copy the changes that are due to the other replica."""
        while self._sync():
            pass

    def bundle(self, replica: str, uuid: str, version: str) -> dict[str, Any]:
        """Return a stored manifest."""
        manifest: dict[str, Any] = self.services.store.bundle(replica, uuid, version, include_deleted=True)
        return manifest

    def dump(self) -> dict[str, Any]:
        """Return all records."""
        records: dict[str, Any] = self.services.store.dump()
        return records | {"collections": self.services.collections.dump()}

    def close(self) -> None:
        """Close the event loop and the database."""
        self._loop.close()
        self._records.close()


def _finish(coroutine: Any) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("the application waits for an event loop")


def _run_without_threads(clock: Clock, wait: Callable[[float], None]) -> None:
    """Run handlers in this thread, so that they need no event loop."""

    async def inline(function: Any, /, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    async def sleep(_: float) -> None:
        wait(FILE_WAIT / 3)

    modules: list[Any] = [starlette.concurrency, fastapi.routing, fastapi.dependencies.utils, bundles]
    for module in modules:
        module.run_in_threadpool = inline
    # FastAPI analyzes the annotation of each parameter in each request, which takes a tenth of its time; the oldest
    # version that is supported does not.
    helpers: Any = fastapi.dependencies.utils
    if hasattr(helpers, "field_annotation_is_sequence"):
        helpers.field_annotation_is_sequence = functools.cache(helpers.field_annotation_is_sequence)
    patched: Any = bundles
    patched.asyncio = SimpleNamespace(sleep=sleep)
    for module in (bundles, collections):
        patched = module
        patched.make_version = clock.version
