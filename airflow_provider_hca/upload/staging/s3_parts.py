"""Objects above 64 MiB on their way to an S3 bucket: multipart uploads with exactly the parts that a DSS wants."""

from __future__ import annotations

import functools
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from airflow_provider_hca.upload.checksums import Checksums, part_size
from airflow_provider_hca.upload.file_sums import FileSums, OpenFile, Section
from airflow_provider_hca.upload.s3_client import error_code
from airflow_provider_hca.upload.sources.s3 import S3Source
from airflow_provider_hca.upload.staging.base import OnSent, unwatched

if TYPE_CHECKING:
    from airflow_provider_hca.upload.entries import PlannedFile
    from airflow_provider_hca.upload.staging.s3 import S3Staging

# What a store answers that takes no sums with parts.
UNKNOWN_SUMS = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest"})


class S3LargeObject:
    """A multipart upload, with exactly the parts that a DSS wants.

    A store that verifies the crc32c of each part, as S3 does, tells the part's MD5 in its ETag: so that need not be
    computed here, which would take longer than all the other sums. That of the first part is, to see that it is so.
    Of a store that does not, each ETag is compared with the MD5.

    :param staging: the bucket
    :param where: bucket, key and upload id, as boto3 calls them
    :param there: ETag and size in bytes of the parts that are there, by number from 0
    :param summed: whether to send a crc32c with each part
    """

    computes_md5s = True

    def __init__(
        self, staging: S3Staging, where: dict[str, str], there: dict[int, tuple[str, int]], *, summed: bool
    ) -> None:
        self._staging, self._where, self._there, self._summed = staging, where, there, summed
        self._key = where["Key"]
        self._sent: dict[int, tuple[str, str]] = {}

    def send(self, number: int, file: OpenFile, sums: FileSums, on_sent: OnSent = unwatched) -> None:
        """Send a part and see that the store has what was sent."""
        there, size = self._there.get(number), sums.parts[number][1]
        etag = there[0] if there else ""
        if there is None or there != (sums.md5(number), size):
            etag = self._send(number, file, sums, on_sent)
        self._sent[number] = etag, _base64(sums.crc32c(number))
        sums.release(number)

    def _send(self, number: int, file: OpenFile, sums: FileSums, on_sent: OnSent) -> str:
        """Send a part and return its ETag."""
        crc32c = _base64(sums.crc32c(number))
        answer = self._put(number, Section(file, *sums.parts[number], on_sent), crc32c)
        etag, verified = str(answer["ETag"]).strip('"'), answer.get("ChecksumCRC32C") == crc32c
        if not verified or not self._staging.gives_md5s(etag, lambda: sums.md5(number)):
            self._staging.check_etag(self._key, etag, sums.md5(number))
        sums.take_md5(number, etag)
        return etag

    def _put(self, number: int, body: Section, crc32c: str) -> dict[str, Any]:
        put: Callable[..., dict[str, Any]] = functools.partial(
            self._staging.client.upload_part, **self._where, PartNumber=number + 1, Body=body
        )
        with self._staging.told(self._key):
            if self._summed:
                try:
                    return put(ChecksumCRC32C=crc32c)
                except ClientError as error:
                    if error_code(error) not in UNKNOWN_SUMS:
                        raise
                    self._summed = False
                    body.seek(0)
            return put()

    def finish(self, sums: Checksums) -> None:
        """Complete the upload, compare the ETag of the whole, and tag it."""
        parts = [
            {"PartNumber": number + 1, "ETag": etag, **({"ChecksumCRC32C": crc32c} if self._summed else {})}
            for number, (etag, crc32c) in sorted(self._sent.items())
        ]
        self._staging.complete(self._where, parts, sums)

    def abort(self) -> None:
        """Have the parts removed."""
        self._staging.abort(self._where)


class S3LargeCopy:
    """A multipart upload whose parts S3 copies from another object, exactly as a DSS wants them.

    :param staging: the bucket
    :param where: bucket, key and upload id, as boto3 calls them
    :param there: ETag and size in bytes of the parts that are there, by number from 0
    :param source: of the object
    :param file: which of its objects
    """

    def __init__(
        self,
        staging: S3Staging,
        where: dict[str, str],
        there: dict[int, tuple[str, int]],
        source: S3Source,
        file: PlannedFile,
    ) -> None:
        self._staging, self._where, self._there, self._source, self._file = staging, where, there, source, file
        self._step = part_size(file.size)
        self._etags: dict[int, str] = {}

    def copy(self, number: int, on_copied: OnSent = unwatched) -> None:
        """Have a part copied; what there is of another content `finish` finds out."""
        offset = number * self._step
        size = min(self._step, self._file.size - offset)
        etag, there = self._there.get(number, ("", 0))
        if there != size:
            of_part = {"PartNumber": number + 1, "CopySourceRange": f"bytes={offset}-{offset + size - 1}"}
            with self._staging.told(self._where["Key"]), self._source.unchanged(self._file):
                answer = self._staging.client.upload_part_copy(
                    **self._where, **of_part, **self._source.copied(self._file)
                )
            etag = answer["CopyPartResult"]["ETag"]
        self._etags[number] = etag
        on_copied(size)

    def finish(self, sums: Checksums) -> None:
        """Complete the upload, compare the ETag of the whole, and tag it."""
        parts = [{"PartNumber": number + 1, "ETag": etag} for number, etag in sorted(self._etags.items())]
        self._staging.complete(self._where, parts, sums)

    def abort(self) -> None:
        """Have the parts removed."""
        self._staging.abort(self._where)


def _base64(crc32c: int) -> str:
    """Return a crc32c as S3 has it."""
    return b64encode(crc32c.to_bytes(4, "big")).decode()
