"""Compare the four checksums with the limit of `hashlib` on these cores.

`hashlib` gets the same small buffer again and again, with one thread per core, and reads nothing. This package gets
files that the operating system has cached.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import google_crc32c

from airflow_provider_hca.parallel import Workers
from airflow_provider_hca.upload.local_files import OpenFile
from airflow_provider_hca.upload.staging.parts import PartsRunner
from scripts.benchmarks.workloads import MIB, Workload, write_files

Hashing = Callable[[bytes], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--mib", type=int, default=1024, help="size of a file (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each, in turns (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(options: argparse.Namespace) -> None:
    """Run the benchmark."""
    cores = len(os.sched_getaffinity(0))
    for name, files in {"one file": 1, f"{cores} files": cores}.items():
        result = measure(files, options.mib, options.runs, cores)
        if options.json:
            print(json.dumps({"workload": name, **result}), flush=True)
            continue
        allowed, ours = result["hashlib_mb_per_s"], result["ours_mb_per_s"]
        print(f"{name:10} hashlib {allowed:6,.0f} MB/s   ours {ours:6,.0f} MB/s   {ours / allowed:.0%}", flush=True)


def measure(files: int, mib: int, runs: int, cores: int) -> dict[str, Any]:
    """Return medians, in MB/s.

    :param files: how many are summed at the same time
    :param mib: the size of each, in MiB
    :param runs: how often
    :param cores: how many threads `hashlib` is given
    """
    with tempfile.TemporaryDirectory(prefix="dss-bench-") as place:
        write_files(Workload("checksums", files, mib * MIB), Path(place))
        paths = sorted(path for path in Path(place).rglob("*.bin"))
        ours, allowed = [], []
        for _ in range(runs):
            ours.append(_seconds(files, lambda number: _checksum(paths[number], mib * MIB)))
            allowed.append(_allowed(files, mib, cores))
    amount = files * mib * MIB / 1e6
    speeds = {"hashlib_mb_per_s": amount / median(allowed), "ours_mb_per_s": amount / median(ours)}
    return {name: round(speed, 1) for name, speed in speeds.items()}


def _checksum(path: Path, size: int) -> None:
    with OpenFile(path) as file, Workers(4, "part") as workers, PartsRunner(workers) as runner:
        runner.checksum(file, size)


def _allowed(files: int, mib: int, cores: int) -> float:
    """Return the seconds that hashing alone takes: a file's sums are computed apart where a core would be idle."""
    if files == 1 and cores > 1:
        # Of one sum a file is one chain; so split, the two threads have nearly the same to do.
        groups = [["md5", "crc32c"], ["sha1", "sha256"]]
    else:
        groups = [["md5", "crc32c", "sha1", "sha256"]] * files
    block = os.urandom(MIB)

    def hash_all(number: int) -> None:
        hashes = [_hash(name) for name in groups[number]]
        for _ in range(mib):
            for each in hashes:
                each(block)

    return _seconds(len(groups), hash_all)


def _hash(name: str) -> Hashing:
    if name == "crc32c":
        crc32c: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]  # google's
        update: Hashing = crc32c.update
        return update
    return hashlib.new(name, usedforsecurity=False).update


def _seconds(threads: int, work: Callable[[int], object]) -> float:
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(work, range(threads)))
        return time.perf_counter() - started
