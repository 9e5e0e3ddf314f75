"""Staging in a bucket of Google Cloud Storage."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import requests
from google.api_core.exceptions import ClientError, GoogleAPIError, NotFound, RetryError, TooManyRequests, Unauthorized
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.checksums import MIB, Checksums
from airflow_provider_hca.upload.staging import OnSent, unwatched

_TIMEOUT = (10, 60)  # seconds to connect, seconds to read
_CHUNK = 8 * MIB  # of a resumable upload; the SDK holds one in memory
# The SDK's own retries, of two minutes, cannot be stopped, and the engine tries again anyway. A file is given longer:
# it would have to be sent from its beginning.
_RETRY = DEFAULT_RETRY.with_delay(initial=0.5, maximum=2.0).with_timeout(5.0)
_RETRY_CHUNK = DEFAULT_RETRY.with_delay(initial=0.5, maximum=4.0).with_timeout(30.0)
_SHA256 = "hca-dss-sha256"
_ERRORS = (GoogleAPIError, GoogleAuthError, requests.RequestException)


class GCSStaging:
    """A bucket of Google Cloud Storage, with the credentials and the endpoint that Google's SDK finds.

    The checksums travel with the object as its custom metadata, which is where a DSS reads them.

    :param bucket: its name
    :raises StagingError: when there are no credentials
    """

    def __init__(self, bucket: str) -> None:
        self._name = bucket
        try:
            # Without a project, which is not needed here, and which not all credentials come with.
            self._bucket: Any = storage.Client(project=None).bucket(bucket)
        except (GoogleAuthError, OSError) as error:
            raise StagingError(
                self.url(""),
                f"no Google credentials on this worker ({error}): set GOOGLE_APPLICATION_CREDENTIALS",
                permanent=True,
            ) from None

    def url(self, key: str) -> str:
        """Return the `source_url` of an object."""
        return f"gs://{self._name}/{key}"

    def check(self) -> None:
        """Look whether the bucket is there; not being allowed to look is no failure."""
        try:
            self._bucket.client.get_bucket(self._name, timeout=_TIMEOUT, retry=_RETRY)
        except ClientError as error:
            if error.code != 403:
                raise _staging_error(self.url(""), error) from None
        except _ERRORS as error:
            raise _staging_error(self.url(""), error) from None

    def put(
        self, key: str, content: bytes | Path, sums: Checksums, content_type: str, on_sent: OnSent = unwatched
    ) -> None:
        """Stage an object and compare its crc32c."""
        blob = self._bucket.blob(key, chunk_size=_CHUNK)
        blob.metadata = sums.as_metadata()
        try:
            if isinstance(content, Path):
                with content.open("rb") as file:
                    size = content.stat().st_size
                    reader = _Reader(file, size, on_sent)
                    options = {"content_type": content_type, "timeout": _TIMEOUT, "retry": _RETRY_CHUNK}
                    blob.upload_from_file(reader, size=size, **options)
            else:
                blob.upload_from_string(content, content_type=content_type, timeout=_TIMEOUT, retry=_RETRY)
                on_sent(len(content))
        except _ERRORS as error:
            raise _staging_error(self.url(key), error) from None
        stored = base64.b64decode(blob.crc32c or "").hex()
        if stored != sums.crc32c:
            raise StagingError(
                self.url(key), f"the store has crc32c {stored} where {sums.crc32c} was sent: the file changed meanwhile"
            )

    def holds(self, key: str, sums: Checksums, content_type: str) -> bool:
        """Return whether an object is there with this crc32c, these sums and this type."""
        try:
            blob = self._bucket.get_blob(key, timeout=_TIMEOUT, retry=_RETRY)
        except _ERRORS as error:
            raise _staging_error(self.url(key), error) from None
        if blob is None:
            return False
        stored = (base64.b64decode(blob.crc32c or "").hex(), blob.metadata, blob.content_type)
        return bool(stored == (sums.crc32c, sums.as_metadata(), content_type))

    def sha256(self, key: str) -> str:
        """Return the `hca-dss-sha256` in an object's custom metadata."""
        try:
            blob = self._bucket.get_blob(key, timeout=_TIMEOUT, retry=_RETRY)
        except _ERRORS as error:
            raise _staging_error(self.url(key), error) from None
        if blob is None:
            raise StagingError(self.url(key), "there is no such object: check source_url", permanent=True)
        found = (blob.metadata or {}).get(_SHA256)
        if not found:
            raise StagingError(self.url(key), f"the object has no {_SHA256} in its metadata", permanent=True)
        return str(found)


class _Reader:
    """A file that tells how much of it is read, from where the SDK's resumable upload stands."""

    def __init__(self, file: Any, size: int, on_read: OnSent) -> None:
        self._file, self._size, self._on_read = file, size, on_read

    def read(self, size: int = -1) -> bytes:
        chunk: bytes = self._file.read(size)
        if not chunk and size != 0 and self._file.tell() < self._size:
            raise EOFError("the file was truncated")  # the SDK would ask the store for ever
        self._on_read(len(chunk))
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


def _staging_error(url: str, error: Exception) -> StagingError:
    if isinstance(error, NotFound):
        return StagingError(url, "there is no such bucket: check staging_bucket", permanent=True)
    if isinstance(error, RetryError):
        return StagingError(url, f"no answer from the store ({type(error.cause).__name__})")
    if isinstance(error, Unauthorized | GoogleAuthError):
        return StagingError(url, "the worker's Google credentials are refused or cannot be used", permanent=True)
    if isinstance(error, ClientError) and not isinstance(error, TooManyRequests):
        advice = "the worker's Google credentials need storage.objects.create and storage.objects.get there"
        return StagingError(url, f"the store answered {error.code}: {advice}", permanent=True)
    if isinstance(error, GoogleAPIError):
        return StagingError(url, f"the store answered {getattr(error, 'code', None) or type(error).__name__}")
    return StagingError(url, f"no answer from the store ({type(error).__name__})")
