"""Uploads that fail, wholly or in part, at the local DSS."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client import auth
from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken, UserToken
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSConnectionError,
    DSSProtocolError,
    DSSResponseError,
    StagingError,
    UploadError,
)
from airflow_provider_hca.upload.checksums import MIB
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.staging import open_staging
from airflow_provider_hca.upload.staging.s3 import S3Staging
from airflow_provider_hca.upload.uploader import Uploader
from tests.client.feeding import Clock
from tests.local.server import LocalDSS, new_uuid
from tests.upload.support import (
    CREATOR,
    SHORT,
    assert_stored,
    fault,
    large,
    plan,
    requests_seen,
    small,
    stored_of,
    upload_threads,
    uploader,
    write_sparse,
    write_tree,
)

# When some of it fails


def test_a_conflict_of_one_file(dss: LocalDSS, tmp_path: Path) -> None:
    """One file that conflicts keeps no other from being registered; no bundle is made; a retry finds the others."""
    write_tree(tmp_path, small(20))
    planned = plan(tmp_path)
    fault(dss, method="PUT", path=f"/files/{planned.files[7].uuid}", status=409)
    with pytest.raises(UploadError) as caught:
        uploader(dss).upload(planned)
    assert [name for name, _ in caught.value.failures] == [planned.files[7].name]
    assert (caught.value.done, caught.value.total, caught.value.permanent) == (19, 20, True)
    assert "409" in str(caught.value)
    assert len(stored_of(dss, planned)["files"]) == 19
    assert requests_seen(dss, "PUT", "/bundles/") == 0

    dss.control("DELETE", "requests")
    report = uploader(dss).upload(planned, resume=True)
    assert (report.staged_file_count, report.registered_file_count, report.created) == (0, 1, True)
    assert requests_seen(dss, "PUT", "/files/") == 1
    assert_stored(dss, planned)


@pytest.mark.parametrize("status", [401, 400])
def test_a_mistake_that_hits_all(dss: LocalDSS, tmp_path: Path, status: int) -> None:
    """An error of the service or the token ends the upload at once: not every file is tried."""
    write_tree(tmp_path, small(100))
    planned = plan(tmp_path)
    fault(dss, method="PUT", path="/files/", status=status, times=1000)
    with pytest.raises(UploadError) as caught:
        uploader(dss).upload(planned)
    assert caught.value.permanent
    assert 1 <= len(caught.value.failures) <= 4
    assert requests_seen(dss, "PUT", "/files/") <= 4
    assert stored_of(dss, planned) == {"files": [], "bundles": []}


def test_large_file_when_another_file_fails_is_closed(dss: LocalDSS, tmp_path: Path) -> None:
    """If another file ends the upload while parts of a large file are staged, the large file is closed."""
    (tmp_path / "a.json").write_bytes(b"{}")
    write_sparse(tmp_path / "b.bin", 450 * MIB)  # only the first parts are read

    class Refusing(S3Staging):
        def put(self, *_: Any, **__: Any) -> None:
            time.sleep(0.3)
            raise StagingError(self.url(""), "access denied", permanent=True)

    with pytest.raises(UploadError, match=r"a\.json") as caught:
        uploader(dss, staging=Refusing(dss.bucket), max_bytes_per_second=100 * MIB).upload(plan(tmp_path))
    assert [name for name, _ in caught.value.failures] == ["a.json"]
    assert upload_threads() == []
    assert not [link for link in Path("/proc/self/fd").iterdir() if os.path.realpath(link).endswith("b.bin")]


def test_a_service_that_is_down(dss: LocalDSS, tmp_path: Path) -> None:
    """503 is retried as often as the policy allows, and the error is not permanent."""
    write_tree(tmp_path, small(100))
    planned = plan(tmp_path)
    fault(dss, method="PUT", path="/files/", status=503, times=1000)
    with pytest.raises(UploadError, match="503") as caught:
        uploader(dss).upload(planned)
    assert not caught.value.permanent
    assert requests_seen(dss, "PUT", "/files/") <= 4 * SHORT.attempts


@pytest.mark.parametrize("resume", [False, True])
def test_a_staging_bucket_that_is_not_there(dss: LocalDSS, tmp_path: Path, resume: bool) -> None:
    """A missing bucket is reported before any file is read or looked up."""
    planned = plan(write_tree(tmp_path, small(3)))
    staging = open_staging("aws", "no-such-bucket")
    with pytest.raises(StagingError, match="staging_bucket"):
        uploader(dss, staging=staging).upload(planned, resume=resume)
    # Requests of an upload that another test stopped may arrive late.
    paths = {request["path"] for request in dss.control("GET", "requests")}
    assert {f"/v1/bundles/{planned.bundle_uuid}", "/v1/collections"} <= paths
    assert not paths & {f"/v1/files/{file.uuid}" for file in planned.files}


def test_a_token_that_is_good_enough(dss: LocalDSS, tmp_path: Path) -> None:
    """A token without an e-mail, which collections want and registrations do not, uploads."""
    claims = {"email": None, "https://auth.data.humancellatlas.org/email": None}
    api = DSSAPI(dss.url, auth=StaticToken(dss.token(claims=claims)), retry=RetryPolicy(attempts=2, seconds=1))
    planned = plan(write_tree(tmp_path, small(2)))
    with RequestsTransport() as transport:
        report = Uploader(api, transport, open_staging("aws", dss.bucket), UploadOptions(), creator_uid=1).upload(
            planned
        )
    assert report.created


@pytest.mark.parametrize(("change", "named"), [("content_types", "content type"), ("creator_uid", "creator_uid")])
def test_what_else_changed_between_tries(dss: LocalDSS, tmp_path: Path, change: str, named: str) -> None:
    """A file that an earlier try registered with another type or creator is a conflict that names which."""
    write_tree(tmp_path, small(2))
    first = plan(tmp_path)
    uploader(dss).upload(first)
    types = {"*": "text/x-other"} if change == "content_types" else None
    engine = uploader(dss)
    if change == "creator_uid":
        with RequestsTransport() as transport:
            api = DSSAPI(dss.url, auth=StaticToken(dss.token()))
            engine = Uploader(api, transport, open_staging("aws", dss.bucket), UploadOptions(), creator_uid=CREATOR + 1)
    again = plan(tmp_path, bundle=first.bundle_uuid, content_types=types)
    with pytest.raises(UploadError, match=f"with another {named}") as caught:
        engine.upload(again, resume=True)
    assert caught.value.permanent


def test_a_permanent_failure_of_one_file_is_permanent(dss: LocalDSS, tmp_path: Path) -> None:
    """Also if another file failed for a reason that may pass."""
    planned = plan(write_tree(tmp_path, small(2)))
    for file, status in zip(planned.files, (409, 503), strict=True):
        fault(dss, method="PUT", path=f"/files/{file.uuid}", status=status, times=99)
    with pytest.raises(UploadError) as caught:
        uploader(dss).upload(planned)
    assert len(caught.value.failures) == 2
    assert caught.value.permanent


def test_a_dss_in_trouble_when_an_upload_is_resumed(dss: LocalDSS, tmp_path: Path) -> None:
    """500 to the question for one file may be a copy that broke; for many it is the DSS, and ends the try."""
    planned = plan(write_tree(tmp_path, small(40)))
    fault(dss, method="PUT", path="/files/", status=400, times=1000)
    with pytest.raises(UploadError):
        uploader(dss).upload(planned)
    dss.control("DELETE", "faults")
    fault(dss, method="HEAD", path="/files/", status=500, times=1000)
    with pytest.raises(UploadError) as caught:
        uploader(dss, workers=2).upload(planned, resume=True)
    assert not caught.value.permanent
    assert requests_seen(dss, "HEAD", "/files/") <= 8 * SHORT.attempts
    assert stored_of(dss, planned) == {"files": [], "bundles": []}


def test_a_token_that_expires_while_files_are_staged(
    dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that staging outlasts is renewed once, not by every thread, since refresh tokens may be good for once."""
    clock, made = Clock(time.time()), list[str]()
    monkeypatch.setattr(auth, "time", clock)
    token = UserToken(**dss.about["oauth2"], on_token=made.append)
    end = clock.now + 3600

    class SlowStaging(S3Staging):
        def put(self, *arguments: Any, **options: Any) -> None:
            super().put(*arguments, **options)
            time.sleep(0.2)  # so that all threads finish at the same time
            clock.now = end

    with RequestsTransport(pool_size=8) as transport:
        Uploader(
            DSSAPI(dss.url, auth=token), transport, SlowStaging(dss.bucket), UploadOptions(max_workers=8), creator_uid=1
        ).upload(plan(write_tree(tmp_path, small(16))))
    assert len([token for token in made if token.count(".") == 2]) == 2
    assert not [each for each in dss.control("GET", "requests") if each["status"] == 401]


