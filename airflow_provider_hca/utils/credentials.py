"""Credentials for staging buckets from Airflow's own connections to Amazon and Google."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, BaseHook

from airflow_provider_hca.exceptions import DSSCredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_hca.upload.access import GCSAccess, S3Access

# Of Amazon's error codes those of throttling, which botocore knows too, but keeps to itself.
_TOO_OFTEN = {
    *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException"),
    *("RequestLimitExceeded", "TooManyRequestsException", "SlowDown"),
}


def cloud_access(
    replica: str, *, aws_conn_id: str | None = None, gcp_conn_id: str | None = None
) -> S3Access | GCSAccess | None:
    """Return how to enter the staging buckets of a replica; None leaves it to the cloud's SDK.

    Only the connection that the replica needs is read.

    :param replica: `aws` or `gcp`
    :param aws_conn_id: an Airflow connection of type `aws`; the SDK's own credentials and endpoint if empty
    :param gcp_conn_id: an Airflow connection of type `google_cloud_platform`; the SDK's own credentials if empty
    :raises ValueError: when the connection is missing or not well-formed, or the extra is not installed; no secret is
        quoted
    :raises DSSCredentialsError: when the connection's credentials cannot be had now, or are refused
    """
    from airflow_provider_hca.client.models import check_replica

    if check_replica(replica) == "aws":
        return _s3(aws_conn_id) if aws_conn_id else None
    return _gcs(gcp_conn_id) if gcp_conn_id else None


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
    except (ClientError, ConnectionError, HTTPClientError) as error:  # a role is assumed at once
        told = f"connection {conn_id!r} (aws_conn_id): cannot get credentials: {error}"
        raise DSSCredentialsError(
            told, permanent=isinstance(error, ClientError) and _is_permanent(error.response)
        ) from None
    except (AirflowException, BotoCoreError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _malformed("aws_conn_id", conn_id, error) from None


def _is_permanent(response: Mapping[str, Any]) -> bool:
    """Return whether Amazon would answer the same to a retry; STS says with a 400 that it is asked too often."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    return status < 500 and status != 429 and response.get("Error", {}).get("Code") not in _TOO_OFTEN


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
        told = f"connection {conn_id!r} (gcp_conn_id): cannot get credentials now: {error}"
        raise DSSCredentialsError(told, permanent=False) from None
    except (AirflowException, GoogleAuthError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _malformed("gcp_conn_id", conn_id, error) from None


def _check(parameter: str, conn_id: str, kind: str) -> None:
    """Raise for what the official hooks pass over, or log with what is secret in it."""
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ValueError(f"there is no connection {conn_id!r}: make it, or change {parameter}") from None
    if connection.conn_type != kind:
        raise ValueError(f"connection {conn_id!r} ({parameter}) must be of type {kind!r}, not {connection.conn_type!r}")
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise ValueError(f"connection {conn_id!r} ({parameter}): its extra is not a JSON object")


def _not_installed(parameter: str, extra: str) -> ValueError:
    return ValueError(
        f"{parameter} needs the provider of Airflow for {extra.title()}, which is not installed (or does not import) "
        f"on this worker: pip install 'airflow-provider-hca[{extra}]'"
    )


def _malformed(parameter: str, conn_id: str, error: Exception) -> ValueError:
    """Say which setting is wrong; a message of a library's may quote what a setting holds, so its kind is told."""
    return ValueError(
        f"connection {conn_id!r} ({parameter}) is not well-formed ({type(error).__name__}): check its credentials, and "
        "the settings in its extra"
    )
