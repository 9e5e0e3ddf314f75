"""Writing below a directory, and nowhere else: whatever names say, and whatever somebody puts in the way.

The directory is opened once, and each one below it relative to the one above and without following a link, so there is
no moment between a check and a use.
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
_IN_THE_WAY = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO}
_NOT_WANTED = "a link, or something else that is not wanted there, is in the way"


class Target:
    """A directory to write into, open until it is closed.

    :param path: of the directory, which is made where it is missing; it may be a link itself, as whoever names it
        wants it there
    :raises OSError: when it cannot be made or opened
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        # Kept open, so that what takes its name later is not written into.
        self._descriptor = os.open(path, _DIRECTORY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that comes late must not take what gets the number next for this.
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def ignores_case(self) -> bool:
        """Try whether `a` and `A` are the same file here.

        :raises OSError: when nothing can be written
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
    def open_parent(self, parts: Sequence[str]) -> Iterator[Parent]:
        """Open the directory that a file lies in, making what is missing of it.

        :param parts: of the file's path
        :raises OSError: when something that is no directory is in the way, a link too
        """
        descriptor = os.dup(self._descriptor)
        try:
            for depth, part in enumerate(parts[:-1], start=1):
                try:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=descriptor)
                    below = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                except OSError as error:
                    raise _told(error, self._path.joinpath(*parts[:depth])) from None
                os.close(descriptor)
                descriptor = below
            yield Parent(descriptor, self._path.joinpath(*parts[:-1]))
        finally:
            os.close(descriptor)


class Parent:
    """An open directory, and what is done with the files in it.

    :param descriptor: of the open directory
    :param path: of it, for error messages
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor, self._path = descriptor, path

    def size(self, name: str) -> int | None:
        """Return how long a file is, in bytes; None if there is none.

        :raises OSError: when there is something that is no file
        """
        status = self._status(name)
        if status is None:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EEXIST, _NOT_WANTED, str(self._path / name))
        return status.st_size

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading, and never what a link points to."""
        return os.fdopen(self._open(name, os.O_RDONLY), "rb")

    def open_partial(self, name: str) -> BinaryIO:
        """Open a file for reading and writing, as it was left; it is made where it is missing.

        As long as it is open it is locked, so that of two that download the same one does not cut off the other's.

        :raises OSError: when it is no file, has another name too, or is open elsewhere
        """
        descriptor = self._open(name, os.O_RDWR | os.O_CREAT)
        try:
            self._lock(descriptor, name)
            return os.fdopen(descriptor, "r+b")
        except BaseException:
            os.close(descriptor)
            raise

    def rename(self, name: str, to: str) -> None:
        """Give a file another name, in the place of whatever file or link has it."""
        try:
            os.replace(name, to, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except OSError as error:
            raise _told(error, self._path / to) from None

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self._status(name) is not None:  # a disk that is read only refuses to remove what is not there, too
            os.unlink(name, dir_fd=self._descriptor)

    def _status(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _open(self, name: str, flags: int) -> int:
        try:
            # O_NONBLOCK: a pipe would wait for somebody at its other end.
            return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=self._descriptor)
        except OSError as error:
            raise _told(error, self._path / name) from None

    def _lock(self, descriptor: int, name: str) -> None:
        opened, path = os.fstat(descriptor), str(self._path / name)
        if not stat.S_ISREG(opened.st_mode) or opened.st_nlink > 1:
            raise OSError(errno.EEXIST, _NOT_WANTED, path)
        busy = OSError(errno.EBUSY, "another process is downloading the same into this directory", path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError:
            pass  # some network file systems know no locks; then nobody must start it twice
        now = self._status(name)
        if now is None or not os.path.samestat(now, opened):  # whoever had it locked is done with it
            raise busy


def _told(error: OSError, path: Path) -> OSError:
    return OSError(error.errno, _NOT_WANTED if error.errno in _IN_THE_WAY else error.strerror, str(path))
