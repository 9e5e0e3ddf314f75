"""Helpers for tests of tasks that are stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.running import connection

if TYPE_CHECKING:
    from airflow_provider_hca.operators.dss import DSSOperator
    from tests.local.server import LocalDSS


def accept_files(dss: LocalDSS, patch: pytest.MonkeyPatch, count: int) -> None:
    """Let the DSS register some files and answer 503 to all others, which an upload retries until it is stopped.

    :param dss: Local DSS
    :param patch: Fixture that sets the connection
    :param count: Number of files to register
    """
    patch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_seconds=3600, retry_attempts=100_000))
    puts = {"method": "PUT", "path": "/files/"}
    dss.control("POST", "faults", {**puts, "action": "slow", "seconds": 0, "times": count})
    dss.control("POST", "faults", {**puts, "action": "status", "status": 503, "times": 1_000_000})


def accepted_files(dss: LocalDSS) -> int:
    """Return the number of `PUT /files` requests that the DSS has accepted since the start of the test."""
    return sum(
        request["count"]
        for request in dss.control("GET", "requests")
        if request["method"] == "PUT" and "/files/" in request["path"] and request["status"] < 300
    )


@contextmanager
def killed_when(operator: DSSOperator, condition: Callable[[], object]) -> Iterator[None]:
    """Call `on_kill` during the block, as soon as a condition is met.

    :param operator: Operator that the block executes
    :param condition: Condition to poll
    """
    ended = threading.Event()

    def kill() -> None:
        while not condition():
            if ended.is_set():
                return
            time.sleep(0.05)
        operator.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        ended.set()
        killer.join()


def join_worker_threads() -> None:
    """Wait until all threads of uploads and downloads have ended, except event loops, which transports close."""
    for thread in threading.enumerate():
        if thread.name.startswith("dss-") and thread.name != "dss-loop":
            thread.join()
