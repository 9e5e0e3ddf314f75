"""Uploads that are stopped, killed, or lose their DSS for a while."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.exceptions import (
    DSSAbortedError,
)
from airflow_provider_hca.upload.checksums import MIB
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.staging.s3 import S3Staging
from tests.local.server import LocalDSS, new_uuid
from tests.upload.support import (
    Meddling,
    assert_stored,
    fault,
    large,
    open_uploads,
    plan,
    requests_seen,
    small,
    stored_of,
    upload_threads,
    uploader,
    write_sparse,
    write_tree,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def separate_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a separate local DSS: requests of a stopped upload arrive late and must not count in other tests."""
    options = ("--file-wait", "1.5", "--async-above", "100000", "--copy-delay", "0.4", "--sync-delay", "off")
    with LocalDSS(tmp_path_factory.mktemp("separate"), "--gcs", *options) as dss:
        yield dss


@pytest.fixture
def dss(separate_dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> LocalDSS:
    """Return the separate local DSS without faults, with its environment variables set."""
    separate_dss.control("DELETE", "faults")
    separate_dss.control("DELETE", "requests")
    for name, value in separate_dss.about["env"].items():
        monkeypatch.setenv(name, value)
    return separate_dss


# Restarts of the DSS


@pytest.fixture(scope="module")
def module_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS that tests may stop."""
    with LocalDSS(tmp_path_factory.mktemp("own"), "--sync-delay", "off") as dss:
        yield dss


@pytest.fixture
def own_dss(module_dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> LocalDSS:
    """Name it in the environment."""
    module_dss.control("DELETE", "faults")
    module_dss.control("DELETE", "requests")
    for name, value in module_dss.about["env"].items():
        monkeypatch.setenv(name, value)
    return module_dss


@pytest.mark.system
@pytest.mark.parametrize("phase", ["stage", "register"])
def test_a_dss_that_is_restarted(own_dss: LocalDSS, tmp_path: Path, phase: str) -> None:
    """A DSS, staging store included, that is gone for a while in the middle is waited for."""
    write_tree(tmp_path, small(40))
    planned = plan(tmp_path)
    reached = threading.Event()
    counter = itertools.count(1)

    def meddle(_: str, sent: int) -> None:
        if phase == "stage" and sent == -1 and next(counter) == 15:
            reached.set()
            time.sleep(0.2)

    if phase == "register":
        fault(own_dss, method="PUT", path="/files/", action="slow", seconds=0.1, times=100)

    def watch() -> None:
        while phase == "register" and requests_seen(own_dss, "PUT", "/files/") < 8:
            time.sleep(0.02)
        reached.wait(60 if phase == "stage" else 0)
        own_dss.stop()
        time.sleep(0.3)
        own_dss.start()

    watcher = threading.Thread(target=watch)
    engine = uploader(own_dss, staging=Meddling(own_dss.bucket, meddle), policy=RetryPolicy(100, 300, 0.2, 1))
    watcher.start()
    report = engine.upload(planned)
    watcher.join()
    assert report.created
    assert_stored(own_dss, planned)


# Stops


_LONG = 600.0  # seconds that an upload would wait if it were not stopped


def _assert_stops(dss: LocalDSS, planned: Plan, engine: Any) -> None:
    """Check that an upload that is stopped ends long before what it waits for, its threads too, without a bundle."""
    started = time.monotonic()
    with pytest.raises(DSSAbortedError):
        engine.upload(planned)
    while upload_threads():
        assert time.monotonic() - started < _LONG / 2
        time.sleep(0.01)
    assert time.monotonic() - started < _LONG / 2
    assert stored_of(dss, planned)["bundles"] == []


def test_stop_while_staging(dss: LocalDSS, tmp_path: Path) -> None:
    """A stop among many small files ends the upload at once, and nothing is registered."""
    planned = plan(write_tree(tmp_path, small(200)))
    stop, counter = threading.Event(), itertools.count(1)

    def meddle(_: str, sent: int) -> None:
        if sent == -1 and next(counter) == 30:
            stop.set()

    _assert_stops(dss, planned, uploader(dss, staging=Meddling(dss.bucket, meddle), stop=stop))
    assert requests_seen(dss, "PUT", "/files/") == 0


@pytest.mark.parametrize(("sent", "left"), [(60, 66), (131, 2)])  # pieces of half a MiB; whole MiB
def test_stop_in_a_large_file(dss: LocalDSS, tmp_path: Path, sent: int, left: int) -> None:
    """A stop in the middle of a large file ends the upload soon, and a retry sends only the missing parts."""
    write_sparse(tmp_path / "large", 66 * MIB)
    planned = plan(tmp_path)
    stop, counter = threading.Event(), itertools.count(1)

    def meddle(_: str, count: int) -> None:
        if count > 0 and next(counter) == sent:
            stop.set()

    # Of one worker, so that it is known what is done at the stop.
    _assert_stops(dss, planned, uploader(dss, staging=Meddling(dss.bucket, meddle), stop=stop, workers=1))
    assert requests_seen(dss, "PUT", "/files/") == 0
    again: list[int] = []
    staging = Meddling(dss.bucket, lambda _, count: again.append(max(0, count)))
    uploader(dss, staging=staging).upload(planned, resume=True)
    assert sum(again) == left * MIB
    assert open_uploads(dss, planned) == []
    assert_stored(dss, planned)


def test_stop_while_hashing(dss: LocalDSS, tmp_path: Path) -> None:
    """A stop while a very large file is only read ends the upload at once."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2 << 40)
    planned = plan(tmp_path)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    _assert_stops(dss, planned, uploader(dss, stop=stop))


def test_stop_while_registering(dss: LocalDSS, tmp_path: Path) -> None:
    """After a stop while files are registered, no more are, and a retry does the rest."""
    planned = plan(write_tree(tmp_path, small(100)))
    stop = threading.Event()
    fault(dss, method="PUT", path="/files/", action="slow", seconds=0.2, times=1000)

    def watch() -> None:
        while requests_seen(dss, "PUT", "/files/") < 5:
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=watch).start()
    _assert_stops(dss, planned, uploader(dss, stop=stop))
    registered = len(stored_of(dss, planned)["files"])
    assert 1 <= registered < 100
    dss.control("DELETE", "faults")
    report = uploader(dss).upload(planned, resume=True)
    assert (report.staged_file_count, report.registered_file_count) == (0, 100 - registered)
    assert_stored(dss, planned)


