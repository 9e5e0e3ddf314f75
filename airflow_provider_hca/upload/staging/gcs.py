"""Staging in a bucket of Google Cloud Storage."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from google.api_core.exceptions import ClientError, NotFound

from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.access import GCSAccess
from airflow_provider_hca.upload.checksums import MIB, Checksums
from airflow_provider_hca.upload.entries import OtherContentError, PlannedFile
from airflow_provider_hca.upload.file_sums import FileSums, OpenFile, Section, reading
from airflow_provider_hca.upload.gcs_client import ERRORS, RETRY, RETRY_CHUNK, TIMEOUT, open_bucket, staging_error, told
from airflow_provider_hca.upload.sources.base import Source
from airflow_provider_hca.upload.sources.gcs import GCSSource
from airflow_provider_hca.upload.staging.base import OnSent, unwatched

_CHUNK = 8 * MIB  # of a resumable upload; the SDK holds one in memory
_SHA256 = "hca-dss-sha256"


class GCSStaging:
    """A bucket of Google Cloud Storage, with the endpoint that Google's SDK finds.

    The checksums travel with the object as its custom metadata, which is where a DSS reads them.

    :param bucket: its name
    :param access: how to enter it; with the credentials that Google's SDK finds if None
    :raises StagingError: when there are no credentials
    """

    def __init__(self, bucket: str, *, access: GCSAccess | None = None) -> None:
        self._name = bucket
        self._bucket: Any = open_bucket(bucket, access)

    def url(self, key: str) -> str:
        """Return the `source_url` of an object."""
        return f"gs://{self._name}/{key}"

    def check(self) -> None:
        """Look whether the bucket is there; not being allowed to look is no failure."""
        try:
            self._bucket.client.get_bucket(self._name, timeout=TIMEOUT, retry=RETRY)
        except ClientError as error:
            if error.code != 403:
                raise staging_error(self.url(""), error) from None
        except ERRORS as error:
            raise staging_error(self.url(""), error) from None

    def put(
        self, key: str, content: bytes | Path, sums: Checksums, content_type: str, on_sent: OnSent = unwatched
    ) -> None:
        """Stage an object and compare its crc32c."""
        blob = self._bucket.blob(key, chunk_size=_CHUNK)
        blob.metadata = sums.as_metadata()
        with self.told(key):
            if isinstance(content, Path):
                with OpenFile(content) as file:
                    upload_file(blob, Section(file, 0, content.stat().st_size, on_sent), content_type)
            else:
                blob.upload_from_string(content, content_type=content_type, timeout=TIMEOUT, retry=RETRY)
                on_sent(len(content))
        self.check_crc32c(key, blob, sums)

    @staticmethod
    def part_count(size: int) -> int:  # noqa: ARG004 - part of Staging
        """Return 1: the store takes an object as one stream."""
        return 1

    def begin(self, key: str, content_type: str) -> GCSLargeObject:
        """Begin to stage an object above 64 MiB; the store tells nobody of what is begun, so it is always anew."""
        return GCSLargeObject(self, self._bucket.blob(key, chunk_size=_CHUNK), content_type)

    def copy(self, key: str, source: Source, file: PlannedFile, sums: Checksums) -> None:
        """Have the store copy an object, and compare its crc32c."""
        copy = self.begin_copy(key, source, file)
        copy.copy(0)
        copy.finish(sums)

    def begin_copy(self, key: str, source: Source, file: PlannedFile) -> GCSLargeCopy:
        """Begin to have the store copy an object, which begins anew however far an earlier try came."""
        if not isinstance(source, GCSSource):
            raise ValueError("what is staged in Google Cloud Storage is copied from there only")
        return GCSLargeCopy(self, self._bucket.blob(key), source, file)

    def find(self, prefix: str) -> dict[str, str]:
        """Return the crc32c's of what is staged under a prefix."""
        with self.told(prefix):
            blobs = self._bucket.client.list_blobs(self._bucket, prefix=prefix, timeout=TIMEOUT, retry=RETRY)
            return {blob.name: _crc32c(blob) for blob in blobs}

    def abort_multipart_uploads(self) -> None:
        """Do nothing: the store tells nobody of what is begun."""

    def stored_sum(self, sums: Checksums) -> str:
        """Return the crc32c."""
        return sums.crc32c

    def label(self, key: str, sums: Checksums) -> None:
        """Give an object its metadata."""
        blob = self._bucket.blob(key)
        blob.metadata = sums.as_metadata()
        with self.told(key):
            blob.patch(timeout=TIMEOUT, retry=RETRY)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, one after the other."""
        for key in keys:
            with self.told(key), suppress(NotFound):
                self._bucket.blob(key).delete(timeout=TIMEOUT, retry=RETRY)

    def sha256(self, key: str) -> str:
        """Return the `hca-dss-sha256` in an object's custom metadata."""
        with self.told(key):
            blob = self._bucket.get_blob(key, timeout=TIMEOUT, retry=RETRY)
        if blob is None:
            raise StagingError(self.url(key), "there is no such object: check source_url", permanent=True)
        found = (blob.metadata or {}).get(_SHA256)
        if not found:
            raise StagingError(self.url(key), f"the object has no {_SHA256} in its metadata", permanent=True)
        return str(found)

    def check_crc32c(self, key: str, blob: Any, sums: Checksums) -> None:
        """Raise if the store has something else than what was sent.

        :raises OtherContentError: then
        """
        stored = _crc32c(blob)
        if stored != sums.crc32c:
            raise OtherContentError(
                self.url(key), f"the store has crc32c {stored} where {sums.crc32c} was sent: the file changed meanwhile"
            )

    @contextmanager
    def told(self, key: str) -> Iterator[None]:
        """Raise what the SDK raises inside as what it means for an object."""
        with reading(), told(self.url(key)):
            yield


