"""Whole uploads, to the local DSS."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.auth import StaticToken, UserToken
from airflow_provider_hca.client.exchange import RetryPolicy
from airflow_provider_hca.client.protocol import DSSAPI
from airflow_provider_hca.client.transports import RequestsTransport
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSConnectionError,
    DSSProtocolError,
    DSSResponseError,
    InvalidDirectoryError,
    StagingError,
    UploadAbortedError,
    UploadError,
)
from airflow_provider_hca.upload.checksums import MIB, Checksums
from airflow_provider_hca.upload.engine import Uploader
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.staging import OnSent, open_staging
from airflow_provider_hca.upload.staging_s3 import S3Staging
from tests.local.server import VERSION, LocalDSS, new_uuid, sums
from tests.upload.support import (
    CREATOR,
    SHORT,
    plan,
    requests_seen,
    stored_of,
    upload_threads,
    uploader,
    write_sparse,
    write_tree,
)

REPOSITORY = Path(__file__).parents[2]
LATER = 150_000  # bytes: above what the DSS of these tests copies at once


def _small(count: int) -> dict[str, bytes]:
    salt = new_uuid()
    return {f"d{number % 3}/file {number:03}.json": f"{salt} {number}".encode() for number in range(count)}


def _large(seed: str) -> bytes:
    return random.Random(seed).randbytes(LATER)  # noqa: S311 - the same at every run


def _expected(planned: Plan, replica: str) -> dict[str, Any]:
    """Return what a store has to have of a plan, computed from the files in another way than the engine does."""
    files, members = [], []
    for file in planned.files:
        content = file.path.read_bytes()
        labels = {name.removeprefix("hca-dss-"): value for name, value in sums(content).items()}
        named = {"uuid": file.uuid, "version": planned.bundle_version, "content_type": file.content_type}
        files.append({**named, **labels, "replica": replica, "size": len(content), "creator_uid": CREATOR})
        members.append({"name": file.name, "uuid": file.uuid, "indexed": file.indexed, "sha256": labels["sha256"]})
    return {"files": sorted(files, key=lambda file: str(file["uuid"])), "members": members}


def _assert_stored(dss: LocalDSS, planned: Plan, replica: str = "aws") -> None:
    """See that a store has all of a plan, each file and the bundle once, and nothing else of it."""
    stored, expected = stored_of(dss, planned), _expected(planned, replica)
    assert stored["files"] == expected["files"]
    assert len(stored["bundles"]) == 1
    bundle = stored["bundles"][0]
    assert (bundle["uuid"], bundle["version"], bundle["replica"]) == (
        planned.bundle_uuid,
        planned.bundle_version,
        replica,
    )
    assert bundle["manifest"]["creator_uid"] == CREATOR
    members = [
        {name: file[name] for name in ("name", "uuid", "indexed", "sha256")} for file in bundle["manifest"]["files"]
    ]
    assert members == expected["members"]


def _fault(dss: LocalDSS, **fault: Any) -> None:
    dss.control("POST", "faults", fault)


class _Meddling(S3Staging):
    """A staging bucket during whose uploads something happens.

    :param meddle: called with a key and what was sent of it: 0 before, -1 after it is staged
    """

    def __init__(self, bucket: str, meddle: Callable[[str, int], None]) -> None:
        super().__init__(bucket)
        self._meddle = meddle

    def put(
        self, key: str, content: bytes | Path, sums: Checksums, content_type: str, on_sent: OnSent = lambda _: None
    ) -> None:
        """Stage an object, with something happening meanwhile."""

        def meddle_on_sent(count: int) -> None:
            self._meddle(key, count)
            on_sent(count)

        self._meddle(key, 0)
        super().put(key, content, sums, content_type, meddle_on_sent)
        self._meddle(key, -1)


# What comes of it


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_a_directory_becomes_a_bundle(dss: LocalDSS, tmp_path: Path, replica: str) -> None:
    """Every file is in the DSS with its sums and type, and the bundle has them all in order, indexed or not."""
    write_tree(
        tmp_path,
        {
            "project.json": b"{}",
            "empty.txt": b"",
            "deep/er/ünï code #1?%.csv": b"a,b",
            "reads.fastq.gz": _large(replica),
            "same.txt": b"{}",
            "Z.bin": bytes(9 * MIB) + replica.encode(),
            **{f"many/{number}": b"%d" % number for number in range(20)},
        },
    )
    # Of a small object the GCS emulator keeps no parameters of the type.
    types = {"project.json": "application/json" + ("; dcp-type=metadata" if replica == "aws" else "")}
    planned = plan(tmp_path, content_types=types)
    report = uploader(dss, replica=replica, staging_prefix="/some prefix/ü%20/").upload(planned)
    _assert_stored(dss, planned, replica)
    assert (report.uuid, report.version, report.replica) == (planned.bundle_uuid, VERSION, replica)
    assert (report.files, report.staged_files, report.registered_files, report.copied_files) == (26, 26, 26, 2)
    assert (
        report.size == report.staged_size == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    )
    assert report.created
    assert set(report.seconds) == {"stage", "register", "copy", "bundle"}
    assert upload_threads() == []


def test_again(dss: LocalDSS, tmp_path: Path) -> None:
    """The same upload once more makes nothing twice, and is told to have been there."""
    write_tree(tmp_path, _small(10) | {"large": _large(new_uuid())})
    planned = plan(tmp_path)
    assert uploader(dss).upload(planned).created
    before = dss.control("GET", "store")
    report = uploader(dss).upload(planned)
    assert dss.control("GET", "store") == before
    assert not report.created
    assert (report.staged_files, report.registered_files) == (11, 0)
    _assert_stored(dss, planned)


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_resume_when_all_is_done(dss: LocalDSS, tmp_path: Path, replica: str) -> None:
    """A retry of what is done sends and registers nothing; it only looks."""
    write_tree(tmp_path, _small(10) | {"large": _large(new_uuid())})
    planned = plan(tmp_path)
    uploader(dss, replica=replica).upload(planned)
    before = dss.control("GET", "store")
    dss.control("DELETE", "requests")

    report = uploader(dss, replica=replica).upload(planned, resume=True)
    assert (report.files, report.staged_files, report.staged_size, report.registered_files) == (11, 0, 0, 0)
    assert not report.created
    assert requests_seen(dss, "PUT", "/files/") == 0
    assert requests_seen(dss, "HEAD", "/files/") == 11
    assert requests_seen(dss, "PUT", "/bundles/") == 1
    assert dss.control("GET", "store") == before


def test_a_new_version(dss: LocalDSS, tmp_path: Path) -> None:
    """The same bundle in another version stands beside the first, and its files too."""
    write_tree(tmp_path, _small(3))
    bundle, later = new_uuid(), VERSION.replace("2024", "2025")
    uploader(dss).upload(plan(tmp_path, bundle=bundle))
    (tmp_path / "d0/file 000.json").write_bytes(b"changed")
    planned = plan(tmp_path, bundle=bundle, version=later)
    assert uploader(dss).upload(planned, resume=True).registered_files == 3
    assert [each["version"] for each in stored_of(dss, planned)["bundles"]] == [VERSION, later]
    assert len(stored_of(dss, planned)["files"]) == 6


# Files that do not stay as they are


def test_content_changed_between_tries(dss: LocalDSS, tmp_path: Path) -> None:
    """A file that is registered with other content is a permanent error that names it and says what to do."""
    write_tree(tmp_path, _small(5) | {"large": _large(new_uuid())})
    bundle = new_uuid()
    uploader(dss).upload(plan(tmp_path, bundle=bundle))
    before = dss.control("GET", "store")
    (tmp_path / "d1/file 001.json").write_bytes(b"changed")
    (tmp_path / "large").write_bytes(_large("changed"))
    planned = plan(tmp_path, bundle=bundle)
    with pytest.raises(UploadError) as caught:
        uploader(dss).upload(planned, resume=True)
    assert [name for name, _ in caught.value.failures] == ["d1/file 001.json", "large"]
    assert "clear the DAG run, or give another bundle_version" in str(caught.value)
    assert (caught.value.permanent, caught.value.done, caught.value.total) == (True, 4, 6)
    for _ in range(2):  # without looking first, the DSS itself says so, and for a copy that lost, the client
        with pytest.raises(UploadError) as caught:
            uploader(dss).upload(planned)
        assert "d1/file 001.json" in dict(caught.value.failures)
        assert caught.value.permanent
        (tmp_path / "d1/file 001.json").write_bytes(b"changed again")
        planned = plan(tmp_path, bundle=bundle)
    assert dss.control("GET", "store") == before


def test_a_copy_that_lost(dss: LocalDSS, tmp_path: Path) -> None:
    """A large file whose copy lost against other content is a conflict, although the DSS accepted it."""
    write_tree(tmp_path, {"large": _large(new_uuid())})
    bundle = new_uuid()
    uploader(dss).upload(plan(tmp_path, bundle=bundle))
    (tmp_path / "large").write_bytes(_large(new_uuid()))
    with pytest.raises(UploadError, match="another version") as caught:
        uploader(dss).upload(plan(tmp_path, bundle=bundle))
    assert [name for name, _ in caught.value.failures] == ["large"]
    assert caught.value.permanent


def _change(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def _rewrite(path: Path) -> None:
    """Change it, but not its length."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\1")


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("how", [_change, _truncate, _rewrite, _touch, Path.unlink])
def test_changed_since_it_was_planned(dss: LocalDSS, tmp_path: Path, how: Callable[[Path], None]) -> None:
    """All files that are no longer as planned are told in one error, and nothing is registered."""
    write_tree(tmp_path, _small(10) | {"big": bytes(9 * MIB)})
    planned = plan(tmp_path)
    names = ["big", "d0/file 003.json", "d2/file 008.json"]
    for name in names:
        how(tmp_path / name)
    with pytest.raises(InvalidDirectoryError) as caught:
        uploader(dss).upload(planned)
    assert sorted(name for name, _ in caught.value.offenders) == names
    assert caught.value.directory == str(tmp_path)
    assert requests_seen(dss, "PUT", "/files/") == 0


