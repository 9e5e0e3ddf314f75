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

from airflow_provider_hca.client.exchange import RetryPolicy
from airflow_provider_hca.exceptions import (
    DSSAbortedError,
)
from airflow_provider_hca.upload.checksums import MIB
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.staging_s3 import S3Staging
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


# Restarts of the DSS


@pytest.fixture(scope="module")
def own_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS that tests may stop, and whose copies take very long."""
    options = ("--async-above", "100000", "--copy-delay", "600", "--file-wait", "1", "--sync-delay", "off")
    with LocalDSS(tmp_path_factory.mktemp("own"), *options) as dss:
        yield dss


@pytest.fixture
def sleepy_dss(own_dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> LocalDSS:
    """Name it in the environment."""
    own_dss.control("DELETE", "faults")
    own_dss.control("DELETE", "requests")
    for name, value in own_dss.about["env"].items():
        monkeypatch.setenv(name, value)
    return own_dss


@pytest.mark.parametrize("phase", ["stage", "register"])
def test_a_dss_that_is_restarted(sleepy_dss: LocalDSS, tmp_path: Path, phase: str) -> None:
    """A DSS, staging store included, that is gone for some seconds in the middle is waited for."""
    write_tree(tmp_path, small(40))
    planned = plan(tmp_path)
    reached = threading.Event()
    counter = itertools.count(1)

    def meddle(_: str, sent: int) -> None:
        if phase == "stage" and sent == -1 and next(counter) == 15:
            reached.set()
            time.sleep(0.2)

    if phase == "register":
        fault(sleepy_dss, method="PUT", path="/files/", action="slow", seconds=0.1, times=100)

    def watch() -> None:
        while phase == "register" and requests_seen(sleepy_dss, "PUT", "/files/") < 8:
            time.sleep(0.02)
        reached.wait(10 if phase == "stage" else 0)
        sleepy_dss.stop()
        time.sleep(2)
        sleepy_dss.start()

    watcher = threading.Thread(target=watch)
    engine = uploader(sleepy_dss, staging=Meddling(sleepy_dss.bucket, meddle), policy=RetryPolicy(40, longest_delay=1))
    watcher.start()
    report = engine.upload(planned)
    watcher.join()
    assert report.created
    assert_stored(sleepy_dss, planned)


# Told to stop


def _assert_stops(dss: LocalDSS, planned: Plan, stop: threading.Event, engine: Any, within: float = 3.0) -> None:
    """See that an upload that is told to stop by somebody ends soon, and does nothing afterwards."""
    told: list[float] = []

    def note() -> None:
        stop.wait()
        told.append(time.monotonic())

    noter = threading.Thread(target=note)
    noter.start()
    with pytest.raises(DSSAbortedError):
        engine.upload(planned)
    noter.join()
    assert time.monotonic() - told[0] < within
    assert upload_threads() == []
    before = dss.control("GET", "requests")
    time.sleep(0.3)
    assert dss.control("GET", "requests") == before
    assert stored_of(dss, planned)["bundles"] == []


def test_stop_while_staging(dss: LocalDSS, tmp_path: Path) -> None:
    """Told to stop among many small files, it ends at once, and nothing is registered."""
    planned = plan(write_tree(tmp_path, small(200)))
    stop, counter = threading.Event(), itertools.count(1)

    def meddle(_: str, sent: int) -> None:
        if sent == -1 and next(counter) == 30:
            stop.set()

    _assert_stops(dss, planned, stop, uploader(dss, staging=Meddling(dss.bucket, meddle), stop=stop))
    assert requests_seen(dss, "PUT", "/files/") == 0


@pytest.mark.parametrize(("sent", "left"), [(1, 140), (60, 140), (200, 76), (278, 12)])
def test_stop_in_a_large_file(dss: LocalDSS, tmp_path: Path, sent: int, left: int) -> None:
    """Told to stop in the middle of a large file, it ends soon, and a retry sends only the parts that are not there."""
    write_sparse(tmp_path / "large", 140 * MIB)
    planned = plan(tmp_path)
    stop, counter = threading.Event(), itertools.count(1)

    def meddle(_: str, count: int) -> None:
        if count > 0 and next(counter) == sent:
            stop.set()

    # Of one worker, so that it is known what is done when it is told to stop.
    _assert_stops(dss, planned, stop, uploader(dss, staging=Meddling(dss.bucket, meddle), stop=stop, workers=1))
    assert requests_seen(dss, "PUT", "/files/") == 0
    again: list[int] = []
    staging = Meddling(dss.bucket, lambda _, count: again.append(max(0, count)))
    uploader(dss, staging=staging).upload(planned, resume=True)
    assert sum(again) == left * MIB
    assert open_uploads(dss, planned) == []
    assert_stored(dss, planned)


def test_stop_while_hashing(dss: LocalDSS, tmp_path: Path) -> None:
    """Told to stop while a very large file is only read, it ends at once."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(40 << 30)
    planned = plan(tmp_path)
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    _assert_stops(dss, planned, stop, uploader(dss, stop=stop), within=1.0)