class GCSLargeObject:
    """A resumable upload, which is one stream.

    :param staging: the bucket
    :param blob: the object
    :param content_type: of the object
    """

    computes_md5s = False

    def __init__(self, staging: GCSStaging, blob: Any, content_type: str) -> None:
        self._staging, self._blob, self._content_type = staging, blob, content_type

    def send(self, number: int, file: OpenFile, sums: FileSums, on_sent: OnSent = unwatched) -> None:  # noqa: ARG002 - there is one
        """Send all of it."""
        last, size = sums.parts[-1]
        body: Section
        held = 0  # the first part that is not released

        def release(count: int) -> None:
            nonlocal held
            on_sent(count)
            while held < len(sums.parts) and sum(sums.parts[held]) <= body.tell():
                sums.release(held)
                held += 1

        body = Section(file, 0, last + size, release)
        with self._staging.told(self._blob.name):
            upload_file(self._blob, body, self._content_type)

    def finish(self, sums: Checksums) -> None:
        """Compare the crc32c, and add the metadata."""
        self._staging.check_crc32c(self._blob.name, self._blob, sums)
        self._staging.label(self._blob.name, sums)

    def abort(self) -> None:
        """Do nothing: an upload that is not finished leaves nothing to be seen or paid for."""


class GCSLargeCopy:
    """A copy by rewriting, which takes several requests where location or class of storage differ.

    :param staging: the bucket
    :param blob: the copy
    :param source: of the object
    :param file: which of its objects
    """

    def __init__(self, staging: GCSStaging, blob: Any, source: GCSSource, file: PlannedFile) -> None:
        self._staging, self._blob, self._source, self._file = staging, blob, source, file

    def copy(self, number: int, on_copied: OnSent = unwatched) -> None:  # noqa: ARG002 - there is one
        """Have all of it copied."""
        token, before = None, 0
        self._blob.content_type = self._file.content_type
        while True:
            with self._staging.told(self._blob.name), self._source.unchanged(self._file):
                token, done, _ = self._blob.rewrite(
                    self._source.blob(self._file),
                    token=token,
                    if_source_generation_match=int(self._file.revision),
                    timeout=TIMEOUT,
                    retry=RETRY,
                )
            on_copied(done - before)
            before = done
            if token is None:
                return

    def finish(self, sums: Checksums) -> None:
        """Compare the crc32c, and add the metadata."""
        self._staging.check_crc32c(self._blob.name, self._blob, sums)
        self._staging.label(self._blob.name, sums)

    def abort(self) -> None:
        """Do nothing: a copy that is not finished leaves nothing to be seen or paid for."""


def upload_file(blob: Any, body: Section, content_type: str) -> None:
    """Send a file, in chunks."""
    blob.upload_from_file(body, size=len(body), content_type=content_type, timeout=TIMEOUT, retry=RETRY_CHUNK)


def _crc32c(blob: Any) -> str:
    return base64.b64decode(blob.crc32c or "").hex()