@pytest.mark.parametrize(
    ("moment", "size"),
    [("before", 20), ("after", 20), ("while", 20), ("while", 12 * MIB), ("while", 70 * MIB)],
    ids=["before", "after", "small", "medium", "large"],
)
@pytest.mark.parametrize("how", [_change, _truncate, _rewrite, Path.unlink])
def test_changed_while_it_is_sent(
    dss: LocalDSS, tmp_path: Path, how: Callable[[Path], None], moment: str, size: int
) -> None:
    """A file that changes in whatever way while it is sent is told soon, and nothing is registered."""
    write_tree(tmp_path, _small(5))
    path = write_sparse(tmp_path / "victim", size)
    planned = plan(tmp_path)
    uuid = next(file.uuid for file in planned.files if file.name == "victim")
    left = [{"before": 1, "while": 2, "after": 10**9}[moment]]

    def meddle(key: str, sent: int) -> None:
        if uuid in key:
            left[0] -= 1
            if left[0] == 0 or (moment == "after" and sent == -1):
                left[0] = 10**9
                how(path)

    started = time.monotonic()
    policy = RetryPolicy(attempts=10, seconds=50)
    with pytest.raises(InvalidDirectoryError) as caught:
        uploader(dss, staging=_Meddling(dss.bucket, meddle), policy=policy).upload(planned)
    assert [name for name, _ in caught.value.offenders] == ["victim"]
    assert time.monotonic() - started < 10
    assert requests_seen(dss, "PUT", "/files/") == 0
    assert not dss.s3.list_multipart_uploads(Bucket=dss.bucket).get("Uploads")


