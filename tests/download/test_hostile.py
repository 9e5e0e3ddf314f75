"""Test that nothing is written outside the directory, whatever the manifest and the directory contain."""

from __future__ import annotations

import itertools
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from airflow_provider_hca.exceptions import DownloadError, InvalidManifestError

from .server import OneBundle
from .support import MIB, download, tree, wanted_of


def content_requests(served: OneBundle) -> int:
    return sum(count for request, count in served.requests.items() if request.startswith("GET /content/"))


@pytest.mark.parametrize("below", [False, True])
def test_name_of_the_partial_file_of_another_is_refused(served: OneBundle, target: Path, below: bool) -> None:
    served.add("d/a")
    (wanted,) = wanted_of(served)
    served.add(f"d/{wanted.partial_name}" + ("/x" if below else ""), b"hostile")
    with pytest.raises(InvalidManifestError, match="name of the incomplete download"):
        download(served, target)
    assert not target.exists()


def test_small_file_that_is_larger_than_in_the_manifest_fails(served: OneBundle, target: Path) -> None:
    """Small files are fetched into memory."""
    served.add("a", b"x" * (16 * MIB), size=3)
    with pytest.raises(DownloadError, match="expected 3 bytes, got more"):
        download(served, target)
    assert served.sent < 16 * MIB
    assert tree(target) == {}


@contextmanager
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_deep_paths_need_few_descriptors(served: OneBundle, target: Path) -> None:
    names = [f"{'d/' * 200}{number}" for number in range(4)]
    for name in names:
        served.add(name)
    with few_descriptors():
        download(served, target)
    assert sorted(tree(target)) == names


def test_hard_link_with_the_name_of_a_partial_file_is_not_overwritten(served: OneBundle, target: Path) -> None:
    served.add("a", b"content")
    (wanted,) = wanted_of(served)
    victim = target.parent / "victim"
    target.mkdir(parents=True)
    victim.write_text("mine")
    os.link(victim, target / wanted.partial_name)
    with pytest.raises(DownloadError, match="blocks this path"):
        download(served, target)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("link_target", ["file", "nothing", "directory"])
def test_link_with_the_name_of_a_file_is_an_error(served: OneBundle, target: Path, link_target: str) -> None:
    """Nothing is requested, and the link and its target stay."""
    victim = target.parent / "victim"
    target.mkdir(parents=True)
    if link_target == "file":
        victim.write_bytes(b"content")
    if link_target == "directory":
        victim.mkdir()
    (target / "a").symlink_to(victim)
    served.add("a", b"content")
    with pytest.raises(DownloadError, match=r"blocks this path: .*/target/a"):
        download(served, target)
    assert (target / "a").readlink() == victim
    assert tree(target.parent) == ({"victim": b"content"} if link_target == "file" else {})
    assert content_requests(served) == 0


def _directory(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_directory, _fifo])
@pytest.mark.parametrize("where", ["file", "partial"])
def test_blocked_path_is_found_before_content_is_requested(
    served: OneBundle, target: Path, make: Callable[[Path], None], where: str
) -> None:
    served.add("a")
    (wanted,) = wanted_of(served)
    target.mkdir(parents=True)
    make(target / ("a" if where == "file" else wanted.partial_name))
    with pytest.raises(DownloadError, match="blocks this path"):
        download(served, target)
    assert content_requests(served) == 0


def _swap(path: Path, outside: Path) -> None:
    """Also when the download creates the directory again after it moved."""
    link = path.with_name("link")
    link.symlink_to(outside)
    for number in itertools.count():
        path.rename(path.with_name(f"moved{number}"))
        with suppress(IsADirectoryError):
            link.rename(path)
            return


def _swap_file(path: Path, outside: Path) -> None:
    (path / "a0").symlink_to(outside / "new")


@pytest.mark.parametrize(("name", "swap"), [("", _swap), ("d", _swap), ("d", _swap_file)])
def test_directory_swapped_for_a_link_leads_no_file_elsewhere(
    served: OneBundle, target: Path, name: str, swap: Callable[[Path, Path], None]
) -> None:
    """Also a directory below, or a file, and while files are downloaded."""
    outside = target.parent / "elsewhere"
    (outside / "d").mkdir(parents=True)
    for number in range(8):
        served.add(f"d/a{number}", b"x" * MIB)
    served.slow = 0.02
    ended: list[object] = []

    def work() -> None:
        try:
            ended.append(download(served, target))
        except DownloadError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not list(target.glob("d/.*.part")):
        time.sleep(0.01)
    swap(target / name, outside)
    thread.join(30)
    assert ended
    assert tree(outside) == {}


def test_probe_for_case_leaves_no_file(served: OneBundle, target: Path) -> None:
    """Nor does a link with its name lead it elsewhere."""
    outside = target.parent / "elsewhere"
    outside.mkdir(parents=True)
    target.mkdir()
    link = target / f".case-{os.getpid()}.part"
    link.symlink_to(outside / "created")
    served.add("a", b"1")
    served.add("A", b"2")
    download(served, target)
    assert list(outside.iterdir()) == []
    link.unlink()
    assert tree(target) == {"a": b"1", "A": b"2"}


def test_empty_directory_name_is_refused(served: OneBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template can render to nothing; that is not the current directory."""
    monkeypatch.chdir(tmp_path)
    served.add("a")
    with pytest.raises(ValueError, match="directory is empty"):
        download(served, "")  # type: ignore[arg-type]  # as from operators
    assert list(tmp_path.iterdir()) == []
