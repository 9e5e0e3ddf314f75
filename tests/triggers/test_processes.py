"""Test triggers in Airflow's own processes: kills of triggerer and scheduler, and free slots."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.airflow_processes import Airflow
from tests.local.server import MIB, LocalDSS, new_uuid, new_version

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("processes")]

_UPLOAD = """
from airflow.sdk import DAG, task
from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator

with DAG("upload", schedule="@once"):
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
def own_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a separate local DSS: bundles of other tests would start DAGs."""
    with LocalDSS(tmp_path_factory.mktemp("dss"), "--copy-delay", "60") as dss:
        yield dss


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, airflow_db: Path, own_dss: LocalDSS) -> Iterator[Airflow]:
    """Start an Airflow whose triggerer runs example_dss_new_bundles.py."""
    airflow = Airflow(tmp_path_factory.mktemp("airflow"), airflow_db, own_dss.about["env"])
    source = _EXAMPLE.read_text()
    assert source.count("poll_interval=60") == 1
    try:
        airflow.add_dag(_EXAMPLE.name, source.replace("poll_interval=60", "poll_interval=5"))
        airflow.start("triggerer")
        airflow.wait_for("the first state", lambda: airflow.rows("SELECT 1 FROM asset_state_store"))
        yield airflow
    finally:
        airflow.stop()


def put_bundle(dss: LocalDSS, file: str) -> str:
    """Create a bundle; return its FQID."""
    uuid, version = new_uuid(), new_version()
    assert dss.put_bundle([dss.entry("a.json", file)], uuid, version).status_code == 201
    return f"{uuid}.{version}"


def reported(airflow: Airflow) -> set[str]:
    """Return the FQIDs of all asset events."""
    extras = [json.loads(extra) for (extra,) in airflow.rows("SELECT extra FROM asset_event")]
    return {extra["payload"]["fqid"] for extra in extras}


def test_killed_triggerer_loses_no_event(airflow: Airflow, own_dss: LocalDSS) -> None:
    """Killed after the trigger fires an event and before Airflow stores it."""
    file = own_dss.new_file()
    put: set[str] = set()
    lost: set[str] = set()
    for _ in range(10):  # repeated if the kill was too late to lose an event
        new = {put_bundle(own_dss, file) for _ in range(3)}
        put |= new
        airflow.wait_for("an event", functools.partial(fired, airflow, new), every=0.01)
        airflow.kill("triggerer")
        lost = new - reported(airflow)
        put.add(put_bundle(own_dss, file))
        airflow.start("triggerer")
        if lost:
            break
    assert lost
    airflow.wait_for("all events", lambda: put <= reported(airflow))


def fired(airflow: Airflow, fqids: set[str]) -> bool:
    """Return whether the triggerer has logged an event of these bundles."""
    lines = airflow.log("triggerer").read_text().splitlines()
    return any("Trigger fired event" in line and any(fqid in line for fqid in fqids) for line in lines)


def test_events_start_the_example(airflow: Airflow, own_dss: LocalDSS) -> None:
    airflow.start("api-server", "scheduler")
    query = "SELECT 1 FROM job WHERE job_type = 'SchedulerJob' AND state = 'running'"
    airflow.wait_for("the scheduler", lambda: airflow.rows(query))
    file = own_dss.new_file()
    new = {put_bundle(own_dss, file).partition(".")[0] for _ in range(4)}
    looks = "SELECT rendered_map_index FROM task_instance WHERE task_id = 'look' AND state = 'success'"
    airflow.wait_for("a look at each", lambda: new <= {uuid for (uuid,) in airflow.rows(looks)})


def test_deferred_upload_frees_its_slot_and_survives_kills(airflow: Airflow, own_dss: LocalDSS, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"reads_{number}.fastq").write_bytes(os.urandom(MIB) * 70)
        (tmp_path / f"cell_{number}.json").write_text(f'{{"cell": {number}}}')
    own_dss.control("DELETE", "requests")
    airflow.add_dag("upload.py", _UPLOAD.format(directory=tmp_path, bucket=own_dss.bucket))
    airflow.start("api-server", "scheduler")
    waiting = {"upload": "deferred", "other": "success"}
    airflow.wait_for("another task while the upload waits", lambda: states(airflow, "upload") == waiting)
    airflow.kill("triggerer", "scheduler")
    assert states(airflow, "upload") == waiting
    airflow.start("triggerer", "scheduler")
    airflow.wait_for("the upload", lambda: states(airflow, "upload")["upload"] == "success")
    assert airflow.rows("SELECT try_number FROM task_instance WHERE task_id = 'upload'") == [(1,)]
    names = sorted(path.name for path in tmp_path.iterdir())
    bundles = [bundle["manifest"]["files"] for bundle in own_dss.control("GET", "store")["bundles"]]
    (files,) = [files for files in bundles if names[0] in {file["name"] for file in files}]
    assert [file["name"] for file in files] == names
    writes = [request for request in own_dss.control("GET", "requests") if request["method"] == "PUT"]
    assert sorted(request["status"] for request in writes) == [201, 201, 201, 202, 202]
    assert {request["count"] for request in writes} == {1}


def states(airflow: Airflow, dag_id: str) -> dict[str, str]:
    """Return the state of each task of a DAG."""
    return dict(airflow.rows("SELECT task_id, state FROM task_instance WHERE dag_id = ?", dag_id))
