"""Nights in Airflow's own processes: a batch with a kill, read back by the original client, and approvals."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.identifiers import bundle_uuid_of
from tests.airflow_processes import Airflow
from tests.local.server import LocalDSS, new_uuid
from tests.local.test_original_client import Hca

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_NAMES = (
    "1M Immune Cells",
    "CD4+ cytotoxic T lymphocytes",
    "Healthy and type 2 diabetes pancreas",
    "Single cell transcriptome analysis of human pancreas",
    "Tissue stability",
)
_EXAMPLES = Path(__file__).parents[2] / "example_dags"
_DAG = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_provider_hca.operators.dss import DSSIngestTaskGroup

with DAG("nightly", schedule=None):
    DSSIngestTaskGroup(
        directory={directory!r},
        bundle_key="{prefix}/{{{{ row.name }}}}",
        staging_bucket={bucket!r},
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
"""


def write(root: Path) -> None:
    """Write the directories of the first night."""
    for name in _NAMES:
        (root / name).mkdir()
        for number in range(12):
            (root / name / f"cell_suspension_{number}.json").write_text(f'{{"id": "{new_uuid()}"}}')


def contents(directory: Path) -> dict[str, bytes]:
    """Return the content of each file."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def hca(airflow_dss: LocalDSS, tmp_path: Path) -> Hca:
    executable = os.environ.get("HCA_CLIENT")
    assert executable, "HCA_CLIENT must be the path of the original client `hca`, which scripts/test installs"
    return Hca(executable, airflow_dss, tmp_path)


def versions(dss: LocalDSS, prefix: str) -> dict[str, list[str]]:
    """Return the versions of each bundle, oldest first, by directory."""
    bundles = [bundle for bundle in dss.control("GET", "store")["bundles"] if bundle["replica"] == "aws"]
    uuids = {bundle_uuid_of(f"{prefix}/{name}"): name for name in _NAMES}
    found: dict[str, list[str]] = {name: [] for name in _NAMES}
    for bundle in bundles:
        if bundle["uuid"] in uuids:
            found[uuids[bundle["uuid"]]].append(bundle["version"])
    return {name: sorted(ones) for name, ones in found.items()}


def members(dss: LocalDSS, prefix: str, name: str, version: str) -> dict[str, tuple[str, str]]:
    """Return UUID and version of each file of a bundle."""
    answer = dss.call("GET", f"/bundles/{bundle_uuid_of(f'{prefix}/{name}')}", replica="aws", version=version).json()
    return {file["name"]: (file["uuid"], file["version"]) for file in answer["bundle"]["files"]}


def kill_ingest(airflow: Airflow, dss: LocalDSS, run_id: str) -> None:
    """Kill the process of the task `ingest` while it registers files."""
    query = "SELECT pid FROM task_instance WHERE run_id = ? AND task_id = 'ingest.ingest' AND state = 'running'"

    def registers() -> bool:
        requests: list[dict[str, Any]] = dss.control("GET", "requests")
        return any(request["method"] == "PUT" and "/files/" in request["path"] for request in requests)

    airflow.wait_for("the first file", registers, interval=0.02)
    ((pid,),) = airflow.rows(query, run_id)
    os.kill(pid, signal.SIGKILL)


def test_nights_with_a_kill(airflow: Airflow, airflow_dss: LocalDSS, hca: Hca, tmp_path: Path) -> None:
    root, nights, prefix = tmp_path / "incoming", tmp_path / "nights", new_uuid()
    root.mkdir()
    write(root)
    airflow.add_dag("nightly.py", _DAG.format(directory=str(root), prefix=prefix, bucket=airflow_dss.bucket))

    def night(number: int, *, kill: bool = False) -> None:
        airflow_dss.control("DELETE", "requests")
        if kill:
            slow = {"method": "PUT", "path": "/files/", "action": "slow", "seconds": 2, "times": 1000}
            airflow_dss.control("POST", "faults", slow)
        run_id = airflow.start_run("nightly")
        if kill:
            kill_ingest(airflow, airflow_dss, run_id)
            airflow_dss.control("DELETE", "faults")
        airflow.wait_for("the end", lambda: airflow.run_state("nightly", run_id) in {"success", "failed"})
        assert airflow.run_state("nightly", run_id) == "success"
        tries = airflow.rows(
            "SELECT try_number FROM task_instance WHERE run_id = ? AND task_id = 'ingest.ingest'", run_id
        )
        # Airflow 3.4 has a row for each try.
        assert max(tries) == (2 if kill else 1,)
        shutil.copytree(root, nights / str(number))

    night(1)
    first = versions(airflow_dss, prefix)
    assert {len(ones) for ones in first.values()} == {1}

    changed, added, removed, same, other = _NAMES
    touched = min((root / changed).iterdir())
    touched.write_text("{}")
    (root / added / "project_0.json").write_text('{"new": true}')
    max((root / removed).iterdir()).unlink()
    night(2, kill=True)
    second = versions(airflow_dss, prefix)
    assert {name: len(ones) for name, ones in second.items()} == {changed: 2, added: 2, removed: 2, same: 1, other: 1}
    for name in (changed, added, removed):
        before = members(airflow_dss, prefix, name, second[name][0])
        after = members(airflow_dss, prefix, name, second[name][1])
        assert {*after} == {*contents(root / name)}
        new = {file for file in after if after[file] != before.get(file)}
        assert new == {changed: {touched.name}, added: {"project_0.json"}, removed: set()}[name]
        assert {after[file][1] for file in new} <= {second[name][1]}

    store = airflow_dss.control("GET", "store")
    night(3)
    assert airflow_dss.control("GET", "store") == store
    assert not [request for request in airflow_dss.control("GET", "requests") if request["method"] in {"PUT", "PATCH"}]

    for name, ones in second.items():
        for number, version in enumerate(ones, 1):
            target = tmp_path / f"downloaded {name} {number}"
            target.mkdir()
            uuid = bundle_uuid_of(f"{prefix}/{name}")
            where = ("--bundle-uuid", uuid, "--version", version, "--replica", "aws")
            hca.run("download", *where, "--download-dir", str(target))
            (found,) = (path for path in target.iterdir() if path.name.startswith(uuid))
            downloaded = contents(found)
            del downloaded["bundle.json"]  # the manifest
            assert downloaded == contents(nights / str(number) / name)


def test_approval_example_uploads_only_what_is_approved(
    airflow: Airflow, airflow_dss: LocalDSS, tmp_path: Path
) -> None:
    airflow.start("triggerer")
    airflow.add_dag("approval.py", (_EXAMPLES / "example_dss_approval.py").read_text())
    key = new_uuid()
    uuid, dag_id, conf = bundle_uuid_of(key), "example_dss_approval", {"directory": str(tmp_path), "bundle_key": key}

    def night(answer: str, planned: str) -> dict[str, str]:
        """Run the DAG, answer its question, and return the states of its tasks."""
        run_id = airflow.start_run(dag_id, staging_bucket=airflow_dss.bucket, **conf)
        tasks = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        question = f"{tasks}/approve/-1/hitlDetails"
        airflow.wait_for("the question", lambda: airflow.call("GET", f"/api/v2{question}").ok)
        airflow.wait_for("the scheduler to see the deferral", lambda: is_seen(run_id))
        assert planned in airflow.api("GET", question)["body"]
        assert versions() == before
        airflow.api("PATCH", question, {"chosen_options": [answer], "params_input": {}})
        airflow.wait_for("the end", lambda: airflow.run_state(dag_id, run_id) in {"success", "failed"})
        return {task["task_id"]: task["state"] for task in airflow.api("GET", tasks)["task_instances"]}

    def is_seen(run_id: str) -> bool:
        """Airflow fails a task that continues before its scheduler has seen that it was deferred."""
        lines = airflow.log("scheduler").read_text().splitlines()
        return any("executor event" in line and f"'approve', run_id='{run_id}'" in line for line in lines)

    def versions() -> list[str]:
        bundles = airflow_dss.control("GET", "store")["bundles"]
        return [each["version"] for each in bundles if (each["uuid"], each["replica"]) == (uuid, "aws")]

    before: list[str] = []
    for number in range(3):
        (tmp_path / f"{number}.json").write_text("{}")
    states = night("Approve", "3 new files, 0 changed")
    assert {*states.values()} == {"success"}
    before = versions()
    assert len(before) == 1
    (tmp_path / "0.json").write_text("[]")
    states = night("Reject", "0 new files, 1 changed,\n0 removed, 2 unchanged")
    assert (states["upload.shard"], states["upload.bundle"]) == ("skipped", "skipped")
    assert versions() == before


def test_partitions_example_runs_once_for_each_new_version(
    airflow: Airflow, airflow_dss: LocalDSS, tmp_path: Path
) -> None:
    write(tmp_path)
    prefix, dag_id = new_uuid(), "example_dss_partition"
    airflow.add_dag("partitions.py", (_EXAMPLES / "example_dss_partitions.py").read_text())

    def fqids() -> list[str]:
        found = versions(airflow_dss, prefix)
        return sorted(f"{bundle_uuid_of(f'{prefix}/{name}')}.{version}" for name in found for version in found[name])

    def keys() -> list[str]:
        runs = airflow.rows("SELECT partition_key FROM dag_run WHERE dag_id = ? AND state = 'success'", dag_id)
        uuids = {bundle_uuid_of(f"{prefix}/{name}") for name in _NAMES}
        return sorted(key for (key,) in runs if key[:36] in uuids)  # the scheduler starts the night of the example too

    conf = {"directory": str(tmp_path), "staging_bucket": airflow_dss.bucket, "project": prefix}
    for count in (5, 6):
        run_id = airflow.run("example_dss_partitions", **conf)
        assert airflow.run_state("example_dss_partitions", run_id) == "success"
        assert len(fqids()) == count
        airflow.wait_for("a run for each version", lambda: keys() == fqids())
        min((tmp_path / _NAMES[0]).iterdir()).write_text("{}")
