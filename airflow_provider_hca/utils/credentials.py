"""Credentials for staging buckets, from Airflow connections to Amazon and Google."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, BaseHook

from airflow_provider_hca.exceptions import DSSCredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_hca.upload.access import GCSAccess, S3Access

# Amazon's error codes for throttling; botocore has the same list, but not as public API.
_THROTTLING = {
    *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException"),
    *("RequestLimitExceeded", "TooManyRequestsException", "SlowDown"),
}


def cloud_access(
    replica: str, *, aws_conn_id: str | None = None, gcp_conn_id: str | None = None
) -> S3Access | GCSAccess | None:
    """Return the access to the staging buckets of a replica; None means the defaults of the cloud's SDK.

    Reads only the connection that the replica needs.

    :param replica: `aws` or `gcp`
    :param aws_conn_id: Airflow connection of type `aws`; boto3's own credentials and endpoint if empty
    :param gcp_conn_id: Airflow connection of type `google_cloud_platform`; Google's own credentials if empty
    :raises ValueError: if the connection is missing or invalid, or the extra is not installed; quotes no secrets
    :raises DSSCredentialsError: if the credentials are refused, or cannot be obtained now
    """
    from airflow_provider_hca.client.models import check_replica

    if check_replica(replica) == "aws":
        return _s3(aws_conn_id) if aws_conn_id else None
    return _gcs(gcp_conn_id) if gcp_conn_id else None


def url_access(
    location: str, *, aws_conn_id: str | None = None, gcp_conn_id: str | None = None
) -> S3Access | GCSAccess | None:
    """Return the access to the bucket of a URL; None means the defaults of the cloud's SDK, or a path.

    :param location: path, `s3://bucket/prefix` or `gs://bucket/prefix`
    :param aws_conn_id: Airflow connection of type `aws`
    :param gcp_conn_id: Airflow connection of type `google_cloud_platform`
    :raises ValueError: as `cloud_access`
    :raises DSSCredentialsError: as `cloud_access`
    """
    from airflow_provider_hca.upload.sources.base import is_url, split_source

    if not is_url(location):
        return None
    replica, _, _ = split_source(location)
    return cloud_access(replica, aws_conn_id=aws_conn_id, gcp_conn_id=gcp_conn_id)


def _s3(conn_id: str) -> S3Access:
    try:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    except ImportError as error:
        raise _not_installed("aws_conn_id", "amazon") from error
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError  # noqa: A004

    from airflow_provider_hca.upload.access import S3Access

    _check("aws_conn_id", conn_id, "aws")
    try:
        hook: Any = AwsBaseHook(aws_conn_id=conn_id, client_type="s3")
        return S3Access(
            hook.get_session(region_name=hook.region_name),
            endpoint_url=hook.conn_config.get_service_endpoint_url("s3"),
            verify=hook.verify,
            config=hook.config,
        )
    except (ClientError, ConnectionError, HTTPClientError) as error:  # get_session() assumes a role
        message = f"connection {conn_id!r} (aws_conn_id): cannot get credentials: {error}"
        permanent = isinstance(error, ClientError) and _is_permanent(error.response)
        raise DSSCredentialsError(message, permanent=permanent) from None
    except (AirflowException, BotoCoreError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _malformed("aws_conn_id", conn_id, error) from None


def _is_permanent(response: Mapping[str, Any]) -> bool:
    """Return whether a retry would get the same response; STS answers throttled requests with 400."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    return status < 500 and status != 429 and response.get("Error", {}).get("Code") not in _THROTTLING


def _gcs(conn_id: str) -> GCSAccess:
    try:
        from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
    except ImportError as error:
        raise _not_installed("gcp_conn_id", "google") from error
    from google.auth.exceptions import GoogleAuthError, TransportError

    from airflow_provider_hca.upload.access import GCSAccess

    _check("gcp_conn_id", conn_id, "google_cloud_platform")
    try:
        return GCSAccess(GoogleBaseHook(gcp_conn_id=conn_id).get_credentials())
    except TransportError as error:
        message = f"connection {conn_id!r} (gcp_conn_id): cannot get credentials now: {error}"
        raise DSSCredentialsError(message, permanent=False) from None
    except (AirflowException, GoogleAuthError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _malformed("gcp_conn_id", conn_id, error) from None


def _check(parameter: str, conn_id: str, kind: str) -> None:
    """Raise for errors that the official hooks ignore, or log together with secrets."""
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ValueError(f"connection {conn_id!r} is not defined: define it, or change {parameter}") from None
    if connection.conn_type != kind:
        raise ValueError(f"connection {conn_id!r} ({parameter}) must be of type {kind!r}, got {connection.conn_type!r}")
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise ValueError(f"connection {conn_id!r} ({parameter}): extra must be a JSON object")


def _not_installed(parameter: str, extra: str) -> ValueError:
    return ValueError(
        f"{parameter} needs Airflow's {extra.title()} provider, which is not installed (or cannot be imported) on this "
        f"worker: pip install 'airflow-provider-hca[{extra}]'"
    )


def _malformed(parameter: str, conn_id: str, error: Exception) -> ValueError:
    # Only the type of the error: messages of libraries may quote secrets.
    return ValueError(
        f"connection {conn_id!r} ({parameter}) is invalid ({type(error).__name__}): check its credentials, and the "
        "settings in its extra"
    )