def test_stop_while_registering(dss: LocalDSS, tmp_path: Path) -> None:
    """Told to stop while files are registered, it registers no more, and a retry does the rest."""
    planned = plan(write_tree(tmp_path, small(100)))
    stop = threading.Event()
    fault(dss, method="PUT", path="/files/", action="slow", seconds=0.1, times=1000)

    def watch() -> None:
        while requests_seen(dss, "PUT", "/files/") < 5:
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=watch).start()
    _assert_stops(dss, planned, stop, uploader(dss, stop=stop))
    registered = len(stored_of(dss, planned)["files"])
    assert 5 <= registered < 30
    dss.control("DELETE", "faults")
    report = uploader(dss).upload(planned, resume=True)
    assert (report.staged_files, report.registered_files) == (0, 100 - registered)
    assert_stored(dss, planned)


def test_stop_while_copies_are_awaited(sleepy_dss: LocalDSS, tmp_path: Path) -> None:
    """Told to stop while the DSS copies, it ends at once."""
    planned = plan(write_tree(tmp_path, {name: large(new_uuid()) for name in "abc"}))
    stop = threading.Event()

    def watch() -> None:
        while requests_seen(sleepy_dss, "HEAD", "/files/") < 9:
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=watch).start()
    _assert_stops(sleepy_dss, planned, stop, uploader(sleepy_dss, stop=stop), within=1.0)


@pytest.mark.parametrize(("method", "part"), [("PUT", "/files/"), ("PUT", "/bundles/")])
def test_stop_while_waiting_for_another_attempt(dss: LocalDSS, tmp_path: Path, method: str, part: str) -> None:
    """Told to stop during the wait that the DSS asked for, it ends at once."""
    planned = plan(write_tree(tmp_path, small(3)))
    stop = threading.Event()
    fault(dss, method=method, path=part, status=503, retry_after=30, times=1000)

    def watch() -> None:
        while not requests_seen(dss, method, part):
            time.sleep(0.02)
        time.sleep(0.1)
        stop.set()

    threading.Thread(target=watch).start()
    _assert_stops(dss, planned, stop, uploader(dss, stop=stop, policy=RetryPolicy()), within=1.0)


def test_stop_while_the_store_is_down(dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to stop while the staging store does not answer, it ends within seconds."""
    planned = plan(write_tree(tmp_path, small(10)))
    stop = threading.Event()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")

    class Unchecked(S3Staging):
        def check(self) -> None:
            pass

    threading.Timer(2, stop.set).start()
    engine = uploader(dss, staging=Unchecked(dss.bucket), stop=stop, policy=RetryPolicy())
    _assert_stops(dss, planned, stop, engine, within=3.5)


def test_stopped_before_it_begins(dss: LocalDSS, tmp_path: Path) -> None:
    """Told to stop before it begins, it sends nothing."""
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
    assert report["files"] == 513
    assert report["memory"] < 200 * MIB


def test_kills(dss: LocalDSS, tmp_path: Path) -> None:
    """However often a worker is killed, wherever it is, the last try leaves what one undisturbed try would have."""
    source = random.Random(9)  # noqa: S311 - the same at every run
    write_tree(tmp_path, small(60))
    write_sparse(tmp_path / "large", 70 * MIB)
    with (tmp_path / "large").open("r+b") as file:
        file.write(new_uuid().encode())
    planned = plan(tmp_path)
    registered: list[int] = []
    # The first is killed while it stages, the next while they register, the last while it waits for the copy.
    for number, enough in enumerate((0, source.randrange(2, 20), source.randrange(5, 25), 61)):
        dss.control("DELETE", "requests")
        with _start(dss, planned, tmp_path, resume=number > 0) as process:
            end = time.monotonic() + 20
            time.sleep(source.uniform(0.05, 0.6))
            while enough - sum(registered[-1:]) > requests_seen(dss, "PUT", "/files/") and time.monotonic() < end:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
        registered.append(len(stored_of(dss, planned)["files"]))
    with _start(dss, planned, tmp_path, resume=True) as process:
        report = json.loads(process.communicate(timeout=60)[0])
    print(f"registered after each kill: {registered}; by the last try {report['registered_files']}")
    assert report["files"] == 61
    assert 0 < registered[1] < 61
    assert_stored(dss, planned)
