"""Look at each bundle that is new in a DSS, soon after it was put there. Needs Airflow 3.

A watcher in Airflow's triggerer polls the DSS and fires an event for each new bundle version, which starts this DAG;
a run takes all events that came since the last one. On Airflow 3.3 and newer no bundle whose version is within
`lookback`, a day, is missed, whatever is stopped or killed meanwhile. For older Airflows see
`example_dss_new_bundles_scheduled.py`.
"""

# [START example]
from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.triggers.dss import DSSNewBundleTrigger

if AIRFLOW_V_3_0_PLUS:  # where DAGs can be started by events
    from airflow.sdk import DAG, Asset, AssetWatcher, task

    # What is there when the watcher first starts is known; with `since="2024-01-31T000000.000000Z"` it is new too.
    trigger = DSSNewBundleTrigger(replica="aws", poll_interval=60)
    new_bundles = Asset("dss_new_bundles", watchers=[AssetWatcher(name="dss_new_bundles", trigger=trigger)])

    with DAG(dag_id="example_dss_new_bundles", schedule=[new_bundles], catchup=False, doc_md=__doc__) as dag:

        @task
        def list_new(triggering_asset_events: Any = None) -> list[dict[str, str]]:
            """Return the bundles that this run is about, each once: an event may come twice."""
            events = [event for events in triggering_asset_events.values() for event in events]
            bundles = {event.extra["payload"]["fqid"]: event.extra["payload"] for event in events}
            return [{name: each[name] for name in ("uuid", "version", "replica")} for each in bundles.values()]

        @task(map_index_template="{{ task.op_kwargs['uuid'] }}")
        def look(uuid: str, version: str, replica: str) -> int:
            """Print what is in a bundle; return how many files. A task of yours would process them."""
            with DSSHook() as hook:
                bundle = hook.get_bundle(uuid, version=version, replica=replica)
            print(f"bundle {uuid}.{version}: {', '.join(file['name'] for file in bundle['files'])}")
            return len(bundle["files"])

        look.expand_kwargs(list_new())
# [END example]
