"""A bucket of Google Cloud Storage, and the meaning of its SDK's errors."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from google.api_core.exceptions import ClientError, GoogleAPIError, NotFound, RetryError, TooManyRequests, Unauthorized
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from airflow_provider_hca.client.tls import UnusableSettingError, proxy_of
from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.access import GCSAccess

TIMEOUT = (10, 60)  # seconds to connect, seconds to read
# The SDK's default retries last two minutes and cannot be stopped, and the engine retries too. A chunk of a file is
# retried for longer, since the engine would send the file from its beginning.
RETRY = DEFAULT_RETRY.with_delay(initial=0.5, maximum=2.0).with_timeout(5.0)
RETRY_CHUNK = DEFAULT_RETRY.with_delay(initial=0.5, maximum=4.0).with_timeout(30.0)


class GCSBucket:
    """A bucket of Google Cloud Storage.

    :param name: name of the bucket
    :param access: credentials; those that Google's SDK finds if None
    :param parameter: user's parameter that names the bucket
    :raises StagingError: if there are no credentials
    """

    def __init__(self, name: str, access: GCSAccess | None, *, parameter: str = "staging_bucket") -> None:
        self.name, self._parameter = name, parameter
        try:
            # Without a project, which is not needed here, and which not all credentials have.
            self.client: Any = storage.Client(project=None, credentials=access and access.credentials)
            proxy_of(self.client.api_endpoint)
        except UnusableSettingError as error:
            raise StagingError(self.url(""), str(error), permanent=True) from None
        except (GoogleAuthError, OSError) as error:
            raise StagingError(
                self.url(""),
                f"no Google credentials on this worker ({error}): set GOOGLE_APPLICATION_CREDENTIALS, or gcp_conn_id",
                permanent=True,
            ) from None
        self._bucket = self.client.bucket(name)

    def url(self, name: str) -> str:
        """Return the URL of an object."""
        return f"gs://{self.name}/{name}"

    def blob(self, name: str, **options: Any) -> Any:
        """Return an object of the SDK, without a request."""
        return self._bucket.blob(name, **options)

    def list(self, prefix: str, **options: Any) -> Iterator[Any]:
        """Yield the objects under a prefix."""
        listed: Iterator[Any] = self.client.list_blobs(
            self._bucket, prefix=prefix or None, timeout=TIMEOUT, retry=RETRY, **options
        )
        return listed

    @contextmanager
    def errors(self, name: str = "") -> Iterator[None]:
        """Raise errors of the SDK as a `StagingError`.

        :param name: name of the object, or empty for the bucket
        """
        try:
            yield
        except (GoogleAPIError, GoogleAuthError, requests.RequestException) as error:
            raise self._error(self.url(name), error) from None

    def _error(self, url: str, error: Exception) -> StagingError:
        if isinstance(error, NotFound):
            return StagingError(
                url, f"there is no such bucket, or no such object in it: check {self._parameter}", permanent=True
            )
        if isinstance(error, RetryError):
            throttled = getattr(error.cause, "code", None) in {429, 503}
            return StagingError(url, f"no answer from the store ({type(error.cause).__name__})", throttled=throttled)
        if isinstance(error, Unauthorized | GoogleAuthError):
            return StagingError(url, "the worker's Google credentials are refused or cannot be used", permanent=True)
        if isinstance(error, ClientError) and not isinstance(error, TooManyRequests):
            advice = (
                "the worker's Google credentials need storage.objects.create, .get, .list and .update there, and "
                ".delete for delete_staged"
            )
            return StagingError(url, f"the store answered {error.code}: {advice}", permanent=True)
        if isinstance(error, GoogleAPIError):
            code = getattr(error, "code", None)
            return StagingError(url, f"the store answered {code or type(error).__name__}", throttled=code in {429, 503})
        return StagingError(url, f"no answer from the store ({type(error).__name__})")


def crc32c_of(blob: Any) -> str:
    """Return the crc32c of a stored object, in hexadecimal."""
    return base64.b64decode(blob.crc32c or "").hex()
