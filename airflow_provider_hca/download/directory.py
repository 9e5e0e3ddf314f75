"""Write files below a directory and nowhere else, whatever their names are and whatever exists there.

The directory is opened once. Each directory below is opened relative to its parent without following links, so there is
no time between check and use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_BLOCKED = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO}
_BLOCKED_MESSAGE = "a link or another object that is not a plain file or directory blocks this path"


class TargetDirectory:
    """Open directory that files are written to.

    :param path: Path of the directory, created if missing; may be a link itself
    :raises OSError: if the directory cannot be created or opened
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        # Kept open: a directory that takes this name later must not be written to.
        self._descriptor = os.open(path, _DIRECTORY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that is still running must not use the next file that gets this number.
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def ignores_case(self) -> bool:
        """Return whether the file system treats `a` and `A` as the same name.

        :raises OSError: if no file can be created
        """
        name = f".case-{secrets.token_hex(8)}.part"
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._descriptor))
        try:
            os.stat(name.upper(), dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        else:
            return True
        finally:
            os.unlink(name, dir_fd=self._descriptor)

    @contextmanager
    def open_parent(self, parts: Sequence[str]) -> Iterator[OpenDirectory]:
        """Open the parent directory of a file; create missing directories.

        :param parts: Parts of the file's path
        :raises OSError: if a link or another object that is not a directory blocks the path
        """
        descriptor = os.dup(self._descriptor)
        try:
            for depth, part in enumerate(parts[:-1], start=1):
                try:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=descriptor)
                    below = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                except OSError as error:
                    raise _with_path(error, self._path.joinpath(*parts[:depth])) from None
                os.close(descriptor)
                descriptor = below
            yield OpenDirectory(descriptor, self._path.joinpath(*parts[:-1]))
        finally:
            os.close(descriptor)


class OpenDirectory:
    """Operations on the files of an open directory.

    :param descriptor: File descriptor of the directory
    :param path: Path of the directory, for error messages
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor, self._path = descriptor, path

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None if it does not exist.

        :raises OSError: if the name is not a plain file
        """
        status = self._status(name)
        if status is None:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EEXIST, _BLOCKED_MESSAGE, str(self._path / name))
        return status.st_size

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading without following a link."""
        return os.fdopen(self._open(name, os.O_RDONLY), "rb")

    def open_partial(self, name: str) -> BinaryIO:
        """Open a partial file for reading and writing with its present content; create it if missing.

        The file is locked while open, so that two downloads of the same file cannot truncate each other's.

        :raises OSError: if it is not a plain file, has a second hard link, or is locked by another process
        """
        descriptor = self._open(name, os.O_RDWR | os.O_CREAT)
        try:
            self._lock(descriptor, name)
            return os.fdopen(descriptor, "r+b")
        except BaseException:
            os.close(descriptor)
            raise

    def rename(self, name: str, to: str) -> None:
        """Rename a file; replace a file or link of the new name."""
        try:
            os.replace(name, to, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except OSError as error:
            raise _with_path(error, self._path / to) from None

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        if self._status(name) is not None:  # a read-only disk refuses to remove missing files too
            os.unlink(name, dir_fd=self._descriptor)

    def _status(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _open(self, name: str, flags: int) -> int:
        try:
            # O_NONBLOCK: opening a FIFO would block until it has a writer.
            return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=self._descriptor)
        except OSError as error:
            raise _with_path(error, self._path / name) from None

    def _lock(self, descriptor: int, name: str) -> None:
        opened, path = os.fstat(descriptor), str(self._path / name)
        if not stat.S_ISREG(opened.st_mode) or opened.st_nlink > 1:
            raise OSError(errno.EEXIST, _BLOCKED_MESSAGE, path)
        busy = OSError(errno.EBUSY, "another process is downloading the same into this directory", path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError:
            pass  # some network file systems have no locks
        now = self._status(name)
        if now is None or not os.path.samestat(now, opened):  # its owner renamed it meanwhile
            raise busy


def _with_path(error: OSError, path: Path) -> OSError:
    return OSError(error.errno, _BLOCKED_MESSAGE if error.errno in _BLOCKED else error.strerror, str(path))
