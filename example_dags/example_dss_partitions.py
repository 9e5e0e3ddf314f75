"""Every night, upload what changed; then run a DAG once for each bundle that has a new version.

Needs Airflow 3.2 or newer: each bundle is a partition of an asset, with its FQID as the key. An event with a key starts
only DAGs with a `PartitionedAssetTimetable`. Needs the connection `hca_dss_default`, and credentials for the staging
bucket where boto3 finds them.
"""

# [START example]
from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSIngestTaskGroup

if AIRFLOW_V_3_2_PLUS:  # older versions have no partitions
    from airflow.sdk import DAG, Asset, Param, PartitionedAssetTimetable, task

    ingested = Asset("dss_ingested")

    with DAG(
        dag_id="example_dss_partitions",
        schedule="@daily",
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,  # a night builds on the night before
        params={
            "directory": Param(str(Path(__file__).parent / "data"), type="string"),
            "staging_bucket": Param("dss-staging", type="string"),
            "project": Param("example-partitions", type="string", description="prefix of the keys of the bundles"),
        },
        doc_md=__doc__,
    ) as dag:
        DSSIngestTaskGroup(
            directory="{{ params.directory }}",
            bundle_key="{{ params.project }}/{{ row.name }}",
            staging_bucket="{{ params.staging_bucket }}",
            outlets=[ingested],
            partitioned=True,
        )

    with DAG(dag_id="example_dss_partition", schedule=PartitionedAssetTimetable(assets=ingested), doc_md=__doc__):

        @task
        def look(dag_run: Any = None) -> int:
            """Print the files of the bundle of this run; return their number. Your own task would process them."""
            uuid, _, version = dag_run.partition_key.partition(".")
            with DSSHook() as hook:
                bundle = hook.get_bundle(uuid, version=version, replica="aws")
            print(f"bundle {uuid}.{version}: {', '.join(file['name'] for file in bundle['files'])}")
            return len(bundle["files"])

        look()
# [END example]
