"""Test example_dss_lineage.py with Airflow's scheduler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.airflow_processes import Airflow

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_EXAMPLE = Path(__file__).parents[1] / "example_dags" / "example_dss_lineage.py"
_DATA = _EXAMPLE.parent / "data" / "cell_42"


def test_bundle_starts_the_dag_scheduled_on_it(airflow: Airflow) -> None:
    airflow.add_dag(_EXAMPLE.name, _EXAMPLE.read_text())
    airflow.start_run("example_dss_lineage", directory=str(_DATA))
    tasks = "SELECT task_id, state, rendered_map_index FROM task_instance WHERE dag_id = 'example_dss_lineage_started'"

    def looked() -> list[str]:
        return [uuid for task_id, state, uuid in airflow.rows(tasks) if (task_id, state) == ("look", "success")]

    airflow.wait_for("the second DAG", looked)
    ((extra,),) = airflow.rows("SELECT extra FROM asset_event WHERE source_dag_id = 'example_dss_lineage'")
    assert looked() == [json.loads(extra)["uuid"]]
    started = airflow.rows("SELECT run_type FROM dag_run WHERE dag_id = 'example_dss_lineage_started'")
    assert started == [("asset_triggered",)]
