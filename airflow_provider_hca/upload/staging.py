"""Staging buckets: where objects wait, with their checksums, for the DSS to copy them.

A `Staging` puts one object at a time and checks what the store says it stored. It may be used by many threads. Each
failure is a `StagingError` that says what to change. The cloud SDKs are imported by `open_staging`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from airflow_provider_hca.client.model import check_replica, replica_of
from airflow_provider_hca.upload.checksums import Checksums

OnSent = Callable[[int], None]


def unwatched(_: int) -> None:
    """Take no note of what was sent."""


class Staging(Protocol):
    """A staging bucket."""

    def url(self, key: str) -> str:
        """Return the `source_url` of an object (`PUT /files`)."""
        ...

    def check(self) -> None:
        """Look whether the bucket is there and answers.

        :raises StagingError: when it does not
        """
        ...

    def put(
        self, key: str, content: bytes | Path, sums: Checksums, content_type: str, on_sent: OnSent = unwatched
    ) -> None:
        """Stage an object, and check that the store has what the sums say.

        :param key: of the object
        :param content: in memory, or in a file
        :param sums: of the content, stored with it
        :param content_type: of the object
        :param on_sent: called with numbers of bytes as they are sent; what it raises ends the sending
        :raises StagingError: when the store does not take it, or took something else
        """
        ...

    def holds(self, key: str, sums: Checksums, content_type: str) -> bool:
        """Return whether an object is staged already, as `put` would stage it.

        :raises StagingError: when it cannot be known
        """
        ...

    def sha256(self, key: str) -> str:
        """Return the `hca-dss-sha256` that an object was staged with.

        :raises StagingError: when it cannot be had
        """
        ...


def open_staging(replica: str, bucket: str, *, workers: int = 10) -> Staging:
    """Return the staging bucket for a replica, with the cloud SDK's own credentials.

    :param replica: `aws` takes an S3 bucket, `gcp` one of Google Cloud Storage
    :param bucket: its name
    :param workers: how many threads will use it
    """
    if "/" in bucket or not bucket:
        raise ValueError(f"staging_bucket is a bucket's name, without scheme or path, not {bucket!r}")
    if check_replica(replica) == "aws":
        from airflow_provider_hca.upload.staging_s3 import S3Staging

        return S3Staging(bucket, workers=workers)
    from airflow_provider_hca.upload.staging_gcs import GCSStaging

    return GCSStaging(bucket)


def staged_sha256(source_url: str) -> str:
    """Return the sha256 that an object was staged with.

    :param source_url: `s3://bucket/key` or `gs://bucket/key`
    :raises StagingError: when it cannot be had
    """
    replica, bucket = replica_of(source_url), urlsplit(source_url).netloc
    key = source_url.split("://", 1)[1].removeprefix(f"{bucket}/")
    return open_staging(replica, bucket, workers=1).sha256(key)
