"""Upload a directory as a bundle, and start another DAG with it.

The first DAG has an outlet for its bundles; the second is scheduled on it and gets the bundle with the event. Needs the
connection `hca_dss_default`, and credentials for the staging bucket where boto3 finds them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# [START example]
from airflow.providers.common.compat.sdk import DAG, Asset, Param, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator

# DSS, replica, and a name of your own for what your DAGs put there. In Airflow 2 it is a `Dataset`.
cells = Asset("dss://dss.example.org/aws/examples/cells")
EVENTS = "triggering_asset_events" if AIRFLOW_V_3_0_PLUS else "triggering_dataset_events"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)  # required by Airflow 2

with DAG(
    dag_id="example_dss_lineage",
    schedule=None,
    start_date=BEGIN,
    params={
        "directory": Param(str(Path(__file__).parent / "data" / "cell_42"), type="string"),
        "staging_bucket": Param("dss-staging", type="string"),
    },
    doc_md=__doc__,
) as dag:
    DSSUploadDirectoryOperator(
        task_id="upload",
        directory="{{ params.directory }}",
        staging_bucket="{{ params.staging_bucket }}",
        staging_prefix="ingest/{{ dag.dag_id }}",
        outlets=[cells],
    )

with DAG(dag_id="example_dss_lineage_started", schedule=[cells], start_date=BEGIN, doc_md=__doc__) as started:

    @task
    def list_bundles(**context: Any) -> list[dict[str, str]]:
        """Return the bundles of the events of this run, each once."""
        extras = [event.extra for events in context[EVENTS].values() for event in events]
        bundles = {extra["fqid"]: extra for extra in extras}
        return [{name: extra[name] for name in ("uuid", "version", "replica")} for extra in bundles.values()]

    @task(map_index_template="{{ task.op_kwargs['uuid'] }}")
    def look(uuid: str, version: str, replica: str) -> int:
        """Print the files of a bundle; return their number. The hook reports the bundle for lineage."""
        with DSSHook() as hook:
            bundle = hook.get_bundle(uuid, version=version, replica=replica)
        print(f"bundle {uuid}.{version}: {', '.join(file['name'] for file in bundle['files'])}")
        return len(bundle["files"])

    look.expand_kwargs(list_bundles())
# [END example]

if __name__ == "__main__":
    dag.test()
