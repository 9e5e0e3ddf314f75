"""A directory of this machine as the source of an upload."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.entries import Names
from airflow_provider_hca.upload.local_files import LocalDirectory
from airflow_provider_hca.upload.options import Hidden, Symlinks
from airflow_provider_hca.upload.sources.base import FoundFile, Source, file_problem


class DirectoryWalk:
    """Listing of the files below a directory.

    :param directory: path of the directory
    :param hidden: `skip` or `include` files and directories whose names begin with a dot
    :param symlinks: `error` on symbolic links, `follow` or `skip` them
    :param names: range of names; other directories are not read
    :ivar directory: the open directory
    :raises InvalidDirectoryError: if the directory does not exist or cannot be read
    """

    source: Source | None = None

    def __init__(self, directory: Path, *, hidden: Hidden, symlinks: Symlinks, names: Names) -> None:
        self.root = str(directory)
        self.offenders: list[tuple[str, str]] = []
        self.directories: set[str] = set()
        self.skipped = 0
        self._hidden, self._symlinks, self._names = hidden, symlinks, names
        self.directory = _open(directory, follow=symlinks == "follow")

    def files(self) -> Iterator[FoundFile]:
        """Yield everything except directories."""
        with self.directory.open_directory("") as descriptor:
            yield from self._files("", descriptor, [])

    def _files(self, prefix: str, descriptor: int, ancestors: list[os.stat_result]) -> Iterator[FoundFile]:
        """Yield the files below a directory.

        :param prefix: name of the directory with a slash at its end; empty for the root
        :param descriptor: descriptor of the directory
        :param ancestors: directories that contain it
        """
        ancestors = [*ancestors, os.fstat(descriptor)]
        pending = []
        for name, status in self._entries(prefix, descriptor):
            if not stat.S_ISDIR(status.st_mode):
                if name in self._names:
                    is_regular = stat.S_ISREG(status.st_mode)
                    yield FoundFile(name, status.st_size, status.st_mtime_ns, is_regular=is_regular)
            elif any(os.path.samestat(status, ancestor) for ancestor in ancestors):
                self._refuse_directory(name, "is a symbolic link to a directory that contains it")
            elif self._names.may_begin_with(f"{name}/"):
                pending.append(name.removeprefix(prefix))
        for name in pending:
            try:
                with self.directory.open_directory(name, descriptor) as below:
                    yield from self._files(f"{prefix}{name}/", below, ancestors)
            except OSError as error:
                self._refuse_directory(f"{prefix}{name}/", f"the directory cannot be read: {error.strerror}")

    def problem(self, file: FoundFile) -> str | None:
        """Check name, size, kind and permissions."""
        problem = file_problem(file)
        if problem is None and not file.is_regular:
            return "is not a regular file"
        if problem is None and not os.access(f"{self.root}/{file.name}", os.R_OK):
            return "cannot be read: permission denied"
        return problem

    def _entries(self, prefix: str, descriptor: int) -> Iterator[tuple[str, os.stat_result]]:
        """Yield names and statuses of the wanted entries of a directory, one by one: each of them takes a KiB."""
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    if self._is_wanted(entry, name):
                        status = self._status(entry, name)
                        if status is not None:
                            yield name, status
        except OSError as error:
            self._refuse_directory(prefix or ".", f"the directory cannot be read: {error.strerror}")

    def _status(self, entry: os.DirEntry[str], name: str) -> os.stat_result | None:
        try:
            return entry.stat(follow_symlinks=self.directory.follows)
        except OSError as error:
            self.offenders.append((name, f"cannot be read: {error.strerror}"))
            return None

    def _is_wanted(self, entry: os.DirEntry[str], name: str) -> bool:
        if name not in self._names and not self._names.may_begin_with(f"{name}/"):
            return False
        if self._hidden == "skip" and entry.name.startswith("."):
            self.skipped += 1
            return False
        if not entry.is_symlink() or self._symlinks == "follow":
            return True
        if self._symlinks == "skip":
            self.skipped += 1
        else:
            reason = "is a symbolic link: give symlinks='follow' or symlinks='skip'"
            if entry.is_dir():
                self._refuse_directory(name, reason)
            else:
                self.offenders.append((name, reason))
        return False

    def _refuse_directory(self, name: str, reason: str) -> None:
        self.directories.add(name)
        self.offenders.append((name, reason))


def _open(root: Path, *, follow: bool) -> LocalDirectory:
    try:
        return LocalDirectory(root, follow=follow)
    except FileNotFoundError:
        reason = "there is no such directory on this worker"
    except NotADirectoryError:
        reason = "it is not a directory"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    raise InvalidDirectoryError(str(root), [("", reason)])
