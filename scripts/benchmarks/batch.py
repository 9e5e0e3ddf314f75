"""Measure nights of a `DSSIngestTaskGroup`: everything is new, some files changed, nothing changed.

The tasks run one after another in one process per night, without Airflow's scheduler, against a null S3 and a null DSS
that returns manifests. For one directory, "of limit" compares the task `ingest` of the last night with `hashlib`'s
sha256 (`os.stat` for `size-mtime`) of the same files in two threads and the request of the manifest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from scripts.benchmarks.null_http import FIRST_BYTES
from scripts.benchmarks.null_s3 import piece_key
from scripts.benchmarks.upload import BUCKET, aws_environment
from scripts.benchmarks.workloads import KIB, MIB

_REPOSITORY = Path(__file__).parents[2]
_FIRST_NIGHT = datetime(2024, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_REPETITIONS = 3  # of a task that takes a second or less
_HEAD = "{:34} {:8} {:>6} {:>7} {:>8} {:>8} {:>8} {:>8} {:>7} {:>8}"
_ROW = "{:34} {:8} {:>6,} {:>7.2f} {:>8.2f} {:>8.2f} {:>8.2f} {:>9,} {:>7.0f} {:>8}"
_COLUMNS = ("batch", "night", "tasks", "plan s", "ingest s", "report s", "CPU s", "requests", "MB", "of limit")


@dataclass(frozen=True)
class Batch:
    """Directories of files of one size.

    :ivar files: number of files in each directory
    :ivar size: size of a file, in bytes
    :ivar changed: number of directories in which a file changes
    """

    name: str
    directories: int
    files: int
    size: int
    changed: int = 1
    compare: str = "checksum"

    def __str__(self) -> str:
        size = f"{self.size // MIB} MiB" if self.size >= MIB else f"{self.size // KIB} KiB"
        return f"{self.name}: {self.directories:,} x {self.files:,} x {size}, {self.compare}"


_ONE_DIRECTORY = (
    Batch("a", 1, 200, 4 * MIB),
    Batch("b", 1, 1_000, 4 * KIB),
    Batch("c", 1, 1_000, 4 * KIB, compare="size-mtime"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("batches", nargs="*", metavar="batch", help="a, b, c, d, e: all by default")
    parser.add_argument("--directories", type=int, default=10_000, help="directories of e; d has a tenth (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of the three nights (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--short", action="store_true", help="one run of tiny batches, to see that all works")


def run(options: argparse.Namespace) -> None:
    """Run the benchmark."""
    many = Batch("e", options.directories, 5, KIB, changed=max(1, options.directories // 100))
    some = replace(many, name="d", directories=many.directories // 10, changed=max(1, many.changed // 10))
    batches = {batch.name: batch for batch in (*_ONE_DIRECTORY, some, many)}
    unknown = [name for name in options.batches if name not in batches]
    if unknown:
        sys.exit(f"no such batch: {', '.join(unknown)}; there are {', '.join(batches)}")
    if not options.json:
        print(_HEAD.format(*_COLUMNS))
    for name in options.batches or batches:
        batch = _short(batches[name]) if options.short else batches[name]
        for night, result in measure(batch, 1 if options.short else options.runs).items():
            _print(batch, night, result, as_json=options.json)


def measure(batch: Batch, runs: int) -> dict[str, dict[str, Any]]:
    """Run the nights of a batch, and return the medians of each.

    :param batch: directories to upload
    :param runs: how often
    """
    nights: dict[str, list[dict[str, Any]]] = {"cold": [], "changed": [], "nothing": []}
    with tempfile.TemporaryDirectory(prefix="dss-bench-") as place:
        bench = _Bench(Path(place), batch, runs)
        with bench.services():
            for number in range(runs):
                nights["cold"].append(bench.run_night(number, 0))
                bench.change(number)
                nights["changed"].append(bench.run_night(number, 1))
                repeat = _REPETITIONS if batch.directories == 1 else 1
                nights["nothing"].append(bench.run_night(number, 2, repeat))
    return {night: _medians(results) for night, results in nights.items()}


def _short(batch: Batch) -> Batch:
    return replace(batch, directories=min(batch.directories, 12), files=min(batch.files, 10), changed=1)


def _medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians of what is measured, and the counts, which are the same in all runs."""
    first = results[0]
    times = {name: round(median(result[name] for result in results), 3) for name in first if name[-2:] in {"_s", "mb"}}
    return times | {name: first[name] for name in ("tasks", "xcoms", "counts", "requests")}


