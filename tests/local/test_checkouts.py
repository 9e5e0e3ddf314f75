"""POST and GET of checkouts, and what they do."""

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
    return dss.call("POST", f"/bundles/{bundle}/checkout", body, **{"replica": "aws", **query})


def _status(dss: LocalDSS, job: str, replica: str = "aws") -> dict[str, str]:
    answer = dss.call("GET", f"/bundles/checkout/{job}", replica=replica)
    assert answer.status_code == 200
    found: dict[str, str] = answer.json()
    return found


def _end(dss: LocalDSS, job: str, replica: str = "aws") -> dict[str, str]:
    """Wait until a job has ended and return how."""
    deadline = time.monotonic() + 60
    while (found := _status(dss, job, replica)) == {"status": "RUNNING"} and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.fixture
def bundle(dss: LocalDSS) -> str:
    uuid = new_uuid()
    names = ("a.txt", "dir//b.txt", "Größe +%&?#.txt", "")
    dss.put_bundle([dss.entry(name, dss.new_file(name.encode())) for name in names], uuid)
    return uuid


@pytest.mark.parametrize("body", [None, {}, {"email": "somebody@example.org"}])
def test_to_the_own_bucket(dss: LocalDSS, bundle: str, body: Any) -> None:
    """A checkout runs, and then has succeeded with a location; its files can be had without waiting from then on."""
    answer = _post(dss, bundle, body)
    assert (answer.status_code, answer.json().keys()) == (200, {"checkout_job_id"})
    job = answer.json()["checkout_job_id"]
    assert _status(dss, job) == {"status": "RUNNING"}
    location = f"s3://dss-local-checkout/bundles/{bundle}.{VERSION}"
    assert _end(dss, job) == {"status": "SUCCEEDED", "location": location}
    assert dss.call("GET", f"/bundles/{bundle}", replica="aws", presignedurls="true").status_code == 200


def test_to_a_bucket(dss: LocalDSS, bundle: str) -> None:
    """With a destination the files are in that bucket afterwards, under the location and their names, of their type."""
    bucket = f"destination-{new_uuid()}"
    dss.s3.create_bucket(Bucket=bucket)
    job = _post(dss, bundle, {"destination": bucket}, version=VERSION).json()["checkout_job_id"]
    prefix = f"bundles/{bundle}.{VERSION}"
    assert _end(dss, job) == {"status": "SUCCEEDED", "location": f"s3://{bucket}/{prefix}"}
    found = {}
    for listed in dss.s3.list_objects_v2(Bucket=bucket)["Contents"]:
        item = dss.s3.get_object(Bucket=bucket, Key=listed["Key"])
        assert item["ContentType"] == "text/plain"
        found[listed["Key"]] = item["Body"].read().decode()
    assert found == {f"{prefix}/{name}": name for name in ("a.txt", "dir//b.txt", "Größe +%&?#.txt", "")}


def test_to_a_bucket_of_gcs(dss: LocalDSS) -> None:
    """The files of a bundle in gcp are put into a bucket of the GCS server."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    file, uuid = new_uuid(), new_uuid()
    dss.put_file(dss.stage_gcs(b'{"in": "gcp"}', sums(b'{"in": "gcp"}')), file)
    dss.put_bundle([dss.entry("dir/a.json", file)], uuid, replica="gcp")
    job = _post(dss, uuid, {"destination": dss.bucket}, replica="gcp").json()["checkout_job_id"]
    location = f"gs://{dss.bucket}/bundles/{uuid}.{VERSION}"
    assert _end(dss, job, "gcp") == {"status": "SUCCEEDED", "location": location}
    nobody = AnonymousCredentials()  # type: ignore[no-untyped-call] # shipped without types
    client = storage.Client("dss-local", credentials=nobody, client_options={"api_endpoint": dss.about["gcs_url"]})
    blob = client.bucket(dss.bucket).get_blob(f"bundles/{uuid}.{VERSION}/dir/a.json")
    assert (blob.download_as_bytes(), blob.content_type) == (b'{"in": "gcp"}', "text/plain")


def test_no_such_bucket(dss: LocalDSS, bundle: str) -> None:
    """A checkout to a bucket that is not there fails, with the cause."""
    job = _post(dss, bundle, {"destination": "no-such-bucket"}).json()["checkout_job_id"]
    assert _end(dss, job) == {"status": "FAILED", "cause": "Bucket no-such-bucket doesn't exist"}


def test_deleted_meanwhile(dss: LocalDSS, bundle: str) -> None:
    """A checkout of a bundle that is deleted before it is made fails, with the cause."""
    job = _post(dss, bundle).json()["checkout_job_id"]
    dss.call("DELETE", f"/bundles/{bundle}", {"reason": "test"}, replica="aws")
    assert _end(dss, job) == {"status": "FAILED", "cause": f"Bundle {bundle}.{VERSION} does not exist"}


def test_made_to_fail(dss: LocalDSS, bundle: str) -> None:
    """A fault makes the next checkout fail; every POST is another job."""
    dss.control("POST", "faults", {"method": "POST", "path": bundle, "action": "fail_checkout"})
    jobs = [_post(dss, bundle).json()["checkout_job_id"] for _ in range(2)]
    failed, done = (_end(dss, job) for job in jobs)
    assert failed["status"] == "FAILED"
    assert "fault" in failed["cause"]
    assert done["status"] == "SUCCEEDED"


def test_unknown_job(dss: LocalDSS, bundle: str) -> None:
    """A job that nobody knows, or that is of the other replica, has the status UNKNOWN_JOB_ID."""
    job = _post(dss, bundle).json()["checkout_job_id"]
    assert _status(dss, new_uuid()) == _status(dss, job, "gcp") == {"status": "UNKNOWN_JOB_ID"}


def test_refusals(dss: LocalDSS, bundle: str) -> None:
    """An unknown bundle is 404; a destination with a key, an address that is none and a malformed job id are 400."""
    assert code_of(_post(dss, new_uuid())) == (404, "not_found")
    assert code_of(_post(dss, bundle, version="no version")) == (404, "not_found")
    bodies: list[Any] = [{"destination": "bucket/key"}, {"destination": 1}, {"email": "nobody"}, []]
    for body in bodies:
        assert code_of(_post(dss, bundle, body)) == (400, "illegal_arguments")
    assert code_of(dss.call("GET", "/bundles/checkout/short", replica="aws")) == (400, "illegal_arguments")


@pytest.fixture
def slow_dss(tmp_path: Path) -> Iterator[LocalDSS]:
    with LocalDSS(tmp_path, "--checkout-delay", "1") as dss:
        yield dss


def test_survives_a_restart(slow_dss: LocalDSS) -> None:
    """A job that runs while the process is killed is done after the restart, and one that had ended is still known."""
    uuid = new_uuid()
    slow_dss.put_bundle([slow_dss.entry("a")], uuid)
    earlier = _post(slow_dss, uuid).json()["checkout_job_id"]
    ended = _end(slow_dss, earlier)
    assert ended["status"] == "SUCCEEDED"
    begun = time.monotonic()
    job = _post(slow_dss, uuid, {"destination": slow_dss.bucket}).json()["checkout_job_id"]
    slow_dss.stop(9)
    slow_dss.start()
    assert _end(slow_dss, job)["status"] == "SUCCEEDED"
    assert time.monotonic() - begun >= 1
    assert _status(slow_dss, earlier) == ended
    key = f"bundles/{uuid}.{VERSION}/a"
    assert slow_dss.s3.get_object(Bucket=slow_dss.bucket, Key=key)["Body"].read() == b"content"