@pytest.mark.parametrize("trouble", ["token", "route", "host"])
def test_a_dss_that_will_not_do_is_found_before_staging(dss: LocalDSS, tmp_path: Path, trouble: str) -> None:
    """A refused token, a wrong base path or host is reported before anything is sent to the bucket."""
    urls = {"token": dss.url, "route": f"{dss.url}/v2", "host": "http://127.0.0.1:9/v1"}
    api = DSSAPI(urls[trouble], auth=StaticToken("no.such.token"), retry=RetryPolicy(attempts=2, seconds=1))
    prefix = str(tmp_path)
    with RequestsTransport() as transport, pytest.raises((DSSAuthError, DSSProtocolError, DSSConnectionError)):
        Uploader(
            api, transport, open_staging("aws", dss.bucket), UploadOptions(staging_prefix=prefix), creator_uid=1
        ).upload(plan(write_tree(tmp_path, small(3))))
    assert dss.s3.list_objects_v2(Bucket=dss.bucket, Prefix=prefix.strip("/"))["KeyCount"] == 0


_TROUBLES: dict[str, list[dict[str, Any]]] = {
    "503": [{"method": "PUT", "path": "/files/", "status": 503, "times": 6}],
    "retry-after": [{"method": "PUT", "path": "/files/", "status": 503, "times": 3, "retry_after": 0.2}],
    "drops": [{"method": "PUT", "path": "/files/", "action": "drop", "times": 6}],
    "drops although done": [{"method": "PUT", "path": "/files/", "action": "drop", "times": 6, "after": True}],
    "504 although done": [{"method": "PUT", "path": "/files/", "status": 504, "times": 6, "after": True}],
    "bundle 504 although done": [{"method": "PUT", "path": "/bundles/", "status": 504, "times": 2, "after": True}],
    "bundle never answered": [{"method": "PUT", "path": "/bundles/", "status": 504, "times": 50, "after": True}],
    "bundle dropped": [{"method": "PUT", "path": "/bundles/", "action": "drop", "times": 2, "after": True}],
    "polls": [{"method": "HEAD", "path": "/files/", "status": 503, "times": 4}],
    "slow": [{"method": "PUT", "path": "/files/", "action": "slow", "seconds": 0.2, "times": 3}],
}


