"""Writing below a directory, and nowhere else: whatever names say, and whatever links somebody puts in the way.

Each directory on the way is opened relative to the one above it and without following a link, so there is no moment
between a check and a use.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_IN_THE_WAY = {errno.ELOOP, errno.ENOTDIR, errno.EISDIR}


class Target:
    """A directory to write into.

    :param path: of the directory, which is made where it is missing; it may be a link itself, as whoever names it
        wants it there
    :raises OSError: when it cannot be made or is none
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path.resolve()

    @property
    def ignores_case(self) -> bool:
        """Whether `a` and `A` are the same file here."""
        probe = self.path / f".case-{os.getpid()}.part"
        probe.touch()
        try:
            return probe.with_name(probe.name.upper()).exists()
        finally:
            probe.unlink(missing_ok=True)

    @contextmanager
    def open_parent(self, parts: Sequence[str]) -> Iterator[Parent]:
        """Open the directory that a file lies in, making what is missing of it.

        :param parts: of the file's path
        :raises OSError: when something that is no directory is in the way, a link too
        """
        opened = [os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)]
        try:
            for depth, part in enumerate(parts[:-1], start=1):
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=opened[-1])
                try:
                    opened.append(os.open(part, _DIRECTORY, dir_fd=opened[-1]))
                except OSError as error:
                    raise _in_the_way(error, self.path.joinpath(*parts[:depth])) from None
            yield Parent(opened[-1], self.path.joinpath(*parts[:-1]))
        finally:
            for descriptor in reversed(opened):
                os.close(descriptor)


class Parent:
    """An open directory, and what is done with the files in it.

    :param descriptor: of the open directory
    :param path: of it, for error messages
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor, self._path = descriptor, path

    def size(self, name: str) -> int | None:
        """Return how long a file is, in bytes; None if there is none, or something that is no file."""
        try:
            status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def open(self, name: str, flags: int) -> BinaryIO:
        """Open a file, and never what a link points to.

        :param name: of the file
        :param flags: as `os.open` has them
        """
        try:
            descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=self._descriptor)
        except OSError as error:
            raise _in_the_way(error, self._path / name) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EEXIST, "something that is no file is in the way", str(self._path / name))
        return os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "rb")

    def rename(self, name: str, to: str) -> None:
        """Give a file another name, in the place of whatever file has it; a link is replaced, not followed."""
        try:
            os.replace(name, to, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except OSError as error:
            raise _in_the_way(error, self._path / to) from None

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)


def _in_the_way(error: OSError, path: Path) -> OSError:
    if error.errno in _IN_THE_WAY:
        return OSError(error.errno, "a link, or something else that is not wanted there, is in the way", str(path))
    return OSError(error.errno, error.strerror, str(path))
