"""The files of a plan on their way, and what was done so far."""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass, field

from airflow_provider_hca.exceptions import DSSError, StagingError
from airflow_provider_hca.upload.plan import PlannedFile

SLOWEST = 5  # files that a report names


class FileChangedError(DSSError):
    """The content is not what was planned."""

    def __init__(self) -> None:
        super().__init__("changed while it was being uploaded: let whatever writes it finish first")


class OtherContentError(StagingError):
    """The store has another content than the sums are of."""


@dataclass(slots=True)
class Item:
    """A planned file on its way.

    :ivar sha256: of its content, once it is staged
    :ivar registered: whether the DSS has it
    :ivar copying: whether the DSS copies it
    """

    file: PlannedFile
    sha256: str = ""
    registered: bool = False
    copying: bool = False


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
