"""Measure the local DSS: files per second, processor time per file, and memory.

Two measurements. `upload` runs `python -m airflow_provider_hca upload` on small files against a fresh local DSS, and
divides by the time of the whole command, the start of Python and Airflow included. `staged` puts small objects into the
S3 server with checksums in metadata and tags, and reports how much the memory of the local DSS grows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from scripts.benchmarks.workloads import KIB, Workload, write_files

_REPOSITORY = Path(__file__).parents[2]
_WARM_UP = 1_000  # objects staged before the memory is measured: by then everything is loaded
_THREADS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--files", type=int, default=2_000, help="files of 4 KiB to upload (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="number of uploads; the result is the median (%(default)s)")
    parser.add_argument("--objects", type=int, default=50_000, help="objects to stage for the memory (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    """Run the benchmark."""
    uploads = [measure_upload(options.files) for _ in range(options.runs)]
    result = {name: round(median(upload[name] for upload in uploads), 2) for name in uploads[0]}
    result |= measure_memory(options.objects)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<24} {value:>12,}")


def measure_upload(files: int) -> dict[str, float]:
    """Return what the upload of a directory of small files costs, in a fresh local DSS.

    :param files: how many files of 4 KiB
    """
    with (
        tempfile.TemporaryDirectory(prefix="dss-bench-") as place,
        _local_dss(Path(place) / "state") as (about, server),
    ):
        directory = Path(place) / "files"
        write_files(Workload("local", files, 4 * KIB), directory)
        environment = {**os.environ, **about["env"], "AIRFLOW_HOME": f"{place}/airflow"}
        command = [sys.executable, "-m", "airflow_provider_hca", "upload", str(directory)]
        command += ["--staging-bucket", about["bucket"]]
        used, started = _cpu_seconds(server), time.perf_counter()
        subprocess.run(command, cwd=_REPOSITORY, env=environment, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        return {
            "command_seconds": seconds,
            "files_per_second": files / seconds,
            "server_cpu_ms_per_file": (_cpu_seconds(server) - used) / files * 1e3,
        }


def measure_memory(objects: int) -> dict[str, float]:
    """Return how fast objects are staged, and how much the memory of the local DSS grows by it.

    :param objects: how many, of 4 KiB
    """
    with (
        tempfile.TemporaryDirectory(prefix="dss-bench-") as place,
        _local_dss(Path(place) / "state") as (about, server),
    ):
        _stage(about, 0, _WARM_UP)
        before, started, used = _rss(server), time.perf_counter(), _cpu_seconds(server)
        _stage(about, _WARM_UP, objects)
        seconds = time.perf_counter() - started
        return {
            "staged_per_second": round(objects / seconds, 1),
            "staged_cpu_ms": round((_cpu_seconds(server) - used) / objects * 1e3, 3),
            "rss_mb": round(before / 1e6, 1),
            "rss_growth_mb": round((_rss(server) - before) / 1e6, 1),
        }


def _stage(about: dict[str, Any], first: int, count: int) -> None:
    """Put objects with checksums, as an upload does."""
    import obstore
    from obstore.store import S3Store

    environment = about["env"]
    store = S3Store(
        about["bucket"],
        endpoint=about["s3_url"],
        region=environment["AWS_DEFAULT_REGION"],
        access_key_id=environment["AWS_ACCESS_KEY_ID"],
        secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )
    sums = {
        "hca-dss-sha256": "0" * 64,
        "hca-dss-sha1": "0" * 40,
        "hca-dss-s3_etag": "0" * 32,
        "hca-dss-crc32c": "0" * 8,
    }

    def put(number: int) -> None:
        obstore.put(store, f"bench/{number}", os.urandom(4 * KIB), attributes={**sums}, tags=sums, use_multipart=False)

    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(put, range(first, first + count)):
            pass  # a failure is raised here


@contextmanager
def _local_dss(state: Path) -> Iterator[tuple[dict[str, Any], psutil.Process]]:
    """Run a local DSS; yield its addresses and its process."""
    ports = [argument for name in ("--port", "--s3-port", "--objects-port") for argument in (name, "0")]
    command = [sys.executable, "-m", "airflow_provider_hca.local", "--json", "--state", str(state), *ports]
    with subprocess.Popen(command, cwd=_REPOSITORY, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("the process has no pipe")
            yield json.loads(process.stdout.readline()), psutil.Process(process.pid)
        finally:
            process.terminate()


def _family(server: psutil.Process) -> list[psutil.Process]:
    return [server, *server.children(recursive=True)]


def _cpu_seconds(server: psutil.Process) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in _family(server))


def _rss(server: psutil.Process) -> int:
    return sum(process.memory_info().rss for process in _family(server))
