"""Test example_dss_lineage.py with Airflow's scheduler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.airflow_processes import Airflow
from tests.local.server import LocalDSS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("processes")]

_EXAMPLE = Path(__file__).parents[1] / "example_dags" / "example_dss_lineage.py"
_DATA = _EXAMPLE.parent / "data" / "cell_42"


def test_bundle_starts_the_dag_scheduled_on_it(airflow_db: Path, shared_dss: LocalDSS, tmp_path: Path) -> None:
    shared_dss.control("DELETE", "faults")
    source = _EXAMPLE.read_text()
    for old, new in (
        ("schedule=None", 'schedule="@once"'),
        ('Path(__file__).parent / "data" / "cell_42"', repr(str(_DATA))),
    ):
        assert source.count(old) == 1
        source = source.replace(old, new)
    airflow = Airflow(tmp_path, airflow_db, shared_dss.about["env"])
    looked = "SELECT rendered_map_index FROM task_instance WHERE task_id = 'look' AND state = 'success'"
    try:
        airflow.start("api-server")
        airflow.add_dag(_EXAMPLE.name, source)
        airflow.start("scheduler")
        airflow.wait_for("a look at the bundle", lambda: airflow.rows(looked))
    finally:
        airflow.stop()
    ((extra,),) = airflow.rows("SELECT extra FROM asset_event")
    assert airflow.rows(looked) == [(json.loads(extra)["uuid"],)]
    started = airflow.rows("SELECT run_type FROM dag_run WHERE dag_id = 'example_dss_lineage_started'")
    assert started == [("asset_triggered",)]
