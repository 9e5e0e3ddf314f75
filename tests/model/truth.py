"""Model of the records that a DSS must have: every request that was processed is applied to dictionaries."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .checksums import sums
from .server import ASYNC_ABOVE, COPY_DELAY, SYNC_DELAY, MemoryStore

Key = tuple[str, str, str]  # replica, UUID, version
Member = tuple[str, str, str, bool]  # name, UUID, version, indexed

_OTHER = {"aws": "gcp", "gcp": "aws"}
_SCHEMES = {"s3": "aws", "gs": "gcp"}
_LABELS = tuple(sums(b""))


@dataclass(frozen=True, slots=True)
class File:
    """A version of a file."""

    sums: tuple[str, ...]
    size: int
    content_type: str
    creator: int

    @property
    def sha256(self) -> str:
        """SHA-256 of the content."""
        return self.sums[0]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A version of a bundle."""

    creator: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """A version of a collection."""

    owner: str
    body: Mapping[str, Any]

    @property
    def links(self) -> list[str]:
        """The links, as text."""
        return [link_text(link) for link in self.body["contents"]]


@dataclass(frozen=True, slots=True)
class Copy:
    """An asynchronous copy."""

    key: Key
    url: str
    file: File
    due: float
    fail: int


def link_text(link: Mapping[str, Any]) -> str:
    """Return a link as text that is equal for equal links."""
    return json.dumps(link, sort_keys=True)


