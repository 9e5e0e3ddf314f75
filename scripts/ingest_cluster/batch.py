"""Ingests of a batch of directories: with several workers, and three nights with one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.benchmarks.null_http import FIRST_BYTES
from scripts.benchmarks.null_s3 import piece_key
from scripts.benchmarks.upload import BUCKET, aws_environment
from scripts.ingest_cluster.airflow import HEARTBEAT_TIMEOUT, Cluster
from scripts.ingest_cluster.processes import Processes

_FILES = 5  # in each directory
_SIZE = 4096  # of a file, in bytes
_TASK_DIRECTORIES = 200
_WORKERS = 4
_LATENCIES = ("--s3-latency", "0.02", "--dss-latency", "0.2")
_CHANGED = 100  # of this many directories, one changes in a night
_DAG = """
from airflow.sdk import DAG
from airflow_provider_hca.operators.dss import DSSIngestTaskGroup

with DAG("ingest", schedule=None):
    DSSIngestTaskGroup(
        directory={directory!r},
        staging_bucket={bucket!r},
        retries=3,
        retry_delay=1,
        **{options!r},
    )
"""


class _Batch:
    """A batch, services, an Airflow, and a DAG.

    :param place: empty directory
    :param processes: starts the processes
    :param directories: number of directories
    :param latencies: options of the services
    :param environment: additional environment variables
    :param options: of the task group
    """

    def __init__(
        self,
        place: Path,
        processes: Processes,
        directories: int,
        *,
        latencies: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._processes, self._directories = processes, directories
        self._incoming = place / "incoming"
        self._changed = {
            self._incoming / f"{number:05}" / "0.json": os.urandom(_SIZE) for number in range(0, directories, _CHANGED)
        }
        contents = list(self._changed.values())
        for number in range(directories):
            directory = self._incoming / f"{number:05}"
            directory.mkdir(parents=True)
            for file in range(_FILES):
                content = os.urandom(_SIZE)
                contents.append(content)
                (directory / f"{file}.json").write_bytes(content)
        services = self._start_services(place, contents, latencies)
        connection = {"conn_type": "hca_dss", "host": services["dss_url"], "password": "none"}
        self.airflow = Cluster(
            place,
            processes,
            {
                **aws_environment(place, services["s3_url"]),
                **(environment or {}),
                "AIRFLOW_CONN_HCA_DSS_DEFAULT": json.dumps(connection),
            },
        )
        (self.airflow.dags / "ingest.py").write_text(
            _DAG.format(directory=str(self._incoming), bucket=BUCKET, options=options)
        )

    def ingest(
        self, name: str, number: int, expected: Mapping[str, int], meanwhile: Callable[[str], None] = lambda _: None
    ) -> float:
        """Run the DAG, check its report, and return its duration in seconds."""
        seconds = self.airflow.run("ingest", number, meanwhile)
        run_id = f"run_{number}"
        query = "select key, value from xcom where run_id = %s and task_id = 'ingest.report'"
        report = dict(self.airflow.rows(query, run_id))
        if any(report[key] != count for key, count in expected.items()):
            raise RuntimeError(f"{name}: expected {expected}, got {report}")
        tasks = self.airflow.rows("select count(*) from task_instance where run_id = %s", run_id)[0][0]
        repeated = ", ".join(self.airflow.retries(run_id)) or "none"
        rate = self._directories / seconds
        print(f"{name}: {seconds:.1f} s, {rate:.1f} directories/s, {tasks} tasks, repeated: {repeated}", flush=True)
        return seconds

    def change(self) -> None:
        """Change a file in one of a hundred directories."""
        for path, content in self._changed.items():
            path.write_bytes(content)

    def _start_services(self, place: Path, contents: Sequence[bytes], latencies: Sequence[str]) -> dict[str, Any]:
        pieces = {
            piece_key(content[:FIRST_BYTES], _SIZE): hashlib.md5(content, usedforsecurity=False).hexdigest()
            for content in contents
        }
        (place / "pieces.json").write_text(json.dumps(pieces))
        command = [sys.executable, "-m", "scripts.benchmarks.null_server", str(place / "pieces.json"), "--keep"]
        self._processes.start("services", [*command, *latencies], os.environ, stdin=subprocess.PIPE)
        log = place / "logs" / "services.log"
        services: dict[str, Any] = json.loads(self._processes.wait_for("the services", log.read_text, 60))
        return services


def compare_workers(place: Path, processes: Processes, directories: int) -> None:
    """Ingest a batch with one worker, with four, and with four when one is killed half-way."""
    batch = _Batch(
        place,
        processes,
        directories,
        latencies=_LATENCIES,
        bundle_key="{{ run_id }}/{{ row.name }}",
        max_task_files=_TASK_DIRECTORIES * _FILES,
    )
    airflow, expected = batch.airflow, {"created": directories}
    airflow.start()
    airflow.start_worker("w1")
    one = batch.ingest("one worker", 1, expected)
    for number in range(2, _WORKERS + 1):
        airflow.start_worker(f"w{number}")
    four = batch.ingest(f"{_WORKERS} workers", 2, expected)

    def kill(run_id: str) -> None:
        airflow.kill_half_way(run_id, "ingest.ingest", f"w{_WORKERS}")

    killed = batch.ingest(f"{_WORKERS} workers, one killed", 3, expected, kill)
    print(f"{_WORKERS} workers are {one / four:.2f} times as fast as one; the kill cost {killed - four:.1f} s")
    print(f"Airflow detects a lost task after {HEARTBEAT_TIMEOUT} s; the other workers run the rest meanwhile")


def run_nights(place: Path, processes: Processes, directories: int) -> None:
    """Ingest a batch in three nights, one task at a time, in the scheduler's machine (LocalExecutor)."""
    environment = {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor", "AIRFLOW__CORE__PARALLELISM": "1"}
    batch = _Batch(place, processes, directories, environment=environment, bundle_key="{{ row.name }}")
    batch.airflow.start()
    batch.ingest("night 1, all new", 1, {"created": directories})
    batch.change()
    changed = -(-directories // _CHANGED)
    batch.ingest("night 2, 1% changed", 2, {"created": changed, "unchanged": directories - changed})
    batch.ingest("night 3, nothing changed", 3, {"created": 0, "unchanged": directories})
