"""An S3 bucket, and the meaning of boto3's errors."""

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

from airflow_provider_hca.client.tls import UnusableSettingError, proxy_of
from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.access import S3Access

_CONNECT_TIMEOUT, READ_TIMEOUT = 10, 60
# 4xx errors that a retry may not meet.
_TEMPORARY = frozenset({"NoSuchUpload", "BadDigest"})
# Redirects that botocore takes for a bucket of another region.
_REDIRECTS = frozenset({301, 302, 307})
# Errors of temporary credentials, which the retry of a task fetches anew, and of the clock.
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed"})

_NO_CREDENTIALS = (
    "no AWS credentials on this worker: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, "
    "or aws_conn_id"
)
ADVICE = {
    "NoSuchBucket": "there is no such bucket: check staging_bucket (and the endpoint: AWS_ENDPOINT_URL_S3, or the "
    "endpoint_url of aws_conn_id, if the store is not AWS)",
    "NoSuchKey": "there is no such object: check source_url",
    "404": "it does not exist: check staging_bucket or source_url (and AWS_ENDPOINT_URL_S3, if the store is not AWS)",
    "AccessDenied": "access denied: the AWS credentials need s3:PutObject, s3:PutObjectTagging, s3:GetObject and "
    "s3:GetObjectTagging there; to resume after a failure also s3:ListBucket, s3:ListBucketMultipartUploads, "
    "s3:ListMultipartUploadParts and s3:AbortMultipartUpload; for delete_staged s3:DeleteObject",
    "403": "access denied: the AWS credentials may not read there",
    "InvalidAccessKeyId": "the store does not know that AWS_ACCESS_KEY_ID, or the login of aws_conn_id",
    "SignatureDoesNotMatch": "the AWS_SECRET_ACCESS_KEY, or the password of aws_conn_id, is wrong",
    **dict.fromkeys(_EXPIRED, "the AWS credentials have expired, or the clock of this worker is wrong"),
    "BadDigest": "the store received other content than was read before: the file changed meanwhile",
}


class S3Bucket:
    """A bucket of S3, or of a store that speaks its protocol.

    :param name: name of the bucket
    :param access: credentials and endpoint; boto3's own if None
    :param workers: number of threads that use it
    :param advice: advice by error code; for a staging bucket by default
    :raises StagingError: if there are no credentials
    """

    def __init__(self, name: str, access: S3Access | None, *, workers: int, advice: Mapping[str, str] = ADVICE) -> None:
        self.name, self._advice = name, advice
        try:
            self.access = access or S3Access(boto3.Session())
            self.client = _open_client(self.access, workers)
            self.client.meta.events.register_first("needs-retry.s3.HeadBucket", self._refuse_redirect_without_region)
            credentials = self.access.session.get_credentials()
            proxy_of(self.client.meta.endpoint_url)
        except (BotoCoreError, ValueError, UnusableSettingError) as error:  # ValueError: the endpoint is not a URL
            raise StagingError(self.url(""), f"boto3 cannot be set up: {error}", permanent=True) from None
        if credentials is None:
            raise StagingError(self.url(""), _NO_CREDENTIALS, permanent=True)

    def url(self, key: str) -> str:
        """Return the URL of an object."""
        return f"s3://{self.name}/{key}"

    @contextmanager
    def errors(self, key: str = "") -> Iterator[None]:
        """Raise errors of boto3 as a `StagingError`.

        :param key: key of the object, or empty for the bucket
        """
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise self.error(key, error) from None
        except KeyError as error:
            raise self.incomplete(key, error.args[0]) from None

    def _refuse_redirect_without_region(self, response: tuple[Any, dict[str, Any]] | None, **_: Any) -> None:
        """Refuse a redirect of `HEAD` of the bucket that names no region: botocore would ask again, without end."""
        if response is None:
            return
        metadata = response[1]["ResponseMetadata"]
        if metadata["HTTPStatusCode"] in _REDIRECTS and "x-amz-bucket-region" not in metadata["HTTPHeaders"]:
            message = "the store redirects to no region: check AWS_ENDPOINT_URL_S3, and the region"
            raise StagingError(self.url(""), message, permanent=True)

    def incomplete(self, key: str, name: str) -> StagingError:
        """Return the error of a response without a header or element."""
        message = f"the store's response has no {name}: the store is not compatible with S3, or a proxy removes it"
        return StagingError(self.url(key), message, permanent=True)

    def error(self, key: str, error: BotoCoreError | ClientError) -> StagingError:
        """Return the error of an object, or of the bucket, with advice."""
        url = self.url(key)
        if isinstance(error, ClientError):
            code, status = error_code(error), status_of(error)
            temporary = status in {408, 409, 429} or code in _TEMPORARY or code in _EXPIRED
            permanent = 400 <= status < 500 and not temporary
            message = self._advice.get(code) or f"the store answered {status} {code}"
            return StagingError(url, message, permanent=permanent, throttled=status in {429, 503})
        if isinstance(error, SSLError):
            return StagingError(url, "TLS failed: check AWS_ENDPOINT_URL_S3, or give the CA bundle in AWS_CA_BUNDLE")
        if isinstance(error, CredentialRetrievalError | MetadataRetrievalError):
            return StagingError(url, f"the AWS credentials cannot be fetched now: {error}")
        if isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError):
            endpoint = getattr(error, "kwargs", {}).get("endpoint_url", "the store")
            return StagingError(
                url,
                f"no answer from {endpoint}: check AWS_ENDPOINT_URL_S3, or the endpoint_url of aws_conn_id, and the "
                "region",
            )
        return StagingError(url, str(error), permanent=True)


def error_code(error: ClientError) -> str:
    """Return S3's code of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """Return the HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))


def _open_client(access: S3Access, workers: int) -> Any:
    given = access.config or Config()
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=workers,
        # The engine retries too; boto3's waits between these attempts cannot be stopped.
        retries={"mode": "standard", "max_attempts": 2},
        # Stored objects are compared with our own checksums; the SDK's would cost a second hashing.
        s3={**(given.s3 or {}), "payload_signing_enabled": False},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = access.session.client(
        "s3", endpoint_url=access.endpoint_url, verify=access.verify, config=given.merge(config)
    )
    client.meta.events.register_last("before-call.s3", _drop_needless_expect)
    return client


def _drop_needless_expect(params: dict[str, Any], **_: Any) -> None:
    """Send an empty body immediately: boto3 before 1.44 takes the answer to its `Expect` for the next request's."""
    if determine_content_length(params.get("body")) == 0:
        params["headers"].pop("Expect", None)
