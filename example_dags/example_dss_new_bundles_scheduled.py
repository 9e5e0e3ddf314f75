"""Process each new bundle of a DSS, every ten minutes. For Airflow before 3.3, which keeps no state of watchers.

Each run lists the bundles with versions newer than a day before the last successful run, and leaves out those that the
previous run has listed. It therefore finds bundles with old versions too, and those that were put during an outage.
"""

# [START example]
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_hca.client.identifiers import make_version
from airflow_provider_hca.hooks.dss import DSSHook

LOOKBACK = timedelta(days=1)  # maximum age of a new bundle's version at the last run
MAX_PER_RUN = 1000  # Airflow maps at most [core] max_map_length; the next run takes the rest

with DAG(
    dag_id="example_dss_new_bundles_scheduled",
    schedule=CronDataIntervalTimetable("*/10 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # each run leaves out what the previous one has listed
    doc_md=__doc__,
) as dag:

    @task
    def list_bundles(
        data_interval_start: Any = None, prev_data_interval_start_success: Any = None, ti: Any = None
    ) -> dict[str, list[Any]]:
        """Return the bundles that no earlier run has listed, and those that the next run leaves out."""
        start = prev_data_interval_start_success or data_interval_start
        # Airflow keeps results of successful tasks only: bundles of a failed one are listed again. With a map index
        # this is one value, that of the newest run; without, one value of each run.
        before = ti.xcom_pull(task_ids="list_bundles", map_indexes=-1, include_prior_dates=True)
        known = set(before["known"]) if before else set()
        with DSSHook() as hook:
            listed = hook.get_bundles_all(replica="aws", newer_than=make_version(start - LOOKBACK))
        oldest_first = sorted(listed, key=lambda bundle: bundle["version"])
        fqids = {f"{bundle['uuid']}.{bundle['version']}": bundle for bundle in oldest_first}
        new = [fqid for fqid in fqids if fqid not in known][:MAX_PER_RUN]
        return {"new": [fqids[fqid] for fqid in new], "known": [fqid for fqid in fqids if fqid in known] + new}

    @task
    def pick_new(listed: dict[str, list[Any]]) -> list[dict[str, str]]:
        """Return the new bundles, one per mapped task."""
        return listed["new"]

    @task
    def look(uuid: str, version: str) -> int:
        """Print the files of a bundle; return their number. Your own task would process them."""
        with DSSHook() as hook:
            bundle = hook.get_bundle(uuid, version=version, replica="aws")
        print(f"bundle {uuid}.{version}: {', '.join(file['name'] for file in bundle['files'])}")
        return len(bundle["files"])

    look.expand_kwargs(pick_new(list_bundles()))
# [END example]

if __name__ == "__main__":
    dag.test()
