"""Multipart uploads to S3, with exactly the parts that a DSS requires."""

from __future__ import annotations

import functools
import logging
import threading
from base64 import b64encode
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_hca.upload.checksums import Checksums, part_ranges
from airflow_provider_hca.upload.entries import OtherContentError, PlannedFile
from airflow_provider_hca.upload.local_files import OnBytes, OpenFile, PartSums, Section
from airflow_provider_hca.upload.s3_client import S3Bucket, error_code
from airflow_provider_hca.upload.sources.s3 import S3Source

log = logging.getLogger(__name__)

# Answers of stores that do not support checksums of parts.
_UNSUPPORTED = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest"})


def check_etag(url: str, etag: str, expected: str) -> None:
    """Compare an ETag with that of the content that was sent.

    :raises OtherContentError: if they differ
    """
    if etag.strip('"') != expected:
        raise OtherContentError(
            url,
            f"expected ETag {expected}, got {etag}: the file changed meanwhile, or the bucket encrypts with KMS, which "
            "a DSS cannot copy from",
        )


class MultipartUploads:
    """Multipart uploads of a staging bucket.

    :param bucket: staging bucket
    """

    def __init__(self, bucket: S3Bucket) -> None:
        self.bucket = bucket
        self._found: dict[str, list[str]] = {}
        self._etags_are_md5s, self._lock = False, threading.Lock()

    def find(self, prefix: str) -> Collection[str]:
        """Note the unfinished uploads under a prefix, and return their keys."""
        found: dict[str, list[tuple[Any, str]]] = {}
        pages = self.bucket.client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=self.bucket.name, Prefix=prefix):
            for upload in page.get("Uploads", []):
                found.setdefault(upload["Key"], []).append((upload["Initiated"], upload["UploadId"]))
        self._found = {key: [upload for _, upload in sorted(uploads)] for key, uploads in found.items()}
        return self._found.keys()

    def begin(self, key: str, content_type: str, *, checksummed: bool) -> OpenUpload:
        """Create an upload, or resume the newest that `find` noted and abort the others.

        :param key: key of the object
        :param content_type: content type of the object
        :param checksummed: whether parts are sent with their crc32c
        """
        where = {"Bucket": self.bucket.name, "Key": key}
        *older, newest = self._found.pop(key, []) or [""]
        for upload in older:
            self.abort({**where, "UploadId": upload})
        if newest:
            where["UploadId"] = newest
            # Not every store returns whether an upload was created for checksums: a refusal shows it.
            return OpenUpload(where, self._parts(where), checksummed=checksummed)
        create = functools.partial(self.bucket.client.create_multipart_upload, **where, ContentType=content_type)
        created = None
        if checksummed:
            try:
                created = create(ChecksumAlgorithm="CRC32C")
            except ClientError as error:
                if error_code(error) not in _UNSUPPORTED:
                    raise
                checksummed = False
        where["UploadId"] = (created or create())["UploadId"]
        return OpenUpload(where, {}, checksummed=checksummed)

    def label(self, key: str, sums: Checksums) -> None:
        """Tag an object with its checksums."""
        tags = [{"Key": name, "Value": value} for name, value in sums.as_metadata().items()]
        with self.bucket.errors(key):
            self.bucket.client.put_object_tagging(Bucket=self.bucket.name, Key=key, Tagging={"TagSet": tags})

    def abort_found(self, prefix: str) -> None:
        """Abort the uploads under a prefix that `find` noted and `begin` did not resume."""
        for key in [key for key in self._found if key.startswith(prefix)]:
            for upload in self._found.pop(key):
                self.abort({"Bucket": self.bucket.name, "Key": key, "UploadId": upload})

    def etags_are_md5s(self, etag: str, md5: Callable[[], str]) -> bool:
        """Return whether the ETags of parts are their MD5s, which is decided by the first part.

        :param etag: ETag of a part
        :param md5: computes the MD5 of the part
        """
        with self._lock:
            self._etags_are_md5s = self._etags_are_md5s or md5() == etag
            return self._etags_are_md5s

    def abort(self, where: dict[str, str]) -> None:
        """Abort an upload; if that fails, its parts only cost storage.

        :param where: bucket, key and upload id as boto3's arguments
        """
        try:
            self.bucket.client.abort_multipart_upload(**where)
        except (BotoCoreError, ClientError) as error:
            url = self.bucket.url(where["Key"])
            log.warning("%s: a multipart upload was not aborted: %s", url, type(error).__name__)

    def _parts(self, where: dict[str, str]) -> dict[int, tuple[str, int]]:
        return {
            part["PartNumber"] - 1: (part["ETag"].strip('"'), part["Size"])
            for page in self.bucket.client.get_paginator("list_parts").paginate(**where)
            for part in page.get("Parts", [])
        }


@dataclass(slots=True)
class OpenUpload:
    """A multipart upload in progress.

    :ivar where: bucket, key and upload id as boto3's arguments
    :ivar existing: ETag and size in bytes of the parts that an earlier try sent, by number from 0
    :ivar checksummed: whether parts are sent with their crc32c
    """

    where: dict[str, str]
    existing: dict[int, tuple[str, int]]
    checksummed: bool