@dataclass
class Truth:
    """The records of both replicas.

    :ivar failed: Status of the failed copies
    :ivar tombstones: Reasons; the version is empty for all versions
    :ivar changes: Changes to be copied to the other replica, with the time
    :ivar stored_bundle: Returns what a PATCH stored, if it is computed from a cache that may be wrong
    :ivar effects: Number of requests that changed something
    """

    staging: Mapping[str, MemoryStore]
    owner: str
    files: dict[Key, File] = field(default_factory=dict)
    blobs: dict[tuple[str, str], File] = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    failed: dict[Key, int] = field(default_factory=dict)
    bundles: dict[Key, Bundle] = field(default_factory=dict)
    tombstones: dict[Key, str] = field(default_factory=dict)
    collections: dict[Key, Collection] = field(default_factory=dict)
    gone: set[tuple[str, str]] = field(default_factory=set)
    listed: set[tuple[str, str]] = field(default_factory=set)
    changes: list[tuple[float, str, Key]] = field(default_factory=list)
    stored_bundle: Callable[[str, str, str], Mapping[str, Any]] | None = None
    effects: int = 0
    _marks: int = 0

    # Queries

    def is_deleted(self, key: Key) -> bool:
        """Return whether a bundle has a tombstone."""
        return key in self.tombstones or (key[0], key[1], "") in self.tombstones

    def bundle(self, replica: str, uuid: str, version: str | None) -> tuple[str, Bundle] | None:
        """Return version and content of a bundle that is not deleted; the latest if the version is None."""
        if version is not None:
            key = (replica, uuid, version)
            return (version, self.bundles[key]) if key in self.bundles and not self.is_deleted(key) else None
        versions = [key[2] for key in self.bundles if key[:2] == (replica, uuid) and not self.is_deleted(key)]
        return (max(versions), self.bundles[replica, uuid, max(versions)]) if versions else None

    def file(self, replica: str, uuid: str, version: str | None) -> tuple[str, File] | None:
        """Return version and metadata of a file; the latest if the version is None."""
        if version is not None:
            stored = self.files.get((replica, uuid, version))
            return (version, stored) if stored else None
        versions = [key[2] for key in self.files if key[:2] == (replica, uuid)]
        return (max(versions), self.files[replica, uuid, max(versions)]) if versions else None

    def collection(self, replica: str, uuid: str, version: str | None) -> Collection | None:
        """Return a collection that is not deleted; the latest if the version is None."""
        if (replica, uuid) in self.gone:
            return None
        if version is not None:
            return self.collections.get((replica, uuid, version))
        versions = [key[2] for key in self.collections if key[:2] == (replica, uuid)]
        return self.collections[replica, uuid, max(versions)] if versions else None

    def copy_failure(self, replica: str, uuid: str, version: str | None) -> int:
        """Return the status with which HEAD answers after a failed copy; 404 otherwise."""
        if any(copy.key[:2] == (replica, uuid) and version in {None, copy.key[2]} for copy in self.copies):
            return 404
        statuses = [s for key, s in self.failed.items() if key[:2] == (replica, uuid) and version in {None, key[2]}]
        return statuses[-1] if statuses else 404

    # Time

    def finish_copy(self, copy: Copy, now: float) -> None:
        """Finish a copy."""
        self.copies.remove(copy)
        status = copy.fail or self._copy_status(copy)
        if status:
            self.failed.pop(copy.key, None)
            self.failed[copy.key] = status
        else:
            self._add_file(copy.key, copy.file, now)

    def _copy_status(self, copy: Copy) -> int:
        stored = self.staging[copy.key[0]].objects.get(copy.url)
        if stored is None:
            return 404
        return 0 if copy.file.sums == tuple(sums(stored[0]).values()) else 422

    def replicate(self, now: float) -> None:
        """Copy the changes that are due to the other replica."""
        due = [change for change in self.changes if change[0] <= now]
        del self.changes[: len(due)]
        for _, kind, (replica, uuid, version) in due:
            key, other = (replica, uuid, version), (_OTHER[replica], uuid, version)
            if kind == "file":
                self.files.setdefault(other, self.files[key])
                blob = self.blobs[replica, self.files[key].sha256]
                self.blobs.setdefault((other[0], blob.sha256), blob)
            elif kind == "bundle":
                self.bundles.setdefault(other, self.bundles[key])
            elif kind == "tombstone":
                self.tombstones.setdefault(other, self.tombstones[key])
            elif kind == "collection":
                self.collections[other] = self.collections[key]
            else:
                self.gone.add(other[:2])

    def _change(self, now: float, kind: str, key: Key) -> None:
        self._marks += 1
        self.changes.append((now + SYNC_DELAY, kind, key))

    def _add_file(self, key: Key, file: File, now: float) -> None:
        self.blobs.setdefault((key[0], file.sha256), file)
        if key not in self.files:
            self.files[key] = file
            self._change(now, "file", key)

    # Requests that write

    def apply(
        self,
        method: str,
        url: str,
        body: bytes | None,
        status: int,
        answer: bytes,
        now: float,
        *,
        fail_copy: int = 0,
        old: tuple[str, Bundle] | None = None,
    ) -> None:
        """Apply a request that the DSS processed, and compare the status of its response with the expected.

        :param fail_copy: status with which a copy that the request starts fails
        :param old: bundle that a PATCH changes, before the DSS waits for its files
        """
        parts = urlsplit(url)
        query, segments = dict(parse_qsl(parts.query)), parts.path.removeprefix("/v1/").split("/")
        if method not in {"PUT", "PATCH", "DELETE"}:
            return
        content, parsed, marks = json.loads(body or b"{}"), json.loads(answer), self._marks
        version = parsed.get("version", "")
        if segments[0] == "files":
            expected = self._put_file(segments[1], query["version"], content, now, fail_copy)
        elif segments[0] == "bundles":
            key = (query["replica"], segments[1], query.get("version", ""))
            if method == "PUT":
                expected = self._put_bundle(key, content, now)
            elif method == "PATCH":
                expected = self._patch_bundle(key, old, content, version, now, status)
            else:
                expected = self._delete_bundle(key, content["reason"], now)
        elif method == "PUT":
            expected = self._put_collection((query["replica"], query["uuid"], query["version"]), content, now)
        elif method == "PATCH":
            expected = self._patch_collection((query["replica"], segments[1], query["version"]), content, version, now)
        else:
            expected = self._delete_collection(query["replica"], segments[1], now)
        self.effects += self._marks > marks
        assert status == expected, f"{method} {url}: expected {expected}, got {status} {answer!r:.300}"

    def _put_file(self, uuid: str, version: str, body: dict[str, Any], now: float, fail: int) -> int:
        if version == "none":  # of `check_token`
            return 400
        url = body["source_url"]
        replica = _SCHEMES[url.partition(":")[0]]
        stored = self.staging[replica].objects.get(url)
        if stored is None:
            return 500
        content, content_type, labels = stored
        if set(labels) != set(_LABELS):
            return 422
        key = (replica, uuid, version)
        file = File(tuple(labels[name] for name in _LABELS), len(content), content_type, body["creator_uid"])
        existing = self.files.get(key)
        blob = self.blobs.get((replica, file.sha256))
        if len(content) > ASYNC_ABOVE and (blob is None or (blob.sums, blob.size) != (file.sums, file.size)):
            if not any(copy.key == key and copy.url == url and copy.file == file for copy in self.copies):
                self.failed.pop(key, None)
                self.copies.append(Copy(key, url, file, now + COPY_DELAY, fail))
                self._marks += 1
            return 202
        if len(content) <= ASYNC_ABOVE and existing in {None, file} and not _is_true(stored):
            return 500
        self._add_file(key, file, now)
        if existing not in {None, file}:
            return 409
        return 200 if existing else 201

    def _put_bundle(self, key: Key, body: dict[str, Any], now: float) -> int:
        bundle = Bundle(body["creator_uid"], tuple(_member(file) for file in body["files"]))
        if _has_duplicates(bundle.members):
            return 400
        if any((key[0], member[1], member[2]) not in self.files for member in bundle.members):
            return 400
        existing = self.bundles.get(key)
        if existing is None:
            self.bundles[key] = bundle
            self._change(now, "bundle", key)
            return 201
        return 200 if existing == bundle else 409

    def _patch_bundle(
        self, key: Key, old: tuple[str, Bundle] | None, body: dict[str, Any], version: str, now: float, status: int
    ) -> int:
        if self.stored_bundle is not None:
            if status == 200:
                self.bundles[key[0], key[1], version] = _bundle(self.stored_bundle(key[0], key[1], version))
                self._change(now, "bundle", (key[0], key[1], version))
            return status
        if old is None:
            return 404
        removed = {_member(file)[:3] for file in body["remove_files"]}
        added = [_member(file) for file in body["add_files"]]
        kept = [member for member in old[1].members if member[:3] not in removed]
        if any((key[0], member[1], member[2]) not in self.files for member in added):
            return 500
        if _has_duplicates((*kept, *added)):
            return 400
        new = (key[0], key[1], version)
        assert new not in self.bundles, f"version {version} was created twice"
        self.bundles[new] = Bundle(old[1].creator, (*kept, *added))
        self._change(now, "bundle", new)
        return 200

    def _delete_bundle(self, key: Key, reason: str, now: float) -> int:
        if not any(known[:2] == key[:2] and key[2] in {"", known[2]} for known in self.bundles):
            return 404
        if key not in self.tombstones:
            self.tombstones[key] = reason
            self._change(now, "tombstone", key)
        return 200 if self.tombstones[key] == reason else 409

    def _put_collection(self, key: Key, body: dict[str, Any], now: float) -> int:
        if not all(self._exists(key[0], link) for link in body["contents"]):
            return 422
        contents = list({link_text(link): link for link in body["contents"]}.values())
        self.collections[key] = Collection(self.owner, {**body, "contents": contents})
        self._change(now, "collection", key)
        self.listed.add(key[1:])
        return 201

    def _exists(self, replica: str, link: Mapping[str, Any]) -> bool:
        key = (replica, link["uuid"], link["version"])
        known: dict[str, Mapping[Key, Any]] = {
            "file": self.files,
            "bundle": self.bundles,
            "collection": self.collections,
        }
        return key in known[link["type"]]

    def _patch_collection(self, key: Key, body: dict[str, Any], version: str, now: float) -> int:
        old = self.collection(*key)
        if self.collection(key[0], key[1], None) is None or old is None:
            return 404
        if not all(self._exists(key[0], link) for link in body["add_contents"]):
            return 422
        removed = {link_text(link) for link in body["remove_contents"]}
        links = {text: None for text in old.links if text not in removed}
        links |= {link_text(link): None for link in body["add_contents"]}
        fields: dict[str, Any] = {name: body[name] for name in ("name", "description", "details") if name in body}
        new = (key[0], key[1], version)
        assert new not in self.collections, f"version {version} was created twice"
        self.collections[new] = Collection(old.owner, {**old.body, **fields, "contents": [*map(json.loads, links)]})
        self._change(now, "collection", new)
        return 200

    def _delete_collection(self, replica: str, uuid: str, now: float) -> int:
        if self.collection(replica, uuid, None) is None:
            return 404
        self.gone.add((replica, uuid))
        self._change(now, "gone", (replica, uuid, ""))
        self.listed = {listed for listed in self.listed if listed[0] != uuid}
        return 200

    # Comparison

    def check(self, records: Mapping[str, Any]) -> None:
        """Compare with all records of the DSS."""
        files = {_key(row): _file(row) for row in records["files"]}
        assert files == self.files, _difference(files, self.files)
        bundles = {_key(row): _bundle(row["manifest"]) for row in records["bundles"]}
        assert bundles == self.bundles, _difference(bundles, self.bundles)
        tombstones = {_key(row): row["reason"] for row in records["tombstones"]}
        assert tombstones == self.tombstones, _difference(tombstones, self.tombstones)
        collections = {_key(row): Collection(row["owner"], row["body"]) for row in records["collections"]}
        assert collections == self.collections, _difference(collections, self.collections)


def _difference(stored: Mapping[Any, Any], expected: Mapping[Any, Any]) -> str:
    keys = sorted(key for key in {*stored, *expected} if stored.get(key) != expected.get(key))
    return "; ".join(f"{key}: expected {expected.get(key)}, got {stored.get(key)}" for key in keys[:3])


def _is_true(stored: tuple[bytes, str, Mapping[str, str]]) -> bool:
    return sums(stored[0]) == stored[2]


def _member(file: Mapping[str, Any]) -> Member:
    return file["name"], file["uuid"], file["version"], file["indexed"]


def _has_duplicates(members: tuple[Member, ...]) -> bool:
    return len({member[0] for member in members}) < len(members)


def _key(row: Mapping[str, Any]) -> Key:
    return row["replica"], row["uuid"], row["version"] or ""


def _file(row: Mapping[str, Any]) -> File:
    checksums = tuple(row[name] for name in ("sha256", "sha1", "s3_etag", "crc32c"))
    return File(checksums, row["size"], row["content_type"], row["creator_uid"])


def _bundle(manifest: Mapping[str, Any]) -> Bundle:
    return Bundle(manifest["creator_uid"], tuple(_member(file) for file in manifest["files"]))
