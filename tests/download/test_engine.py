"""Downloads into real directories, from a server that may be hostile or break, and from the local DSS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.exchange import RetryPolicy
from airflow_provider_hca.client.protocol import DSSAPI
from airflow_provider_hca.client.transports import RequestsTransport
from airflow_provider_hca.download.engine import Downloader, DownloadReport
from airflow_provider_hca.exceptions import (
    DownloadError,
    DSSAbortedError,
    DSSNotFoundError,
    InvalidManifestError,
)
from tests.local.server import LocalDSS, new_uuid

from .server import OneBundle

MIB = 1 << 20
QUICK = RetryPolicy(attempts=3, seconds=5, first_delay=0.02)


@pytest.fixture
def served() -> Iterator[OneBundle]:
    with OneBundle() as bundle:
        yield bundle


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Give a directory inside another one, in which nothing else is to appear."""
    return tmp_path / "outside" / "target"


def download(served: OneBundle, target: Path, *, stop: threading.Event | None = None, **options: Any) -> DownloadReport:
    stop = stop or threading.Event()
    api = DSSAPI(served.url, auth=StaticToken("tok-7"), retry=QUICK)
    with RequestsTransport(pool_size=4, stop=stop) as transport:
        downloader = Downloader(api, transport, replica="aws", workers=4, stop=stop)
        return downloader.download(served.uuid, target, **options)


def tree(directory: Path) -> dict[str, bytes]:
    """Return all files below a directory."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def test_a_bundle_becomes_a_directory(served: OneBundle, target: Path) -> None:
    """Files of all sizes get their names and contents, and the report counts them."""
    contents = {"a.json": b"{}", "empty": b"", "reads/r1/x.gz": os.urandom(3 * MIB + 7), "ü b/ c": b"1"}
    for name, content in contents.items():
        served.add(name, content)
    report = download(served, target)
    assert tree(target) == contents
    assert (report.files, report.downloaded_files) == (4, 4)
    assert report.size == report.downloaded_size == sum(map(len, contents.values()))
    assert (report.uuid, report.directory) == (served.uuid, str(target))


def test_files_have_the_usual_permissions(served: OneBundle, target: Path) -> None:
    """What is downloaded can be read by whom the umask lets."""
    served.add("a")
    download(served, target)
    beside = target / "beside"
    beside.touch()
    assert (target / "a").stat().st_mode == beside.stat().st_mode


def test_again_downloads_nothing(served: OneBundle, target: Path) -> None:
    """What is there and right is left alone, and other files too; what is wrong is replaced."""
    served.add("a", b"right")
    served.add("b/c", b"right too")
    download(served, target)
    before = (target / "a").stat()
    (target / "mine").write_text("mine")
    (target / "b" / "c").write_text("wrong ...")
    sent = served.sent
    report = download(served, target)
    assert (report.downloaded_files, served.sent - sent) == (1, len(b"right too"))
    assert tree(target) == {"a": b"right", "b/c": b"right too", "mine": b"mine"}
    assert (target / "a").stat() == before


def test_the_token_goes_to_nobody_else(served: OneBundle, target: Path) -> None:
    """Neither the manifest nor the contents need a token, and none is sent."""
    served.add("a")
    download(served, target)
    assert set(served.tokens) == {None}


def test_a_broken_connection_is_taken_up_where_it_broke(served: OneBundle, target: Path) -> None:
    """However often it breaks, as long as something comes, no byte is fetched twice."""
    content = os.urandom(5 * MIB)
    served.add("a", content)
    served.break_after, served.breaks = MIB // 2, 8
    download(served, target)
    assert tree(target) == {"a": content}
    assert served.sent < len(content) * 1.3


@pytest.mark.parametrize("left", [b"right beginning", b"wrong", b"x" * 100_000, b""])
def test_what_an_earlier_try_left(served: OneBundle, target: Path, left: bytes) -> None:
    """The right beginning of a file is completed; anything else is downloaded whole; nothing of it stays."""
    content = b"right beginning" + os.urandom(50_000)
    served.add("d/a", content)
    download(served, target)
    (target / "d" / "a").unlink()
    from airflow_provider_hca.download.plan import plan_download

    bundle = json.loads(served.manifest())["bundle"]
    (wanted,) = plan_download(bundle)
    (target / "d" / wanted.partial_name).write_bytes(left)
    served.sent = 0
    download(served, target)
    assert tree(target) == {"d/a": content}
    if left == b"right beginning":
        assert served.sent == 50_000
    assert served.sent <= 2 * len(content)


def test_wrong_content_is_never_in_its_place(served: OneBundle, target: Path) -> None:
    """A file whose content is not what the manifest says fails by name, and the others are there."""
    served.add("good", b"good")
    served.contents[served.add("bad", b"what was promised")["uuid"]] = b"what is delivered"
    with pytest.raises(DownloadError, match="'bad'") as caught:
        download(served, target)
    assert (caught.value.done, caught.value.total, caught.value.permanent) == (1, 2, False)
    assert tree(target)["good"] == b"good"
    assert "bad" not in tree(target)


def test_a_file_that_is_gone_fails_by_name(served: OneBundle, target: Path) -> None:
    """A file of the manifest that the DSS does not have is told, and the others are there."""
    served.add("good", b"good")
    del served.contents[served.add("gone")["uuid"]]
    with pytest.raises(DownloadError, match="'gone'"):
        download(served, target)
    assert tree(target) == {"good": b"good"}


# What must not be


@pytest.mark.parametrize("name", ["../x", "../../x", "{outside}/x", "a/../../x", "..", "\\..\\x"])
def test_a_name_never_leaves_the_directory(served: OneBundle, target: Path, tmp_path: Path, name: str) -> None:
    """A hostile manifest writes nothing at all, not even its good files."""
    served.add("good")
    served.add(name.format(outside=tmp_path))
    with pytest.raises(InvalidManifestError):
        download(served, target)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("name", ["link/x", "d/link/x", "link/d/x"])
def test_a_link_to_a_directory_in_the_way(served: OneBundle, target: Path, name: str, absolute: bool) -> None:
    """A link below the directory is not followed, wherever it leads; the error names it."""
    outside = target.parent / "elsewhere"
    outside.mkdir(parents=True)
    above = target / name.split("link")[0]
    above.mkdir(parents=True)
    (above / "link").symlink_to(outside if absolute else os.path.relpath(outside, above))
    served.add(name)
    with pytest.raises(DownloadError, match="a link, or something else"):
        download(served, target)
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_a_file(served: OneBundle, target: Path) -> None:
    """A link of a file's name is replaced by the file; what it led to stays as it was."""
    victim = target.parent / "victim"
    target.mkdir(parents=True)
    victim.write_text("mine")
    (target / "a").symlink_to(victim)
    served.add("a", b"content")
    download(served, target)
    assert victim.read_text() == "mine"
    assert not (target / "a").is_symlink()
    assert tree(target) == {"a": b"content"}


