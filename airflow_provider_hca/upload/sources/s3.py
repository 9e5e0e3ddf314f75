"""A prefix of an S3 bucket as the source of an upload."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from airflow_provider_hca.client.models import Replica
from airflow_provider_hca.upload.access import S3Access
from airflow_provider_hca.upload.checksums import PART_SIZE, Checksums, part_size
from airflow_provider_hca.upload.entries import FileChangedError, Names, PlannedFile
from airflow_provider_hca.upload.s3_client import ADVICE, S3Bucket, error_code, status_of
from airflow_provider_hca.upload.sources.base import FoundFile, parse_labels

_ADVICE = ADVICE | {
    "NoSuchBucket": "there is no such bucket: check directory (and the endpoint: AWS_ENDPOINT_URL_S3, or the "
    "endpoint_url of aws_conn_id, if the store is not AWS)",
    "AccessDenied": "access denied: the AWS credentials need s3:ListBucket, s3:GetObject and s3:GetObjectTagging there",
}


class S3Source:
    """Objects under a prefix of an S3 bucket.

    :param bucket: name of the bucket
    :param prefix: prefix of the keys, empty or with a slash at its end
    :param access: credentials and endpoint; boto3's own if None
    :param workers: number of threads that use it
    :raises StagingError: if there are no credentials
    """

    replica: Replica = "aws"

    def __init__(self, bucket: str, prefix: str, *, access: S3Access | None = None, workers: int = 10) -> None:
        self._prefix = prefix
        self._bucket = S3Bucket(bucket, access, workers=workers, advice=_ADVICE)
        self._client = self._bucket.client

    def objects(self, names: Names) -> Iterator[FoundFile]:
        """List the objects from the first name of the range to the last."""
        where = {"Bucket": self._bucket.name, "Prefix": self._prefix}
        if names.first:  # S3 starts after this key
            where["StartAfter"] = f"{self._prefix}{names.first[:-1]}"
        with self._bucket.errors(self._prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(**where):
                for item in page.get("Contents", []):
                    name = item["Key"].removeprefix(self._prefix)
                    if names.before is not None and name >= names.before:
                        return
                    if name in names and not item["Key"].endswith("/"):
                        mtime_ns = int(item["LastModified"].timestamp()) * 10**9
                        yield FoundFile(name, item["Size"], mtime_ns, item["ETag"].strip('"'))

    def prefixes(self) -> Iterator[str]:
        """List the common prefixes."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._bucket.errors(self._prefix):
            for page in pages.paginate(Bucket=self._bucket.name, Prefix=self._prefix, Delimiter="/"):
                for item in page.get("CommonPrefixes", []):
                    yield item["Prefix"].removeprefix(self._prefix).rstrip("/")

    def sums(self, file: PlannedFile) -> Checksums | None:
        """Read the metadata, and the tags if those are incomplete."""
        where = self._where(file)
        with self.unchanged(file):
            metadata = self._client.head_object(**where, IfMatch=_quoted(file))["Metadata"]
        sums = _unless_refuted(file, parse_labels(metadata))
        if sums is not None:
            return sums
        with self.unchanged(file):
            try:
                tags = self._client.get_object_tagging(**where)["TagSet"]
            except ClientError as error:
                if status_of(error) != 403:  # permission to read an object does not include its tags
                    raise
                return None
        return _unless_refuted(file, parse_labels({tag["Key"]: tag["Value"] for tag in tags}))

    def read(self, file: PlannedFile, offset: int, size: int) -> bytes:
        """Read a section of an object."""
        section = {**self._where(file), "Range": f"bytes={offset}-{offset + size - 1}"}
        with self.unchanged(file):
            content: bytes = self._client.get_object(**section, IfMatch=_quoted(file))["Body"].read()
        return content

    def copy_source(self, file: PlannedFile) -> dict[str, Any]:
        """Return boto3's arguments that copy an object if it matches its plan."""
        return {"CopySource": self._where(file), "CopySourceIfMatch": _quoted(file)}

    @contextmanager
    def unchanged(self, file: PlannedFile) -> Iterator[None]:
        """Raise errors of boto3 as those of a source object.

        :raises FileChangedError: if the object differs from its plan
        :raises StagingError: if it cannot be read
        """
        with self._bucket.errors(self._where(file)["Key"]):
            try:
                yield
            except ClientError as error:
                if status_of(error) == 412 or error_code(error) in {"NoSuchKey", "404"}:
                    raise FileChangedError from None
                raise

    def _where(self, file: PlannedFile) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": f"{self._prefix}{file.name}"}


def _quoted(file: PlannedFile) -> str:
    return f'"{file.revision}"'


def _unless_refuted(file: PlannedFile, sums: Checksums | None) -> Checksums | None:
    """Return checksums unless the object's ETag refutes them.

    The ETag of parts of other sizes proves nothing; that of the copy will.
    """
    if sums is None or sums.s3_etag == file.revision:
        return sums
    parts = -(-file.size // part_size(file.size)) if file.size > PART_SIZE else 0
    return None if file.revision[33:] == (str(parts) if parts else "") else sums
