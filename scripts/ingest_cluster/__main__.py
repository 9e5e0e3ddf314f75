"""Ingest a directory with one worker, with two, and with two when one is killed half-way; print the durations.

With `--batch`, ingest a batch of directories with one worker, with four, and with four when one is killed half-way, in
services with latency: 20 ms for the store, 200 ms for the DSS. With `--nights`, ingest a batch three times with
LocalExecutor, one task at a time: everything is new, 1% of the directories changed, nothing changed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests

from scripts.ingest_cluster.airflow import HEARTBEAT_TIMEOUT, Cluster
from scripts.ingest_cluster.batch import compare_workers, run_nights
from scripts.ingest_cluster.processes import Processes

_DAG = """
from airflow.sdk import DAG
from airflow_provider_hca.operators.dss import DSSUploadTaskGroup

with DAG("ingest", schedule=None):
    DSSUploadTaskGroup(
        directory={directory!r}, staging_bucket={bucket!r}, max_shard_files={shard_files}, retries=3, retry_delay=1
    )
"""


def main() -> None:
    """Run the ingests."""
    parser = argparse.ArgumentParser(prog="scripts/cluster", description=__doc__)
    parser.add_argument("--batch", action="store_true", help="ingest directories, each as a bundle")
    parser.add_argument("--nights", action="store_true", help="ingest directories in three nights with one worker")
    parser.add_argument("--directories", type=int, help="number of directories (1600 for --batch, 10000 for --nights)")
    parser.add_argument("--files", type=int, default=20_000, help="number of files (%(default)s)")
    parser.add_argument("--shard-files", type=int, default=500, help="maximum number of files per shard (%(default)s)")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dss-cluster-")))
        place.chmod(0o711)  # PostgreSQL runs as another user
        processes = Processes(place / "logs")
        stack.callback(processes.stop)
        if options.batch:
            compare_workers(place, processes, options.directories or 1600)
        elif options.nights:
            run_nights(place, processes, options.directories or 10_000)
        else:
            _Comparison(place, processes, options.files, options.shard_files).run()


def _end(number: int, _: object) -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # a second signal would leave processes running
    print("stopping all processes, which takes some seconds", flush=True)
    sys.exit(128 + number)


class _Comparison:
    """A directory, a DSS, an Airflow, and the ingests to compare."""

    def __init__(self, place: Path, processes: Processes, files: int, shard_files: int) -> None:
        self._files = files
        self._shards = -(-files // shard_files)
        self._dss = _start_dss(place, processes)
        directory = place / "files"
        for number in range(files):
            path = directory / f"{number % 100:02}" / f"cell_{number:06}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"cell": number, "reads": [number * 7 % 1000] * 50}))
        self._airflow = Cluster(place, processes, self._dss["env"])
        values = {"directory": str(directory), "bucket": self._dss["bucket"], "shard_files": shard_files}
        (self._airflow.dags / "ingest.py").write_text(_DAG.format(**values))

    def run(self) -> None:
        """Run the three ingests and print the comparison."""
        print(f"{self._files:,} files in {self._shards} shards; each worker runs one task at a time", flush=True)
        self._airflow.start()
        self._airflow.start_worker("w1")
        one = self._ingest("one worker", 1)
        self._airflow.start_worker("w2")
        two = self._ingest("two workers", 2)
        killed = self._ingest("two workers, one killed", 3, self._kill)
        print(f"two workers are {one / two:.2f} times as fast as one; the kill cost {killed - two:.1f} s:")
        print(f"at least {HEARTBEAT_TIMEOUT} s until Airflow detected the lost task, and then a single worker")

    def _ingest(self, name: str, number: int, meanwhile: Callable[[str], None] = lambda _: None) -> float:
        """Run the DAG, check its result, and return its duration in seconds."""
        seconds = self._airflow.run("ingest", number, meanwhile)
        retries = len(self._airflow.retries(f"run_{number}"))
        self._check(number)
        print(f"{name}: {seconds:.1f} s, {self._files / seconds:.0f} files/s, {retries} retries", flush=True)
        return seconds

    def _kill(self, run_id: str) -> None:
        self._airflow.kill_half_way(run_id, "upload.shard", "w2")

    def _check(self, number: int) -> None:
        """Check that there is one bundle per run, with each file once.

        :raises RuntimeError: when the bundles or files are wrong
        """
        store = requests.get(f"{self._dss['dss_url'].removesuffix('/v1')}/_local/store", timeout=120).json()
        bundles = [bundle for bundle in store["bundles"] if bundle["replica"] == "aws"]
        files = {(file["uuid"], file["version"]) for file in store["files"] if file["replica"] == "aws"}
        members = [(file["uuid"], file["version"]) for bundle in bundles for file in bundle["manifest"]["files"]]
        if len(bundles) != number or len(members) != number * self._files or set(members) != files:
            raise RuntimeError(
                f"{len(bundles)} bundles with {len(members)} files, of {len(files)}, after {number} runs"
            )


def _start_dss(place: Path, processes: Processes) -> dict[str, Any]:
    command = [sys.executable, "-m", "airflow_provider_hca.local", "--json", "--state", str(place / "dss")]
    ports = ["--port", "0", "--s3-port", "0", "--objects-port", "0", "--sync-delay", "off"]
    processes.start("dss", [*command, *ports], os.environ)
    log = place / "logs" / "dss.log"
    lines = processes.wait_for("the DSS", lambda: [x for x in log.read_text().splitlines() if x.startswith("{")], 60)
    info: dict[str, Any] = json.loads(lines[0])
    return info


if __name__ == "__main__":
    main()
