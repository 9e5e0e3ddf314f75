"""Schemas of HCA metadata, in a directory or in a bucket that is read by an Airflow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_hca.utils.credentials import url_access

if TYPE_CHECKING:
    from airflow_provider_hca.validation.schemas import SchemaStore


def open_schemas(schemas: str, *, aws_conn_id: str | None = None, gcp_conn_id: str | None = None) -> SchemaStore:
    """Return the schemas of a directory or prefix, for `validate`.

    :param schemas: Directory, or URL of a prefix
    :param aws_conn_id: Airflow connection of type `aws` for schemas in S3
    :param gcp_conn_id: Airflow connection of type `google_cloud_platform` for schemas in Google Cloud Storage
    """
    from airflow_provider_hca.validation.schemas import open_schemas

    return open_schemas(schemas, url_access(schemas, aws_conn_id=aws_conn_id, gcp_conn_id=gcp_conn_id))