# When some of it fails


def test_a_conflict_of_one_file(dss: LocalDSS, tmp_path: Path) -> None:
    """One file that conflicts keeps no other from being registered; no bundle is made; a retry finds the others."""
    write_tree(tmp_path, _small(20))
    planned = plan(tmp_path)
    _fault(dss, method="PUT", path=f"/files/{planned.files[7].uuid}", status=409)
    with pytest.raises(UploadError) as caught:
        uploader(dss).upload(planned)
    assert [name for name, _ in caught.value.failures] == [planned.files[7].name]
    assert (caught.value.done, caught.value.total, caught.value.permanent) == (19, 20, True)
    assert "409" in str(caught.value)
    assert len(stored_of(dss, planned)["files"]) == 19
    assert requests_seen(dss, "PUT", "/bundles/") == 0

    dss.control("DELETE", "requests")
    report = uploader(dss).upload(planned, resume=True)
    assert (report.staged_files, report.registered_files, report.created) == (0, 1, True)
    assert requests_seen(dss, "PUT", "/files/") == 1
    _assert_stored(dss, planned)


@pytest.mark.parametrize("status", [401, 403, 400])
def test_a_mistake_that_hits_all(dss: LocalDSS, tmp_path: Path, status: int) -> None:
    """What is wrong with the service or the token ends the upload at once: not every file is tried."""
    write_tree(tmp_path, _small(100))
    planned = plan(tmp_path)
    _fault(dss, method="PUT", path="/files/", status=status, times=1000)
    with pytest.raises(UploadError) as caught:
        uploader(dss).upload(planned)
    assert caught.value.permanent
    assert 1 <= len(caught.value.failures) <= 4
    assert requests_seen(dss, "PUT", "/files/") <= 4
    assert stored_of(dss, planned) == {"files": [], "bundles": []}


