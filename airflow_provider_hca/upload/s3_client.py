"""A client for S3, or for a store that speaks its protocol, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, and the only one used here
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    SSLError,
)
from botocore.utils import determine_content_length

from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.access import S3Access

_CONNECT_TIMEOUT, READ_TIMEOUT = 10, 60
# Refusals that another attempt may not meet.
_PASSING = frozenset({"NoSuchUpload", "BadDigest"})

_NO_CREDENTIALS = (
    "no AWS credentials on this worker: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, "
    "or aws_conn_id"
)
ADVICE = {
    "NoSuchBucket": "there is no such bucket: check staging_bucket (and the endpoint: AWS_ENDPOINT_URL_S3, or the "
    "endpoint_url of aws_conn_id, if the store is not AWS)",
    "NoSuchKey": "there is no such object: check source_url",
    "404": "it is not there: check staging_bucket or source_url (and AWS_ENDPOINT_URL_S3, if the store is not AWS)",
    "AccessDenied": "access denied: the AWS credentials need s3:PutObject, s3:PutObjectTagging, s3:GetObject and "
    "s3:GetObjectTagging there; to resume after a failure also s3:ListBucket, s3:ListBucketMultipartUploads, "
    "s3:ListMultipartUploadParts and s3:AbortMultipartUpload; for delete_staged s3:DeleteObject",
    "403": "access denied: the AWS credentials may not look there",
    "InvalidAccessKeyId": "the store does not know that AWS_ACCESS_KEY_ID, or the login of aws_conn_id",
    "SignatureDoesNotMatch": "the AWS_SECRET_ACCESS_KEY, or the password of aws_conn_id, is wrong",
    "ExpiredToken": "the AWS session token has expired",
    "BadDigest": "the store received other content than was read before: the file changed meanwhile",
}


def open_client(url: str, access: S3Access | None, *, workers: int) -> tuple[Any, S3Access]:
    """Return a boto3 client, and how it enters the store.

    :param url: of the bucket, for error messages
    :param access: how to enter it; as boto3 finds it if None
    :param workers: how many threads will use it
    :raises StagingError: when there are no credentials
    """
    try:
        access = access or S3Access(boto3.Session())
        given = access.config or Config()
        client = access.session.client(
            "s3",
            endpoint_url=access.endpoint_url,
            verify=access.verify,
            config=given.merge(
                Config(
                    connect_timeout=_CONNECT_TIMEOUT,
                    read_timeout=READ_TIMEOUT,
                    max_pool_connections=workers,
                    # The engine tries again anyway; between these attempts nothing can stop boto3's waiting.
                    retries={"mode": "standard", "max_attempts": 2},
                    # What is stored is verified by our own sums; the SDK's would cost a second hashing.
                    s3={**(given.s3 or {}), "payload_signing_enabled": False},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            ),
        )
        client.meta.events.register_last("before-call.s3", _without_needless_expect)
        credentials = access.session.get_credentials()
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise StagingError(url, f"boto3 cannot be set up: {error}", permanent=True) from None
    if credentials is None:
        raise StagingError(url, _NO_CREDENTIALS, permanent=True)
    return client, access


def _without_needless_expect(params: dict[str, Any], **_: Any) -> None:
    """Send an empty body at once: before 1.44, boto3 takes the answer to its `Expect` for that to the next request."""
    if determine_content_length(params.get("body")) == 0:
        params["headers"].pop("Expect", None)


@contextmanager
def told(url: str) -> Iterator[None]:
    """Raise what boto3 raises inside as what it means for an object or a bucket.

    :param url: of that
    """
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise staging_error(url, error) from None


def error_code(error: ClientError) -> str:
    """Return what S3 calls an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """Return the HTTP status that an error came with."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))


def staging_error(url: str, error: Exception, advice: Mapping[str, str] = ADVICE) -> StagingError:
    """Return what an error of boto3 means for an object or a bucket, and what to do."""
    if isinstance(error, ClientError):
        code = error_code(error)
        status = status_of(error)
        permanent = 400 <= status < 500 and status not in {408, 409, 429} and code not in _PASSING
        message = advice.get(code) or f"the store answered {status} {code}"
        return StagingError(url, message, permanent=permanent, throttled=status in {429, 503})
    if isinstance(error, SSLError):
        return StagingError(url, "TLS failed: check AWS_ENDPOINT_URL_S3, or give the CA bundle in AWS_CA_BUNDLE")
    if isinstance(error, CredentialRetrievalError | MetadataRetrievalError):
        return StagingError(url, f"the AWS credentials cannot be fetched now: {error}")
    if isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError):
        endpoint = getattr(error, "kwargs", {}).get("endpoint_url", "the store")
        return StagingError(
            url,
            f"no answer from {endpoint}: check AWS_ENDPOINT_URL_S3, or the endpoint_url of aws_conn_id, and the region",
        )
    return StagingError(url, str(error), permanent=isinstance(error, BotoCoreError))