def test_a_link_in_the_place_of_a_partial_file(served: OneBundle, target: Path) -> None:
    """Whoever guesses what a file is called until it is whole cannot have it written elsewhere."""
    from airflow_provider_hca.download.plan import plan_download

    served.add("a", b"content")
    (wanted,) = plan_download(json.loads(served.manifest())["bundle"])
    victim = target.parent / "victim"
    target.mkdir(parents=True)
    victim.write_text("mine")
    (target / wanted.partial_name).symlink_to(victim)
    with pytest.raises(DownloadError, match="a link, or something else"):
        download(served, target)
    assert victim.read_text() == "mine"


def test_a_link_that_is_put_there_meanwhile(served: OneBundle, target: Path) -> None:
    """A directory that is swapped for a link while a file comes does not lead the file elsewhere."""
    outside = target.parent / "elsewhere"
    outside.mkdir(parents=True)
    served.add("d/a", b"x" * MIB)
    served.slow = 0.05
    ended: list[Any] = []

    def work() -> None:
        try:
            ended.append(download(served, target))
        except DownloadError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not any((target / "d").glob(".*.part")) if (target / "d").exists() else True:
        time.sleep(0.01)
    (target / "d").rename(target / "moved")
    (target / "d").symlink_to(outside)
    thread.join(30)
    assert ended
    assert list(outside.iterdir()) == []
    assert tree(target / "moved") == {"a": b"x" * MIB}


@pytest.mark.parametrize("what", ["file", "fifo", "directory"])
def test_other_things_in_the_way(served: OneBundle, target: Path, what: str) -> None:
    """A file where a directory is needed, or a directory where a file is, is told by name and left alone."""
    target.mkdir(parents=True)
    if what == "file":
        (target / "d").write_text("mine")
        served.add("d/a")
    elif what == "fifo":
        os.mkfifo(target / "d")
        served.add("d/a")
    else:
        (target / "a").mkdir()
        served.add("a")
    with pytest.raises(DownloadError, match="in the way"):
        download(served, target)
    assert (target / ("a" if what == "directory" else "d")).exists()


