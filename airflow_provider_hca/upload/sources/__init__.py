"""Where uploads read from. The cloud SDKs are imported by `open_source`."""

from __future__ import annotations

from airflow_provider_hca.upload.access import GCSAccess, S3Access
from airflow_provider_hca.upload.sources.base import Source, split_source

_WORKERS = 64  # threads of an upload, which does not exist yet when its source is opened


def open_source(directory: str, access: S3Access | GCSAccess | None = None) -> Source:
    """Return the source of a prefix.

    :param directory: `s3://bucket/prefix` or `gs://bucket/prefix`
    :param access: how to enter it; with the cloud SDK's own credentials and endpoint if None
    :raises ValueError: when it names no bucket, or when the access is that of another cloud
    :raises StagingError: when there are no credentials
    """
    replica, bucket, prefix = split_source(directory)
    if replica == "aws":
        from airflow_provider_hca.upload.sources.s3 import S3Source

        if isinstance(access, GCSAccess):
            raise ValueError("a source in S3 takes an S3Access")
        return S3Source(bucket, prefix, access=access, workers=_WORKERS)
    from airflow_provider_hca.upload.sources.gcs import GCSSource

    if isinstance(access, S3Access):
        raise ValueError("a source in Google Cloud Storage takes a GCSAccess")
    return GCSSource(bucket, prefix, access=access)
