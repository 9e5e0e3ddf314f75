"""Files that are replaced after they were planned: nothing outside of the directory is ever read."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.entries import FileChangedError, PlannedFile
from airflow_provider_hca.upload.local_files import LocalDirectory
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.sources.base import FoundFile, file_problem
from tests.upload.support import plan, write_tree

SECRET, PLANNED = b"secret", b"public"


def _replace_by_link(file: Path, outside: Path) -> None:
    file.unlink()
    file.symlink_to(outside / "a/b/file")


def _replace_parent(file: Path, outside: Path) -> None:
    file.parent.rename(file.parent.with_name("old"))
    file.parent.symlink_to(outside / "a/b")


def _replace_directory(file: Path, outside: Path) -> None:
    file.parents[1].rename(file.parents[1].with_name("old"))
    file.parents[1].symlink_to(outside / "a")


def _replace_by_fifo(file: Path, _: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _replace_by_socket(file: Path, _: Path) -> None:
    file.unlink()
    # In its directory, since the path of a socket has at most 107 bytes.
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(file.parent):
        listener.bind(file.name)


def _replace_by_directory(file: Path, _: Path) -> None:
    file.unlink()
    file.mkdir()


def _replace_parent_by_file(file: Path, _: Path) -> None:
    file.parent.rename(file.parent.with_name("old"))
    file.parent.write_bytes(SECRET)


REPLACEMENTS: list[Callable[[Path, Path], None]] = [
    _replace_by_link,
    _replace_parent,
    _replace_directory,
    _replace_by_fifo,
    _replace_by_socket,
    _replace_by_directory,
    _replace_parent_by_file,
]


def _planned(tmp_path: Path, **options: str) -> tuple[LocalDirectory, PlannedFile, Path]:
    """Plan a file, and write one of the same size and time outside of the directory."""
    inside = write_tree(tmp_path / "inside", {"a/b/file": PLANNED})
    outside = write_tree(tmp_path / "outside", {"a/b/file": SECRET})
    planned: Plan = plan(inside, **options)
    [file] = planned.files
    os.utime(outside / "a/b/file", ns=(file.mtime_ns, file.mtime_ns))
    assert planned.directory is not None
    return planned.directory, file, outside


@pytest.mark.parametrize("replace", REPLACEMENTS)
def test_replaced_file_is_not_read(tmp_path: Path, replace: Callable[[Path, Path], None]) -> None:
    directory, file, outside = _planned(tmp_path)
    replace(file.path, outside)
    for call in (directory.read_unchanged, directory.open, directory.check_unchanged):
        with pytest.raises(FileChangedError):
            call(file)


def test_replaced_root_is_not_read(tmp_path: Path) -> None:
    """The directory stays open: another one that takes its name is not read."""
    directory, file, outside = _planned(tmp_path)
    (tmp_path / "inside").rename(tmp_path / "old")
    (tmp_path / "inside").symlink_to(outside)
    assert directory.read_unchanged(file) == PLANNED


def test_followed_link_may_be_replaced(tmp_path: Path) -> None:
    """With symlinks="follow" links lead anywhere."""
    directory, file, outside = _planned(tmp_path, symlinks="follow")
    _replace_by_link(file.path, outside)
    assert directory.read_unchanged(file) == SECRET


def test_followed_fifo_is_not_read(tmp_path: Path) -> None:
    directory, file, outside = _planned(tmp_path, symlinks="follow")
    _replace_by_fifo(file.path, outside)
    with pytest.raises(FileChangedError):
        directory.read_unchanged(file)


def test_removed_file_is_an_error_that_may_pass(tmp_path: Path) -> None:
    directory, file, _ = _planned(tmp_path)
    file.path.unlink()
    with pytest.raises(FileNotFoundError):
        directory.read_unchanged(file)


def test_directory_replaced_while_it_is_listed_is_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the list of a directory and the next open, its entry may become a link."""
    inside = write_tree(tmp_path / "inside", {"a/b/file": PLANNED})
    outside = write_tree(tmp_path / "outside", {"b/file": SECRET})
    open_directory = LocalDirectory.open_directory

    def replace_first(self: LocalDirectory, name: str, parent: int | None = None):  # type: ignore[no-untyped-def]
        if name == "a":
            (inside / "a").rename(tmp_path / "old")
            (inside / "a").symlink_to(outside)
        return open_directory(self, name, parent)

    monkeypatch.setattr(LocalDirectory, "open_directory", replace_first)
    with pytest.raises(InvalidDirectoryError, match=os.strerror(errno.ENOTDIR)):
        plan(inside)


def test_descriptors_are_closed(tmp_path: Path) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    directory, file, _ = _planned(tmp_path)
    for _ in range(10):
        directory.read_unchanged(file)
        directory.check_unchanged(file)
        directory.open(file).__exit__()
    del directory
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_deep_directories_are_planned(tmp_path: Path) -> None:
    name = "/".join(["d"] * 200 + ["file"])
    directory, [file] = (planned := plan(write_tree(tmp_path, {name: PLANNED}))).directory, planned.files
    assert directory is not None
    assert (file.name, directory.read_unchanged(file)) == (name, PLANNED)


def test_file_above_the_limit_of_stores_is_refused() -> None:
    assert file_problem(FoundFile("huge", 5 * 1024**4, 0)) is None
    assert "at most 5 TiB" in (file_problem(FoundFile("huge", 5 * 1024**4 + 1, 0)) or "")
