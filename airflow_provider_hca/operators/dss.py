"""Operators for the Data Storage System (DSS), one for each thing that a DAG does with it."""

from __future__ import annotations

from airflow_provider_hca.operators.base import DSSOperator
from airflow_provider_hca.operators.bundles import DSSPutBundleOperator
from airflow_provider_hca.operators.files import DSSPutFileOperator
from airflow_provider_hca.operators.upload import DSSUploadDirectoryOperator

__all__ = [
    "DSSOperator",
    "DSSPutBundleOperator",
    "DSSPutFileOperator",
    "DSSUploadDirectoryOperator",
]
