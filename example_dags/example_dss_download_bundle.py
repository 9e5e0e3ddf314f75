"""Download a bundle: first the metadata, then the reads if they are of interest.

The first task uploads a small directory, so that the DAG has a bundle to download. The triggerer does all waits, so
they hold no worker slot. With several workers `target` must be on a disk that all of them share.
"""

# [START example]
from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_hca.operators.dss import DSSDownloadBundleOperator, DSSUploadDirectoryOperator
from airflow_provider_hca.sensors.dss import DSSBundleSensor

with DAG(
    dag_id="example_dss_download_bundle",
    schedule=None,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    params={
        "source": Param(str(Path(__file__).parent / "data" / "cell_42"), type="string"),
        "staging_bucket": Param("dss-staging", type="string"),
        "target": Param(f"{gettempdir()}/example_dss_download_bundle", type="string"),
    },
    doc_md=__doc__,
) as dag:
    upload = DSSUploadDirectoryOperator(
        task_id="upload",
        directory="{{ params.source }}",
        staging_bucket="{{ params.staging_bucket }}",
        deferrable=True,
    )
    uuid, version = upload.output["uuid"], upload.output["version"]

    available = DSSBundleSensor(
        task_id="available", bundle_uuid=uuid, bundle_version=version, deferrable=True, poke_interval=10, timeout=3600
    )

    # Metadata files are those that the DSS indexes. They are small and show whether the rest is of interest.
    metadata = DSSDownloadBundleOperator(
        task_id="metadata",
        bundle_uuid=uuid,
        bundle_version=version,
        directory="{{ params.target }}/{{ ti.xcom_pull('upload', key='fqid') }}",
        data_files=[],
    )

    @task.short_circuit
    def is_of_interest(directory: str) -> bool:
        """Return whether to download the reads too: here, whether a project is described."""
        return (Path(directory) / "project.json").exists()

    # Into the same directory: complete files are not downloaded again.
    reads = DSSDownloadBundleOperator(
        task_id="reads",
        bundle_uuid=uuid,
        bundle_version=version,
        directory="{{ params.target }}/{{ ti.xcom_pull('upload', key='fqid') }}",
        data_files=["reads/*"],
    )

    available >> metadata >> is_of_interest(metadata.output["directory"]) >> reads
# [END example]

if __name__ == "__main__":
    dag.test()
