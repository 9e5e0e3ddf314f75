"""Operators for the Data Storage System (DSS)."""

from __future__ import annotations

from airflow_provider_hca.operators.base import DSSOperator
from airflow_provider_hca.operators.bundles import (
    DSSCheckoutBundleOperator,
    DSSDeleteBundleOperator,
    DSSPutBundleOperator,
)
from airflow_provider_hca.operators.collections import (
    DSSDeleteCollectionOperator,
    DSSPatchCollectionOperator,
    DSSPutCollectionOperator,
)
from airflow_provider_hca.operators.download import DSSDownloadBundleOperator, DSSDownloadBundlesOperator
from airflow_provider_hca.operators.files import DSSPutFileOperator
from airflow_provider_hca.operators.ingest_group import DSSIngestTaskGroup
from airflow_provider_hca.operators.patch_bundle import DSSPatchBundleOperator
from airflow_provider_hca.operators.upload import DSSUploadDirectoryOperator
from airflow_provider_hca.operators.upload_group import DSSUploadTaskGroup

__all__ = [
    "DSSCheckoutBundleOperator",
    "DSSDeleteBundleOperator",
    "DSSDeleteCollectionOperator",
    "DSSDownloadBundleOperator",
    "DSSDownloadBundlesOperator",
    "DSSIngestTaskGroup",
    "DSSOperator",
    "DSSPatchBundleOperator",
    "DSSPatchCollectionOperator",
    "DSSPutBundleOperator",
    "DSSPutCollectionOperator",
    "DSSPutFileOperator",
    "DSSUploadDirectoryOperator",
    "DSSUploadTaskGroup",
]
