"""File contents on disk, and atomic writes: a kill leaves the old content or the new, never a part of it."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .checksums import Checksums, hash_chunks, read_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the content of a file.

    :param path: path of the file, which need not exist
    :param content: new content
    :param mode: permissions of the new file
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).chmod(mode)
    Path(temporary).replace(path)


class BlobStore:
    """Contents by SHA-256. Replicas share the files; the records define which content a replica has."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for path in self._incoming.iterdir():  # of a process that was killed while it copied
            path.unlink()

    def path(self, sha256: str) -> Path:
        """Return the path of a content, whether it exists or not.

        :param sha256: checksum of the content
        """
        return self._directory / sha256[:2] / sha256

    def write_temporary(self, content: bytes) -> Path:
        """Write a temporary file. The caller removes it; otherwise the next start does."""
        handle, name = tempfile.mkstemp(dir=self._incoming)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return Path(name)

    @contextmanager
    def receive(self, source: BinaryIO, size: int) -> Iterator[ReceivedBlob]:
        """Copy `source` into a temporary file, which is removed at the end unless it was committed.

        :param source: file open for reading
        :param size: size of the content in bytes
        """
        handle, name = tempfile.mkstemp(dir=self._incoming)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as target:
                for item in hash_chunks(read_chunks(source), size):
                    if isinstance(item, Checksums):
                        sums = item
                    else:
                        target.write(item)
                target.flush()
                os.fsync(target.fileno())  # a record must not refer to content that was lost in a crash
            yield ReceivedBlob(self, path, sums)
        finally:
            path.unlink(missing_ok=True)


class ReceivedBlob:
    """A received content with its computed checksums, not yet in the store."""

    def __init__(self, blobs: BlobStore, path: Path, sums: Checksums) -> None:
        self._blobs = blobs
        self._path = path
        self.sums = sums

    def commit(self) -> None:
        """Move the content into the store; equal contents are stored once."""
        target = self._blobs.path(self.sums.sha256)
        target.parent.mkdir(exist_ok=True)
        self._path.replace(target)
