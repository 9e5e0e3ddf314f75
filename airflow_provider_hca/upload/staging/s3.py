"""Staging in a bucket of Amazon S3, or of a store that speaks its protocol."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import S3Store

from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.access import S3Access
from airflow_provider_hca.upload.checksums import Checksums, part_size
from airflow_provider_hca.upload.entries import OtherContentError, PlannedFile
from airflow_provider_hca.upload.file_sums import OpenFile, Section, reading
from airflow_provider_hca.upload.s3_client import ADVICE, READ_TIMEOUT, error_code, open_client, staging_error, told
from airflow_provider_hca.upload.sources.base import Source
from airflow_provider_hca.upload.sources.s3 import S3Source
from airflow_provider_hca.upload.staging.base import OnSent, unwatched
from airflow_provider_hca.upload.staging.s3_parts import UNKNOWN_SUMS, S3LargeCopy, S3LargeObject

log = logging.getLogger(__name__)

_DELETED_AT_ONCE = 1000  # S3 takes no more
_PUT_RIGHT_AT_MOST = 32  # failures of obstore in a row that boto3 puts right, before obstore is given up
_SHA256 = "hca-dss-sha256"
# Shorter than the 10 minutes before their end in which botocore renews temporary credentials: obstore, which keeps
# them for so long, never has any that have expired.
_KEPT = timedelta(minutes=5)


class S3Staging:
    """A bucket of S3, or of a store that speaks its protocol.

    Content in memory goes through obstore, at a tenth of the processor time that boto3 takes; files go through boto3,
    from disk. Up to 64 MiB tags and metadata travel with the object; above, it is put in exactly the parts that a DSS
    wants, and tagged.

    :param bucket: its name
    :param workers: how many threads will use it
    :param access: how to enter it; with the credentials and the endpoint (`AWS_ENDPOINT_URL_S3`) that boto3 finds if
        None
    :raises StagingError: when there are no credentials
    """

    def __init__(self, bucket: str, *, workers: int = 10, access: S3Access | None = None) -> None:
        self._bucket = bucket
        self.client, access = open_client(self.url(""), access, workers=workers)
        self._put_right = 0
        self._gives_md5s, self._comparing = False, threading.Lock()
        self._begun: dict[str, list[str]] = {}
        # obstore knows nothing of a CA bundle that a connection names, so boto3 sends everything there.
        self._store = self._open_store(access.session) if access.verify in (None, True) else None

    def _open_store(self, session: Any) -> S3Store | None:
        return S3Store(
            self._bucket,
            endpoint=self.client.meta.endpoint_url,
            region=self.client.meta.region_name or "us-east-1",
            virtual_hosted_style_request=False,
            credential_provider=Boto3CredentialProvider(session, ttl=_KEPT),
            client_options={"allow_http": True, "timeout": timedelta(seconds=READ_TIMEOUT)},
            retry_config={"max_retries": 0},
            unsigned_payload=True,
        )

    def url(self, key: str) -> str:
        """Return the `source_url` of an object."""
        return f"s3://{self._bucket}/{key}"

    def check(self) -> None:
        """Look whether the bucket is there; not being allowed to look is no failure."""
        try:
            self.client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:  # HEAD has no body, and so no code
                raise StagingError(self.url(""), ADVICE["NoSuchBucket"], permanent=True) from None
            if status not in {400, 403}:  # 400: credentials or region, which the first PUT tells in words
                raise staging_error(self.url(""), error) from None
        except BotoCoreError as error:
            raise staging_error(self.url(""), error) from None

    def put(
        self, key: str, content: bytes | Path, sums: Checksums, content_type: str, on_sent: OnSent = unwatched
    ) -> None:
        """Stage an object of at most 64 MiB, in one request, and compare its ETag."""
        if isinstance(content, Path):
            etag = self._put_file(key, content, sums, content_type, on_sent)
        else:
            etag = self._put_bytes(key, content, sums, content_type)
            on_sent(len(content))
        self.check_etag(key, etag, sums.s3_etag)

    @staticmethod
    def part_count(size: int) -> int:
        """Return how many parts an object above 64 MiB has."""
        return -(-size // part_size(size))

    def begin(self, key: str, content_type: str) -> S3LargeObject:
        """Begin to stage an object above 64 MiB, or go on with what `find` found begun."""
        where = {"Bucket": self._bucket, "Key": key}
        with self.told(key):
            begun = self._go_on(where)
            if begun is not None:
                # Not every store tells whether it takes sums; one that refuses the first is not given others.
                return S3LargeObject(self, *begun, summed=True)
            upload, summed = self._create(where, content_type)
        return S3LargeObject(self, {**where, "UploadId": upload}, {}, summed=summed)

    def copy(self, key: str, source: Source, file: PlannedFile, sums: Checksums) -> None:
        """Have S3 copy an object of at most 64 MiB in one request, and compare its ETag."""
        from_s3 = _of_s3(source)
        options = {"MetadataDirective": "REPLACE", "TaggingDirective": "REPLACE"}
        options |= _extra(sums.as_metadata(), file.content_type)
        with self.told(key), from_s3.unchanged(file):
            answer = self.client.copy_object(Bucket=self._bucket, Key=key, **from_s3.copied(file), **options)
        self.check_etag(key, answer["CopyObjectResult"]["ETag"], sums.s3_etag)

    def begin_copy(self, key: str, source: Source, file: PlannedFile) -> S3LargeCopy:
        """Begin to have S3 copy an object above 64 MiB, or go on with what `find` found begun."""
        where = {"Bucket": self._bucket, "Key": key}
        with self.told(key):
            begun = self._go_on(where)
            if begun is None:
                upload = self.client.create_multipart_upload(**where, ContentType=file.content_type)["UploadId"]
                begun = {**where, "UploadId": upload}, {}
        return S3LargeCopy(self, *begun, _of_s3(source), file)

    def _create(self, where: dict[str, str], content_type: str) -> tuple[str, bool]:
        """Return a new upload in parts, and whether it takes a crc32c with each."""
        create = functools.partial(self.client.create_multipart_upload, **where, ContentType=content_type)
        try:
            return create(ChecksumAlgorithm="CRC32C")["UploadId"], True
        except ClientError as error:  # some stores know no such sums
            if error_code(error) not in UNKNOWN_SUMS:
                raise
        return create()["UploadId"], False

    def _go_on(self, where: dict[str, str]) -> tuple[dict[str, str], dict[int, tuple[str, int]]] | None:
        """Return the newest upload that `find` found begun, and ETag and size of its parts; abort the others."""
        *older, newest = self._begun.pop(where["Key"], []) or [""]
        for upload in older:
            self.abort({**where, "UploadId": upload})
        if not newest:
            return None
        where, there = {**where, "UploadId": newest}, {}
        for page in self.client.get_paginator("list_parts").paginate(**where):
            for part in page.get("Parts", []):
                there[part["PartNumber"] - 1] = part["ETag"].strip('"'), part["Size"]
        return where, there

    def find(self, prefix: str) -> dict[str, str]:
        """Return the ETags of what is staged under a prefix, and take note of the multipart uploads left open there."""
        found: dict[str, str] = {}
        begun: dict[str, list[tuple[Any, str]]] = {}
        where = {"Bucket": self._bucket, "Prefix": prefix}
        with self.told(prefix):
            for page in self.client.get_paginator("list_objects_v2").paginate(**where):
                found |= {each["Key"]: each["ETag"].strip('"') for each in page.get("Contents", [])}
            for page in self.client.get_paginator("list_multipart_uploads").paginate(**where):
                for each in page.get("Uploads", []):
                    begun.setdefault(each["Key"], []).append((each["Initiated"], each["UploadId"]))
        self._begun = {key: [upload for _, upload in sorted(uploads)] for key, uploads in begun.items()}
        return found

    def abort_multipart_uploads(self) -> None:
        """Abort what `find` found begun and `begin` did not go on with."""
        for key, uploads in self._begun.items():
            for upload in uploads:
                self.abort({"Bucket": self._bucket, "Key": key, "UploadId": upload})
        self._begun = {}

    def complete(self, where: dict[str, str], parts: list[dict[str, Any]], sums: Checksums) -> None:
        """Make an object of its parts, compare its ETag, and tag it.

        :param where: bucket, key and upload id, as boto3 calls them
        :param parts: of it, as boto3 calls them
        :param sums: of the whole
        """
        key = where["Key"]
        with self.told(key):
            try:
                etag = self.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})["ETag"]
            except self.client.exceptions.NoSuchUpload:  # completed by an attempt whose answer was lost
                etag = self.client.head_object(Bucket=self._bucket, Key=key)["ETag"]
        self.check_etag(key, etag, sums.s3_etag)
        self.label(key, sums)

    def abort(self, where: dict[str, str]) -> None:
        """Have the parts of an upload removed; a failure does no harm but for what they cost.

        :param where: bucket, key and upload id, as boto3 calls them
        """
        try:
            self.client.abort_multipart_upload(**where)
        except (BotoCoreError, ClientError) as error:
            log.warning("%s: an upload in parts stays open: %s", self.url(where["Key"]), type(error).__name__)

    def stored_sum(self, sums: Checksums) -> str:
        """Return the ETag."""
        return sums.s3_etag

    def label(self, key: str, sums: Checksums) -> None:
        """Give an object its tags, which a DSS reads before the metadata."""
        tags = [{"Key": name, "Value": value} for name, value in sums.as_metadata().items()]
        with self.told(key):
            self.client.put_object_tagging(Bucket=self._bucket, Key=key, Tagging={"TagSet": tags})

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, a thousand at a time."""
        for first in range(0, len(keys), _DELETED_AT_ONCE):
            objects = [{"Key": key} for key in keys[first : first + _DELETED_AT_ONCE]]
            with self.told(""):
                answer = self.client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
            for error in answer.get("Errors", []):
                raise StagingError(self.url(error["Key"]), f"it was not removed: {error.get('Code')}")

    def sha256(self, key: str) -> str:
        """Return the `hca-dss-sha256` of an object: from its tags, else from its metadata, as a DSS reads it."""
        where = {"Bucket": self._bucket, "Key": key}
        with self.told(key):
            tags = {tag["Key"]: tag["Value"] for tag in self.client.get_object_tagging(**where)["TagSet"]}
            found = tags.get(_SHA256) or self.client.head_object(**where)["Metadata"].get(_SHA256)
        if not found:
            raise StagingError(self.url(key), f"the object has no {_SHA256} in its tags or metadata", permanent=True)
        return str(found)

    def check_etag(self, key: str, etag: str, expected: str) -> None:
        """Raise if the store has something else than what was sent.

        :raises OtherContentError: then
        """
        if etag.strip('"') != expected:
            raise OtherContentError(
                self.url(key),
                f"the store has ETag {etag} where {expected} was sent: the file changed meanwhile, or the bucket "
                "encrypts with KMS, which a DSS cannot copy from",
            )

    def gives_md5s(self, etag: str, md5: Callable[[], str]) -> bool:
        """Return whether the store's ETags of parts are their MD5s, as the first one tells that is asked about.

        :param etag: of a part
        :param md5: computes its MD5
        """
        with self._comparing:
            self._gives_md5s = self._gives_md5s or md5() == etag
            return self._gives_md5s

    @contextmanager
    def told(self, key: str) -> Iterator[None]:
        """Raise what a library raises inside as what it means for an object."""
        with reading(), told(self.url(key)):
            yield

    def _put_bytes(self, key: str, content: bytes, sums: Checksums, content_type: str) -> str:
        metadata, store, failure = sums.as_metadata(), self._store, ""
        if store is not None:
            try:
                attributes = {"Content-Type": content_type, **metadata}
                result = obstore.put(store, key, content, attributes=attributes, tags=metadata, use_multipart=False)
                self._put_right = 0
                return str(result["e_tag"])
            except (ObstoreError, OSError) as error:
                failure = type(error).__name__
        # boto3 knows redirects between regions, and names its errors, which obstore gives as prose.
        extra = _extra(metadata, content_type)
        with self.told(key):
            answer = self.client.put_object(Bucket=self._bucket, Key=key, Body=content, **extra)
        if failure:
            self._put_right += 1
            if self._put_right >= _PUT_RIGHT_AT_MOST and self._store is not None:
                log.warning("%s: obstore fails (%s) where boto3 does not; going on without it", self.url(""), failure)
                self._store = None
        return str(answer["ETag"])

    def _put_file(self, key: str, path: Path, sums: Checksums, content_type: str, on_sent: OnSent) -> str:
        size = path.stat().st_size
        extra = _extra(sums.as_metadata(), content_type)
        with OpenFile(path) as file, self.told(key):
            body = Section(file, 0, size, on_sent)
            return str(self.client.put_object(Bucket=self._bucket, Key=key, Body=body, **extra)["ETag"])


def _of_s3(source: Source) -> S3Source:
    if not isinstance(source, S3Source):
        raise ValueError("what is staged in S3 is copied from S3 only")
    return source


def _extra(metadata: dict[str, str], content_type: str) -> dict[str, Any]:
    return {"ContentType": content_type, "Metadata": metadata, "Tagging": urlencode(metadata)}