def test_a_service_that_is_down(dss: LocalDSS, tmp_path: Path) -> None:
    """A service that answers 503 all the time is tried as often as the policy says, and a retry is worth it."""
    write_tree(tmp_path, _small(100))
    planned = plan(tmp_path)
    _fault(dss, method="PUT", path="/files/", status=503, times=1000)
    with pytest.raises(UploadError, match="503") as caught:
        uploader(dss).upload(planned)
    assert not caught.value.permanent
    assert requests_seen(dss, "PUT", "/files/") <= 4 * SHORT.attempts


@pytest.mark.parametrize("resume", [False, True])
def test_a_staging_bucket_that_is_not_there(dss: LocalDSS, tmp_path: Path, resume: bool) -> None:
    """A missing bucket is told at once, before any file is read or the DSS asked for one."""
    planned = plan(write_tree(tmp_path, _small(3)))
    staging = open_staging("aws", "no-such-bucket")
    with pytest.raises(StagingError, match="staging_bucket"):
        uploader(dss, staging=staging).upload(planned, resume=resume)
    assert {each["path"] for each in dss.control("GET", "requests")} == {"/v1/bundles/all", "/v1/collections"}


class _SlowStaging(S3Staging):
    """A bucket that takes its time."""

    def put(self, *arguments: Any, **options: Any) -> None:
        """Stage an object, slowly."""
        time.sleep(1.3)
        super().put(*arguments, **options)


def test_a_token_that_expires_while_files_are_staged(dss: LocalDSS, tmp_path: Path) -> None:
    """A token that staging outlasts is renewed once, not by every thread, since refresh tokens may be good for once."""
    dss.control("POST", "oauth/settings", {"expires_in": 2})
    made: list[str] = []
    auth = UserToken(**dss.about["oauth2"], on_token=made.append)
    try:
        with RequestsTransport(pool_size=8) as transport:
            Uploader(
                DSSAPI(dss.url, auth=auth), transport, _SlowStaging(dss.bucket), replica="aws", creator_uid=1, workers=8
            ).upload(plan(write_tree(tmp_path, _small(16))))
    finally:
        dss.control("POST", "oauth/settings", {"expires_in": 3600})
    assert 2 <= len([token for token in made if token.count(".") == 2]) <= 3
    assert not [each for each in dss.control("GET", "requests") if each["status"] == 401]


