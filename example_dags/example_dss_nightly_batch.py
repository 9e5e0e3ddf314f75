"""Every night: each directory in a directory becomes a bundle, and only what changed since last night is uploaded.

The directory must be visible to all workers. Needs the connection `hca_dss_default`, and credentials for the staging
bucket where boto3 finds them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

# [START example]
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_hca.operators.dss import DSSIngestTaskGroup

with DAG(
    dag_id="example_dss_nightly_batch",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a night builds on the night before
    params={
        "directory": Param(str(Path(__file__).parent / "data"), type="string"),
        "staging_bucket": Param("dss-staging", type="string"),
        "schemas": Param(None, type=["null", "string"], description="directory of the metadata schemas"),
    },
    doc_md=__doc__,
) as dag:
    # Three tasks: ingest.plan, ingest.ingest (mapped, small directories share a task), ingest.report.
    ingest = DSSIngestTaskGroup(
        directory="{{ params.directory }}",
        bundle_key="example/{{ row.name }}",  # a prefix of your project: a key names one bundle of the whole DSS
        staging_bucket="{{ params.staging_bucket }}",
        staging_prefix="ingest/{{ dag.dag_id }}",
        validate="{{ params.schemas or '' }}",
        max_changed=0.5,  # refuse a directory if more than half of it changed: perhaps it is incomplete
        max_failed=0.1,  # the run fails if more than a tenth of the directories are invalid or fail
        if_newer_exists="skip",  # in a backfill
        deferrable=True,
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
# [END example]

if __name__ == "__main__":
    dag.test()
