"""A staging bucket in memory, with faults."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_hca.exceptions import DSSAbortedError, StagingError
from airflow_provider_hca.upload.checksums import Checksums, part_ranges
from airflow_provider_hca.upload.local_files import OnBytes, OpenFile, PartSums, ignore_bytes
from airflow_provider_hca.upload.staging.base import UNFINISHED

from .checksums import sums
from .server import MemoryStore
from .world import World

_BUCKET = "staging"
_SCHEMES = {"aws": "s3", "gcp": "gs"}

# Faults of the staging bucket
STAGING_FAULTS: tuple[str | None, ...] = (
    *[None] * 4,
    "temporary",
    "temporary",
    "throttled",
    "lost",
    "lost",
    "permanent",
    "outage",
    "killed",
)


class Stop(threading.Event):
    """The stop event of an upload, whose waits cost no time."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def wait(self, timeout: float | None = None) -> bool:
        """Put the clock forward."""
        if not self.is_set():
            self._world.advance(timeout or 0.0)
        return self.is_set()


class MemoryStaging:
    """A staging bucket in memory.

    :param parts: Parts of unfinished uploads by key, which survive a kill
    :ivar puts: Keys of the objects that were sent
    :ivar faults: Faults of the next operations
    :ivar seen: Faults so far
    :ivar tolerated: Those with which an upload succeeds
    """

    def __init__(
        self,
        world: World,
        store: MemoryStore,
        replica: str,
        parts: dict[str, dict[int, bytes]],
        stop: Stop,
        faults: Sequence[str | None],
    ) -> None:
        self._world, self._store, self.replica, self._parts, self._stop = world, store, replica, parts, stop
        self.faults = list(faults)
        self.puts: list[str] = []
        self.seen: set[str] = set()
        self.tolerated: set[str] = set()
        self._found: set[str] = set()

    def url(self, key: str) -> str:
        """Return the URL of an object."""
        return f"{_SCHEMES[self.replica]}://{_BUCKET}/{key}"

    def _operate(self, key: str, apply: Any = lambda: None, *, tolerated: bool = False) -> Any:
        """Do something, or fail before or afterwards.

        :param tolerated: Whether an upload succeeds although this is refused
        """
        if self._stop.is_set():
            raise DSSAbortedError("stopped")
        self._world.advance(0.01)
        fault = self.faults[0] if self.faults else None
        if fault != "outage" and self.faults:
            self.faults.pop(0)
        result = apply() if fault in {None, "lost"} else None
        if fault is None:
            return result
        if tolerated:
            self.tolerated.add(fault)
        self.seen.add(fault)
        self._world.counts[f"staging: {fault}"] += 1
        if fault == "killed":
            self._stop.set()
            raise DSSAbortedError("killed")
        raise StagingError(
            self.url(key), f"injected: {fault}", permanent=fault == "permanent", throttled=fault == "throttled"
        )

    def check(self) -> None:
        """Check that the bucket exists."""
        self._operate("")

    def find(self, prefix: str, *, after: str = "") -> dict[str, str]:
        """Return the ETags of the objects and unfinished uploads under a prefix."""
        start = self.url(prefix)
        self._found = {key for key in self._parts if key.startswith(prefix)}

        def listing() -> dict[str, str]:
            root = len(self.url(""))
            return dict.fromkeys(self._found, UNFINISHED) | {
                url[root:]: sums(content)["hca-dss-s3_etag"]
                for url, (content, _, _) in self._store.objects.items()
                if url.startswith(start) and url[root:] > after
            }

        found: dict[str, str] = self._operate(prefix, listing, tolerated=True)
        return found

    def stored_sum(self, sums: Checksums) -> str:
        """Return the ETag."""
        return sums.s3_etag

    def put(
        self, key: str, content: bytes | OpenFile, sums: Checksums, content_type: str, on_sent: OnBytes = ignore_bytes
    ) -> None:
        """Stage an object."""
        sent = content if isinstance(content, bytes) else b"".join(content.read(0, content.size))
        self.puts.append(key)
        self._operate(key, lambda: self._add(key, sent, content_type, sums.as_metadata()))
        on_sent(len(sent))

    def _add(self, key: str, content: bytes, content_type: str, labels: Mapping[str, str]) -> None:
        self._store.objects[self.url(key)] = content, content_type, dict(labels)

    def copy(self, *_: Any) -> None:
        """Fail: the model uploads files, and the store copies only objects of a bucket."""
        raise AssertionError("an object is copied in an upload of files")

    begin_copy = copy

    def begin(self, key: str, content_type: str, file: OpenFile, size: int) -> _MemoryTransfer:
        """Begin or resume an object in parts."""
        self._found.discard(key)
        return _MemoryTransfer(self, key, content_type, file, size)

    def label(self, key: str, sums: Checksums) -> None:
        """Add the checksums to an object."""

        def apply() -> None:
            content, content_type, _ = self._store.objects[self.url(key)]
            self._add(key, content, content_type, sums.as_metadata())

        self._operate(key, apply)

    def abort_multipart_uploads(self, prefix: str) -> None:
        """Abort what `find` noted and nothing resumed."""
        for key in self._found:
            if key.startswith(prefix):
                self._parts.pop(key, None)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects."""

        def apply() -> None:
            for key in keys:
                self._store.objects.pop(self.url(key), None)

        self._operate("", apply, tolerated=True)

    def sha256(self, key: str) -> str:
        """Return the label."""
        return str(self._store.objects[self.url(key)][2]["hca-dss-sha256"])


class _MemoryTransfer:
    def __init__(self, staging: MemoryStaging, key: str, content_type: str, file: OpenFile, size: int) -> None:
        self._staging, self._key, self._content_type, self._file = staging, key, content_type, file
        self._ranges = part_ranges(size)
        self.part_count = len(self._ranges)
        self._parts = staging._parts.setdefault(key, {})  # noqa: SLF001 - one of its transfers

    def send(self, number: int, on_sent: OnBytes) -> PartSums:
        offset, size = self._ranges[number]
        content = b"".join(self._file.read(offset, size))
        if self._parts.get(number) != content:
            self._staging._operate(self._key, lambda: self._parts.update({number: content}))  # noqa: SLF001 - same
            on_sent(size)
        return self._file.part_sums(offset, size)

    def finish(self, whole: Checksums) -> None:
        staging = self._staging
        staging.puts.append(self._key)

        def complete() -> None:
            if self._parts:  # else completed by an attempt whose answer was lost
                content = b"".join(self._parts[number] for number in sorted(self._parts))
                staging._add(self._key, content, self._content_type, {})  # noqa: SLF001 - same
                staging._parts.pop(self._key, None)  # noqa: SLF001 - same
                self._parts = {}

        staging._operate(self._key, complete)  # noqa: SLF001 - same
        staging.label(self._key, whole)

    def abort(self) -> None:
        self._staging._parts.pop(self._key, None)  # noqa: SLF001 - same
