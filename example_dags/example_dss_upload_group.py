"""Upload a directory as a bundle with many workers, and wait in the triggerer until the DSS has it.

The directory must be visible to all workers, under the same path. Needs the connection `hca_dss_default`, and
credentials for the staging bucket where boto3 finds them. `scripts/cluster` runs such a DAG on two Celery workers.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

# [START example]
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_hca.operators.dss import DSSUploadTaskGroup
from airflow_provider_hca.sensors.dss import DSSBundleSensor

with DAG(
    dag_id="example_dss_upload_group",
    schedule=None,
    params={
        "directory": Param(str(Path(__file__).parent / "data" / "cell_42"), type="string"),
        "staging_bucket": Param("dss-staging", type="string"),
    },
    doc_md=__doc__,
) as dag:
    # Three tasks: upload.plan, upload.shard (mapped, each shard retried alone), upload.bundle.
    upload = DSSUploadTaskGroup(
        directory="{{ params.directory }}",
        staging_bucket="{{ params.staging_bucket }}",
        staging_prefix="ingest/{{ dag.dag_id }}",
        content_types={"*.fastq.gz": "application/gzip; dcp-type=data"},
        max_shard_files=2,  # several shards although there are few files; the default is 2,000
        retries=2,
        retry_delay=timedelta(seconds=30),
    )

    # The group has the same output as the operator for one worker.
    available = DSSBundleSensor(
        task_id="available",
        bundle_uuid=upload.output["uuid"],
        bundle_version=upload.output["version"],
        deferrable=True,
        timeout=3600,
    )

    upload >> available
# [END example]

if __name__ == "__main__":
    dag.test()
