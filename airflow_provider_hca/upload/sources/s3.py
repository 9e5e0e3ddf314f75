"""A prefix of an S3 bucket as what is uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_hca.client.models import Replica
from airflow_provider_hca.upload.access import S3Access
from airflow_provider_hca.upload.checksums import PART_SIZE, Checksums, part_size
from airflow_provider_hca.upload.entries import FileChangedError, Names, PlannedFile
from airflow_provider_hca.upload.s3_client import ADVICE, open_client, staging_error, status_of
from airflow_provider_hca.upload.sources.base import FoundObject, labelled

_ADVICE = ADVICE | {
    "NoSuchBucket": "there is no such bucket: check directory (and the endpoint: AWS_ENDPOINT_URL_S3, or the "
    "endpoint_url of aws_conn_id, if the store is not AWS)",
    "AccessDenied": "access denied: the AWS credentials need s3:ListBucket, s3:GetObject and s3:GetObjectTagging there",
}


class S3Source:
    """The objects under a prefix of an S3 bucket.

    :param bucket: its name
    :param prefix: of the keys, with a slash at its end, or empty
    :param access: how to enter it; with the credentials and the endpoint that boto3 finds if None
    :param workers: how many threads will use it
    :raises StagingError: when there are no credentials
    """

    replica: Replica = "aws"

    def __init__(self, bucket: str, prefix: str, *, access: S3Access | None = None, workers: int = 10) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._url = f"s3://{bucket}/{prefix}"
        self._client, _ = open_client(self._url, access, workers=workers)

    def objects(self, names: Names) -> Iterator[FoundObject]:
        """List the objects, from the first name that is wanted to the last."""
        where = {"Bucket": self._bucket, "Prefix": self._prefix}
        if names.first:  # S3 begins behind what it is told
            where["StartAfter"] = f"{self._prefix}{names.first[:-1]}"
        with self._told(self._url):
            for page in self._client.get_paginator("list_objects_v2").paginate(**where):
                for each in page.get("Contents", []):
                    name = each["Key"].removeprefix(self._prefix)
                    if names.before is not None and name >= names.before:
                        return
                    if name in names and not each["Key"].endswith("/"):
                        mtime_ns = int(each["LastModified"].timestamp()) * 10**9
                        yield FoundObject(name, each["Size"], mtime_ns, each["ETag"].strip('"'))

    def sums(self, file: PlannedFile) -> Checksums | None:
        """Look into metadata, and if need be into tags."""
        where = {"Bucket": self._bucket, "Key": self.key(file)}
        with self.unchanged(file):
            labels = self._client.head_object(**where, IfMatch=_quoted(file))["Metadata"]
        found = _trusted(file, labelled(labels))
        if found is not None:
            return found
        with self.unchanged(file):
            try:
                tags = self._client.get_object_tagging(**where)["TagSet"]
            except ClientError as error:
                if status_of(error) != 403:  # who may read an object may not always read its tags
                    raise
                return None
        return _trusted(file, labelled({tag["Key"]: tag["Value"] for tag in tags}))

    def read(self, file: PlannedFile, offset: int, size: int) -> bytes:
        """Read a section of the object."""
        where = {"Bucket": self._bucket, "Key": self.key(file), "Range": f"bytes={offset}-{offset + size - 1}"}
        with self.unchanged(file):
            content: bytes = self._client.get_object(**where, IfMatch=_quoted(file))["Body"].read()
        return content

    def key(self, file: PlannedFile) -> str:
        """Return the key of an object."""
        return f"{self._prefix}{file.name}"

    def copied(self, file: PlannedFile) -> dict[str, Any]:
        """Return what says that an object is to be copied as it was planned, as boto3 calls it."""
        return {
            "CopySource": {"Bucket": self._bucket, "Key": self.key(file)},
            "CopySourceIfMatch": _quoted(file),
        }

    @contextmanager
    def unchanged(self, file: PlannedFile) -> Iterator[None]:
        """Raise what boto3 raises inside as what it means for an object of the source.

        :raises FileChangedError: when it is not as planned
        """
        with self._told(f"s3://{self._bucket}/{self.key(file)}"):
            try:
                yield
            except ClientError as error:
                told = error.response.get("Error", {}).get("Code")
                if status_of(error) == 412 or told in {"NoSuchKey", "404"}:
                    raise FileChangedError from None
                raise

    @contextmanager
    def _told(self, url: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise staging_error(url, error, _ADVICE) from None


def _quoted(file: PlannedFile) -> str:
    return f'"{file.revision}"'


def _trusted(file: PlannedFile, sums: Checksums | None) -> Checksums | None:
    """Return sums unless the ETag is against them: that of parts of other sizes says nothing, and the copy's will."""
    if sums is None or sums.s3_etag == file.revision:
        return sums
    parts = -(-file.size // part_size(file.size)) if file.size > PART_SIZE else 0
    return None if file.revision[33:] == (str(parts) if parts else "") else sums
