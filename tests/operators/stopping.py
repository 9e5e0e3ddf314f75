"""Helpers for tests of tasks that are stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.running import requests_of

if TYPE_CHECKING:
    from airflow_provider_hca.operators.dss import DSSOperator
    from tests.local.server import LocalDSS


@contextmanager
def killed_after_first_request(operator: DSSOperator, dss: LocalDSS, method: str) -> Iterator[None]:
    """Call `on_kill` during the block, after the DSS has answered the first request for a file.

    :param operator: Operator that the block executes
    :param dss: Local DSS
    :param method: Method of the request
    """

    def kill() -> None:
        while not requests_of(dss, method, "/v1/files/"):
            time.sleep(0.05)
        operator.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    yield
    killer.join()


def join_worker_threads() -> None:
    """Wait until all threads of uploads and downloads have ended."""
    for thread in threading.enumerate():
        if thread.name.startswith("dss-"):
            thread.join()
