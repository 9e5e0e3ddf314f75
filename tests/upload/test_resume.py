"""A second try finds what the first one left in the bucket, in whatever state, and does only what is missing."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.exceptions import StagingError, UploadError
from airflow_provider_hca.upload.checksums import MIB
from airflow_provider_hca.upload.entries import PlannedFile
from airflow_provider_hca.upload.keys import key_of, prefix_of
from airflow_provider_hca.upload.local_files import OpenFile, ignore_bytes
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.staging import open_staging, stage_file
from airflow_provider_hca.upload.staging.s3 import S3Staging
from tests.local.server import LocalDSS, new_uuid
from tests.upload.support import (
    Meddling,
    assert_stored,
    fault,
    open_uploads,
    plan,
    requests_seen,
    small,
    uploader,
    write_sparse,
    write_tree,
)

SIZE = 65 * MIB  # two parts


def _large(directory: Path) -> tuple[Plan, PlannedFile]:
    path = write_sparse(directory / "large", SIZE)
    with path.open("r+b") as file:
        file.write(new_uuid().encode())
    planned = plan(directory)
    return planned, next(file for file in planned.files if file.name == "large")


def _key(planned: Plan, file: PlannedFile) -> str:
    return key_of(file, prefix_of("", planned))


def _sent(dss: LocalDSS, planned: Plan, **options: Any) -> int:
    """Resume an upload, and return how many bytes it sent."""
    return uploader(dss, **options).upload(planned, resume=True).sent_byte_count


def _begin(dss: LocalDSS, planned: Plan, file: PlannedFile, parts: tuple[int, ...]) -> None:
    """Leave an upload in parts behind, as a try that was killed does."""
    with OpenFile(file.path) as opened:
        transfer = S3Staging(dss.bucket).begin(_key(planned, file), file.content_type, opened, file.size)
        for part in parts:
            transfer.send(part, ignore_bytes)


@pytest.mark.parametrize(("parts", "left"), [((), 65), ((1,), 64), ((0, 1), 0)])
def test_multipart_upload_is_resumed(dss: LocalDSS, tmp_path: Path, parts: tuple[int, ...], left: int) -> None:
    """Only the missing parts of an unfinished upload are sent, whichever those are."""
    planned, file = _large(tmp_path)
    _begin(dss, planned, file, parts)
    assert _sent(dss, planned) == left * MIB
    assert open_uploads(dss, planned) == []
    assert_stored(dss, planned)


def test_parts_that_changed_are_sent_again(dss: LocalDSS, tmp_path: Path) -> None:
    """A part whose content is another one by now is sent, and those that are the same are not."""
    planned, file = _large(tmp_path)
    _begin(dss, planned, file, (0, 1))
    with file.path.open("r+b") as opened:
        opened.seek(64 * MIB)
        opened.write(b"other")
    again = plan(tmp_path, bundle=planned.bundle_uuid)
    assert _sent(dss, again) == 1 * MIB
    assert_stored(dss, again)


def test_several_that_were_left_open(dss: LocalDSS, tmp_path: Path) -> None:
    """One of several uploads of a file is finished, the others are aborted; uploads of other keys are kept."""
    planned, file = _large(tmp_path)
    for _ in range(2):
        _begin(dss, planned, file, (1,))
    other = dss.s3.create_multipart_upload(Bucket=dss.bucket, Key=f"other/{new_uuid()}")
    assert _sent(dss, planned) == 64 * MIB
    assert open_uploads(dss, planned) == []
    assert other["UploadId"] in open_uploads(dss)
    dss.s3.abort_multipart_upload(Bucket=dss.bucket, Key=other["Key"], UploadId=other["UploadId"])
    assert_stored(dss, planned)


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_an_object_without_its_sums(dss: LocalDSS, tmp_path: Path, replica: str) -> None:
    """A large object whose try ended before it gave it the sums is given them, and not sent again."""
    planned, file = _large(tmp_path)
    staging, key = open_staging(replica, dss.bucket), _key(planned, file)
    sums = stage_file(staging, key, file.path, file.content_type)
    if replica == "aws":
        dss.s3.delete_object_tagging(Bucket=dss.bucket, Key=key)
        with pytest.raises(StagingError, match="no hca-dss-sha256"):
            staging.sha256(key)
    report = uploader(dss, replica=replica).upload(planned, resume=True)
    assert (report.staged_file_count, report.skipped_file_count) == (0, 1)
    assert staging.sha256(key) == sums.sha256
    assert_stored(dss, planned, replica)


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_an_object_with_other_content(dss: LocalDSS, tmp_path: Path, replica: str) -> None:
    """A large object that was staged whole and not registered is replaced when the file has changed since."""
    planned, file = _large(tmp_path)
    stage_file(open_staging(replica, dss.bucket), _key(planned, file), file.path, file.content_type)
    with file.path.open("r+b") as opened:
        opened.write(b"other")
    again = plan(tmp_path, bundle=planned.bundle_uuid)
    report = uploader(dss, replica=replica).upload(again, resume=True)
    assert (report.staged_file_count, report.skipped_file_count) == (1, 0)
    assert_stored(dss, again, replica)


def test_a_large_file_that_was_registered_otherwise(dss: LocalDSS, tmp_path: Path) -> None:
    """A large file that an earlier try registered and that changed since is a conflict, and nothing of it is sent."""
    planned, file = _large(tmp_path)
    uploader(dss).upload(planned)
    with file.path.open("r+b") as opened:
        opened.write(b"other")
    with pytest.raises(UploadError, match="another content"):
        _sent(dss, plan(tmp_path, bundle=planned.bundle_uuid))
    assert open_uploads(dss, planned) == []


def test_another_type_than_the_first_time(dss: LocalDSS, tmp_path: Path) -> None:
    """Files staged with another content type are staged again, and unfinished uploads are aborted."""
    write_tree(tmp_path, small(3))
    planned, file = _large(tmp_path)
    _begin(dss, planned, file, (1,))
    fault(dss, method="PUT", path="/files/", status=400, times=99)
    with pytest.raises(UploadError):
        uploader(dss).upload(planned)
    dss.control("DELETE", "faults")
    again = plan(tmp_path, bundle=planned.bundle_uuid, content_types={"*": "text/x-other"})
    assert _sent(dss, again) == SIZE + sum(each.size for each in again.files if each != again.files[-1])
    assert open_uploads(dss, planned) == []
    assert_stored(dss, again)


class _Unlisted(S3Staging):
    """A bucket that may not be listed."""

    def find(self, prefix: str, *, after: str = "") -> dict[str, str]:  # noqa: ARG002 - the signature of the protocol
        raise StagingError(self.url(prefix), "access denied", permanent=True)


def test_a_bucket_that_may_not_be_listed(dss: LocalDSS, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the right to list the bucket a retry sends all files again, and logs that."""
    planned = plan(write_tree(tmp_path, small(5)))
    fault(dss, method="PUT", path="/files/", status=400, times=99)
    with pytest.raises(UploadError):
        uploader(dss).upload(planned)
    dss.control("DELETE", "faults")
    with caplog.at_level(logging.WARNING):
        report = uploader(dss, staging=_Unlisted(dss.bucket)).upload(planned, resume=True)
    assert report.staged_file_count == 5
    assert "all files are sent again" in caplog.text
    assert_stored(dss, planned)


