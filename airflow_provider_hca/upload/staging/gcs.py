"""Staging in a bucket of Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from google.api_core.exceptions import ClientError, NotFound

from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.access import GCSAccess
from airflow_provider_hca.upload.checksums import MIB, Checksums
from airflow_provider_hca.upload.entries import OtherContentError, PlannedFile
from airflow_provider_hca.upload.gcs_client import RETRY, RETRY_CHUNK, TIMEOUT, GCSBucket, crc32c_of
from airflow_provider_hca.upload.local_files import OnBytes, OpenFile, Section, ignore_bytes
from airflow_provider_hca.upload.sources.base import Source
from airflow_provider_hca.upload.sources.gcs import GCSSource
from airflow_provider_hca.upload.staging.base import SHA256_LABEL

_CHUNK = 8 * MIB  # of a resumable upload; the SDK keeps one in memory


class GCSStaging:
    """A staging bucket of Google Cloud Storage, at the endpoint that Google's SDK finds.

    The checksums are stored as the object's custom metadata, where a DSS reads them.

    :param bucket: name of the bucket
    :param access: credentials; those that Google's SDK finds if None
    :raises StagingError: if there are no credentials
    """

    def __init__(self, bucket: str, *, access: GCSAccess | None = None) -> None:
        self._bucket = GCSBucket(bucket, access)

    def url(self, key: str) -> str:
        """Return the `source_url` of an object."""
        return self._bucket.url(key)

    def check(self) -> None:
        """Get the bucket."""
        with self._bucket.errors():
            try:
                self._bucket.client.get_bucket(self._bucket.name, timeout=TIMEOUT, retry=RETRY)
            except ClientError as error:
                if error.code != 403:
                    raise

    def find(self, prefix: str, *, after: str = "") -> dict[str, str]:
        """Return the crc32c of each object under a prefix; the store does not list unfinished uploads."""
        with self._bucket.errors(prefix):
            return {blob.name: crc32c_of(blob) for blob in self._bucket.list(prefix, start_offset=after or None)}

    def stored_sum(self, sums: Checksums) -> str:
        """Return the crc32c."""
        return sums.crc32c

    def put(
        self, key: str, content: bytes | OpenFile, sums: Checksums, content_type: str, on_sent: OnBytes = ignore_bytes
    ) -> None:
        """Stage an object, and compare its crc32c."""
        blob = self._bucket.blob(key, chunk_size=_CHUNK)
        blob.metadata = sums.as_metadata()
        with self._bucket.errors(key):
            if isinstance(content, OpenFile):
                _send_file(blob, Section(content, 0, content.size, on_sent), content_type)
            else:
                blob.upload_from_string(content, content_type=content_type, timeout=TIMEOUT, retry=RETRY)
        _check_crc32c(self.url(key), blob, sums)

    def copy(self, key: str, source: Source, file: PlannedFile, sums: Checksums) -> None:
        """Copy an object, and compare its crc32c."""
        copy = self.begin_copy(key, source, file)
        copy.send(0, ignore_bytes)
        copy.finish(sums)

    def begin(self, key: str, content_type: str, file: OpenFile, size: int) -> GCSUpload:
        """Begin a resumable upload of a file; it always starts from the beginning."""
        return GCSUpload(self._bucket, key, content_type, file, size)

    def begin_copy(self, key: str, source: Source, file: PlannedFile) -> GCSCopy:
        """Begin a copy; it always starts from the beginning."""
        if not isinstance(source, GCSSource):
            raise TypeError(f"objects are copied to Google Cloud Storage from there only, got {type(source).__name__}")
        return GCSCopy(self._bucket, key, source, file)

    def label(self, key: str, sums: Checksums) -> None:
        """Add metadata."""
        _label(self._bucket, self._bucket.blob(key), sums)

    def abort_multipart_uploads(self, prefix: str) -> None:
        """Do nothing: `find` finds none."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects one after another."""
        for key in keys:
            with self._bucket.errors(key), suppress(NotFound):
                self._bucket.blob(key).delete(timeout=TIMEOUT, retry=RETRY)

    def sha256(self, key: str) -> str:
        """Return the `hca-dss-sha256` from an object's custom metadata."""
        blob = self._bucket.blob(key)
        with self._bucket.errors(key):
            try:
                blob.reload(timeout=TIMEOUT, retry=RETRY)
            except NotFound:
                raise StagingError(self.url(key), "there is no such object: check source_url", permanent=True) from None
        sha256 = (blob.metadata or {}).get(SHA256_LABEL)
        if not sha256:
            raise StagingError(self.url(key), f"the object has no {SHA256_LABEL} in its metadata", permanent=True)
        return str(sha256)


class _GCSTransfer:
    """An object that the store takes as one stream, and that leaves nothing behind if it is not finished.

    :param bucket: staging bucket
    :param key: key of the object
    :param content_type: content type of the object
    """

    part_count = 1

    def __init__(self, bucket: GCSBucket, key: str, content_type: str) -> None:
        self._bucket, self._content_type = bucket, content_type
        self._blob = bucket.blob(key, chunk_size=_CHUNK)

    def finish(self, sums: Checksums) -> None:
        """Compare the crc32c, and add the metadata."""
        _check_crc32c(self._bucket.url(self._blob.name), self._blob, sums)
        _label(self._bucket, self._blob, sums)

    def abort(self) -> None:
        """Do nothing."""


class GCSUpload(_GCSTransfer):
    """A resumable upload of a file.

    :param file: open file
    :param size: size of the file in bytes
    """

    def __init__(self, bucket: GCSBucket, key: str, content_type: str, file: OpenFile, size: int) -> None:
        super().__init__(bucket, key, content_type)
        self._file, self._size = file, size

    def send(self, _: int, on_sent: OnBytes) -> None:
        """Send the file."""
        with self._bucket.errors(self._blob.name):
            _send_file(self._blob, Section(self._file, 0, self._size, on_sent), self._content_type)


class GCSCopy(_GCSTransfer):
    """A copy by rewriting, which takes several requests if location or storage class differ.

    :param source: source of the object
    :param file: object of the source
    """

    def __init__(self, bucket: GCSBucket, key: str, source: GCSSource, file: PlannedFile) -> None:
        super().__init__(bucket, key, file.content_type)
        self._source, self._file = source, file

    def send(self, _: int, on_sent: OnBytes) -> None:
        """Copy the object."""
        token, copied = None, 0
        self._blob.content_type = self._content_type
        while True:
            with self._bucket.errors(self._blob.name), self._source.unchanged(self._file):
                token, done, _size = self._blob.rewrite(
                    self._source.blob(self._file),
                    token=token,
                    if_source_generation_match=int(self._file.revision),
                    timeout=TIMEOUT,
                    retry=RETRY,
                )
            on_sent(done - copied)
            copied = done
            if token is None:
                return


def _send_file(blob: Any, body: Section, content_type: str) -> None:
    with body.reraising():
        blob.upload_from_file(body, size=len(body), content_type=content_type, timeout=TIMEOUT, retry=RETRY_CHUNK)


def _label(bucket: GCSBucket, blob: Any, sums: Checksums) -> None:
    blob.metadata = sums.as_metadata()
    with bucket.errors(blob.name):
        blob.patch(timeout=TIMEOUT, retry=RETRY)


def _check_crc32c(url: str, blob: Any, sums: Checksums) -> None:
    stored = crc32c_of(blob)
    if stored != sums.crc32c:
        raise OtherContentError(url, f"expected crc32c {sums.crc32c}, got {stored}: the file changed meanwhile")
