"""Writing files so that a kill at any moment leaves the old content or the new, never half of it."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .checksums import Checksums, chunks, summed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the file at `path` by `content`.

    :param path: where to
    :param content: the whole new content
    :param mode: the permissions of the new file
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).chmod(mode)
    Path(temporary).replace(path)


class Blobs:
    """Contents by their SHA-256; both replicas share the files, the records say which has what."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for left_over in self._incoming.iterdir():  # of a process that was killed while it copied
            left_over.unlink()

    def path(self, sha256: str) -> Path:
        """Return where the content is, or would be.

        :param sha256: the checksum of the content
        """
        return self._directory / sha256[:2] / sha256

    def scratch(self, content: bytes) -> Path:
        """Write content into a file that whoever asked for it removes; otherwise the next start does.

        :param content: the content
        """
        handle, name = tempfile.mkstemp(dir=self._incoming)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return Path(name)

    @contextmanager
    def receive(self, source: BinaryIO, size: int) -> Iterator[Incoming]:
        """Copy `source` into a file of its own, which is dropped at the end unless it was kept.

        :param source: the content, open for reading
        :param size: its size in bytes
        """
        handle, name = tempfile.mkstemp(dir=self._incoming)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as target:
                for item in summed(chunks(source), size):
                    if isinstance(item, Checksums):
                        sums = item
                    else:
                        target.write(item)
                target.flush()
                os.fsync(target.fileno())  # a record must never point to content that a crash took away
            yield Incoming(self, path, sums)
        finally:
            path.unlink(missing_ok=True)


class Incoming:
    """Content on its way into the store, with the checksums it really has."""

    def __init__(self, blobs: Blobs, path: Path, sums: Checksums) -> None:
        self._blobs = blobs
        self._path = path
        self.sums = sums

    def keep(self) -> None:
        """Give the content its place; the same content kept twice is one file."""
        target = self._blobs.path(self.sums.sha256)
        target.parent.mkdir(exist_ok=True)
        self._path.replace(target)