def test_a_first_try_does_not_look(dss: LocalDSS, tmp_path: Path) -> None:
    """A first try asks neither the bucket nor the DSS for single files."""

    class NoFinding(S3Staging):
        def find(self, prefix: str, *, after: str = "") -> dict[str, str]:
            raise AssertionError(prefix, after)

    planned = plan(write_tree(tmp_path, small(5)))
    uploader(dss, staging=NoFinding(dss.bucket)).upload(planned)
    assert requests_seen(dss, "HEAD", "/files/") == 0


def test_a_retry_that_finds_nothing_staged_asks_for_no_file(dss: LocalDSS, tmp_path: Path) -> None:
    """Unless the DSS has the bundle: its files may be registered, and what was staged deleted."""
    planned = plan(write_tree(tmp_path, small(5)))
    uploader(dss, delete_staged=True).upload(planned, resume=True)
    assert requests_seen(dss, "HEAD", "/files/") == 0
    report = uploader(dss).upload(planned, resume=True)
    assert requests_seen(dss, "HEAD", "/files/") == 5
    assert (report.skipped_file_count, report.staged_file_count, report.created) == (5, 0, False)


# What is removed afterwards


def _keys(dss: LocalDSS, replica: str, prefix: str) -> set[str]:
    if replica == "aws":
        pages = dss.s3.get_paginator("list_objects_v2").paginate(Bucket=dss.bucket, Prefix=prefix)
        return {each["Key"] for page in pages for each in page.get("Contents", [])}
    from google.cloud import storage

    return {blob.name for blob in storage.Client().list_blobs(dss.bucket, prefix=prefix)}


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_what_was_staged_is_removed(dss: LocalDSS, tmp_path: Path, replica: str) -> None:
    """With delete_staged exactly the objects of this upload are gone in the end, and what lies beside them is not."""
    planned = plan(write_tree(tmp_path, small(7)))
    under = new_uuid()
    staging, prefix = open_staging(replica, dss.bucket), prefix_of(f"{under}/", planned)
    neighbour = write_tree(tmp_path / "neighbour", {"file": b"x"}) / "file"
    kept = {f"{prefix}other", f"{key_of(planned.files[0], prefix)}.other", f"{under}/other"}
    for key in kept:
        stage_file(staging, key, neighbour, "text/plain")
    uploader(dss, replica=replica, staging_prefix=under, delete_staged=True).upload(planned)
    assert _keys(dss, replica, under) == kept
    assert_stored(dss, planned, replica)
    report = uploader(dss, replica=replica, staging_prefix=under, delete_staged=True).upload(planned, resume=True)
    assert (report.created, report.staged_file_count, report.skipped_file_count) == (False, 0, 7)
    assert _keys(dss, replica, under) == kept


