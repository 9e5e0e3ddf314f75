"""Bundles and collections in memory that can be patched, for calls without network and with a test clock."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_hca.client.sansio import Request, Response

from .feeding import OTHER, UUID, VERSION, Answer, Clock, broken, ok, problem, stored

START = "2020-01-01T000000.000000Z"
Done = Literal["done", "not done", "late"]
LATE = 34.9  # seconds; the client waits 35 s for a PATCH that a DSS may still be working on

# Responses that leave open whether a PATCH was applied.
UNCLEAR: dict[str, Answer] = {
    "500": ok({"message": "Internal server error"}, 500),
    "502": problem(502),
    "503": problem(503, "service_unavailable"),
    "504": problem(504, "timed_out"),
    "202": ok({"task_id": "x"}, 202),
    "200 without version": ok({"uuid": UUID}),
    "200 without JSON": Response(200, {"content-type": "text/html"}, b"<html>"),
    "204": Response(204),
    "read timeout": broken("read timeout"),
    "dropped": broken("dropped"),
    "tls": broken("tls"),
}


class KilledError(Exception):
    """Represents a kill of the process."""


def versions(count: int) -> list[str]:
    """Return the versions that the first PATCHes create."""
    return [f"2021-01-01T000000.{number:06}Z" for number in range(1, count + 1)]


def members(names: Iterable[Any], **changes: Any) -> list[dict[str, Any]]:
    """Return files of a bundle."""
    return [{"uuid": OTHER, "version": VERSION, "name": str(name), "indexed": False} | changes for name in names]


def links(numbers: Iterable[int], **changes: Any) -> list[dict[str, Any]]:
    """Return links of a collection."""
    return [
        {"type": "file", "uuid": f"00000000-0000-4000-8000-{number:012}", "version": VERSION} | changes
        for number in numbers
    ]


@dataclass
class Shelf(ABC):
    """The versions of one item.

    :ivar contents: Content by version
    :ivar troubles: Faults of the next PATCHes: the response, and whether the PATCH is applied; None for no fault
    :ivar patches: Version and body of each received PATCH
    :ivar kill: Number of the PATCH that kills the process, and whether it is applied
    """

    clock: Clock
    contents: dict[str, Any]
    troubles: list[tuple[Answer, Done] | None] = field(default_factory=list)
    patches: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    kill: tuple[int, Done] | None = None
    _late: list[tuple[float, Callable[[], str]]] = field(default_factory=list)

    @property
    def named(self) -> list[str]:
        """Versions named by the PATCHes."""
        return [version for version, _ in self.patches]

    def __call__(self, request: Request) -> Answer:
        """Answer a request."""
        for due, work in self._late:
            if due <= self.clock.now:
                work()
        self._late = [each for each in self._late if each[0] > self.clock.now]
        query = dict(parse_qsl(urlsplit(request.url).query))
        assert query["replica"] == "aws"
        if request.method == "PATCH":
            return self._patch(query["version"], json.loads(request.body or b""))
        return self.show(request, query)

    def _patch(self, version: str, body: dict[str, Any]) -> Answer:
        self.patches.append((version, body))
        if version not in self.contents:
            return problem(404, "not_found")
        changed = self.changed(version, body)
        if isinstance(changed, Response):
            return changed

        def do() -> str:
            made = versions(len(self.contents))[-1]
            self.contents[made] = changed
            self.remember(version, made)
            return made

        trouble = self.troubles.pop(0) if self.troubles else None
        killed = self.kill is not None and self.kill[0] == len(self.patches)
        done = self.kill[1] if killed and self.kill else trouble[1] if trouble else "done"
        made = do() if done == "done" else ""
        if done == "late":
            self._late.append((self.clock.now + LATE, do))
        if killed:
            raise KilledError
        return trouble[0] if trouble else ok({"uuid": UUID, "version": made})

    @abstractmethod
    def show(self, request: Request, query: dict[str, str]) -> Answer:
        """Answer a request that changes nothing."""

    @abstractmethod
    def changed(self, version: str, body: dict[str, Any]) -> Any:
        """Return the patched content, or an error."""

    def remember(self, version: str, made: str) -> None:  # noqa: B027 - optional
        """Remember the version that a PATCH of another one created."""


@dataclass
class Cached:
    """A manifest in the cache of a process."""

    version: str
    files: list[dict[str, Any]]


@dataclass
class BundleShelf(Shelf):
    """The versions of a bundle, as lists of files, in a DSS of several processes.

    :ivar caches: Cached manifests by version, of each process
    :ivar order: Processes of the next requests; the last one is repeated
    :ivar creators: Creators by version; 1 by default
    :ivar unlisted: Versions missing in the list, since they were deleted
    :ivar missing: UUIDs of missing files, and the response to a PATCH that adds one
    :ivar put: Response to each PUT; compare it with the stored version if None
    """

    caches: dict[int, dict[str, Cached]] = field(default_factory=dict)
    order: list[int] = field(default_factory=lambda: [0])
    creators: dict[str, int] = field(default_factory=dict)
    unlisted: frozenset[str] = frozenset()
    missing: dict[str, Answer] = field(default_factory=dict)
    put: Answer | None = None
    _process: int | None = None

    def __call__(self, request: Request) -> Answer:
        """Answer a request by the next process."""
        if not request.path.endswith("/bundles/all") and request.method != "HEAD":
            self._process = self.order.pop(0) if len(self.order) > 1 else self.order[0]
        return super().__call__(request)

    def foreign_patch(self, process: int, add: Iterable[Any] = (), remove: Iterable[Any] = ()) -> Answer:
        """Receive a PATCH of the first version by another client."""
        self._process = process
        answer = self._patch(START, {"add_files": [*add], "remove_files": [*remove]})
        self.patches.clear()
        return answer

    def show(self, request: Request, query: dict[str, str]) -> Answer:
        """Answer GET /bundles/all, GET and PUT /bundles, and HEAD /files."""
        if request.path.endswith("/bundles/all"):
            assert query["prefix"] == UUID
            listed = sorted(set(self.contents) - self.unlisted)
            return ok({"bundles": [{"uuid": UUID, "version": version} for version in listed]})
        if request.method == "HEAD":
            return problem(404) if request.path.rsplit("/", 1)[-1] in self.missing else stored()
        version = query.get("version") or max(self.contents)
        if version not in self.contents:
            return problem(404, "not_found")
        creator = self.creators.get(version, 1)
        if request.method == "PUT":
            is_same = json.loads(request.body or b"") == {"creator_uid": creator, "files": self.contents[version]}
            return self.put or (ok({"version": version}) if is_same else problem(409, "bundle_already_exists"))
        cached = self._cached(version)
        files = [{**file, "size": 7, "s3_etag": "x"} for file in cached.files]
        return ok({"bundle": {"uuid": UUID, "version": cached.version, "creator_uid": creator, "files": files}})

    def _cached(self, version: str) -> Cached:
        stored = Cached(version, self.contents[version])
        cache = self.caches.get(self._process or 0)
        return stored if cache is None else cache.setdefault(version, stored)

    def changed(self, version: str, body: dict[str, Any]) -> Any:
        """Add and remove files step by step in the cached manifest, as a DSS does."""
        cached = self._cached(version)
        gone = {(file["name"], file["uuid"], file["version"]) for file in body["remove_files"]}
        cached.files = [file for file in cached.files if (file["name"], file["uuid"], file["version"]) not in gone]
        for file in body["add_files"]:
            if file["uuid"] in self.missing:
                return self.missing[file["uuid"]]
        cached.files = cached.files + body["add_files"]
        if len({file["name"] for file in cached.files}) < len(cached.files):
            return problem(400, "duplicate_filename")
        return cached.files

    def remember(self, version: str, made: str) -> None:
        """Keep the new version, and the old one as the same manifest."""
        cached = self._cached(version)
        cached.version = made
        if self._process in self.caches:
            self.caches[self._process][made] = cached

    def names(self, version: str) -> list[str]:
        """Return the names of the files of a version."""
        return [file["name"] for file in self.contents[version]]


@dataclass
class CollectionShelf(Shelf):
    """The versions of a collection, as returned by GET."""

    def show(self, request: Request, query: dict[str, str]) -> Answer:
        """Answer GET /collections/{uuid}."""
        assert request.path.endswith(f"/collections/{UUID}")
        version = query.get("version") or max(self.contents)
        return ok(self.contents[version]) if version in self.contents else problem(404, "not_found")

    def changed(self, version: str, body: dict[str, Any]) -> Any:
        """Add and remove links, as a DSS does."""
        old = self.contents[version]
        removed = {_key(link) for link in body["remove_contents"]}
        kept = [link for link in old["contents"] if _key(link) not in removed]
        known = {_key(link) for link in kept}
        contents = kept + [link for link in body["add_contents"] if _key(link) not in known]
        fields = {key: body[key] for key in ("name", "description", "details") if key in body}
        return old | fields | {"contents": contents}


def _key(link: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return a key that is equal for equal links."""
    return tuple(sorted(link.items()))