class _S3Transfer:
    """A multipart upload that is completed when all parts were sent.

    :param uploads: uploads of the staging bucket
    :param upload: one of them
    :param size: size of the object in bytes
    """

    def __init__(self, uploads: MultipartUploads, upload: OpenUpload, size: int) -> None:
        self._uploads, self._bucket, self._upload = uploads, uploads.bucket, upload
        self._ranges = part_ranges(size)
        self.part_count = len(self._ranges)
        self._sent: dict[int, dict[str, Any]] = {}

    def finish(self, sums: Checksums) -> None:
        """Complete the upload, compare the ETag of the whole, and tag the object."""
        where = self._upload.where
        key = where["Key"]
        parts = [{"PartNumber": number + 1, **part} for number, part in sorted(self._sent.items())]
        with self._bucket.errors(key):
            try:
                client = self._bucket.client
                etag = client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})["ETag"]
            except client.exceptions.NoSuchUpload:  # completed by an attempt whose answer was lost
                etag = client.head_object(Bucket=self._bucket.name, Key=key)["ETag"]
        check_etag(self._bucket.url(key), etag, sums.s3_etag)
        self._uploads.label(key, sums)

    def abort(self) -> None:
        """Abort the upload, which deletes its parts."""
        self._uploads.abort(self._upload.where)


class S3Upload(_S3Transfer):
    """A multipart upload of a file.

    A store that verifies the crc32c of each part, as S3 does, returns the part's MD5 as its ETag. So the MD5 is not
    computed here, which would take longer than all other checksums together; that of the first part is, to check that
    it is so. If the store does not verify, each ETag is compared with the MD5.

    :param file: open file
    """

    def __init__(self, uploads: MultipartUploads, upload: OpenUpload, file: OpenFile, size: int) -> None:
        super().__init__(uploads, upload, size)
        self._file = file

    def send(self, number: int, on_sent: OnBytes) -> PartSums:
        """Send a part, unless an earlier try sent the same content."""
        part, existing = self._ranges[number], self._upload.existing.get(number)

        def check(_: int) -> None:
            on_sent(0)

        sums = None
        if existing is not None:
            sums = self._file.part_sums(*part, check)
        if sums is None or existing != (sums.md5, part[1]):
            sums = self._send(number, sums.crc32c if sums else self._file.crc32c(*part, on_read=check), on_sent)
        self._sent[number] = {"ETag": sums.md5}
        if self._upload.checksummed:
            self._sent[number]["ChecksumCRC32C"] = _base64(sums.crc32c)
        return sums

    def _send(self, number: int, crc32c: int, on_sent: OnBytes) -> PartSums:
        part = self._ranges[number]
        with self._bucket.errors(self._upload.where["Key"]):
            answer = self._put(number, Section(self._file, *part, on_sent), _base64(crc32c))
            etag, verified = str(answer["ETag"]).strip('"'), answer.get("ChecksumCRC32C") == _base64(crc32c)
        if verified and self._uploads.etags_are_md5s(etag, lambda: self._file.part_sums(*part).md5):
            return PartSums(etag, crc32c)
        sums = self._file.part_sums(*part)
        check_etag(self._bucket.url(self._upload.where["Key"]), etag, sums.md5)
        return sums

    def _put(self, number: int, body: Section, crc32c: str) -> dict[str, Any]:
        put: Callable[..., dict[str, Any]] = functools.partial(
            self._bucket.client.upload_part, **self._upload.where, PartNumber=number + 1, Body=body
        )
        with body.reraising():
            if self._upload.checksummed:
                try:
                    return put(ChecksumCRC32C=crc32c)
                except ClientError as error:
                    if error_code(error) not in _UNSUPPORTED:
                        raise
                    self._upload.checksummed = False
                    body.seek(0)
            return put()


class S3Copy(_S3Transfer):
    """A multipart upload whose parts S3 copies from another object.

    :param source: source of the object
    :param file: object of the source
    """

    def __init__(self, uploads: MultipartUploads, upload: OpenUpload, source: S3Source, file: PlannedFile) -> None:
        super().__init__(uploads, upload, file.size)
        self._source, self._file = source, file

    def send(self, number: int, on_sent: OnBytes) -> None:
        """Copy a part; `finish` detects a part of an earlier try with other content."""
        offset, size = self._ranges[number]
        etag, existing = self._upload.existing.get(number, ("", 0))
        if existing != size:
            part = {"PartNumber": number + 1, "CopySourceRange": f"bytes={offset}-{offset + size - 1}"}
            where = {**self._upload.where, **part, **self._source.copy_source(self._file)}
            with self._bucket.errors(self._upload.where["Key"]), self._source.unchanged(self._file):
                etag = self._bucket.client.upload_part_copy(**where)["CopyPartResult"]["ETag"]
        self._sent[number] = {"ETag": etag}
        on_sent(size)


def _base64(crc32c: int) -> str:
    """Return a crc32c in S3's format."""
    return b64encode(crc32c.to_bytes(4, "big")).decode()
