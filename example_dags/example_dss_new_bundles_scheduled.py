"""Look at each bundle that is new in a DSS, every ten minutes. For Airflows before 3.3, which keep no watcher's state.

Each run lists the bundles whose versions are newer than a day before the last run that succeeded, and leaves out those
that the run before has listed. So a bundle is found although its version is older than those of others, and also after
a standstill.
"""

# [START example]
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_hca.client.identifiers import make_version
from airflow_provider_hca.hooks.dss import DSSHook

LOOKBACK = timedelta(days=1)  # how much older than the last run the version of a new bundle may be

with DAG(
    dag_id="example_dss_new_bundles_scheduled",
    schedule=CronDataIntervalTimetable("*/10 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # one after the other: each leaves out what the one before has listed
    doc_md=__doc__,
) as dag:

    @task
    def list_new(
        data_interval_start: Any = None, prev_data_interval_start_success: Any = None, ti: Any = None
    ) -> list[dict[str, str]]:
        """Return the bundles that no earlier run has listed."""
        start = prev_data_interval_start_success or data_interval_start
        # With a map index it is one value, that of the newest run; without, one of each run.
        before = {"task_ids": "list_new", "key": "listed", "map_indexes": -1, "include_prior_dates": True}
        known = set(ti.xcom_pull(**before) or [])
        with DSSHook() as hook:
            listed = hook.get_bundles_all(replica="aws", newer_than=make_version(start - LOOKBACK))
        ti.xcom_push(key="listed", value=[f"{each['uuid']}.{each['version']}" for each in listed])
        return [each for each in listed if f"{each['uuid']}.{each['version']}" not in known]

    @task
    def look(uuid: str, version: str) -> int:
        """Print what is in a bundle; return how many files. A task of yours would process them."""
        with DSSHook() as hook:
            bundle = hook.get_bundle(uuid, version=version, replica="aws")
        print(f"bundle {uuid}.{version}: {', '.join(file['name'] for file in bundle['files'])}")
        return len(bundle["files"])

    look.expand_kwargs(list_new())
# [END example]

if __name__ == "__main__":
    dag.test()
