"""Files on this machine: found and opened inside of a directory, read in ranges by several threads.

A user who can write in the directory must not get other files into a bundle, which is permanent. So the directory is
opened once, and each directory below it relative to its parent, without following links.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from airflow_provider_hca.exceptions import DSSAbortedError
from airflow_provider_hca.upload.checksums import MIB
from airflow_provider_hca.upload.entries import FileChangedError, PlannedFile

OnBytes = Callable[[int], None]

_READ_SIZE = MIB // 2  # fits in the cache of a core
# Opening a FIFO would block until it has a writer.
_READ_ONLY = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_REPLACED = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO})  # by a link, a file, a socket


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

    :param file: path of the file, or its descriptor, which is closed with it
    :ivar size: size in bytes
    :raises OSError: if it cannot be opened
    """

    def __init__(self, file: Path | int) -> None:
        self._file = open(file, "rb", buffering=0)  # noqa: SIM115, PTH123 - closed by `__exit__`; may be a descriptor
        self.size = os.fstat(self._file.fileno()).st_size

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


class LocalDirectory:
    """An open directory whose files are planned, and compared with their plan when they are read.

    :param path: path of the directory; may be a link itself
    :param follow: whether to follow symbolic links below it
    :raises OSError: if it cannot be opened
    """

    def __init__(self, path: Path, *, follow: bool) -> None:
        self.follows = follow
        self._flags = _READ_ONLY if follow else _READ_ONLY | os.O_NOFOLLOW
        self._descriptor = os.open(path, _READ_ONLY | os.O_DIRECTORY)
        weakref.finalize(self, os.close, self._descriptor)

    @contextmanager
    def open_directory(self, name: str, parent: int | None = None) -> Iterator[int]:
        """Open a directory; yield its descriptor.

        :param name: name of the directory in its parent; empty for the parent itself
        :param parent: descriptor of the parent; this directory if None
        :raises OSError: if it cannot be opened
        """
        parent = self._descriptor if parent is None else parent
        descriptor = os.open(name, self._flags | os.O_DIRECTORY, dir_fd=parent) if name else os.dup(parent)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def check_unchanged(self, file: PlannedFile) -> None:
        """Compare kind, size and modification time of a file with its plan.

        :raises FileChangedError: if they differ
        :raises OSError: if the file has been removed
        """
        with self._parent(file.name) as (parent, name):
            _compare(file, os.stat(name, dir_fd=parent, follow_symlinks=self.follows))

    @contextmanager
    def detect_change(self, file: PlannedFile) -> Iterator[None]:
        """Replace an error by a `FileChangedError` if the file differs from its plan: then a retry cannot help."""
        try:
            yield
        except DSSAbortedError:
            raise
        except Exception:
            self.check_unchanged(file)
            raise

    def open(self, file: PlannedFile) -> OpenFile:
        """Open a file that matches its plan.

        :raises FileChangedError: if it differs from its plan
        :raises OSError: if it cannot be opened
        """
        descriptor = self._open(file)
        try:
            _compare(file, os.fstat(descriptor))
            return OpenFile(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def read_unchanged(self, file: PlannedFile) -> bytes:
        """Return the content of a file that matches its plan after reading.

        By descriptor: opening one of Python's file objects takes longer than reading a small file.

        :raises FileChangedError: if it differs from its plan
        :raises OSError: if it cannot be read
        """
        descriptor = self._open(file)
        try:
            _compare(file, os.fstat(descriptor))
            content = os.read(descriptor, file.size)
            while len(content) < file.size and (more := os.read(descriptor, file.size - len(content))):
                content += more
            _compare(file, os.fstat(descriptor))
        finally:
            os.close(descriptor)
        if len(content) != file.size:
            raise FileChangedError
        return content

    def _open(self, file: PlannedFile) -> int:
        with self._parent(file.name) as (parent, name):
            return os.open(name, self._flags, dir_fd=parent)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the parent directory of a file; yield its descriptor and the name of the file in it."""
        *directories, name = path.split("/")
        opened = self._descriptor
        try:
            for directory in directories:
                below = os.open(directory, self._flags | os.O_DIRECTORY, dir_fd=opened)
                if opened != self._descriptor:
                    os.close(opened)
                opened = below
            yield opened, name
        except OSError as error:
            if error.errno in _REPLACED:
                raise FileChangedError from None
            raise
        finally:
            if opened != self._descriptor:
                os.close(opened)


def _compare(file: PlannedFile, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise FileChangedError
