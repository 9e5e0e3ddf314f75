"""Operators for the Data Storage System (DSS), one for each thing that a DAG does with it."""

from __future__ import annotations

from airflow_provider_hca.operators.base import DSSOperator
from airflow_provider_hca.operators.bundles import (
    DSSCheckoutBundleOperator,
    DSSDeleteBundleOperator,
    DSSPatchBundleOperator,
    DSSPutBundleOperator,
)
from airflow_provider_hca.operators.collections import (
    DSSDeleteCollectionOperator,
    DSSPatchCollectionOperator,
    DSSPutCollectionOperator,
)
from airflow_provider_hca.operators.download import DSSDownloadBundleOperator
from airflow_provider_hca.operators.files import DSSPutFileOperator
from airflow_provider_hca.operators.upload import DSSUploadDirectoryOperator
from airflow_provider_hca.operators.upload_group import DSSUploadGroup, dss_upload_group

__all__ = [
    "DSSCheckoutBundleOperator",
    "DSSDeleteBundleOperator",
    "DSSDeleteCollectionOperator",
    "DSSDownloadBundleOperator",
    "DSSOperator",
    "DSSPatchBundleOperator",
    "DSSPatchCollectionOperator",
    "DSSPutBundleOperator",
    "DSSPutCollectionOperator",
    "DSSPutFileOperator",
    "DSSUploadDirectoryOperator",
    "DSSUploadGroup",
    "dss_upload_group",
]