def test_nothing_is_removed_before_the_bundle_is_there(dss: LocalDSS, tmp_path: Path) -> None:
    """If the bundle is not created, staged objects stay for the next try."""
    planned = plan(write_tree(tmp_path, small(7)))
    fault(dss, method="PUT", path="/bundles/", status=400, times=9)
    with pytest.raises(Exception, match="400"):
        uploader(dss, delete_staged=True).upload(planned)
    assert len(_keys(dss, "aws", prefix_of("", planned))) == 7


def test_what_cannot_be_removed(dss: LocalDSS, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bucket that lets nothing be removed does not make an upload fail whose bundle is there."""

    class Keeping(S3Staging):
        def delete(self, keys: Any) -> None:
            raise StagingError(self.url(keys[0]), "access denied", permanent=True)

    planned = plan(write_tree(tmp_path, small(2)))
    report = uploader(dss, staging=Keeping(dss.bucket), delete_staged=True).upload(planned)
    assert report.created
    assert "remain in the bucket" in caplog.text


# Rate limits and the report


def test_bandwidth(dss: LocalDSS, tmp_path: Path) -> None:
    """All workers together send no more bytes a second than they may: each waits before it sends."""
    content = os.urandom(MIB)
    planned = plan(write_tree(tmp_path, {f"{number}": content for number in range(5)}))
    sending: list[float] = []

    def record(_: str, sent: int) -> None:
        if sent == 0:
            sending.append(time.monotonic())

    started = time.monotonic()
    report = uploader(dss, staging=Meddling(dss.bucket, record), max_bytes_per_second=5 * MIB).upload(planned)
    assert max(sending) - started >= 0.8  # the first MiB may pass at once
    assert report.seconds["stage"] >= 0.8
    assert report.staged_byte_count == 5 * MIB


def test_requests_per_second(dss: LocalDSS, tmp_path: Path) -> None:
    """All workers together ask the DSS no more often than they may."""
    planned = plan(write_tree(tmp_path, small(20)))
    engine = uploader(dss, max_requests_per_second=40)
    assert engine.upload(planned).seconds["register"] > 0.45


@pytest.mark.parametrize("limit", [0, -1.0])
def test_no_limit_of_nothing(dss: LocalDSS, limit: float) -> None:
    """A limit that lets nothing pass is refused."""
    with pytest.raises(ValueError, match="above 0"):
        uploader(dss, max_bytes_per_second=limit)


def test_report_has_retries_and_slowest_files(dss: LocalDSS, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The report counts what was sent again and what was skipped, and names the five files that took longest."""
    planned = plan(write_tree(tmp_path, small(20)))
    slow = {file.uuid for file in planned.files[3:5]}
    staged: list[str] = []

    def meddle(key: str, sent: int) -> None:
        if sent == -1:
            staged.append(key)
        if not sent and any(uuid in key for uuid in slow):
            time.sleep(0.4)
            while len(staged) < 18:  # longer than any other file can take
                time.sleep(0.01)

    fault(dss, method="PUT", path="/files/", status=500, times=2)
    with caplog.at_level(logging.INFO):
        report = uploader(dss, staging=Meddling(dss.bucket, meddle)).upload(planned)
    assert report.retry_count == 2
    assert report.skipped_file_count == 0
    assert len(report.slowest_files) == 5
    assert {name for name, _ in report.slowest_files[:2]} == {file.name for file in planned.files[3:5]}
    assert [spent for _, spent in report.slowest_files] == sorted(
        (spent for _, spent in report.slowest_files), reverse=True
    )
    assert all(spent >= 0.4 for _, spent in report.slowest_files[:2])
    assert "2 retries" in caplog.text
    assert repr(planned.files[3].name) in caplog.text


def test_failures_name_every_file(dss: LocalDSS, tmp_path: Path) -> None:
    """Each file that failed is reported with its cause, and the others are skipped by the next try."""
    planned = plan(write_tree(tmp_path, small(9)))
    for file in planned.files[2:5]:
        fault(dss, method="PUT", path=f"/files/{file.uuid}", status=409)
    with pytest.raises(UploadError) as caught:
        uploader(dss).upload(planned)
    assert [name for name, _ in caught.value.failures] == [file.name for file in planned.files[2:5]]
    assert all("409" in cause for _, cause in caught.value.failures)
    report = uploader(dss).upload(planned, resume=True)
    assert (report.staged_file_count, report.skipped_file_count, report.registered_file_count) == (0, 9, 3)


def test_a_throttled_store(dss: LocalDSS, tmp_path: Path) -> None:
    """A store that asks one worker for fewer requests is asked less by all of them, and the upload gets through."""
    planned = plan(write_tree(tmp_path, small(40)))
    moments: list[float] = []

    class Throttled(S3Staging):
        def put(self, *arguments: Any, **options: Any) -> None:
            moments.append(time.monotonic())
            if len(moments) == 20:
                raise StagingError(self.url(""), "SlowDown", throttled=True)
            super().put(*arguments, **options)

    report = uploader(dss, staging=Throttled(dss.bucket)).upload(planned)
    assert report.retry_count == 1
    before, after = moments[19] - moments[0], moments[-1] - moments[23]
    assert after / 17 > before / 19
    assert_stored(dss, planned)
