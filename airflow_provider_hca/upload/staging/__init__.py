"""Staging buckets in S3 and Google Cloud Storage. `open_staging` imports the cloud SDKs."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_hca.client.models import check_replica, replica_of
from airflow_provider_hca.parallel import Workers
from airflow_provider_hca.upload.access import GCSAccess, S3Access
from airflow_provider_hca.upload.checksums import PART_SIZE, Checksums, checksum_stream
from airflow_provider_hca.upload.local_files import OnBytes, OpenFile, ignore_bytes
from airflow_provider_hca.upload.staging.base import Staging
from airflow_provider_hca.upload.staging.parts import PartsRunner


def open_staging(
    replica: str, bucket: str, *, workers: int = 10, access: S3Access | GCSAccess | None = None
) -> Staging:
    """Return the staging bucket for a replica.

    :param replica: `aws` for a bucket of S3, `gcp` for one of Google Cloud Storage
    :param bucket: name of the bucket
    :param workers: number of threads that use it
    :param access: credentials and endpoint; the cloud SDK's own if None
    :raises ValueError: if an argument is invalid, or the access is that of another cloud
    :raises StagingError: if there are no credentials
    """
    check_bucket(bucket)
    if check_replica(replica) == "aws":
        from airflow_provider_hca.upload.staging.s3 import S3Staging

        if isinstance(access, GCSAccess):
            raise ValueError("replica aws is staged in S3: it needs an S3Access, got a GCSAccess")
        return S3Staging(bucket, workers=workers, access=access)
    from airflow_provider_hca.upload.staging.gcs import GCSStaging

    if isinstance(access, S3Access):
        raise ValueError("replica gcp is staged in Google Cloud Storage: it needs a GCSAccess, got an S3Access")
    return GCSStaging(bucket, access=access)


def check_bucket(bucket: str) -> None:
    """Check the name of a bucket.

    :raises ValueError: if it is invalid
    """
    if "/" in bucket or not bucket:
        raise ValueError(f"staging_bucket must be a bucket's name, without scheme or path, got {bucket!r}")


def stage_file(staging: Staging, key: str, path: Path, content_type: str, on_sent: OnBytes = ignore_bytes) -> Checksums:
    """Stage a file of any size, and return its checksums.

    :param staging: staging bucket
    :param key: key of the object
    :param path: path of the file, which must not change meanwhile
    :param content_type: content type of the object
    :param on_sent: called with the number of bytes while they are sent; may raise to cancel
    :raises StagingError: if the store refuses it, or has other content
    :raises OSError: if the file cannot be read, or changed
    """
    with OpenFile(path) as file:
        size = file.size
        if size <= PART_SIZE:
            sums = checksum_stream(file.read(0, size), size)
            staging.put(key, file, sums, content_type, on_sent)
            return sums
        transfer = staging.begin(key, content_type, file, size)
        try:
            with Workers(2, "stage") as workers, PartsRunner(workers, on_sent=on_sent) as runner:
                sums = runner.send(transfer, file, size)
            transfer.finish(sums)
        except BaseException:
            transfer.abort()
            raise
    return sums


def staged_sha256(source_url: str, *, access: S3Access | GCSAccess | None = None) -> str:
    """Return the sha256 of a staged object, in lower case.

    :param source_url: `s3://bucket/key` or `gs://bucket/key`
    :param access: credentials and endpoint; the cloud SDK's own if None
    :raises StagingError: if the object or its checksum is missing
    """
    replica, bucket = replica_of(source_url), urlsplit(source_url).netloc
    key = source_url.split("://", 1)[1].removeprefix(f"{bucket}/")
    return open_staging(replica, bucket, workers=1, access=access).sha256(key).lower()
