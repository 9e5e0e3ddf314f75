"""Test triggers in Airflow's own processes: kills of triggerer and scheduler, and free slots."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from tests.airflow_processes import Airflow
from tests.local.server import MIB, LocalDSS, new_uuid, new_version

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_UPLOAD = """
from airflow.sdk import DAG, task
from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator

with DAG("deferred", schedule="@once", default_args={{"pool": "single"}}):
    DSSUploadDirectoryOperator(
        task_id="upload",
        directory="{directory}",
        staging_bucket="{bucket}",
        deferrable=True,
        poll_interval=1,
        priority_weight=2,
    )

    @task
    def other() -> None:
        print("running")

    other()
"""
_EXAMPLE = Path(__file__).parents[2] / "example_dags" / "example_dss_new_bundles.py"


@pytest.fixture(scope="module")
def airflow(airflow: Airflow) -> Iterator[Airflow]:
    """Return the Airflow, with a triggerer that runs example_dss_new_bundles.py."""
    source = _EXAMPLE.read_text()
    assert source.count("poll_interval=60") == 1
    airflow.add_dag(_EXAMPLE.name, source.replace("poll_interval=60", "poll_interval=5"))
    airflow.start("triggerer")
    airflow.wait_for("the first state", lambda: airflow.rows("SELECT 1 FROM asset_state_store"))
    yield airflow
    airflow.kill("triggerer")  # otherwise bundles of other tests would start the DAG


def put_bundle(dss: LocalDSS, file: str) -> str:
    """Create a bundle; return its FQID."""
    uuid, version = new_uuid(), new_version()
    assert dss.put_bundle([dss.entry("a.json", file)], uuid, version).status_code == 201
    return f"{uuid}.{version}"


def reported(airflow: Airflow) -> set[str]:
    """Return the FQIDs of all asset events of the example."""
    query = "SELECT extra FROM asset_event WHERE asset_id = (SELECT id FROM asset WHERE name = 'dss_new_bundles')"
    extras = [json.loads(extra) for (extra,) in airflow.rows(query)]
    return {extra["payload"]["fqid"] for extra in extras}


def test_killed_triggerer_loses_no_event(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    """Killed after the trigger fires an event and before Airflow stores it."""
    file = airflow_dss.new_file()
    put: set[str] = set()
    lost: set[str] = set()
    for _ in range(10):  # repeated if the kill was too late to lose an event
        airflow.wait_for("earlier events", functools.partial(has_stored, airflow, put))
        before = len(fired(airflow))
        new = {put_bundle(airflow_dss, file) for _ in range(3)}
        put |= new
        airflow.wait_for("an event", functools.partial(has_fired, airflow, new, before), interval=0.01)
        airflow.kill("triggerer")
        lost = new - reported(airflow)
        put.add(put_bundle(airflow_dss, file))
        airflow.start("triggerer")
        if lost:
            break
    assert lost
    airflow.wait_for("all events", functools.partial(has_stored, airflow, put))


def has_stored(airflow: Airflow, fqids: set[str]) -> bool:
    """Return whether Airflow has stored events of all these bundles."""
    return fqids <= reported(airflow)


def fired(airflow: Airflow) -> list[str]:
    """Return the lines of the triggerer's log about events."""
    return [line for line in airflow.log("triggerer").read_text().splitlines() if "Trigger fired event" in line]


def has_fired(airflow: Airflow, fqids: set[str], before: int) -> bool:
    """Return whether the triggerer has logged an event of these bundles, after a number of others."""
    # Airflow 3.4 does not log payloads.
    return any(AIRFLOW_V_3_4_PLUS or fqid in line for line in fired(airflow)[before:] for fqid in fqids)


def test_events_start_the_example(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    """From Airflow 3.4, each bundle starts exactly one DAG run."""
    file = airflow_dss.new_file()
    looks = "SELECT rendered_map_index FROM task_instance WHERE dag_id = ? AND task_id = 'look' AND state = 'success'"

    def looked_at(fqids: list[str]) -> bool:
        uuids = {uuid for (uuid,) in airflow.rows(looks, _EXAMPLE.stem)}
        return {fqid.partition(".")[0] for fqid in fqids} <= uuids

    new = [put_bundle(airflow_dss, file) for _ in range(4)]
    airflow.wait_for("a look at each", lambda: looked_at(new))
    new.append(put_bundle(airflow_dss, file))  # the watcher fires it after all events of the bundles before
    airflow.wait_for("a look at the last", lambda: looked_at(new))
    consumed = airflow.rows(
        "SELECT dag_run_id, extra FROM dagrun_asset_event JOIN asset_event ON asset_event.id = event_id "
        "JOIN dag_run ON dag_run.id = dag_run_id WHERE dag_run.dag_id = ?",
        _EXAMPLE.stem,
    )
    runs = [(run, fqid) for run, extra in consumed if (fqid := json.loads(extra)["payload"]["fqid"]) in new]
    assert {fqid for _, fqid in runs} == set(new)
    if AIRFLOW_V_3_4_PLUS:
        assert len({run for run, _ in runs}) == len(runs) == len(new)


def test_deferred_upload_frees_its_slot_and_survives_kills(
    airflow: Airflow, airflow_dss: LocalDSS, tmp_path: Path
) -> None:
    for number in range(2):
        (tmp_path / f"reads_{number}.fastq").write_bytes(os.urandom(3 * MIB))  # copied asynchronously
        (tmp_path / f"cell_{number}.json").write_text(f'{{"cell": {number}}}')
    airflow_dss.control("DELETE", "requests")
    missing = {"method": "HEAD", "path": "/files/", "action": "status", "status": 404, "times": 9999}
    airflow_dss.control("POST", "faults", missing)  # copies do not finish
    airflow.api("POST", "/pools", {"name": "single", "slots": 1})
    airflow.add_dag("deferred.py", _UPLOAD.format(directory=tmp_path, bucket=airflow_dss.bucket))
    waiting = {"upload": "deferred", "other": "success"}
    airflow.wait_for("another task while the upload waits", lambda: states(airflow, "deferred") == waiting)
    airflow.kill("triggerer", "scheduler")
    assert states(airflow, "deferred") == waiting
    airflow.start("triggerer", "scheduler")
    airflow_dss.control("DELETE", "faults")
    airflow.wait_for("the upload", lambda: states(airflow, "deferred")["upload"] == "success")
    tries = airflow.rows("SELECT try_number FROM task_instance WHERE dag_id = 'deferred' AND task_id = 'upload'")
    assert tries == [(1,)]
    names = sorted(path.name for path in tmp_path.iterdir())
    bundles = airflow_dss.control("GET", "store")["bundles"]
    manifests = [bundle["manifest"]["files"] for bundle in bundles if bundle["replica"] == "aws"]
    (files,) = [files for files in manifests if names[0] in {file["name"] for file in files}]
    assert [file["name"] for file in files] == names
    writes = [request for request in airflow_dss.control("GET", "requests") if request["method"] == "PUT"]
    assert sorted(request["status"] for request in writes) == [201, 201, 201, 202, 202]
    assert {request["count"] for request in writes} == {1}


def states(airflow: Airflow, dag_id: str) -> dict[str, str]:
    """Return the state of each task of a DAG."""
    return dict(airflow.rows("SELECT task_id, state FROM task_instance WHERE dag_id = ?", dag_id))
