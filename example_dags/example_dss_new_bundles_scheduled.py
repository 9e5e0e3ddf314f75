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
MOST = 1000  # in a run, since Airflow maps no more than [core] max_map_length; the others come with the next one

with DAG(
    dag_id="example_dss_new_bundles_scheduled",
    schedule=CronDataIntervalTimetable("*/10 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # one after the other: each leaves out what the one before has listed
    doc_md=__doc__,
) as dag:

    @task
    def list_bundles(
        data_interval_start: Any = None, prev_data_interval_start_success: Any = None, ti: Any = None
    ) -> dict[str, list[Any]]:
        """Return the bundles that no earlier run has listed, and what the next run is to leave out."""
        start = prev_data_interval_start_success or data_interval_start
        # What a task returns is kept only when it succeeds, so what a failed one has seen is not left out. With a map
        # index it is one value, that of the newest run; without, one of each run.
        before = ti.xcom_pull(task_ids="list_bundles", map_indexes=-1, include_prior_dates=True)
        known = set(before["known"]) if before else set()
        with DSSHook() as hook:
            listed = hook.get_bundles_all(replica="aws", newer_than=make_version(start - LOOKBACK))
        oldest_first = sorted(listed, key=lambda each: each["version"])
        fqids = {f"{each['uuid']}.{each['version']}": each for each in oldest_first}
        new = [fqid for fqid in fqids if fqid not in known][:MOST]
        return {"new": [fqids[fqid] for fqid in new], "known": [fqid for fqid in fqids if fqid in known] + new}

    @task
    def pick_new(listed: dict[str, list[Any]]) -> list[dict[str, str]]:
        """Return the new bundles, for a task each."""
        return listed["new"]

    @task
    def look(uuid: str, version: str) -> int:
        """Print what is in a bundle; return how many files. A task of yours would process them."""
        with DSSHook() as hook:
            bundle = hook.get_bundle(uuid, version=version, replica="aws")
        print(f"bundle {uuid}.{version}: {', '.join(file['name'] for file in bundle['files'])}")
        return len(bundle["files"])

    look.expand_kwargs(pick_new(list_bundles()))
# [END example]

if __name__ == "__main__":
    dag.test()
