"""Compare downloads with those of the DSS's original client.

Both download the same bundle from the same null DSS, alternately, each in a process of its own. The results are
medians. "of sha256" is the share of what `hashlib` alone reaches, with one thread per core; "of loop" that of a loop
that receives, hashes and writes the same files by plain sockets, while the null DSS uses the same cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from scripts.benchmarks.null_bundle import UUID
from scripts.benchmarks.upload import REPOSITORY, original_environment, original_python
from scripts.benchmarks.workloads import KIB, MIB, Workload, write_files

_WORKLOADS = {
    each.name: each
    for each in (
        Workload("a", 500, 4 * KIB),
        Workload("b", 3, 200 * MIB),
        Workload("c", 500, 4 * KIB, dss_latency=0.02),
    )
}
_SHORT = {"a": (20, 4 * KIB), "b": (3, 2 * MIB), "c": (10, 4 * KIB)}
_HEAD = "{:28} {:>8} {:>8} {:>6} {:>8} {:>7} {:>9} {:>9} {:>10} {:>8}"
_COLUMNS = ("workload", "ours s", "hca s", "ratio", "ours MB", "hca MB", "ours CPU", "requests", "of sha256", "of loop")
_ROW = "{:28} {:>8.2f} {:>8.2f} {:>6.1f} {:>8.0f} {:>7.0f} {:>9.2f} {:>9,} {:>10.0%} {:>8.0%}"

Run = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("workloads", nargs="*", metavar="workload", help="a, b, c: all by default")
    parser.add_argument("--runs", type=int, default=3, help="of each client, in turns (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--short", action="store_true", help="one run of tiny workloads, to see that all works")


def run(options: argparse.Namespace) -> None:
    """Run the benchmark."""
    unknown = [name for name in options.workloads if name not in _WORKLOADS]
    if unknown:
        sys.exit(f"no such workload: {', '.join(unknown)}; there are {', '.join(_WORKLOADS)}")
    python = original_python()
    if not options.json:
        print(_HEAD.format(*_COLUMNS))
    for name in options.workloads or _WORKLOADS:
        workload = _WORKLOADS[name]
        if options.short:
            files, size = _SHORT[name]
            workload = replace(workload, files=files, size=size)
        result = measure(workload, 1 if options.short else options.runs, python)
        print(json.dumps(result) if options.json else _row(workload, result), flush=True)


def measure(workload: Workload, runs: int, python: str) -> dict[str, Any]:
    """Run a workload and return the medians.

    :param workload: files of the bundle
    :param runs: how often each client downloads it
    :param python: Python of the original client
    """
    with tempfile.TemporaryDirectory(prefix="dss-bench-") as place:
        bench = _Bench(Path(place), workload, python)
        results: dict[str, list[Run]] = {"ours": [], "hca": [], "limit": []}
        for _ in range(runs):
            for client, found in results.items():
                found.append(bench.run(client))
    ours, hca, limit = (_medians(found) for found in results.values())
    return {
        "workload": workload.name,
        "ours_s": round(ours["seconds"], 3),
        "hca_s": round(hca["seconds"], 3),
        "ratio": round(hca["seconds"] / ours["seconds"], 2),
        "ours_rss_mb": round(ours["rss_mb"], 1),
        "hca_rss_mb": round(hca["rss_mb"], 1),
        "ours_cpu_s": round(ours["cpu_seconds"], 3),
        "hca_cpu_s": round(hca["cpu_seconds"], 3),
        "requests": ours["requests"],
        "hca_requests": hca["requests"],
        "of_sha256": round(limit["sha256"] / ours["seconds"], 3),
        "of_loop": round(limit["loop"] / ours["seconds"], 3),
    }


def _medians(runs: list[Run]) -> Run:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def _row(workload: Workload, result: dict[str, Any]) -> str:
    latency = f", {workload.dss_latency * 1e3:.0f} ms" if workload.dss_latency else ""
    names = ("ours_s", "hca_s", "ratio", "ours_rss_mb", "hca_rss_mb", "ours_cpu_s", "requests", "of_sha256", "of_loop")
    return _ROW.format(f"{workload}{latency}", *(result[name] for name in names))


class _Bench:
    """A workload's files, and the clients that download them."""

    def __init__(self, place: Path, workload: Workload, python: str) -> None:
        self._place, self._workload, self._python = place, workload, python
        self._files, self._runs = place / "files", 0
        self._files.mkdir()
        write_files(workload, self._files)

    def run(self, client: str) -> Run:
        """Download the bundle in a process.

        :param client: `ours`, `hca`, or `limit` for the limits
        """
        requests: dict[str, dict[str, int]] = {}
        self._runs += 1
        target = self._place / f"target-{self._runs}"
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._place), "NO_PROXY": "127.0.0.1"}
        with self._null_bundle(requests) as dss_url:
            arguments, extra = self._command(client, dss_url, str(target))
            done = subprocess.run(
                arguments, cwd=REPOSITORY, env=environment | extra, stdout=subprocess.PIPE, check=True
            )
        if self._workload.size >= MIB:
            shutil.rmtree(target)  # not small files: ext4 checks for each new one all those deleted recently
        result: Run = json.loads(done.stdout.splitlines()[-1])
        return result | {"requests": sum(requests["dss"].values())}

    def _command(self, client: str, dss_url: str, target: str) -> tuple[list[str], dict[str, str]]:
        if client == "hca":
            program = str(REPOSITORY / "scripts/benchmarks/download_original.py")
            environment = original_environment(self._place, dss_url)
            return [self._python, program, UUID, target], environment
        module = [sys.executable, "-m", f"scripts.benchmarks.download_{client}"]
        if client == "ours":
            return [*module, UUID, target, dss_url], {}
        return [*module, dss_url, target, str(self._workload.files), str(self._workload.size)], {}

    @contextmanager
    def _null_bundle(self, requests: dict[str, dict[str, int]]) -> Iterator[str]:
        """Run the null DSS, yield its URL, and fill in `requests` at the end."""
        command = [sys.executable, "-m", "scripts.benchmarks.null_bundle", str(self._files)]
        command += ["--latency", str(self._workload.dss_latency)]
        with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            if server.stdin is None or server.stdout is None:
                raise RuntimeError("the null DSS has no pipes")
            yield json.loads(server.stdout.readline())["dss_url"]
            server.stdin.close()
            requests.update(json.loads(server.stdout.readline()))
