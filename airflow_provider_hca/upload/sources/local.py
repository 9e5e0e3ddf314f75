"""A directory of this machine as what is uploaded."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from airflow_provider_hca.client.models import check_name
from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.entries import Names

Hidden = Literal["skip", "include"]
Symlinks = Literal["error", "follow", "skip"]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """What a walk came to."""

    name: str
    path: str
    status: os.stat_result
    revision: ClassVar[str] = ""

    @property
    def size(self) -> int:
        """In bytes."""
        return self.status.st_size

    @property
    def mtime_ns(self) -> int:
        """Modification time."""
        return self.status.st_mtime_ns

    def problem(self) -> str | None:
        """Return why it cannot be a file of a bundle, if so."""
        return _problem(self.name, self.path, self.status)


class Walk:
    """A walk through a directory, which remembers what it left out and what it stumbled over."""

    source = None

    def __init__(self, directory: Path, *, hidden: Hidden, symlinks: Symlinks, names: Names) -> None:
        _check_directory(directory)
        self.root = str(directory)
        self.directories: set[str] = set()  # of the offenders
        self._hidden, self._symlinks, self._names = hidden, symlinks, names
        self.offenders: list[tuple[str, str]] = []
        self.skipped = 0

    def files(self) -> Iterator[tuple[str, FoundFile]]:
        """Yield everything that is not a directory, and its name."""
        status = os.stat(self.root)  # noqa: PTH116 - as text, as all below it
        ancestors: tuple[tuple[int, int], ...] = ((status.st_dev, status.st_ino),)
        waiting = [("", self.root, ancestors)]
        while waiting:
            prefix, directory, ancestors = waiting.pop()
            for entry in self._entries(prefix, directory):
                name = prefix + entry.name
                below = self._names.may_begin_with(f"{name}/")
                if not (below or name in self._names) or not self._is_wanted(entry, name):
                    continue
                try:
                    status = entry.stat()
                except OSError as error:
                    self.offenders.append((name, f"cannot be read: {error.strerror}"))
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    if name in self._names:
                        yield name, FoundFile(name, entry.path, status)
                elif not below:
                    continue
                elif (status.st_dev, status.st_ino) in ancestors:
                    self.directories.add(name)
                    self.offenders.append((name, "is a symbolic link to a directory that it lies in"))
                else:
                    inner = (*ancestors, (status.st_dev, status.st_ino))
                    waiting.append((f"{name}/", entry.path, inner))

    def _entries(self, prefix: str, directory: str) -> Iterator[os.DirEntry[str]]:
        """Yield what is in a directory, one by one: each of them, with its status, takes a KiB."""
        try:
            with os.scandir(directory) as entries:
                yield from entries
        except OSError as error:
            self.directories.add(prefix or ".")
            self.offenders.append((prefix or ".", f"the directory cannot be read: {error.strerror}"))

    def _is_wanted(self, entry: os.DirEntry[str], name: str) -> bool:
        if self._hidden == "skip" and entry.name.startswith("."):
            self.skipped += 1
            return False
        if not entry.is_symlink() or self._symlinks == "follow":
            return True
        if self._symlinks == "skip":
            self.skipped += 1
        else:
            if entry.is_dir():
                self.directories.add(name)
            self.offenders.append((name, "is a symbolic link: say symlinks='follow' or symlinks='skip'"))
        return False


def _problem(name: str, path: str, status: os.stat_result) -> str | None:
    try:
        check_name(name)
    except ValueError as error:
        return str(error)
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if not os.access(path, os.R_OK):
        return "cannot be read: permission denied"
    return None


def _check_directory(root: Path) -> None:
    try:
        reason = "it is not a directory" if root.exists() else "there is no such directory on this worker"
        if not root.is_dir():
            raise InvalidDirectoryError(str(root), [("", reason)])
    except OSError as error:  # one above it may not be entered
        raise InvalidDirectoryError(str(root), [("", f"cannot be read: {error.strerror}")]) from None
