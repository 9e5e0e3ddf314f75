"""Staging in a bucket of Amazon S3, or of a store that speaks its protocol."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import obstore
from boto3.exceptions import Boto3Error, S3UploadFailedError
from boto3.s3.transfer import S3Transfer, TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, and the only one used here
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
    SSLError,
)
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import S3Store
from s3transfer.utils import OSUtils, ReadFileChunk

from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.checksums import PART_SIZE, Checksums, part_size
from airflow_provider_hca.upload.staging import OnSent, unwatched

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT, _READ_TIMEOUT = 10, 60
_LARGE_THREADS = 2  # parts of one large file under way at once; other workers send other files meanwhile
_PUT_RIGHT_AT_MOST = 32  # failures of obstore in a row that boto3 puts right, before obstore is given up
_SHA256 = "hca-dss-sha256"

_NO_CREDENTIALS = (
    "no AWS credentials on this worker: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
)
_ADVICE = {
    "NoSuchBucket": "there is no such bucket: check staging_bucket (and AWS_ENDPOINT_URL_S3, if the store is not AWS)",
    "NoSuchKey": "there is no such object: check source_url",
    "404": "it is not there: check staging_bucket or source_url (and AWS_ENDPOINT_URL_S3, if the store is not AWS)",
    "AccessDenied": "access denied: the worker's AWS credentials need s3:PutObject, s3:PutObjectTagging, s3:GetObject "
    "and s3:GetObjectTagging there",
    "403": "access denied: the worker's AWS credentials may not look there",
    "InvalidAccessKeyId": "the store does not know the worker's AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the worker's AWS_SECRET_ACCESS_KEY is wrong",
    "ExpiredToken": "the worker's AWS session token has expired",
}


class S3Staging:
    """A bucket of S3, with the credentials and the endpoint (`AWS_ENDPOINT_URL_S3`) that boto3 finds.

    Content in memory goes through obstore, at a tenth of the processor time that boto3 takes; files go through boto3's
    transfer manager, from disk, above 64 MiB in exactly the parts that a DSS wants. Tags and metadata travel with the
    object.

    :param bucket: its name
    :param workers: how many threads will use it
    :raises StagingError: when there are no credentials
    """

    def __init__(self, bucket: str, *, workers: int = 10) -> None:
        self._bucket = bucket
        try:
            session = boto3.Session()
            self._client: Any = session.client(
                "s3",
                config=Config(
                    connect_timeout=_CONNECT_TIMEOUT,
                    read_timeout=_READ_TIMEOUT,
                    max_pool_connections=workers * _LARGE_THREADS,
                    retries={"mode": "standard", "max_attempts": 3},
                    # What is stored is verified by its ETag; the SDK's own sums would cost a second hashing.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
            credentials = session.get_credentials()
        except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
            raise StagingError(self.url(""), f"boto3 cannot be set up: {error}", permanent=True) from None
        if credentials is None:
            raise StagingError(self.url(""), _NO_CREDENTIALS, permanent=True)
        self._put_right = 0
        self._store: S3Store | None = S3Store(
            bucket,
            endpoint=self._client.meta.endpoint_url,
            region=self._client.meta.region_name or "us-east-1",
            virtual_hosted_style_request=False,
            credential_provider=Boto3CredentialProvider(session),
            client_options={"allow_http": True, "timeout": timedelta(seconds=_READ_TIMEOUT)},
            retry_config={"max_retries": 0},
        )

    def url(self, key: str) -> str:
        """Return the `source_url` of an object."""
        return f"s3://{self._bucket}/{key}"

    def check(self) -> None:
        """Look whether the bucket is there; not being allowed to look is no failure."""
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:  # HEAD has no body, and so no code
                raise StagingError(self.url(""), _ADVICE["NoSuchBucket"], permanent=True) from None
            if status not in {400, 403}:  # 400: credentials or region, which the first PUT tells in words
                raise _staging_error(self.url(""), error) from None
        except BotoCoreError as error:
            raise _staging_error(self.url(""), error) from None

    def put(
        self, key: str, content: bytes | Path, sums: Checksums, content_type: str, on_sent: OnSent = unwatched
    ) -> None:
        """Stage an object and compare its ETag."""
        try:
            if isinstance(content, Path):
                etag = self._put_file(key, content, sums, content_type, on_sent)
            else:
                etag = self._put_bytes(key, content, sums, content_type)
                on_sent(len(content))
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise _staging_error(self.url(key), error) from None
        if etag.strip('"') != sums.s3_etag:
            raise StagingError(
                self.url(key),
                f"the store has ETag {etag} where {sums.s3_etag} was sent: the file changed meanwhile, or the bucket "
                "encrypts with KMS, which a DSS cannot copy from",
            )

    def holds(self, key: str, sums: Checksums, content_type: str) -> bool:
        """Return whether an object is there with this ETag, type and, as metadata, these sums; tags are not asked."""
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise _staging_error(self.url(key), error) from None
        except BotoCoreError as error:
            raise _staging_error(self.url(key), error) from None
        stored = (head["ETag"].strip('"'), head["Metadata"], head["ContentType"])
        return bool(stored == (sums.s3_etag, sums.as_metadata(), content_type))

    def sha256(self, key: str) -> str:
        """Return the `hca-dss-sha256` of an object: from its tags, else from its metadata, as a DSS reads it."""
        where = {"Bucket": self._bucket, "Key": key}
        try:
            tags = {tag["Key"]: tag["Value"] for tag in self._client.get_object_tagging(**where)["TagSet"]}
            found = tags.get(_SHA256) or self._client.head_object(**where)["Metadata"].get(_SHA256)
        except (BotoCoreError, ClientError) as error:
            raise _staging_error(self.url(key), error) from None
        if not found:
            raise StagingError(self.url(key), f"the object has no {_SHA256} in its tags or metadata", permanent=True)
        return str(found)

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
        answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=content, **_extra(metadata, content_type))
        if failure:
            self._put_right += 1
            if self._put_right >= _PUT_RIGHT_AT_MOST and self._store is not None:
                log.warning("%s: obstore fails (%s) where boto3 does not; going on without it", self.url(""), failure)
                self._store = None
        return str(answer["ETag"])

    def _put_file(self, key: str, path: Path, sums: Checksums, content_type: str, on_sent: OnSent) -> str:
        size = path.stat().st_size
        config: Any = TransferConfig(
            multipart_threshold=PART_SIZE + 1,
            multipart_chunksize=part_size(size),
            max_concurrency=_LARGE_THREADS,
        )
        extra = _extra(sums.as_metadata(), content_type)
        with S3Transfer(self._client, config, _Files()) as transfer:
            transfer.upload_file(str(path), self._bucket, key, callback=on_sent, extra_args=extra)
        return str(self._client.head_object(Bucket=self._bucket, Key=key)["ETag"])


class _Files(OSUtils):
    """How the transfer manager reads files."""

    def open_file_chunk_reader_from_fileobj(
        self, fileobj: Any, chunk_size: int, full_file_size: int, callbacks: Any, close_callbacks: Any = None
    ) -> _WholeChunk:
        return _WholeChunk(
            fileobj,
            chunk_size,
            full_file_size,
            callbacks=callbacks,
            enable_callbacks=False,
            close_callbacks=close_callbacks,
        )


class _WholeChunk(ReadFileChunk):
    """A part of a file, which has to be there to its end: a store would wait for the rest, and the upload for it."""

    def read(self, amount: int | None = None) -> bytes:
        content: bytes = super().read(amount)
        if not content and amount != 0 and self.tell() < len(self):
            raise EOFError("the file was truncated")
        return content


def _extra(metadata: dict[str, str], content_type: str) -> dict[str, Any]:
    return {"ContentType": content_type, "Metadata": metadata, "Tagging": urlencode(metadata)}


def _staging_error(url: str, error: Exception) -> StagingError:
    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, ClientError):
        error = error.__context__
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        message = _ADVICE.get(code) or f"the store answered {status} {code}"
        return StagingError(url, message, permanent=400 <= status < 500 and status not in {408, 409, 429})
    if isinstance(error, SSLError):
        return StagingError(url, "TLS failed: check AWS_ENDPOINT_URL_S3, or give the CA bundle in AWS_CA_BUNDLE")
    if isinstance(error, CredentialRetrievalError | MetadataRetrievalError):
        return StagingError(url, f"the worker's AWS credentials cannot be fetched now: {error}")
    if isinstance(error, ConnectionError | HTTPClientError):
        endpoint = getattr(error, "kwargs", {}).get("endpoint_url", "the store")
        return StagingError(url, f"no answer from {endpoint}: check AWS_ENDPOINT_URL_S3 and the region")
    return StagingError(url, str(error), permanent=isinstance(error, BotoCoreError))