def _print(batch: Batch, night: str, result: dict[str, Any], *, as_json: bool) -> None:
    share = round(result["allowed_s"] / result["ingest_s"], 3) if "allowed_s" in result else None
    if as_json:
        print(json.dumps({"batch": batch.name, "night": night, **result, "of_limit": share}), flush=True)
        return
    times = (result[name] for name in ("plan_s", "ingest_s", "report_s", "ingest_cpu_s"))
    requests = sum(sum(service.values()) for service in result["requests"].values())
    shown = "-" if share is None else f"{share:.0%}"
    print(_ROW.format(str(batch), night, result["tasks"], *times, requests, result["rss_mb"], shown), flush=True)


class _Bench:
    """The directories of a batch, and the services that they are uploaded to."""

    def __init__(self, place: Path, batch: Batch, runs: int) -> None:
        self._place, self._batch = place, batch
        self._block = os.urandom(batch.size - FIRST_BYTES)
        self._pieces: dict[str, str] = {}
        self._incoming = place / "incoming"
        for number in range(batch.directories):
            (self._incoming / f"{number:06}").mkdir(parents=True)
            for file in range(batch.files):
                path = self._path(number, file)
                self._write(path, self._new_start(), _FIRST_NIGHT - _DAY)
        self._changes = [[self._new_start() for _ in range(batch.changed)] for _ in range(runs)]

    def _path(self, directory: int, file: int) -> Path:
        return self._incoming / f"{directory:06}" / f"{file:04}.json"

    def _new_start(self) -> bytes:
        """Return the start of a new content, which is known to the null S3."""
        start = os.urandom(FIRST_BYTES)
        md5 = hashlib.md5(start + self._block, usedforsecurity=False).hexdigest()
        self._pieces[piece_key(start, self._batch.size)] = md5
        return start

    def _write(self, path: Path, start: bytes, modified: datetime) -> None:
        path.write_bytes(start + self._block)
        os.utime(path, (modified.timestamp(), modified.timestamp()))

    def change(self, run: int) -> None:
        """Change a file in each directory that is to change, after the first night and before the second."""
        step = self._batch.directories // self._batch.changed
        for number, start in enumerate(self._changes[run]):
            self._write(self._path(number * step, 0), start, _FIRST_NIGHT + _DAY / 2)

    @contextmanager
    def services(self) -> Iterator[None]:
        """Run the null services."""
        pieces = self._place / "pieces.json"
        pieces.write_text(json.dumps(self._pieces))
        command = [sys.executable, "-m", "scripts.benchmarks.null_server", str(pieces), "--keep"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, cwd=_REPOSITORY, text=True, bufsize=1, **pipes) as server:  # type: ignore[call-overload]
            self._server = server
            self._where = json.loads(server.stdout.readline())
            yield
            server.communicate()

    def run_night(self, run: int, night: int, repeat: int = 1) -> dict[str, Any]:
        """Run a night in a process of its own; return what it took."""
        command = [sys.executable, "-m", "scripts.benchmarks.batch_ours", str(self._incoming), BUCKET, f"run-{run}"]
        command += [(_FIRST_NIGHT + night * _DAY).isoformat(), self._batch.compare, str(repeat)]
        connection = {"conn_type": "hca_dss", "host": self._where["dss_url"], "password": "none"}
        environment = {
            **aws_environment(self._place, self._where["s3_url"]),
            "AIRFLOW_HOME": str(self._place / "airflow"),
            "AIRFLOW_CONN_HCA_DSS_DEFAULT": json.dumps(connection),
        }
        done = subprocess.run(command, cwd=_REPOSITORY, env=environment, stdout=subprocess.PIPE, check=True)
        self._server.stdin.write("\n")
        requests = json.loads(self._server.stdout.readline())
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result | {"requests": requests}
