"""Measure thousands of waits in one triggerer process: processor time, memory and requests.

The waits are triggers on one event loop, as in a triggerer, each with its own session. They poll a null DSS in another
process, where nothing ever appears. The first interval, in which all of them start, is not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.benchmarks.usage import usage

_REPOSITORY = Path(__file__).parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--count", type=int, nargs="+", default=[1000, 5000], help="number of waits (%(default)s)")
    parser.add_argument("--interval", type=float, default=60.0, help="seconds between two polls (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to measure (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(options: argparse.Namespace) -> None:
    """Run the benchmark."""
    if not options.json:
        print(f"{'waits':>8} {'core':>8} {'memory':>10} {'a wait':>10} {'requests':>12} {'a request':>11}")
    for count in options.count:
        result = measure(count, options.interval, options.seconds)
        if options.json:
            print(json.dumps(result), flush=True)
        else:
            print(
                f"{count:>8,} {result['core']:>8.1%} {result['rss_mb']:>7,.0f} MB {result['kb_per_wait']:>7,.1f} KB "
                f"{result['requests_per_s']:>10,.1f}/s {result['ms_per_request']:>8.2f} ms",
                flush=True,
            )


def measure(count: int, interval: float, seconds: float) -> dict[str, Any]:
    """Measure waits in a new process.

    :param count: number of waits
    :param interval: time between two polls of each, in seconds
    :param seconds: duration of the measurement, in seconds
    """
    with tempfile.TemporaryDirectory(prefix="dss-bench-") as home, _null_dss(Path(home)) as (url, requests):
        connection = json.dumps({"conn_type": "hca_dss", "host": url})
        environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW_CONN_HCA_DSS_DEFAULT": connection}
        command = [sys.executable, "-m", "scripts.benchmarks.triggers", str(count), str(interval), str(seconds)]
        done = subprocess.run(command, cwd=_REPOSITORY, env=environment, stdout=subprocess.PIPE, check=True)
    # Airflow 2 logs to the standard output too.
    (result,) = (json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{"))
    rate = requests["dss"].get("GET 404", 0) / (interval + seconds)
    about = {"requests_per_s": round(rate, 2), "ms_per_request": round(result["core"] / rate * 1000, 3)}
    return {"waits": count, **result, **about}


@contextmanager
def _null_dss(home: Path) -> Iterator[tuple[str, dict[str, dict[str, int]]]]:
    """Run a null DSS; what it counted is there when it has ended."""
    pieces = home / "pieces.json"
    pieces.write_text("{}")
    command = [sys.executable, "-m", "scripts.benchmarks.null_server", str(pieces)]
    counted: dict[str, dict[str, int]] = {}
    with subprocess.Popen(command, cwd=_REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("pipes were asked for")
        yield json.loads(server.stdout.readline())["dss_url"], counted
        server.stdin.close()
        counted |= json.loads(server.stdout.readline())


async def _wait(count: int, interval: float, seconds: float) -> dict[str, Any]:
    """Run the triggers, and measure this process."""
    from airflow.providers.common.compat.connection import get_async_connection

    from airflow_provider_hca.client.identifiers import derive_uuid
    from airflow_provider_hca.client.waiters import BundleWaiter
    from airflow_provider_hca.triggers.dss import DSSWaitTrigger

    async def one(number: int) -> None:
        options = {"dss_conn_id": "hca_dss_default", "poll_interval": interval, "deadline": time.time() + 1e6}
        trigger = DSSWaitTrigger.for_waiter(BundleWaiter(derive_uuid("bench", number), None, ["aws"]), **options)
        async for event in trigger.run():
            raise RuntimeError(f"nothing was to happen: {event}")

    before = usage()["rss_mb"]
    await get_async_connection("hca_dss_default")  # the first one takes Airflow 2 seconds: no request would be counted
    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.sleep(interval)
    began, started = usage()["cpu_seconds"], time.monotonic()
    await asyncio.sleep(seconds)
    core = (usage()["cpu_seconds"] - began) / (time.monotonic() - started)
    for task in tasks:
        if task.done():
            await task  # raises what ended it
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    memory = usage()["rss_mb"]
    return {
        "core": round(core, 4),
        "rss_mb": round(memory, 1),
        "kb_per_wait": round((memory - before) * 1000 / count, 2),
    }


def _main() -> None:
    import logging

    # In a triggerer these messages go to the logs of the tasks.
    logging.disable(logging.INFO)
    count, interval, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(asyncio.run(_wait(count, interval, seconds))))


if __name__ == "__main__":
    _main()
