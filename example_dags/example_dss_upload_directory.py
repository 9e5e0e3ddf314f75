"""Upload a directory as a bundle, wait until the DSS has it, and print it.

Needs the connection `hca_dss_default`, and credentials for the staging bucket where boto3 finds them. `scripts/demo`
starts a local DSS that has both, and runs this DAG against it.
"""

# [START example]
from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator
from airflow_provider_hca.sensors.dss import DSSBundleSensor

with DAG(
    dag_id="example_dss_upload_directory",
    schedule=None,
    params={
        "directory": Param(str(Path(__file__).parent / "data" / "cell_42"), type="string"),
        "staging_bucket": Param("dss-staging", type="string"),
    },
    doc_md=__doc__,
) as dag:
    # Stages every file with its checksums, registers it, and creates the bundle. A retry resumes and creates nothing
    # twice.
    upload = DSSUploadDirectoryOperator(
        task_id="upload",
        directory="{{ params.directory }}",
        staging_bucket="{{ params.staging_bucket }}",
        staging_prefix="ingest/{{ dag.dag_id }}",
        content_types={"*.fastq.gz": "application/gzip; dcp-type=data"},
        retries=2,
        retry_delay=timedelta(seconds=30),
    )

    # Holds no worker slot between its pokes.
    available = DSSBundleSensor(
        task_id="available",
        bundle_uuid=upload.output["uuid"],
        bundle_version=upload.output["version"],
        mode="reschedule",
        poke_interval=30,
        timeout=3600,
    )

    @task
    def show(uuid: str, version: str) -> int:
        """Print the bundle's manifest; return the number of its files."""
        with DSSHook() as hook:
            bundle = hook.get_bundle(uuid, version=version, replica="aws")
        print(f"bundle {uuid}.{version}")
        for file in bundle["files"]:
            print(f"{file['size']:>12,}  {file['sha256'][:12]}  {file['content-type']:<32}  {file['name']}")
        return len(bundle["files"])

    upload >> available >> show(upload.output["uuid"], upload.output["version"])
# [END example]

if __name__ == "__main__":
    dag.test()
