from __future__ import annotations

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

# Event-driven scheduling begins with Airflow 3: before, there is only the message that says so to test.
collect_ignore = (
    ["test_new_bundles_airflow2.py"] if AIRFLOW_V_3_0_PLUS else ["test_new_bundles.py", "test_processes.py"]
)
