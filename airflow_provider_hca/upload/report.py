"""What an upload did."""

from __future__ import annotations

import heapq
import re
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_hca.client.models import Replica
from airflow_provider_hca.upload.checksums import MIB

SLOWEST = 5  # files that a report names
_VERSION = r"\d{4}-\d{2}-\d{2}T\d{6}\.\d{6}Z"
# What makes the messages of two files differ that failed for the same reason.
_OF_ONE_FILE = (
    (re.compile(r" \(request id [^)]*\)|, request id [^),]*"), ""),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "..."),
    (re.compile(rf"\.\.\.\.{_VERSION}"), "..."),
    (re.compile(r"\b[0-9a-f]{64}\b"), "..."),
    (re.compile(r"\b(s3|gs)://([^/\s]+)/[^\s:'\"]+"), r"\1://\2/..."),
)


@dataclass(frozen=True, slots=True)
class Registered:
    """What was done until all files were registered.

    :ivar copying: those that the DSS still copies: uuid, version, sha256
    :ivar digest: of the plan
    :ivar staged_files: sent to the staging bucket by this try
    :ivar staged_size: of those, in bytes
    :ivar skipped_files: not sent, since an earlier try had staged or even registered them
    :ivar registered_files: registered by this try; the others already were, by an earlier one
    :ivar copied_files: those of them that the DSS copies asynchronously
    :ivar retries: requests that were sent again, to the store or the DSS
    :ivar slowest: the files that took longest to stage, with the seconds each took
    :ivar seconds: how long each phase took
    """

    copying: tuple[tuple[str, str, str], ...]
    digest: str
    staged_files: int
    staged_size: int
    skipped_files: int
    registered_files: int
    copied_files: int
    retries: int
    slowest: list[tuple[str, float]]
    seconds: dict[str, float]

    def without_copies(self) -> dict[str, Any]:
        """Return it as JSON has it, without the copies; `Registered(copying=(), **that)` is the rest."""
        told = asdict(self)
        del told["copying"]
        told["slowest"] = [list(each) for each in self.slowest]  # of tuples Airflow would keep the class, too
        return told


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is.

    :ivar phase: `stage`, `register`, `copy` or `bundle`
    :ivar phase_done: files that the phase is done with
    :ivar phase_files: files that it has to do with
    :ivar sent_byte_count: bytes that are staged, by this try or an earlier one
    :ivar rate: bytes sent per second since the last time
    """

    phase: str
    phase_done: int
    phase_files: int
    sent_byte_count: int
    rate: float


@dataclass(frozen=True, slots=True)
class UploadReport:
    """What an upload did.

    :ivar files: members of the bundle
    :ivar size: of all members, in bytes
    :ivar staged_files: sent to the staging bucket by this try
    :ivar staged_size: of those, in bytes
    :ivar skipped_files: not sent, since an earlier try had staged or even registered them
    :ivar registered_files: registered by this try; the others already were, by an earlier one
    :ivar copied_files: those of them that the DSS copied asynchronously
    :ivar created: whether the bundle was made by this try; otherwise it already was there, identical
    :ivar retries: requests that were sent again, to the store or the DSS
    :ivar slowest: the files that took longest to stage, with the seconds each took
    :ivar seconds: how long each phase took
    """

    uuid: str
    version: str
    replica: Replica
    files: int
    size: int
    staged_files: int
    staged_size: int
    skipped_files: int
    registered_files: int
    copied_files: int
    created: bool
    retries: int
    slowest: list[tuple[str, float]]
    seconds: dict[str, float]

    def __str__(self) -> str:
        phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in self.seconds.items())
        slowest = ", ".join(f"{name!r} {spent:.1f}" for name, spent in self.slowest)
        return (
            f"bundle {self.uuid}.{self.version} in {self.replica} {'made' if self.created else 'was already there'}: "
            f"{amount(self.files, self.size)}, of which {amount(self.staged_files, self.staged_size)} were staged and "
            f"{self.registered_files:,} registered now; {self.skipped_files:,} skipped, {self.retries:,} retries; "
            f"seconds: {phases}; slowest to stage: {slowest}"
        )


@dataclass(slots=True)
class UploadStats:
    """What was done so far; counted by many threads.

    :ivar sent: bytes
    :ivar summed: bytes of large files
    :ivar skipped_files: neither sent nor in need of it
    :ivar retries: of staging
    :ivar slowest: seconds and names of the files that took longest to stage
    """

    staged_files: int = 0
    staged_size: int = 0
    sent: int = 0
    summed: int = 0
    skipped_files: int = 0
    skipped_size: int = 0
    registered_files: int = 0
    heads_failed: int = 0
    retries: int = 0
    slowest: list[tuple[float, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        """Count further ones."""
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def took(self, seconds: float, name: str) -> None:
        """Note how long a file took."""
        with self.lock:
            if len(self.slowest) < SLOWEST:
                heapq.heappush(self.slowest, (seconds, name))
            elif seconds > self.slowest[0][0]:
                heapq.heapreplace(self.slowest, (seconds, name))


def amount(files: int, size: int) -> str:
    """Return a number of files and of bytes for people.

    :param files: how many
    :param size: together, in bytes
    """
    return f"{files:,} files ({size / MIB:,.1f} MiB)"


def group_errors(failures: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Return the causes, the most frequent first, each with the names of the files that it hit.

    A cause that hit one file alone keeps its whole message, with uuid and request id.

    :param failures: pairs of a file's name and why it failed, as an `UploadError` has them
    """
    alike: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, reason in failures:
        common = reason
        for pattern, instead in _OF_ONE_FILE:
            common = pattern.sub(instead, common)
        alike[common].append((name, reason))
    causes = [(common if len(hit) > 1 else hit[0][1], sorted(name for name, _ in hit)) for common, hit in alike.items()]
    return sorted(causes, key=lambda cause: -len(cause[1]))
