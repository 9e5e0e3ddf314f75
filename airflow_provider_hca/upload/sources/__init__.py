"""Prefixes of buckets as sources of uploads.

The store copies objects to a staging bucket in the same cloud. A worker reads an object only if it lacks the checksums
that a DSS requires, and then once. `open_source` imports the cloud SDKs.
"""

from __future__ import annotations

from airflow_provider_hca.upload.access import GCSAccess, S3Access
from airflow_provider_hca.upload.sources.base import Source, split_source

_WORKERS = 64  # threads of an upload, whose options are not known yet when its source is opened


def open_source(directory: str, access: S3Access | GCSAccess | None = None) -> Source:
    """Return the source of a prefix.

    :param directory: `s3://bucket/prefix` or `gs://bucket/prefix`
    :param access: credentials and endpoint; the cloud SDK's own if None
    :raises ValueError: if the bucket is missing, or the access is that of another cloud
    :raises StagingError: if there are no credentials
    """
    replica, bucket, prefix = split_source(directory)
    if replica == "aws":
        from airflow_provider_hca.upload.sources.s3 import S3Source

        if isinstance(access, GCSAccess):
            raise ValueError("a source in S3 needs an S3Access, got a GCSAccess")
        return S3Source(bucket, prefix, access=access, workers=_WORKERS)
    from airflow_provider_hca.upload.sources.gcs import GCSSource

    if isinstance(access, S3Access):
        raise ValueError("a source in Google Cloud Storage needs a GCSAccess, got an S3Access")
    return GCSSource(bucket, prefix, access=access)