@pytest.mark.parametrize("trouble", ["token", "route", "host"])
def test_a_dss_that_will_not_do_is_found_before_staging(dss: LocalDSS, tmp_path: Path, trouble: str) -> None:
    """A refused token, a wrong base path or host is told before anything is sent to the bucket."""
    urls = {"token": dss.url, "route": f"{dss.url}/v2", "host": "http://127.0.0.1:9/v1"}
    api = DSSAPI(urls[trouble], auth=StaticToken("no.such.token"), retry=RetryPolicy(attempts=2, seconds=1))
    prefix = str(tmp_path)
    with RequestsTransport() as transport, pytest.raises((DSSAuthError, DSSProtocolError, DSSConnectionError)):
        Uploader(
            api, transport, open_staging("aws", dss.bucket), replica="aws", creator_uid=1, staging_prefix=prefix
        ).upload(plan(write_tree(tmp_path, _small(3))))
    assert dss.s3.list_objects_v2(Bucket=dss.bucket, Prefix=prefix.strip("/"))["KeyCount"] == 0


_TROUBLES: dict[str, list[dict[str, Any]]] = {
    "503": [{"method": "PUT", "path": "/files/", "status": 503, "times": 10}],
    "retry-after": [{"method": "PUT", "path": "/files/", "status": 503, "times": 3, "retry_after": 0.2}],
    "drops": [{"method": "PUT", "path": "/files/", "action": "drop", "times": 10}],
    "drops although done": [{"method": "PUT", "path": "/files/", "action": "drop", "times": 10, "after": True}],
    "504 although done": [{"method": "PUT", "path": "/files/", "status": 504, "times": 10, "after": True}],
    "bundle 504 although done": [{"method": "PUT", "path": "/bundles/", "status": 504, "times": 2, "after": True}],
    "bundle never answered": [{"method": "PUT", "path": "/bundles/", "status": 504, "times": 50, "after": True}],
    "bundle dropped": [{"method": "PUT", "path": "/bundles/", "action": "drop", "times": 50, "after": True}],
    "polls": [{"method": "HEAD", "path": "/files/", "status": 503, "times": 4}],
    "slow": [{"method": "PUT", "path": "/files/", "action": "slow", "seconds": 0.5, "times": 3}],
}


@pytest.mark.parametrize("trouble", _TROUBLES)
def test_what_passes_is_ridden_out(dss: LocalDSS, tmp_path: Path, trouble: str) -> None:
    """Trouble of the service that passes does no harm: each file and the bundle are there, once."""
    write_tree(tmp_path, _small(15) | {"large": _large(new_uuid())})
    planned = plan(tmp_path)
    for fault in _TROUBLES[trouble]:
        _fault(dss, **fault)
    policy = RetryPolicy(attempts=8, seconds=6, first_delay=0.05, longest_delay=0.2)
    uploader(dss, policy=policy).upload(planned)
    dss.control("DELETE", "faults")
    _assert_stored(dss, planned)


def test_a_bundle_that_is_not_made(dss: LocalDSS, tmp_path: Path) -> None:
    """A bundle that the DSS never makes is an error, and the retry needs only that."""
    planned = plan(write_tree(tmp_path, _small(3)))
    _fault(dss, method="PUT", path="/bundles/", status=504, times=50)
    with pytest.raises(DSSResponseError, match="504"):
        uploader(dss).upload(planned)
    dss.control("DELETE", "faults")
    report = uploader(dss).upload(planned, resume=True)
    assert (report.staged_files, report.registered_files, report.created) == (0, 0, True)


