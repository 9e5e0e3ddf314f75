"""Test downloads into real directories, from a server with faults and from the local DSS."""

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
from tests.upload.support import write_sparse

from .server import OneBundle
from .support import MIB, QUICK, WORKERS, download, start, tree, wanted_of, working_threads


def test_download_writes_files_and_counts_them(served: OneBundle, target: Path) -> None:
    contents = {"a.json": b"{}", "empty": b"", "reads/r1/x.gz": os.urandom(3 * MIB + 7), "ü b/ c": b"1"}
    for name, content in contents.items():
        served.add(name, content)
    report = download(served, target)
    assert tree(target) == contents
    assert (report.files, report.downloaded_files) == (4, 4)
    assert report.size == report.downloaded_size == sum(map(len, contents.values()))
    assert (report.uuid, report.directory) == (served.uuid, str(target))


def test_files_have_the_permissions_of_the_umask(served: OneBundle, target: Path) -> None:
    served.add("a")
    download(served, target)
    other = target / "other"
    other.touch()
    assert (target / "a").stat().st_mode == other.stat().st_mode


def _written(path: Path) -> tuple[int, int]:
    """Return metadata that changes when a file is written or replaced, but not when it is read."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def test_second_download_replaces_only_wrong_files(served: OneBundle, target: Path) -> None:
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


def test_requests_have_no_token(served: OneBundle, target: Path) -> None:
    """Neither the manifest nor the contents need one."""
    served.add("a")
    download(served, target)
    assert set(served.tokens) == {None}


def test_broken_connection_is_resumed(served: OneBundle, target: Path) -> None:
    """Repeatedly, while each connection delivers something."""
    content = os.urandom(5 * MIB)
    served.add("a", content)
    served.break_after, served.breaks = MIB // 2, 8
    download(served, target)
    assert tree(target) == {"a": content}
    assert served.sent < len(content) * 1.3


@pytest.mark.parametrize("partial", [b"right beginning", b"wrong", b"x" * 100_000, b""])
def test_partial_file_is_resumed_or_replaced(served: OneBundle, target: Path, partial: bytes) -> None:
    content = b"right beginning" + os.urandom(50_000)
    served.add("d/a", content)
    download(served, target)
    (target / "d" / "a").unlink()
    (wanted,) = wanted_of(served)
    (target / "d" / wanted.partial_name).write_bytes(partial)
    served.sent = 0
    download(served, target)
    assert tree(target) == {"d/a": content}
    if partial == b"right beginning":
        assert served.sent == 50_000
    assert served.sent <= 2 * len(content)


def test_file_with_wrong_content_fails_and_others_are_complete(served: OneBundle, target: Path) -> None:
    served.add("good", b"good")
    served.contents[served.add("bad", b"in the manifest")["uuid"]] = b"in the download"
    with pytest.raises(DownloadError, match="'bad'") as caught:
        download(served, target)
    assert (caught.value.done, caught.value.total, caught.value.permanent) == (1, 2, False)
    assert tree(target)["good"] == b"good"
    assert "bad" not in tree(target)


def test_missing_file_fails_and_others_are_complete(served: OneBundle, target: Path) -> None:
    served.add("good", b"good")
    del served.contents[served.add("gone")["uuid"]]
    with pytest.raises(DownloadError, match="'gone'"):
        download(served, target)
    assert tree(target) == {"good": b"good"}


def test_all_files_are_requested_before_waiting_for_a_checkout(served: OneBundle, target: Path) -> None:
    """So a hundred checkouts take little longer than one."""
    contents = {f"{number}": b"%d" % number for number in range(100)}
    for name, content in contents.items():
        served.add(name, content)
    served.checkout = 1.0
    report = download(served, target)
    assert tree(target) == contents
    assert report.downloaded_files == 100
    requested = [path for path in served.order if path.startswith("/v1/files/")]
    assert len(set(requested[:100])) == 100
    assert all(count <= 3 for count in served.requests.values())


def test_partial_file_survives_waiting_for_its_checkout(served: OneBundle, target: Path) -> None:
    content = os.urandom(100_000)
    served.add("a", content)
    target.mkdir(parents=True)
    (target / wanted_of(served)[0].partial_name).write_bytes(content[:60_000])
    served.checkout = 1.0
    download(served, target)
    assert tree(target) == {"a": content}
    assert served.sent == 40_000


# Hostile names and links


@pytest.mark.parametrize("name", ["../x", "../../x", "{outside}/x", "a/../../x", "..", "\\..\\x"])
def test_name_outside_the_directory_prevents_the_download(
    served: OneBundle, target: Path, tmp_path: Path, name: str
) -> None:
    served.add("good")
    served.add(name.format(outside=tmp_path))
    with pytest.raises(InvalidManifestError):
        download(served, target)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("name", ["link/x", "d/link/x", "link/d/x"])
def test_link_to_a_directory_is_not_followed(served: OneBundle, target: Path, name: str, absolute: bool) -> None:
    outside = target.parent / "elsewhere"
    outside.mkdir(parents=True)
    above = target / name.split("link")[0]
    above.mkdir(parents=True)
    (above / "link").symlink_to(outside if absolute else os.path.relpath(outside, above))
    served.add(name)
    with pytest.raises(DownloadError, match="a link or another object"):
        download(served, target)
    assert list(outside.iterdir()) == []


def test_link_with_the_name_of_a_partial_file_is_not_followed(served: OneBundle, target: Path) -> None:
    served.add("a", b"content")
    (wanted,) = wanted_of(served)
    victim = target.parent / "victim"
    target.mkdir(parents=True)
    victim.write_text("mine")
    (target / wanted.partial_name).symlink_to(victim)
    with pytest.raises(DownloadError, match="a link or another object"):
        download(served, target)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("kind", ["file", "fifo", "directory"])
def test_existing_object_of_another_kind_is_an_error(served: OneBundle, target: Path, kind: str) -> None:
    target.mkdir(parents=True)
    if kind == "file":
        (target / "d").write_text("mine")
        served.add("d/a")
    elif kind == "fifo":
        os.mkfifo(target / "d")
        served.add("d/a")
    else:
        (target / "a").mkdir()
        served.add("a")
    with pytest.raises(DownloadError, match="blocks this path"):
        download(served, target)
    assert (target / ("a" if kind == "directory" else "d")).exists()


def test_target_directory_may_be_a_link(served: OneBundle, target: Path) -> None:
    real = target.parent / "real"
    real.mkdir(parents=True)
    target.symlink_to(real)
    served.add("a")
    download(served, target)
    assert tree(real) == {"a": b"content"}


def test_names_differing_only_in_case_are_two_files(served: OneBundle, target: Path) -> None:
    served.add("A.txt", b"upper")
    served.add("a.TXT", b"lower")
    download(served, target)
    assert tree(target.parent) == {"target/A.txt": b"upper", "target/a.TXT": b"lower"}


def test_target_below_a_file_is_an_error(served: OneBundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    served.add("a")
    with pytest.raises(NotADirectoryError, match="file/sub"):
        download(served, tmp_path / "file" / "sub")


def test_missing_bundle_creates_no_directory(dss: LocalDSS, target: Path) -> None:
    with RequestsTransport() as transport, pytest.raises(DSSNotFoundError):
        Downloader(DSSAPI(dss.url, retry=QUICK), transport, replica="aws").download(new_uuid(), target)
    assert not target.exists()


def test_download_from_the_local_dss(dss: LocalDSS, target: Path) -> None:
    """Includes the wait for its checkout."""
    contents = {f"d{number % 3}/{number}": os.urandom(number * 1000) for number in range(40)}
    bundle, entries = new_uuid(), []
    for name, content in contents.items():
        entries.append(dss.entry(name, dss.new_file(content) if content else dss.new_file(b"")))
    assert dss.put_bundle(entries, bundle).status_code == 201
    with RequestsTransport(pool_size=8) as transport:
        downloader = Downloader(DSSAPI(dss.url), transport, replica="aws")
        downloader.download(bundle, target)
    assert tree(target) == contents


# Stop, kill, memory


def test_stop_ends_threads_and_names_no_incomplete_file(served: OneBundle, target: Path) -> None:
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


def test_stop_ends_the_reading_of_existing_files(served: OneBundle, target: Path) -> None:
    huge = 2 << 40
    served.add("whole", size=huge)
    served.add("partial", size=huge)
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


def test_download_after_kills_repeats_few_bytes(served: OneBundle, target: Path) -> None:
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
        time.sleep(0.2)  # for data that the server still sends to the killed client
    served.slow = 0
    download(served, target)
    assert tree(target) == contents
    assert served.sent < size + kills * WORKERS * MIB


def test_second_process_in_the_same_directory_fails_and_can_retry(served: OneBundle, target: Path) -> None:
    contents = {f"{number}": os.urandom(2 * MIB) for number in range(6)}
    for name, content in contents.items():
        served.add(name, content)
    served.slow = 0.03
    errors: list[DownloadError] = []
    with start(served, target) as process:
        while not list(target.glob(".*.part")):
            time.sleep(0.005)
        try:
            download(served, target)
        except DownloadError as caught:
            errors.append(caught)
        assert process.wait(60) == 0 or not errors
    for error in errors:
        assert "another process is downloading the same" in str(error)
        assert not error.permanent
    assert errors
    assert download(served, target).downloaded_files == 0
    assert tree(target) == contents


def test_file_that_the_disk_refuses_fails_and_others_are_complete(served: OneBundle, target: Path) -> None:
    served.add("large", os.urandom(3 * MIB))
    served.add("small", b"small")
    with start(served, target, max_file_size=MIB) as process:
        error = json.loads(process.communicate(timeout=60)[0])
    assert error["failures"] == [["large", "File too large"]]
    assert (error["done"], error["total"], error["permanent"]) == (1, 2, False)
    assert tree(target)["small"] == b"small"
    assert "large" not in tree(target)


def test_error_of_the_service_ends_the_download(served: OneBundle, target: Path) -> None:
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
def test_memory_does_not_grow_with_size(served: OneBundle, target: Path, tmp_path: Path) -> None:
    served.add("large", write_sparse(tmp_path / "large", 200 * MIB))
    for number in range(500):
        served.add(f"d/{number}", b"%d" % number)
    with start(served, target) as process:
        report = json.loads(process.communicate(timeout=120)[0])
    print(f"memory: {report['memory'] / MIB:.0f} MiB, seconds: {report['seconds']}")
    assert report["downloaded_files"] == 501
    assert report["memory"] < 150 * MIB
