"""Process each new bundle of a DSS soon after it was put. Needs Airflow 3.

A watcher in Airflow's triggerer polls the DSS and fires an event for each new bundle version, which starts this DAG.
From Airflow 3.4 each event has a run of its own; before, a run takes all events since the last one. On Airflow 3.3 and
newer no bundle with a version within `lookback`, a day, is missed, even after a kill. For older versions see
`example_dss_new_bundles_scheduled.py`.
"""

# [START example]
from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.triggers.dss import DSSNewBundleTrigger

if AIRFLOW_V_3_0_PLUS:  # Airflow 2 has no events that start DAGs
    from airflow.sdk import DAG, Asset, AssetWatcher, task

    # Existing bundles are not new at the first start, unless you set `since="2024-01-31T000000.000000Z"`.
    trigger = DSSNewBundleTrigger(replica="aws", poll_interval=60)
    new_bundles = Asset("dss_new_bundles", watchers=[AssetWatcher(name="dss_new_bundles", trigger=trigger)])

    with DAG(dag_id="example_dss_new_bundles", schedule=[new_bundles], catchup=False, doc_md=__doc__) as dag:

        @task
        def list_new(triggering_asset_events: Any = None) -> list[dict[str, str]]:
            """Return the bundles of this run, each once: an event may arrive twice."""
            events = [event for events in triggering_asset_events.values() for event in events]
            bundles = {event.extra["payload"]["fqid"]: event.extra["payload"] for event in events}
            return [{name: bundle[name] for name in ("uuid", "version", "replica")} for bundle in bundles.values()]

        @task(map_index_template="{{ task.op_kwargs['uuid'] }}")
        def look(uuid: str, version: str, replica: str) -> int:
            """Print the files of a bundle; return their number. Your own task would process them."""
            with DSSHook() as hook:
                bundle = hook.get_bundle(uuid, version=version, replica=replica)
            print(f"bundle {uuid}.{version}: {', '.join(file['name'] for file in bundle['files'])}")
            return len(bundle["files"])

        look.expand_kwargs(list_new())
# [END example]
