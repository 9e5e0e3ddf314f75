"""Run the local DSS with staging buckets in other stores; the first argument describes them in JSON."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from botocore.exceptions import ClientError

from airflow_provider_hca.local import process
from airflow_provider_hca.local.__main__ import main
from airflow_provider_hca.local.errors import retry_later
from airflow_provider_hca.local.staging import StagedObject
from tests.stores import S3Endpoint

if TYPE_CHECKING:
    import socket
    from pathlib import Path


class _ExternalStore:
    """Base of staging stores that run in another process."""

    def start(self, listener: socket.socket) -> None:
        """Do nothing: the store is running."""

    def stop(self) -> None:
        """Do nothing."""


class S3(_ExternalStore):
    """An S3 store, read with boto3."""

    def __init__(self, endpoint: list[str], directory: Path, bucket: str) -> None:
        del directory, bucket  # signature of S3Storage
        self._client = S3Endpoint(*endpoint).client()

    def find(self, bucket: str, key: str) -> StagedObject | None:
        """Return an object, or None."""
        where = {"Bucket": bucket, "Key": key}
        try:
            head = self._client.head_object(**where)
            tags = {tag["Key"]: tag["Value"] for tag in self._client.get_object_tagging(**where)["TagSet"]}
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        labels = head["Metadata"] | tags
        return StagedObject(
            f"s3://{bucket}/{key}", head["ContentLength"], head["ContentType"], labels, head["ETag"].strip('"')
        )

    def open(self, bucket: str, key: str) -> BinaryIO | None:
        """Return the content, open for reading, or None."""
        try:
            return cast("BinaryIO", self._client.get_object(Bucket=bucket, Key=key)["Body"])
        except self._client.exceptions.NoSuchKey:
            return None

    def write(self, bucket: str, key: str, content: Path, content_type: str) -> None:
        """Make an object of a file."""
        with content.open("rb") as file:
            self._client.put_object(Bucket=bucket, Key=key, Body=file, ContentType=content_type)


class GCS(_ExternalStore):
    """A Google Cloud Storage store, read with its SDK."""

    def __init__(self, directory: Path, bucket: str) -> None:
        from google.cloud import storage

        del directory, bucket  # signature of GCSServer
        self._client: Any = storage.Client.create_anonymous_client()

    def find(self, bucket: str, key: str) -> StagedObject | None:
        """Return the object, or None."""
        blob = self._client.bucket(bucket).get_blob(key)
        if blob is None:
            return None
        if not blob.metadata:
            raise retry_later(f"gs://{bucket}/{key} has no metadata")
        return StagedObject(f"gs://{bucket}/{key}", blob.size, blob.content_type, dict(blob.metadata), None)

    def open(self, bucket: str, key: str) -> BinaryIO | None:
        """Return the content, open for reading, or None."""
        blob = self._client.bucket(bucket).get_blob(key)
        return cast("BinaryIO", blob.open("rb")) if blob else None

    def write(self, bucket: str, key: str, content: Path, content_type: str) -> None:
        """Make an object of a file."""
        self._client.bucket(bucket).blob(key).upload_from_filename(content, content_type)


def run() -> None:
    """Replace the classes of the staging stores, and run the local DSS."""
    stores = json.loads(sys.argv.pop(1))
    process.S3Storage = partial(S3, stores["s3"])  # type: ignore[assignment,attr-defined]  # the store is another one
    if stores["gcs_url"]:
        from airflow_provider_hca.local import staging_gcs

        os.environ["STORAGE_EMULATOR_HOST"] = stores["gcs_url"]
        staging_gcs.GCSServer = GCS  # type: ignore[misc, assignment]  # the same
    main()


if __name__ == "__main__":
    run()
