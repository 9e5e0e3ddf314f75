"""What only Airflow's own processes show: kills of the triggerer and of the scheduler, and free slots meanwhile."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.airflow_processes import Airflow, wait_for
from tests.local.server import LocalDSS, new_uuid, new_version

_EXAMPLE = Path(__file__).parents[2] / "example_dags" / "example_dss_new_bundles.py"


@pytest.fixture(scope="module")
def own_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS of its own: what others put would start DAGs."""
    with LocalDSS(tmp_path_factory.mktemp("dss")) as dss:
        yield dss


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, airflow_db: Path, own_dss: LocalDSS) -> Iterator[Airflow]:
    """Give an Airflow whose triggerer watches for new bundles, as example_dss_new_bundles.py tells it to."""
    dags, home = tmp_path_factory.mktemp("dags"), tmp_path_factory.mktemp("airflow")
    source = _EXAMPLE.read_text()
    assert source.count("poll_interval=60") == 1
    (dags / _EXAMPLE.name).write_text(source.replace("poll_interval=60", "poll_interval=5"))
    airflow = Airflow(home, airflow_db, dags, own_dss.about["env"])
    try:
        airflow.parse_dags()
        airflow.start("triggerer")
        wait_for("what is known at first", lambda: airflow.rows("SELECT 1 FROM asset_state_store"), 60)
        yield airflow
    finally:
        airflow.stop()


def put_bundle(dss: LocalDSS, file: str) -> str:
    """Put a bundle; return its FQID."""
    uuid, version = new_uuid(), new_version()
    assert dss.put_bundle([dss.entry("a.json", file)], uuid, version).status_code == 201
    return f"{uuid}.{version}"


def reported(airflow: Airflow) -> set[str]:
    """Return the bundles for which there are asset events."""
    extras = [json.loads(extra) for (extra,) in airflow.rows("SELECT extra FROM asset_event")]
    return {extra["payload"]["fqid"] for extra in extras}


def test_a_killed_triggerer_loses_no_event(airflow: Airflow, own_dss: LocalDSS) -> None:
    """Killed between a trigger's event and its storage, the triggerer has it and what came meanwhile after a start."""
    file = own_dss.new_file()
    put: set[str] = set()
    lost: set[str] = set()
    for _ in range(3):  # a kill that comes too late shows nothing: once more then
        new = {put_bundle(own_dss, file) for _ in range(3)}
        put |= new
        wait_for("an event", functools.partial(fired, airflow, new), 60, every=0.01)
        airflow.kill("triggerer")
        lost = new - reported(airflow)
        put.add(put_bundle(own_dss, file))
        airflow.start("triggerer")
        if lost:
            break
    assert lost
    wait_for("all events", lambda: reported(airflow) == put, 60)


def fired(airflow: Airflow, fqids: set[str]) -> bool:
    """Return whether the triggerer says that it was given an event of these bundles."""
    lines = airflow.log("triggerer").read_text().splitlines()
    return any("Trigger fired event" in line and any(fqid in line for fqid in fqids) for line in lines)


def test_events_start_the_dag_of_the_example(airflow: Airflow, own_dss: LocalDSS) -> None:
    """The example's tasks look at each new bundle, also of several that one poll finds."""
    airflow.start("api-server", "scheduler")
    airflow.wait_until_healthy("api-server", "scheduler")
    file = own_dss.new_file()
    new = {put_bundle(own_dss, file).partition(".")[0] for _ in range(4)}
    query = "SELECT rendered_map_index FROM task_instance WHERE task_id = 'look' AND state = 'success'"
    wait_for("a look at each", lambda: new <= {uuid for (uuid,) in airflow.rows(query)}, 90)
