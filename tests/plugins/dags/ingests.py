"""DAGs for the tests of the page."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, AssetAlias, Param
from airflow.providers.standard.operators.empty import EmptyOperator

from airflow_provider_hca.operators.dss import DSSDownloadBundleOperator, DSSUploadDirectoryOperator, DSSUploadTaskGroup
from airflow_provider_hca.sensors.dss import DSSBundleSensor

DIRECTORY = {"directory": Param("", type="string")}
UPLOAD: dict[str, Any] = {"directory": "{{ params.directory }}", "staging_bucket": "dss-staging", "max_workers": 2}

with DAG("ingest", schedule=None, params=DIRECTORY):
    upload = DSSUploadDirectoryOperator(task_id="upload", **UPLOAD, outlets=[AssetAlias("ingested")])
    bundle: dict[str, Any] = {"bundle_uuid": upload.output["uuid"], "bundle_version": upload.output["version"]}  # type: ignore[index]
    DSSBundleSensor(task_id="available", **bundle) >> EmptyOperator(task_id="unrelated")

with DAG("unrelated", schedule=None):
    EmptyOperator(task_id="nothing")

with DAG("fetch", schedule=None, params={**DIRECTORY, "bundle_uuid": Param("", type="string")}):
    DSSDownloadBundleOperator(
        task_id="download", bundle_uuid="{{ params.bundle_uuid }}", directory="{{ params.directory }}"
    )

# Some users of `PickyAuthManager` may not read this one.
with DAG("hidden", schedule=None, params=DIRECTORY):
    DSSUploadDirectoryOperator(task_id="upload", **UPLOAD)

with DAG("grouped", schedule=None, params=DIRECTORY):
    DSSUploadTaskGroup(**UPLOAD, max_shard_files=4)

with DAG("mapped", schedule=None, params=DIRECTORY):
    DSSUploadDirectoryOperator.partial(
        task_id="upload",
        map_index_template="sample {{ task.directory.rpartition('/')[2] }}",
        staging_bucket="dss-staging",
        max_workers=2,
    ).expand(directory=[f"{{{{ params.directory }}}}/{name}" for name in ("first", "second", "missing")])