@pytest.mark.parametrize("trouble", _TROUBLES)
def test_what_passes_is_ridden_out(dss: LocalDSS, tmp_path: Path, trouble: str) -> None:
    """Trouble of the service that passes does no harm: each file and the bundle are there, once."""
    write_tree(tmp_path, small(15) | {"large": large(new_uuid())})
    planned = plan(tmp_path)
    for each in _TROUBLES[trouble]:
        fault(dss, **each)
    policy = RetryPolicy(attempts=8, seconds=60, first_delay=0.02, longest_delay=0.1)
    uploader(dss, policy=policy).upload(planned)
    dss.control("DELETE", "faults")
    assert_stored(dss, planned)


def test_a_bundle_that_is_not_made(dss: LocalDSS, tmp_path: Path) -> None:
    """A bundle that the DSS never makes is an error, and the retry needs only that."""
    planned = plan(write_tree(tmp_path, small(3)))
    fault(dss, method="PUT", path="/bundles/", status=504, times=50)
    with pytest.raises(DSSResponseError, match="504"):
        uploader(dss).upload(planned)
    dss.control("DELETE", "faults")
    report = uploader(dss).upload(planned, resume=True)
    assert (report.staged_file_count, report.registered_file_count, report.created) == (0, 0, True)


# Copies


