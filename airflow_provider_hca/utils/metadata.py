"""Validate HCA metadata with schemas whose bucket is read by an Airflow connection."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airflow_provider_hca.utils.credentials import url_access

if TYPE_CHECKING:
    from airflow_provider_hca.upload.plan import Plan
    from airflow_provider_hca.validation.report import ValidationReport
    from airflow_provider_hca.validation.validator import MissingSchemas


def validate_metadata(
    plan: Plan,
    schemas: str,
    *,
    missing_schemas: MissingSchemas,
    aws_conn_id: str | None = None,
    gcp_conn_id: str | None = None,
    stop: threading.Event | None = None,
) -> ValidationReport:
    """Return the findings in the metadata of a plan. See `validate` and `open_schemas`.

    :param plan: Plan of all files of a directory
    :param schemas: Directory, or URL of a prefix
    :param missing_schemas: Level of the finding for a schema version that is missing
    :param aws_conn_id: Airflow connection of type `aws` for schemas in S3
    :param gcp_conn_id: Airflow connection of type `google_cloud_platform` for schemas in Google Cloud Storage
    :param stop: Event that stops the validation
    """
    from airflow_provider_hca.validation.schemas import open_schemas
    from airflow_provider_hca.validation.validator import validate

    store = open_schemas(schemas, url_access(schemas, aws_conn_id=aws_conn_id, gcp_conn_id=gcp_conn_id))
    return validate(plan, store, missing_schemas=missing_schemas, stop=stop)
