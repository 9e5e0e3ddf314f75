"""The local DSS, with its staging buckets in other stores: where they are is the first argument, as JSON."""

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
from tests.stores import S3Where

if TYPE_CHECKING:
    import socket
    from pathlib import Path


class _Elsewhere:
    """What the local DSS takes for the server of its staging buckets."""

    def start(self, listener: socket.socket) -> None:
        """Serve nothing: the store is another process."""

    def stop(self) -> None:
        """Stop nothing."""


class S3(_Elsewhere):
    """A bucket of a store that speaks S3, read by boto3."""

    def __init__(self, where: list[str], directory: Path, bucket: str) -> None:
        del directory, bucket  # made elsewhere
        self._client = S3Where(*where).client()

    def find(self, bucket: str, key: str) -> StagedObject | None:
        """Return the object, or None."""
        at = {"Bucket": bucket, "Key": key}
        try:
            head = self._client.head_object(**at)
            tags = {tag["Key"]: tag["Value"] for tag in self._client.get_object_tagging(**at)["TagSet"]}
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


class GCS(_Elsewhere):
    """A bucket of a store that speaks as Google Cloud Storage does, read by its SDK."""

    def __init__(self, directory: Path, bucket: str) -> None:
        from google.cloud import storage

        del directory, bucket  # made elsewhere
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
    """Run the local DSS, which makes its staging servers by these names."""
    stores = json.loads(sys.argv.pop(1))
    process.S3Storage = partial(S3, stores["s3"])  # type: ignore[assignment,attr-defined]  # the store is another one
    if stores["gcs_url"]:
        from airflow_provider_hca.local import staging_gcs

        os.environ["STORAGE_EMULATOR_HOST"] = stores["gcs_url"]
        staging_gcs.GCSServer = GCS  # type: ignore[misc, assignment]  # the same
    main()


if __name__ == "__main__":
    run()
