"""Where objects wait, with their checksums, for the DSS to copy them. The cloud SDKs are imported by `open_staging`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_hca.client.models import check_replica, replica_of
from airflow_provider_hca.upload.access import GCSAccess, S3Access
from airflow_provider_hca.upload.checksums import PART_SIZE, Checksums
from airflow_provider_hca.upload.file_sums import FileSums, OpenFile, checksum_file
from airflow_provider_hca.upload.staging.base import OnSent, Staging, unwatched


def open_staging(
    replica: str, bucket: str, *, workers: int = 10, access: S3Access | GCSAccess | None = None
) -> Staging:
    """Return the staging bucket for a replica.

    :param replica: `aws` takes an S3 bucket, `gcp` one of Google Cloud Storage
    :param bucket: its name
    :param workers: how many threads will use it
    :param access: how to enter it; with the cloud SDK's own credentials and endpoint if None
    :raises ValueError: when there can be no such bucket, or when the access is that of another cloud
    :raises StagingError: when there are no credentials
    """
    check_bucket(bucket)
    if check_replica(replica) == "aws":
        from airflow_provider_hca.upload.staging.s3 import S3Staging

        if isinstance(access, GCSAccess):
            raise ValueError("replica aws is staged in S3: it takes an S3Access")
        return S3Staging(bucket, workers=workers, access=access)
    from airflow_provider_hca.upload.staging.gcs import GCSStaging

    if isinstance(access, S3Access):
        raise ValueError("replica gcp is staged in Google Cloud Storage: it takes a GCSAccess")
    return GCSStaging(bucket, access=access)


def check_bucket(bucket: str) -> None:
    """Raise if that cannot be a bucket's name.

    :raises ValueError: then
    """
    if "/" in bucket or not bucket:
        raise ValueError(f"staging_bucket is a bucket's name, without scheme or path, not {bucket!r}")


def staged_sha256(source_url: str, *, access: S3Access | GCSAccess | None = None) -> str:
    """Return the sha256 that an object was staged with, in lower case.

    :param source_url: `s3://bucket/key` or `gs://bucket/key`
    :param access: how to enter its bucket; with the cloud SDK's own credentials and endpoint if None
    :raises StagingError: when it cannot be had
    """
    replica, bucket = replica_of(source_url), urlsplit(source_url).netloc
    key = source_url.split("://", 1)[1].removeprefix(f"{bucket}/")
    return open_staging(replica, bucket, workers=1, access=access).sha256(key).lower()


def stage_file(staging: Staging, key: str, path: Path, content_type: str, on_sent: OnSent = unwatched) -> Checksums:
    """Stage a file of any size, and return its sums.

    :param staging: the bucket
    :param key: of the object
    :param path: of the file, which must not change meanwhile
    :param content_type: of the object
    :param on_sent: called with numbers of bytes as they are sent; what it raises ends the sending
    :raises StagingError: when the store does not take it, or took something else
    :raises OSError: when the file cannot be read, or changed
    """
    size = path.stat().st_size
    if size <= PART_SIZE:
        sums = checksum_file(path, size)
        staging.put(key, path, sums, content_type, on_sent)
        return sums
    large = staging.begin(key, content_type)
    try:
        with OpenFile(path) as file, FileSums(file, size, md5s=not large.computes_md5s) as of_file:
            for number in range(staging.part_count(size)):
                large.send(number, file, of_file, on_sent)
            sums = of_file.result()
        large.finish(sums)
    except BaseException:
        large.abort()
        raise
    return sums