# Copies


@pytest.mark.parametrize("status", [422, 500])
def test_a_failing_copy(dss: LocalDSS, tmp_path: Path, status: int) -> None:
    """A copy that fails names its file, no bundle is made, and the others are registered."""
    write_tree(tmp_path, _small(3) | {"good": _large(new_uuid()), "bad": _large(new_uuid())})
    planned = plan(tmp_path)
    uuid = next(file.uuid for file in planned.files if file.name == "bad")
    _fault(dss, method="PUT", path=f"/files/{uuid}", action="fail_copy", status=status)
    with pytest.raises(UploadError, match=r"could not copy|the copy broke") as caught:
        uploader(dss).upload(planned)
    assert [name for name, _ in caught.value.failures] == ["bad"]
    assert (caught.value.done, caught.value.permanent) == (4, status == 422)
    assert stored_of(dss, planned)["bundles"] == []


@pytest.mark.parametrize("status", [422, 500])
def test_resume_after_a_failed_copy(dss: LocalDSS, tmp_path: Path, status: int) -> None:
    """A file whose copy failed, whatever HEAD answers for ever since, is registered once more by a later try."""
    write_tree(tmp_path, _small(3) | {"bad": _large(new_uuid())})
    planned = plan(tmp_path)
    _fault(dss, method="PUT", path=f"/files/{planned.files[0].uuid}", action="fail_copy", status=status)
    with pytest.raises(UploadError):
        uploader(dss).upload(planned)
    report = uploader(dss).upload(planned, resume=True)
    assert (report.staged_files, report.registered_files, report.copied_files) == (0, 1, 1)
    _assert_stored(dss, planned)


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_resume_sends_nothing_that_is_staged(dss: LocalDSS, tmp_path: Path, replica: str) -> None:
    """What an earlier try staged and did not register is registered from where it is; what changed is sent again."""
    write_tree(tmp_path, _small(4) | {"large": _large(new_uuid())})
    planned = plan(tmp_path, content_types={"*": "text/plain"})
    _fault(dss, method="PUT", path="/files/", status=400, times=99)
    with pytest.raises(UploadError):
        uploader(dss, replica=replica).upload(planned)
    dss.control("DELETE", "faults")
    changed = planned.files[0].path
    changed.write_bytes(b"other")
    again = plan(tmp_path, bundle=planned.bundle_uuid, content_types={"*": "text/plain"})
    report = uploader(dss, replica=replica).upload(again, resume=True)
    assert (report.files, report.staged_files, report.registered_files) == (5, 1, 5)
    assert len(stored_of(dss, again)["bundles"]) == 1


def test_a_copy_that_takes_too_long(dss: LocalDSS, tmp_path: Path) -> None:
    """A copy that is not done in time is an error that names its file; the retry waits on, and sends nothing again."""
    write_tree(tmp_path, _small(3) | {"large": _large(new_uuid())})
    planned = plan(tmp_path)
    with pytest.raises(UploadError, match="copy_timeout") as caught:
        uploader(dss, copy_seconds=0.1).upload(planned)
    assert [name for name, _ in caught.value.failures] == ["large"]
    assert not caught.value.permanent
    assert uploader(dss).upload(planned, resume=True).staged_files == 0
    _assert_stored(dss, planned)


# Restarts of the DSS


