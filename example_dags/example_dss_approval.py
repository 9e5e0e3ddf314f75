"""Upload a directory after a person has approved what would change (Airflow 3.1 and newer).

The run waits for the approval in the triggerer. Needs the connection `hca_dss_default`, and credentials for the staging
bucket where boto3 finds them.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

# [START example]
from airflow.providers.common.compat.sdk import DAG, Param
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_provider_hca.operators.dss import DSSUploadTaskGroup

_PLANNED = """
{% set planned = ti.xcom_pull(task_ids='upload.plan', key='planned') -%}
{{ params.directory }}: {{ planned.added_file_count }} new files, {{ planned.changed_file_count }} changed,
{{ planned.removed_file_count }} removed, {{ planned.unchanged_file_count }} unchanged
"""

with DAG(
    dag_id="example_dss_approval",
    schedule=None,
    params={
        "directory": Param(str(Path(__file__).parent / "data" / "cell_42"), type="string"),
        "staging_bucket": Param("dss-staging", type="string"),
        "bundle_key": Param("example/approval", type="string"),
    },
    doc_md=__doc__,
) as dag:
    # `plan` compares the directory with the latest version of the bundle, and sends nothing.
    upload = DSSUploadTaskGroup(
        directory="{{ params.directory }}",
        bundle_key="{{ params.bundle_key }}",
        staging_bucket="{{ params.staging_bucket }}",
        staging_prefix="ingest/{{ dag.dag_id }}",
        retries=2,
        retry_delay=timedelta(seconds=30),
    )
    approve = ApprovalOperator(task_id="approve", subject="Upload {{ params.directory }}?", body=_PLANNED)
    upload.plan >> approve >> [upload.shard, upload.bundle]
# [END example]
