"""Downloads into real directories, from a server that may be hostile or break, and from the local DSS."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download.downloader import Downloader
from airflow_provider_hca.exceptions import (
    DownloadError,
    DSSAbortedError,
    DSSNotFoundError,
    InvalidManifestError,
)
from tests.local.server import LocalDSS, new_uuid

from .server import OneBundle
from .support import MIB, QUICK, WORKERS, download, start, tree, wanted_of, working_threads


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


def _written(path: Path) -> tuple[int, int]:
    """Return what differs once a file has been written or replaced; reading it may change when it was read last."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def test_again_downloads_nothing(served: OneBundle, target: Path) -> None:
    """What is there and right is left alone, and other files too; what is wrong is replaced."""
    served.add("a", b"right")
    served.add("b/c", b"right too")
    download(served, target)
    before = _written(target / "a")
    (target / "mine").write_text("mine")
    (target / "b" / "c").write_text("wrong ...")
    sent = served.sent
    report = download(served, target)
    assert (report.downloaded_files, served.sent - sent) == (1, len(b"right too"))
    assert tree(target) == {"a": b"right", "b/c": b"right too", "mine": b"mine"}
    assert _written(target / "a") == before


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
    (wanted,) = wanted_of(served)
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


def test_one_wait_for_the_checkouts_of_all(served: OneBundle, target: Path) -> None:
    """Each file is asked for before any is waited for, so that a hundred checkouts take little longer than one."""
    contents = {f"{number}": b"%d" % number for number in range(100)}
    for name, content in contents.items():
        served.add(name, content)
    served.checkout = 1.0
    report = download(served, target)
    assert tree(target) == contents
    assert report.downloaded_files == 100
    asked = [path for path in served.order if path.startswith("/v1/files/")]
    assert len(set(asked[:100])) == 100
    assert all(count <= 3 for count in served.asked.values())


def test_a_file_that_was_begun_waits_for_its_checkout_too(served: OneBundle, target: Path) -> None:
    """What an earlier try left outlasts the question that comes too early."""
    content = os.urandom(100_000)
    served.add("a", content)
    target.mkdir(parents=True)
    (target / wanted_of(served)[0].partial_name).write_bytes(content[:60_000])
    served.checkout = 1.0
    download(served, target)
    assert tree(target) == {"a": content}
    assert served.sent == 40_000


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
    with pytest.raises(DownloadError, match="a link or another object"):
        download(served, target)
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_a_partial_file(served: OneBundle, target: Path) -> None:
    """Whoever guesses what a file is called until it is whole cannot have it written elsewhere."""
    served.add("a", b"content")
    (wanted,) = wanted_of(served)
    victim = target.parent / "victim"
    target.mkdir(parents=True)
    victim.write_text("mine")
    (target / wanted.partial_name).symlink_to(victim)
    with pytest.raises(DownloadError, match="a link or another object"):
        download(served, target)
    assert victim.read_text() == "mine"


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
    with pytest.raises(DownloadError, match="blocks this path"):
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
    with pytest.raises(NotADirectoryError, match="file/sub"):
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
    """No thread works any more, long before all has come, and no half of a file has a name."""
    for number in range(6):
        served.add(f"{number}", os.urandom(4 * MIB))
    served.slow = 0.05
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(DSSAbortedError):
        download(served, target, stop=stop)
    assert served.sent < 6 * 4 * MIB
    assert working_threads() == []
    assert not [name for name in tree(target) if not name.endswith(".part")]


def test_it_stops_while_it_reads_what_an_earlier_try_left(served: OneBundle, target: Path) -> None:
    """Nothing is too large to stop at, neither a partial file nor a whole one that is only compared."""
    huge = 2 << 40
    served.add("whole", size=huge)
    served.add("begun", size=huge)
    target.mkdir(parents=True)
    for name in ("whole", wanted_of(served)[1].partial_name):
        with (target / name).open("wb") as file:
            file.truncate(huge)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    with pytest.raises(DSSAbortedError):
        download(served, target, stop=stop)
    assert time.monotonic() - started < 300  # reading all of it takes an hour
    assert working_threads() == []


def test_a_kill_costs_next_to_nothing(served: OneBundle, target: Path) -> None:
    """After kills in the middle the directory is whole; of each file under way at most a few chunks came twice."""
    contents = {f"{number}": os.urandom(8 * MIB) for number in range(WORKERS)}
    for name, content in contents.items():
        served.add(name, content)
    served.slow = 0.005
    size = sum(map(len, contents.values()))
    kills = 3
    for kill in range(1, kills + 1):
        with start(served, target) as process:
            while served.sent < size * kill // (kills + 1):
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert [name for name in tree(target) if name.endswith(".part")]
        time.sleep(0.2)  # what the server still sends into sockets that nobody reads
    served.slow = 0
    download(served, target)
    assert tree(target) == contents
    assert served.sent < size + kills * WORKERS * MIB


def test_two_at_once(served: OneBundle, target: Path) -> None:
    """Two that download the same into one directory do each other no harm: one of them is told to come again."""
    contents = {f"{number}": os.urandom(2 * MIB) for number in range(6)}
    for name, content in contents.items():
        served.add(name, content)
    served.slow = 0.03
    ended: list[DownloadError] = []
    with start(served, target) as process:
        while not list(target.glob(".*.part")):
            time.sleep(0.005)
        try:
            download(served, target)
        except DownloadError as error:
            ended.append(error)
        assert process.wait(60) == 0 or not ended
    for failed in ended:
        assert "another process is downloading the same" in str(failed)
        assert not failed.permanent
    assert ended
    assert download(served, target).downloaded_files == 0
    assert tree(target) == contents


def test_a_disk_that_takes_no_more(served: OneBundle, target: Path) -> None:
    """What the disk does not take is told by name, in the system's words; the other files are there."""
    served.add("large", os.urandom(3 * MIB))
    served.add("small", b"small")
    with start(served, target, most=MIB) as process:
        told = json.loads(process.communicate(timeout=60)[0])
    assert told["failures"] == [["large", "File too large"]]
    assert (told["done"], told["total"], told["permanent"]) == (1, 2, False)
    assert tree(target)["small"] == b"small"
    assert "large" not in tree(target)


def test_trouble_of_the_service_ends_it_at_once(served: OneBundle, target: Path) -> None:
    """What would hit all files is not tried for all; the error counts the files that are there, and no other."""
    for number in range(100):
        served.add(f"{number}")
    served.fails_after = 10
    with pytest.raises(DownloadError, match="503") as caught:
        download(served, target)
    assert len(caught.value.failures) <= WORKERS
    assert (caught.value.done, caught.value.total) == (len([n for n in tree(target) if ".part" not in n]), 100)
    assert caught.value.done < 20
    served.fails_after = None
    assert download(served, target).downloaded_files == 100 - caught.value.done


@pytest.mark.system
def test_memory_is_flat(served: OneBundle, target: Path) -> None:
    """A file of 200 MB and many small ones need little memory."""
    served.add("large", os.urandom(MIB) * 200)
    for number in range(500):
        served.add(f"d/{number}", b"%d" % number)
    with start(served, target) as process:
        report = json.loads(process.communicate(timeout=120)[0])
    print(f"memory: {report['memory'] / MIB:.0f} MiB, seconds: {report['seconds']}")
    assert report["downloaded_files"] == 501
    assert report["memory"] < 150 * MIB
