"""Everything that an upload stages is read back from real stores: content, type, sums, ETag and parts."""

from __future__ import annotations

import base64
import filecmp
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from airflow_provider_hca.upload.access import S3Access
from airflow_provider_hca.upload.checksums import MIB, checksum_bytes
from airflow_provider_hca.upload.entries import PlannedFile
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.staging import open_staging
from tests.local.server import LocalDSS, sums
from tests.upload.support import assert_stored, plan, uploader

# One worker starts the stores.
pytestmark = pytest.mark.xdist_group("stores")

SIZES = (0, 1, 8 * MIB, 8 * MIB + 1, 64 * MIB, 64 * MIB + 1)
PROJECT_TYPE = 'application/json; dcp-type="metadata/project"'


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one file of each size, whose parts all differ."""
    made = tmp_path_factory.mktemp("sizes")
    source = random.Random(11)  # noqa: S311 - content, not a secret
    block = source.randbytes(MIB)
    for size in SIZES:
        with (made / f"{size}.json").open("wb") as file:
            for start in range(0, size, MIB):
                file.write((source.randbytes(32) + block[32:])[: size - start])
    return made


def _upload(dss: LocalDSS, directory: Path, replica: str, sizes: tuple[int, ...], content_type: str) -> Plan:
    names = [f"{size}.json" for size in sizes]
    planned = plan(directory, include=names, content_types={"1.json": content_type})
    report = uploader(dss, replica=replica, staging_prefix="read back/ü").upload(planned)
    assert report.staged_file_count == len(sizes)
    assert_stored(dss, planned, replica)
    return planned


def _objects(planned: Plan, staged: dict[str, Any]) -> Iterator[tuple[PlannedFile, Any]]:
    """Give each planned file with its object: the only one whose key holds its uuid."""
    for file in planned.files:
        (found,) = (each for key, each in staged.items() if file.uuid in key)
        yield file, found
    assert len(staged) == len(planned.files)


def test_s3(dss_with_stores: LocalDSS, directory: Path) -> None:
    """In S3 each object has its file's bytes and type, its ETag, its sums as tags, and up to 64 MiB as metadata."""
    s3, bucket = dss_with_stores.s3, dss_with_stores.bucket
    planned = _upload(dss_with_stores, directory, "aws", SIZES, PROJECT_TYPE)
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="read back/ü/")["Contents"]
    for file, key in _objects(planned, {each["Key"]: each["Key"] for each in listed}):
        expected = sums(file.path)
        answer = s3.get_object(Bucket=bucket, Key=key)
        with file.path.open("rb") as content:
            assert all(chunk == content.read(len(chunk)) for chunk in answer["Body"].iter_chunks(MIB))
            assert content.read() == b""
        assert answer["ETag"].strip('"') == expected["hca-dss-s3_etag"]
        assert answer["ContentType"] == file.content_type
        assert answer["Metadata"] == (expected if file.size <= 64 * MIB else {})
        tags = s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == expected
    assert not s3.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_an_empty_object_by_boto3(dss_with_stores: LocalDSS, caplog: pytest.LogCaptureFixture) -> None:
    """If boto3 sends everything, as with a CA bundle, an empty object does not disturb the next one."""
    url = dss_with_stores.about["env"]["AWS_ENDPOINT_URL_S3"]
    staging = open_staging("aws", dss_with_stores.bucket, access=S3Access(boto3.Session(), url, verify=False))
    for content in (b"", random.Random(5).randbytes(MIB), b""):  # noqa: S311 - content, not a secret
        staging.put("by boto3", content, checksum_bytes(content), "text/plain")
        assert dss_with_stores.s3.get_object(Bucket=dss_with_stores.bucket, Key="by boto3")["Body"].read() == content
    assert "Failed to parse headers" not in caplog.text  # after which boto3 waits a minute and tries again


def _assert_in_gcs(dss: LocalDSS, planned: Plan, directory: Path) -> None:
    from google.cloud import storage

    blobs = storage.Client.create_anonymous_client().list_blobs(dss.bucket, prefix="read back/ü/")
    for file, blob in _objects(planned, {blob.name: blob for blob in blobs}):
        blob.download_to_filename(directory / "downloaded")
        expected = sums(file.path)
        assert filecmp.cmp(directory / "downloaded", file.path, shallow=False)
        assert blob.content_type == file.content_type
        assert blob.metadata == expected
        assert base64.b64decode(blob.crc32c).hex() == expected["hca-dss-crc32c"]


def test_gcs(dss_with_stores: LocalDSS, directory: Path, tmp_path: Path) -> None:
    """In Google Cloud Storage each object has its file's bytes, type and crc32c, and its sums as metadata."""
    sizes = (0, 1, 8 * MIB + 1, 64 * MIB + 1)
    _assert_in_gcs(dss_with_stores, _upload(dss_with_stores, directory, "gcp", sizes, PROJECT_TYPE), tmp_path)


def test_gcs_of_the_local_dss(dss: LocalDSS, directory: Path, tmp_path: Path) -> None:
    """So it is in the emulator that the local DSS brings, which forgets the parameters of a type."""
    _assert_in_gcs(dss, _upload(dss, directory, "gcp", (0, 1, 8 * MIB + 1), "text/plain"), tmp_path)
