"""A client for Google Cloud Storage, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from google.api_core.exceptions import ClientError, GoogleAPIError, NotFound, RetryError, TooManyRequests, Unauthorized
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.access import GCSAccess

TIMEOUT = (10, 60)  # seconds to connect, seconds to read
# The SDK's own retries, of two minutes, cannot be stopped, and the engine tries again anyway. A file is given longer:
# it would have to be sent from its beginning.
RETRY = DEFAULT_RETRY.with_delay(initial=0.5, maximum=2.0).with_timeout(5.0)
RETRY_CHUNK = DEFAULT_RETRY.with_delay(initial=0.5, maximum=4.0).with_timeout(30.0)
ERRORS = (GoogleAPIError, GoogleAuthError, requests.RequestException)


def open_bucket(name: str, access: GCSAccess | None) -> Any:
    """Return a bucket as the SDK has it.

    :param name: of the bucket
    :param access: how to enter it; with the credentials that Google's SDK finds if None
    :raises StagingError: when there are no credentials
    """
    try:
        # Without a project, which is not needed here, and which not all credentials come with.
        return storage.Client(project=None, credentials=access and access.credentials).bucket(name)
    except (GoogleAuthError, OSError) as error:
        raise StagingError(
            f"gs://{name}/",
            f"no Google credentials on this worker ({error}): set GOOGLE_APPLICATION_CREDENTIALS, or gcp_conn_id",
            permanent=True,
        ) from None


@contextmanager
def told(url: str, named: str = "staging_bucket") -> Iterator[None]:
    """Raise what the SDK raises inside as what it means for an object or a bucket.

    :param url: of that
    :param named: the parameter that names the bucket
    """
    try:
        yield
    except ERRORS as error:
        raise staging_error(url, error, named) from None


def staging_error(url: str, error: Exception, named: str = "staging_bucket") -> StagingError:
    """Return what an error of the SDK means for an object or a bucket, and what to do."""
    if isinstance(error, NotFound):
        return StagingError(url, f"there is no such bucket, or no such object in it: check {named}", permanent=True)
    if isinstance(error, RetryError):
        throttled = getattr(error.cause, "code", None) in {429, 503}
        return StagingError(url, f"no answer from the store ({type(error.cause).__name__})", throttled=throttled)
    if isinstance(error, Unauthorized | GoogleAuthError):
        return StagingError(url, "the worker's Google credentials are refused or cannot be used", permanent=True)
    if isinstance(error, ClientError) and not isinstance(error, TooManyRequests):
        advice = (
            "the worker's Google credentials need storage.objects.create, .get, .list and .update there, and .delete "
            "for delete_staged"
        )
        return StagingError(url, f"the store answered {error.code}: {advice}", permanent=True)
    if isinstance(error, GoogleAPIError):
        code = getattr(error, "code", None)
        return StagingError(url, f"the store answered {code or type(error).__name__}", throttled=code in {429, 503})
    return StagingError(url, f"no answer from the store ({type(error).__name__})")
