"""Routes of checkouts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from .server import VERSION, LocalDSS, code_of, new_uuid, sums

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _post(dss: LocalDSS, bundle: str, body: Any = None, **query: str) -> requests.Response:
    return dss.call("POST", f"/bundles/{bundle}/checkout", {} if body is None else body, **{"replica": "aws", **query})


def _status(dss: LocalDSS, job: str, replica: str = "aws") -> dict[str, str]:
    response = dss.call("GET", f"/bundles/checkout/{job}", replica=replica)
    assert response.status_code == 200
    status: dict[str, str] = response.json()
    return status


def _wait(dss: LocalDSS, job: str, replica: str = "aws") -> dict[str, str]:
    """Wait until a job is complete and return its status."""
    deadline = time.monotonic() + 60
    while (status := _status(dss, job, replica)) == {"status": "RUNNING"} and time.monotonic() < deadline:
        time.sleep(0.05)
    return status


@pytest.fixture
def bundle(dss: LocalDSS) -> str:
    uuid = new_uuid()
    names = ("a.txt", "dir//b.txt", "Größe +%&?#.txt", "")
    dss.put_bundle([dss.entry(name, dss.new_file(name.encode())) for name in names], uuid)
    return uuid


@pytest.mark.parametrize("body", [None, {}, {"email": "user@example.org"}])
def test_checkout_without_destination_makes_files_ready(dss: LocalDSS, bundle: str, body: Any) -> None:
    response = _post(dss, bundle, body)
    assert (response.status_code, response.json().keys()) == (200, {"checkout_job_id"})
    job = response.json()["checkout_job_id"]
    assert _status(dss, job) == {"status": "RUNNING"}
    location = f"s3://dss-local-checkout/bundles/{bundle}.{VERSION}"
    assert _wait(dss, job) == {"status": "SUCCEEDED", "location": location}
    assert dss.call("GET", f"/bundles/{bundle}", replica="aws", presignedurls="true").status_code == 200


def test_checkout_with_destination_copies_files(dss: LocalDSS, bundle: str) -> None:
    bucket = f"destination-{new_uuid()}"
    dss.s3.create_bucket(Bucket=bucket)
    job = _post(dss, bundle, {"destination": bucket}, version=VERSION).json()["checkout_job_id"]
    prefix = f"bundles/{bundle}.{VERSION}"
    assert _wait(dss, job) == {"status": "SUCCEEDED", "location": f"s3://{bucket}/{prefix}"}
    contents = {}
    for listed in dss.s3.list_objects_v2(Bucket=bucket)["Contents"]:
        item = dss.s3.get_object(Bucket=bucket, Key=listed["Key"])
        assert item["ContentType"] == "text/plain"
        contents[listed["Key"]] = item["Body"].read().decode()
    assert contents == {f"{prefix}/{name}": name for name in ("a.txt", "dir//b.txt", "Größe +%&?#.txt", "")}


def test_checkout_in_gcp_copies_files_to_gcs(dss: LocalDSS) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    file, uuid = new_uuid(), new_uuid()
    dss.put_file(dss.stage_gcs(b'{"in": "gcp"}', sums(b'{"in": "gcp"}')), file)
    dss.put_bundle([dss.entry("dir/a.json", file)], uuid, replica="gcp")
    job = _post(dss, uuid, {"destination": dss.bucket}, replica="gcp").json()["checkout_job_id"]
    location = f"gs://{dss.bucket}/bundles/{uuid}.{VERSION}"
    assert _wait(dss, job, "gcp") == {"status": "SUCCEEDED", "location": location}
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call] # no type information
    client = storage.Client("dss-local", credentials=credentials, client_options={"api_endpoint": dss.about["gcs_url"]})
    blob = client.bucket(dss.bucket).get_blob(f"bundles/{uuid}.{VERSION}/dir/a.json")
    assert (blob.download_as_bytes(), blob.content_type) == (b'{"in": "gcp"}', "text/plain")


def test_checkout_to_missing_bucket_fails(dss: LocalDSS, bundle: str) -> None:
    job = _post(dss, bundle, {"destination": "no-such-bucket"}).json()["checkout_job_id"]
    assert _wait(dss, job) == {"status": "FAILED", "cause": "Bucket no-such-bucket doesn't exist"}


def test_checkout_of_deleted_bundle_fails(dss: LocalDSS, bundle: str) -> None:
    job = _post(dss, bundle).json()["checkout_job_id"]
    dss.call("DELETE", f"/bundles/{bundle}", {"reason": "test"}, replica="aws")
    assert _wait(dss, job) == {"status": "FAILED", "cause": f"Bundle {bundle}.{VERSION} does not exist"}


def test_fault_fails_next_checkout_only(dss: LocalDSS, bundle: str) -> None:
    dss.control("POST", "faults", {"method": "POST", "path": bundle, "action": "fail_checkout"})
    jobs = [_post(dss, bundle).json()["checkout_job_id"] for _ in range(2)]
    failed, done = (_wait(dss, job) for job in jobs)
    assert failed["status"] == "FAILED"
    assert "fault" in failed["cause"]
    assert done["status"] == "SUCCEEDED"


def test_status_of_job_of_the_other_replica_is_not_found(dss: LocalDSS, bundle: str) -> None:
    job = _post(dss, bundle).json()["checkout_job_id"]
    assert code_of(dss.call("GET", f"/bundles/checkout/{job}", replica="gcp")) == (404, "not_found")


def test_checkout_with_invalid_arguments_returns_errors(dss: LocalDSS, bundle: str) -> None:
    assert code_of(_post(dss, new_uuid())) == (404, "not_found")
    assert code_of(_post(dss, bundle, version="no version")) == (404, "not_found")
    bodies: list[Any] = [{"destination": "bucket/key"}, {"destination": 1}, {"email": "no address"}, []]
    for body in bodies:
        assert code_of(_post(dss, bundle, body)) == (400, "illegal_arguments")
    assert code_of(dss.call("GET", "/bundles/checkout/short", replica="aws")) == (400, "illegal_arguments")


@pytest.fixture
def slow_dss(tmp_path: Path) -> Iterator[LocalDSS]:
    with LocalDSS(tmp_path, "--checkout-delay", "1") as dss:
        yield dss


def test_checkout_resumes_after_kill(slow_dss: LocalDSS) -> None:
    uuid = new_uuid()
    slow_dss.put_bundle([slow_dss.entry("a")], uuid)
    earlier = _post(slow_dss, uuid).json()["checkout_job_id"]
    ended = _wait(slow_dss, earlier)
    assert ended["status"] == "SUCCEEDED"
    started = time.monotonic()
    job = _post(slow_dss, uuid, {"destination": slow_dss.bucket}).json()["checkout_job_id"]
    slow_dss.stop(9)
    slow_dss.start()
    assert _wait(slow_dss, job)["status"] == "SUCCEEDED"
    assert time.monotonic() - started >= 1
    assert _status(slow_dss, earlier) == ended
    key = f"bundles/{uuid}.{VERSION}/a"
    assert slow_dss.s3.get_object(Bucket=slow_dss.bucket, Key=key)["Body"].read() == b"content"
