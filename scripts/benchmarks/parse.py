"""Measure the imports of a DAG file that uses this package, beyond those of Airflow.

Each run is a new process, which imports the needed parts of Airflow before the measurement. The time of a module is
what it adds to the modules before it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from statistics import median
from typing import Any

_MODULES = ("operators.dss", "sensors.dss", "triggers.dss", "hooks.dss")
_PROGRAM = """
import importlib, json, sys, time

def timed(names):
    before, started = set(sys.modules), time.perf_counter()
    for name in names:
        importlib.import_module(name)
    return {"ms": (time.perf_counter() - started) * 1e3, "new": [name for name in sys.modules if name not in before]}

first, modules = json.loads(sys.argv[1])
print(json.dumps([timed(first), *(timed([module]) for module in modules)]))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--runs", type=int, default=5, help="each in a fresh process (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(options: argparse.Namespace) -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory(prefix="dss-bench-") as home:
        results = measure(options.runs, home)
    for result in results:
        if options.json:
            print(json.dumps(result))
        else:
            print(f"{result['imported']:36} {result['ms']:8.1f} ms for {result['modules']:,} modules")


def measure(runs: int, home: str) -> list[dict[str, Any]]:
    """Return medians: of what is Airflow's, of each of the package's modules, and of these together.

    :param runs: in how many processes
    :param home: a directory for Airflow
    """
    names = [f"airflow_provider_hca.{module}" for module in _MODULES]
    airflow = [name for part in _import([], names, home) for name in part["new"] if name.partition(".")[0] == "airflow"]
    results = [_import(airflow, names, home) for _ in range(runs)]
    rows = [
        {
            "imported": name,
            "ms": round(median(result[number]["ms"] for result in results), 1),
            "modules": len(results[0][number]["new"]),
        }
        for number, name in enumerate(["airflow's own", *names])
    ]
    total = {what: round(sum(row[what] for row in rows[1:]), 1) for what in ("ms", "modules")}
    return [*rows, {"imported": "airflow_provider_hca", **total}]


def _import(first: list[str], modules: list[str], home: str) -> list[dict[str, Any]]:
    environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    command = [sys.executable, "-c", _PROGRAM, json.dumps([first, modules])]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    result: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return result