@pytest.fixture(scope="module")
def own_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS that tests may stop, and whose copies take very long."""
    options = ("--async-above", "100000", "--copy-delay", "600", "--file-wait", "1")
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
    write_tree(tmp_path, _small(40))
    planned = plan(tmp_path)
    reached = threading.Event()
    counter = itertools.count(1)

    def meddle(_: str, sent: int) -> None:
        if phase == "stage" and sent == -1 and next(counter) == 15:
            reached.set()
            time.sleep(0.2)

    if phase == "register":
        _fault(sleepy_dss, method="PUT", path="/files/", action="slow", seconds=0.1, times=100)

    def watch() -> None:
        while phase == "register" and requests_seen(sleepy_dss, "PUT", "/files/") < 8:
            time.sleep(0.02)
        reached.wait(10 if phase == "stage" else 0)
        sleepy_dss.stop()
        time.sleep(2)
        sleepy_dss.start()

    watcher = threading.Thread(target=watch)
    engine = uploader(sleepy_dss, staging=_Meddling(sleepy_dss.bucket, meddle), policy=RetryPolicy(40, longest_delay=1))
    watcher.start()
    report = engine.upload(planned)
    watcher.join()
    assert report.created
    _assert_stored(sleepy_dss, planned)


# Told to stop


def _assert_stops(dss: LocalDSS, planned: Plan, stop: threading.Event, engine: Any, within: float = 3.0) -> None:
    """See that an upload that is told to stop by somebody ends soon, and does nothing afterwards."""
    told: list[float] = []

    def note() -> None:
        stop.wait()
        told.append(time.monotonic())

    noter = threading.Thread(target=note)
    noter.start()
    with pytest.raises(UploadAbortedError):
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
    planned = plan(write_tree(tmp_path, _small(200)))
    stop, counter = threading.Event(), itertools.count(1)

    def meddle(_: str, sent: int) -> None:
        if sent == -1 and next(counter) == 30:
            stop.set()

    _assert_stops(dss, planned, stop, uploader(dss, staging=_Meddling(dss.bucket, meddle), stop=stop))
    assert requests_seen(dss, "PUT", "/files/") == 0


@pytest.mark.parametrize("sent", [1, 60, 200])
def test_stop_in_a_large_file(dss: LocalDSS, tmp_path: Path, sent: int) -> None:
    """Told to stop in the middle of a large file, it ends soon and leaves no half upload in the bucket."""
    write_sparse(tmp_path / "large", 140 * MIB)
    planned = plan(tmp_path)
    stop, counter = threading.Event(), itertools.count(1)

    def meddle(_: str, count: int) -> None:
        if count > 0 and next(counter) == sent:
            stop.set()

    _assert_stops(dss, planned, stop, uploader(dss, staging=_Meddling(dss.bucket, meddle), stop=stop))
    assert requests_seen(dss, "PUT", "/files/") == 0
    assert not dss.s3.list_multipart_uploads(Bucket=dss.bucket).get("Uploads")


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
    planned = plan(write_tree(tmp_path, _small(100)))
    stop = threading.Event()
    _fault(dss, method="PUT", path="/files/", action="slow", seconds=0.1, times=1000)

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
    _assert_stored(dss, planned)


def test_stop_while_copies_are_awaited(sleepy_dss: LocalDSS, tmp_path: Path) -> None:
    """Told to stop while the DSS copies, it ends at once."""
    planned = plan(write_tree(tmp_path, {name: _large(new_uuid()) for name in "abc"}))
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
    planned = plan(write_tree(tmp_path, _small(3)))
    stop = threading.Event()
    _fault(dss, method=method, path=part, status=503, retry_after=30, times=1000)

    def watch() -> None:
        while not requests_seen(dss, method, part):
            time.sleep(0.02)
        time.sleep(0.1)
        stop.set()

    threading.Thread(target=watch).start()
    _assert_stops(dss, planned, stop, uploader(dss, stop=stop, policy=RetryPolicy()), within=1.0)


def test_stop_while_the_store_is_down(dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to stop while the staging store does not answer, it ends within seconds."""
    planned = plan(write_tree(tmp_path, _small(10)))
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
    planned = plan(write_tree(tmp_path, _small(3)))
    stop = threading.Event()
    stop.set()
    with pytest.raises(UploadAbortedError):
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
    write_tree(tmp_path, _small(60))
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
    _assert_stored(dss, planned)