def test_the_directory_itself_may_be_a_link(served: OneBundle, target: Path) -> None:
    """Whoever gives a link as the directory wants the files where it leads."""
    real = target.parent / "real"
    real.mkdir(parents=True)
    target.symlink_to(real)
    served.add("a")
    download(served, target)
    assert tree(real) == {"a": b"content"}


def test_names_that_differ_only_in_case(served: OneBundle, target: Path) -> None:
    """Where the file system tells them apart there are two files, and nothing anywhere else."""
    served.add("A.txt", b"upper")
    served.add("a.TXT", b"lower")
    download(served, target)
    assert tree(target.parent) == {"target/A.txt": b"upper", "target/a.TXT": b"lower"}


def test_a_directory_that_cannot_be_made(served: OneBundle, tmp_path: Path) -> None:
    """A directory that is a file is an error that names it."""
    (tmp_path / "file").write_text("")
    served.add("a")
    with pytest.raises(DownloadError, match="file/sub"):
        download(served, tmp_path / "file" / "sub")


def test_a_bundle_that_is_not_there(dss: LocalDSS, target: Path) -> None:
    """Nothing is made for a bundle that does not exist."""
    with RequestsTransport() as transport, pytest.raises(DSSNotFoundError):
        Downloader(DSSAPI(dss.url, retry=QUICK), transport, replica="aws").download(new_uuid(), target)
    assert not target.exists()


def test_from_a_dss(dss: LocalDSS, target: Path) -> None:
    """What was put into a DSS comes out of it, the wait for its checkout included."""
    contents = {f"d{number % 3}/{number}": os.urandom(number * 1000) for number in range(40)}
    bundle, entries = new_uuid(), []
    for name, content in contents.items():
        entries.append(dss.entry(name, dss.new_file(content) if content else dss.new_file(b"")))
    assert dss.put_bundle(entries, bundle).status_code == 201
    with RequestsTransport(pool_size=8) as transport:
        downloader = Downloader(DSSAPI(dss.url), transport, replica="aws")
        downloader.download(bundle, target)
    assert tree(target) == contents


# Stopping, killing, memory


def test_it_stops_when_told(served: OneBundle, target: Path) -> None:
    """Within three seconds no thread works any more, and no half of a file has a name."""
    for number in range(6):
        served.add(f"{number}", os.urandom(4 * MIB))
    served.slow = 0.05
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    with pytest.raises(DSSAbortedError):
        download(served, target, stop=stop)
    assert time.monotonic() - started < 3.5
    assert not [each for each in threading.enumerate() if each.name.startswith("dss-download")]
    assert not [name for name in tree(target) if not name.endswith(".part")]


def _process(served: OneBundle, target: Path) -> subprocess.Popen[str]:
    wish = {"url": served.url, "bundle": served.uuid, "directory": str(target)}
    command = [sys.executable, "-m", "tests.download.download_process", json.dumps(wish)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_kill_costs_next_to_nothing(served: OneBundle, target: Path) -> None:
    """After kills at several moments the directory is whole, and little was fetched twice."""
    contents = {f"{number}": os.urandom(3 * MIB) for number in range(6)}
    for name, content in contents.items():
        served.add(name, content)
    served.slow = 0.01
    kills = 0
    for patience in (0.3, 0.5, 0.7):
        with _process(served, target) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(patience)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert kills
    served.slow = 0
    download(served, target)
    assert tree(target) == contents
    # Of each of the four files under way, what was in the buffers and in the sockets.
    assert served.sent < sum(map(len, contents.values())) + kills * 4 * 3 * MIB


def test_memory_is_flat(served: OneBundle, target: Path) -> None:
    """A file of 200 MB and many small ones need little memory."""
    served.add("large", os.urandom(MIB) * 200)
    for number in range(500):
        served.add(f"d/{number}", b"%d" % number)
    with _process(served, target) as process:
        out = process.communicate(timeout=120)[0]
    report = json.loads(out.splitlines()[-1])
    assert report["downloaded_files"] == 501
    assert report["memory"] < 150 * MIB
