"""Files on this machine: read in ranges by several threads, and compared with their plan."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from airflow_provider_hca.exceptions import DSSAbortedError
from airflow_provider_hca.upload.checksums import MIB
from airflow_provider_hca.upload.entries import FileChangedError, PlannedFile

OnBytes = Callable[[int], None]

_READ_SIZE = MIB // 2  # fits in the cache of a core


def ignore_bytes(_: int) -> None:
    """Do nothing."""


class ContentChangedError(OSError):
    """A file has other content than when it was first read."""


class PartSums(NamedTuple):
    """MD5, in hexadecimal, and crc32c of a part."""

    md5: str
    crc32c: int


class OpenFile:
    """An open file that several threads may read.

    :param path: path of the file
    :raises OSError: if it cannot be opened
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read_some(self, offset: int, size: int) -> bytes:
        """Return at least one byte.

        :param offset: position in bytes
        :param size: maximum number of bytes
        :raises OSError: if the file cannot be read, or ends before
        """
        chunk = os.pread(self._file.fileno(), size, offset)
        if not chunk:
            raise ContentChangedError("the file has become shorter")
        return chunk

    def read(self, offset: int, size: int, on_read: OnBytes = ignore_bytes) -> Iterator[bytes]:
        """Yield a section in small pieces.

        :param offset: start of the section in bytes
        :param size: size of the section in bytes
        :param on_read: called with the number of bytes after each read
        """
        end = offset + size
        while offset < end:
            chunk = self.read_some(offset, min(_READ_SIZE, end - offset))
            offset += len(chunk)
            on_read(len(chunk))
            yield chunk

    def crc32c(
        self, offset: int, size: int, update: Callable[[bytes], None] = lambda _: None, on_read: OnBytes = ignore_bytes
    ) -> int:
        """Return the crc32c of a section.

        :param offset: start of the section in bytes
        :param size: size of the section in bytes
        :param update: called with each piece of the content
        :param on_read: called with the number of bytes after each read
        """
        import google_crc32c

        crc32c = 0
        for chunk in self.read(offset, size, on_read):
            update(chunk)
            crc32c = google_crc32c.extend(crc32c, chunk)
        return crc32c

    def part_sums(self, offset: int, size: int, on_read: OnBytes = ignore_bytes) -> PartSums:
        """Return MD5 and crc32c of a section."""
        md5 = hashlib.md5(usedforsecurity=False)
        crc32c = self.crc32c(offset, size, md5.update, on_read)
        return PartSums(md5.hexdigest(), crc32c)


class Section:
    """A section of a file as a request body.

    HTTP libraries take errors of the body for network errors, retry and wrap them. So an error is kept: `reraising`
    raises it in place of the library's, and each further read raises it immediately.

    :param file: open file
    :param offset: start of the section in bytes
    :param size: size of the section in bytes
    :param on_read: called with the number of bytes after every 512 KiB and at the end; may raise to cancel the request
    """

    def __init__(self, file: OpenFile, offset: int, size: int, on_read: OnBytes) -> None:
        self._file, self._offset, self._size, self._on_read = file, offset, size, on_read
        self._position = self._unreported = 0
        self._error: Exception | None = None

    def __len__(self) -> int:
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        """Return at most `size` bytes."""
        if self._error is not None:
            raise self._error
        rest = self._size - self._position
        size = rest if size is None or size < 0 else min(size, rest)
        if not size:
            return b""
        try:
            chunk = self._file.read_some(self._offset + self._position, size)
            self._report(len(chunk))
        except Exception as error:
            self._error = error
            raise
        return chunk

    def _report(self, count: int) -> None:
        self._position += count
        self._unreported += count
        if self._unreported >= _READ_SIZE or self._position == self._size:
            self._unreported, count = 0, self._unreported
            self._on_read(count)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position of the next read."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._position

    @contextmanager
    def reraising(self) -> Iterator[None]:
        """Raise the error of a read in place of the one that the library wraps it in."""
        try:
            yield
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise


def check_unchanged(file: PlannedFile) -> None:
    """Compare size and modification time of a file with its plan.

    :raises FileChangedError: if they differ
    :raises OSError: if the file has been removed
    """
    _compare(file, os.stat(file.location))  # noqa: PTH116 - needs no Path


def _compare(file: PlannedFile, status: os.stat_result) -> None:
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise FileChangedError


@contextmanager
def detect_change(file: PlannedFile) -> Iterator[None]:
    """Replace an error by a `FileChangedError` if the file differs from its plan, since then a retry cannot help."""
    try:
        yield
    except DSSAbortedError:
        raise
    except Exception:
        check_unchanged(file)
        raise


def read_unchanged(file: PlannedFile) -> bytes:
    """Return the content of a file that matches its plan after reading.

    By descriptor: opening one of Python's file objects takes longer than reading a small file.

    :raises FileChangedError: if it differs from its plan
    :raises OSError: if it cannot be read
    """
    descriptor = os.open(file.location, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, file.size)
        while len(content) < file.size and (more := os.read(descriptor, file.size - len(content))):
            content += more
        _compare(file, os.fstat(descriptor))
    finally:
        os.close(descriptor)
    if len(content) != file.size:
        raise FileChangedError
    return content
