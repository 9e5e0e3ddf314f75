"""Runs the tasks of a `DSSIngestTaskGroup` in this process, and prints what they took as one line of JSON.

Arguments: a directory of directories, a bucket, a prefix of the keys, the logical date, `compare`, and how often
to repeat `ingest`. With several repetitions the limit is measured too: see `_seconds_allowed`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import aiohttp  # noqa: F401 - imports are no part of the time
import boto3.s3.inject  # noqa: F401 - the same
import google_crc32c  # noqa: F401 - the same
import requests  # noqa: F401 - the same
from airflow.providers.common.compat.sdk import DAG

import airflow_provider_hca.client.client
import airflow_provider_hca.client.session
import airflow_provider_hca.upload.staging.s3
import airflow_provider_hca.upload.uploader  # noqa: F401 - the same
from airflow_provider_hca.client.identifiers import bundle_uuid_of
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSIngestTaskGroup
from airflow_provider_hca.operators.ingest import RESULTS_KEY, DSSIngestOperator
from scripts.benchmarks.usage import usage

_READ_SIZE = 1 << 19
_THREADS = 2


def main() -> None:
    """Run a night."""
    directory, bucket, prefix, date, compare, repeat = sys.argv[1:]
    tasks = _Tasks(directory, prefix, datetime.fromisoformat(date), {"staging_bucket": bucket, "compare": compare})
    plan_seconds = _measured(tasks.plan)
    cpu = time.process_time()
    ingest, allowed = [], []
    for _ in range(int(repeat)):
        ingest.append(_measured(tasks.ingest))
        if int(repeat) > 1:
            allowed.append(_seconds_allowed(Path(directory), prefix, compare))
    cpu = time.process_time() - cpu
    report_seconds = _measured(tasks.report)
    result: dict[str, Any] = {
        "plan_s": plan_seconds,
        "ingest_s": median(ingest),
        "report_s": report_seconds,
        "ingest_cpu_s": cpu,
    }
    result |= {"tasks": len(tasks.units) + 2, "xcoms": tasks.xcoms, "counts": tasks.counts, **usage()}
    print(json.dumps(result | ({"allowed_s": median(allowed)} if allowed else {})))


class _Tasks:
    """The tasks of a run, without Airflow's scheduler and database.

    :ivar units: units of work, after `plan`
    :ivar counts: number of directories by outcome, after `report`
    :ivar xcoms: number of XComs that the tasks pushed, each a request to Airflow's API server
    """

    def __init__(self, directory: str, prefix: str, date: datetime, options: dict[str, Any]) -> None:
        self.units: list[dict[str, Any]] = []
        self.counts: dict[str, int] = {}
        self.xcoms = 0
        self._options, self._xcoms, self._results = options, dict[tuple[str, str], Any](), dict[int, Any]()
        self._date = date
        with DAG("batch", schedule=None):
            key = f"{prefix}/{{{{ row.name }}}}"
            self._group = DSSIngestTaskGroup(directory=directory, bundle_key=key, **options)

    def plan(self) -> None:
        """Run the first task."""
        context = self._context("ingest.plan")
        self.units = json.loads(json.dumps(self._group.plan.execute(context)))
        self._xcoms["ingest.plan", "return_value"] = self.units

    def ingest(self) -> None:
        """Run the mapped tasks, one after another."""
        for number, unit in enumerate(self.units):
            operator = DSSIngestOperator(task_id="ingest", unit=unit, partitioned=False, **self._options)
            operator.execute(self._context("ingest.ingest", number))
            self._results[number] = self._xcoms.pop(("ingest.ingest", RESULTS_KEY))

    def report(self) -> None:
        """Run the last task."""
        report: Any = self._group.report
        self._xcoms["ingest.ingest", RESULTS_KEY] = json.loads(json.dumps([*self._results.values()]))
        result = report.execute(self._context("ingest.report"))
        self.counts = {name: result[name] for name in ("created", "unchanged", "failed", "invalid")}

    def _context(self, task_id: str, map_index: int = -1) -> Any:
        run = SimpleNamespace(logical_date=self._date, data_interval_end=None, run_after=None, clear_number=0)
        run.run_id = f"scheduled__{self._date}"
        ti = SimpleNamespace(dag_id="batch", task_id=task_id, map_index=map_index, run_id=run.run_id)
        ti.try_number, ti.max_tries = 1, 0
        ti.xcom_push = lambda key, value: self._push((task_id, key), value)
        ti.xcom_pull = self._pull
        return {"dag_run": run, "ti": ti, "run_id": run.run_id, "logical_date": self._date}

    def _pull(self, task_ids: str | list[str], key: str = "return_value") -> Any:
        return self._xcoms.get((task_ids if isinstance(task_ids, str) else task_ids[0], key))

    def _push(self, key: tuple[str, str], value: Any) -> None:
        self._xcoms[key] = value
        self.xcoms += 1


def _seconds_allowed(directory: Path, prefix: str, compare: str) -> float:
    """Return the seconds that comparing takes at least: sha256 or `stat` of all files in two threads, and manifests."""
    paths = [entry.path for entry in os.scandir(directory)]
    files = [f"{root}/{name}" for path in paths for root, _, names in os.walk(path) for name in names]
    work: Callable[[str], object] = _sha256 if compare == "checksum" else os.stat
    with ThreadPoolExecutor(_THREADS) as pool, DSSHook() as hook:
        started = time.perf_counter()
        list(pool.map(work, files, chunksize=100))
        for path in paths:
            hook.get_conn().run(hook.api.latest_bundle(bundle_uuid_of(f"{prefix}/{Path(path).name}"), replica="aws"))
        return time.perf_counter() - started


def _sha256(path: str) -> str:
    sha256 = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - creating a Path takes as long as opening it
        while chunk := file.read(_READ_SIZE):
            sha256.update(chunk)
    return sha256.hexdigest()


def _measured(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