@pytest.mark.parametrize("status", [422, 500])
def test_a_failing_copy(dss: LocalDSS, tmp_path: Path, status: int) -> None:
    """A copy that fails names its file, no bundle is made, and the others are registered."""
    write_tree(tmp_path, small(3) | {"good": large(new_uuid()), "bad": large(new_uuid())})
    planned = plan(tmp_path)
    uuid = next(file.uuid for file in planned.files if file.name == "bad")
    fault(dss, method="PUT", path=f"/files/{uuid}", action="fail_copy", status=status)
    with pytest.raises(UploadError, match=r"could not copy|the copy failed, or the DSS has an outage") as caught:
        uploader(dss).upload(planned)
    assert [name for name, _ in caught.value.failures] == ["bad"]
    assert (caught.value.done, caught.value.permanent) == (4, status == 422)
    assert stored_of(dss, planned)["bundles"] == []


@pytest.mark.parametrize("status", [422, 500])
def test_resume_after_a_failed_copy(dss: LocalDSS, tmp_path: Path, status: int) -> None:
    """A file whose copy failed, after which HEAD answers 422 or 500, is registered again by a later try."""
    write_tree(tmp_path, small(3) | {"bad": large(new_uuid())})
    planned = plan(tmp_path)
    fault(dss, method="PUT", path=f"/files/{planned.files[0].uuid}", action="fail_copy", status=status)
    with pytest.raises(UploadError):
        uploader(dss).upload(planned)
    report = uploader(dss).upload(planned, resume=True)
    assert (report.staged_file_count, report.registered_file_count, report.copied_file_count) == (0, 1, 1)
    assert_stored(dss, planned)


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_resume_sends_nothing_that_is_staged(dss: LocalDSS, tmp_path: Path, replica: str) -> None:
    """Files that an earlier try staged and did not register are registered; changed ones are sent again."""
    write_tree(tmp_path, small(4) | {"large": large(new_uuid())})
    planned = plan(tmp_path, content_types={"*": "text/plain"})
    fault(dss, method="PUT", path="/files/", status=400, times=99)
    with pytest.raises(UploadError):
        uploader(dss, replica=replica).upload(planned)
    dss.control("DELETE", "faults")
    changed = planned.files[0].path
    changed.write_bytes(b"other")
    again = plan(tmp_path, bundle=planned.bundle_uuid, content_types={"*": "text/plain"})
    report = uploader(dss, replica=replica).upload(again, resume=True)
    assert (report.file_count, report.staged_file_count, report.registered_file_count) == (5, 1, 5)
    assert len(stored_of(dss, again)["bundles"]) == 1


def test_a_copy_that_takes_too_long(dss: LocalDSS, tmp_path: Path) -> None:
    """A copy that is not done in time is an error that names its file; the retry waits on, and sends nothing again."""
    write_tree(tmp_path, small(3) | {"large": large(new_uuid())})
    planned = plan(tmp_path)
    with pytest.raises(UploadError, match="copy_timeout") as caught:
        uploader(dss, copy_timeout=0.1).upload(planned)
    assert [name for name, _ in caught.value.failures] == ["large"]
    assert not caught.value.permanent
    assert uploader(dss).upload(planned, resume=True).staged_file_count == 0
    assert_stored(dss, planned)
