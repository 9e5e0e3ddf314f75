"""Nothing is written outside the directory, whatever a manifest says and whatever somebody puts in the way."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_hca.exceptions import DownloadError, InvalidManifestError

from .server import OneBundle
from .support import MIB, download, tree, wanted_of


def contents_asked(served: OneBundle) -> int:
    return sum(count for asked, count in served.asked.items() if asked.startswith("GET /content/"))


@pytest.mark.parametrize("below", [False, True])
def test_a_name_that_is_anothers_partial_one(served: OneBundle, target: Path, below: bool) -> None:
    """A file that is called what another one is called until it is whole would be lost to it, so it is refused."""
    served.add("d/a")
    (wanted,) = wanted_of(served)
    served.add(f"d/{wanted.partial_name}" + ("/x" if below else ""), b"hostile")
    with pytest.raises(InvalidManifestError, match="name of the incomplete download"):
        download(served, target)
    assert not target.exists()


@contextmanager
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_names_of_very_many_directories(served: OneBundle, target: Path) -> None:
    """Depth costs no open files: a worker has the last directory open, not all on the way."""
    names = [f"{'d/' * 200}{number}" for number in range(4)]
    for name in names:
        served.add(name)
    with few_descriptors():
        download(served, target)
    assert sorted(tree(target)) == names


def test_a_hard_link_in_the_place_of_a_partial_file(served: OneBundle, target: Path) -> None:
    """Whoever gives a file of yours the name of a partial one does not get it overwritten."""
    served.add("a", b"content")
    (wanted,) = wanted_of(served)
    victim = target.parent / "victim"
    target.mkdir(parents=True)
    victim.write_text("mine")
    os.link(victim, target / wanted.partial_name)
    with pytest.raises(DownloadError, match="blocks this path"):
        download(served, target)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("leads_to", ["file", "nothing", "directory"])
def test_a_link_in_the_place_of_a_file(served: OneBundle, target: Path, leads_to: str) -> None:
    """A link of a file's name is an error that names it, before anything is fetched; it and where it leads stay."""
    victim = target.parent / "victim"
    target.mkdir(parents=True)
    if leads_to == "file":
        victim.write_bytes(b"content")
    if leads_to == "directory":
        victim.mkdir()
    (target / "a").symlink_to(victim)
    served.add("a", b"content")
    with pytest.raises(DownloadError, match=r"blocks this path: .*/target/a"):
        download(served, target)
    assert (target / "a").readlink() == victim
    assert tree(target.parent) == ({"victim": b"content"} if leads_to == "file" else {})
    assert contents_asked(served) == 0


def _directory(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_directory, _fifo])
@pytest.mark.parametrize("where", ["file", "partial"])
def test_what_is_in_the_way_is_found_before_anything_is_fetched(
    served: OneBundle, target: Path, make: Callable[[Path], None], where: str
) -> None:
    """Nobody waits for a file of a hundred gigabytes to hear that there is no place for it."""
    served.add("a")
    (wanted,) = wanted_of(served)
    target.mkdir(parents=True)
    make(target / ("a" if where == "file" else wanted.partial_name))
    with pytest.raises(DownloadError, match="blocks this path"):
        download(served, target)
    assert contents_asked(served) == 0


def _swap(path: Path, outside: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(outside)


def _swap_file(path: Path, outside: Path) -> None:
    (path / "a0").symlink_to(outside / "new")


@pytest.mark.parametrize(("what", "swap"), [("", _swap), ("d", _swap), ("d", _swap_file)])
def test_links_that_are_put_there_meanwhile(
    served: OneBundle, target: Path, what: str, swap: Callable[[Path, Path], None]
) -> None:
    """The directory, one below it, or a file, swapped for a link while files come, leads no file elsewhere."""
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
    swap(target / what, outside)
    thread.join(30)
    assert ended
    assert tree(outside) == {}


def test_the_question_of_upper_and_lower_case_leaves_nothing(served: OneBundle, target: Path) -> None:
    """Names that differ in case only are asked the file system about; no link can lead that question elsewhere."""
    outside = target.parent / "elsewhere"
    outside.mkdir(parents=True)
    target.mkdir()
    link = target / f".case-{os.getpid()}.part"
    link.symlink_to(outside / "made")
    served.add("a", b"1")
    served.add("A", b"2")
    download(served, target)
    assert list(outside.iterdir()) == []
    link.unlink()
    assert tree(target) == {"a": b"1", "A": b"2"}


def test_a_directory_of_no_name(served: OneBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty name, as a template that rendered to nothing gives, is not taken for the current directory."""
    monkeypatch.chdir(tmp_path)
    served.add("a")
    with pytest.raises(ValueError, match="directory is empty"):
        download(served, "")  # type: ignore[arg-type]  # what operators hand on
    assert list(tmp_path.iterdir()) == []