def test_stop_while_copies_are_awaited(dss: LocalDSS, tmp_path: Path) -> None:
    """A stop while the DSS copies ends the upload at once."""
    planned = plan(write_tree(tmp_path, {name: large(new_uuid()) for name in "abc"}))
    fault(dss, method="PUT", path="/files/", action="fail_copy", status=404, times=3)  # copies that never end
    stop = threading.Event()

    def watch() -> None:
        while requests_seen(dss, "HEAD", "/files/") < 4:
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=watch).start()
    _assert_stops(dss, planned, uploader(dss, stop=stop))


@pytest.mark.parametrize(("method", "part"), [("PUT", "/files/"), ("PUT", "/bundles/")])
def test_stop_while_waiting_for_another_attempt(dss: LocalDSS, tmp_path: Path, method: str, part: str) -> None:
    """A stop during the wait that the DSS asked for ends the upload at once."""
    planned = plan(write_tree(tmp_path, small(3)))
    stop = threading.Event()
    fault(dss, method=method, path=part, status=503, retry_after=_LONG, times=1000)

    def watch() -> None:
        while not requests_seen(dss, method, part):
            time.sleep(0.02)
        time.sleep(0.1)
        stop.set()

    threading.Thread(target=watch).start()
    _assert_stops(dss, planned, uploader(dss, stop=stop, policy=RetryPolicy(seconds=10 * _LONG)))


def test_stop_while_the_store_is_down(dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop during the wait before another attempt at an unreachable store ends the upload at once."""
    planned = plan(write_tree(tmp_path, small(10)))
    stop = threading.Event()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")

    class Unchecked(S3Staging):
        def check(self) -> None:
            pass

    threading.Timer(0.5, stop.set).start()
    policy = RetryPolicy(seconds=10 * _LONG, first_delay=2 * _LONG, longest_delay=2 * _LONG)
    _assert_stops(dss, planned, uploader(dss, staging=Unchecked(dss.bucket), stop=stop, policy=policy))


def test_stopped_before_it_begins(dss: LocalDSS, tmp_path: Path) -> None:
    """After a stop before the beginning, nothing is sent."""
    planned = plan(write_tree(tmp_path, small(3)))
    stop = threading.Event()
    stop.set()
    with pytest.raises(DSSAbortedError):
        uploader(dss, stop=stop).upload(planned)
    assert dss.control("GET", "requests") == []


# Processes of their own


def _start(dss: LocalDSS, planned: Plan, directory: Path, *, resume: bool) -> subprocess.Popen[str]:
    wish = {
        "directory": str(directory),
        "bundle": planned.bundle_uuid,
        "version": planned.bundle_version,
        "url": dss.url,
        "token": dss.token(),
        "bucket": dss.bucket,
        "replica": "aws",
        "resume": resume,
    }
    command = [sys.executable, "-m", "tests.upload.upload_process", json.dumps(wish)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.system
def test_memory(dss: LocalDSS, tmp_path: Path) -> None:
    """Memory grows neither with the number nor with the size of the files."""
    source = random.Random(5)  # noqa: S311 - the same at every run
    write_tree(tmp_path, {f"{number}.json": source.randbytes(2000) for number in range(500)})
    for number in range(12):
        (tmp_path / f"{number}.bin").write_bytes(source.randbytes(8 * MIB - number))
    write_sparse(tmp_path / "large", 200 * MIB)
    planned = plan(tmp_path)
    with _start(dss, planned, tmp_path, resume=False) as process:
        report = json.loads(process.communicate(timeout=60)[0])
    print(f"memory: {report['memory'] / MIB:.0f} MiB, seconds: {report['seconds']}")
    assert report["file_count"] == 513
    assert report["memory"] < 200 * MIB


def test_upload_killed_while_registering_is_completed_by_a_retry(dss: LocalDSS, tmp_path: Path) -> None:
    """The try after a SIGKILL leaves what one undisturbed try would have, and registers only what is missing."""
    planned = plan(write_tree(tmp_path, small(30)))
    for file in planned.files[-10:]:  # retried until the kill
        fault(dss, method="PUT", path=f"/files/{file.uuid}", status=503, times=1000)
    with _start(dss, planned, tmp_path, resume=False) as process:
        while len(stored_of(dss, planned)["files"]) < 3:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    dss.control("DELETE", "faults")
    report = uploader(dss).upload(planned, resume=True)
    assert (report.file_count, report.staged_file_count) == (30, 0)
    assert 0 < report.registered_file_count <= 27
    assert_stored(dss, planned)
