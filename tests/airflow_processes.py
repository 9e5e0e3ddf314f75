"""Airflow's own processes, each started, killed and started again: what `dag.test()` cannot show."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

COMMANDS = {
    "api-server": ["api-server", "--apps", "execution", "--workers", "1"],
    "ui": ["api-server", "--workers", "1"],  # all of it: pages, interface, and what tasks use
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
_JOBS = {"scheduler": "SchedulerJob", "triggerer": "TriggererJob"}


def wait_for(what: str, condition: Callable[[], Any], seconds: float, *, every: float = 0.2) -> Any:
    """Return what a condition returns once it is true.

    :param what: is waited for, for the error
    :param seconds: how long at most
    :param every: seconds between two looks
    """
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(every)
    return result


class Airflow:
    """An Airflow with a home, a database and ports of its own, whose processes can be killed.

    :param home: an empty directory
    :param database: an Airflow database in SQLite, which is copied
    :param dags: the DAGs folder
    :param environment: what its processes need besides, such as connections
    """

    def __init__(self, home: Path, database: Path, dags: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        self._database = Path(shutil.copy(database, home / "airflow.db"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._address = ("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            **environment,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._database}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            # So that a killed one is missed soon, and not after half a minute.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
            "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "4",
            "PYTHONUNBUFFERED": "1",
        }

    def parse_dags(self) -> None:
        """Have the DAGs folder read into the database, once."""
        command = [sys.executable, "-m", "airflow", "dag-processor", "--num-runs", "1"]
        with self.log("dag-processor").open("ab") as log:
            subprocess.run(command, env=self._environment, stdout=log, stderr=log, check=True, timeout=60)

    def start(self, *names: str) -> None:
        """Start processes.

        :param names: of `COMMANDS`
        """
        for name in names:
            with self.log(name).open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "airflow", *COMMANDS[name]],
                    env=self._environment,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )

    def wait_until_healthy(self, *names: str, seconds: float = 60) -> None:
        """Wait until processes do their work.

        :param names: of `COMMANDS`
        :param seconds: how long at most
        """
        for name in names:
            wait_for(f"the {name}", functools.partial(self._is_healthy, name), seconds)

    def _is_healthy(self, name: str) -> bool:
        process = self._processes[name]
        assert process.poll() is None, f"the {name} ended: {self.log(name).read_text()[-2000:]}"
        if name in {"api-server", "ui"}:
            with contextlib.suppress(OSError), socket.create_connection(self._address, timeout=1):
                return True
            return False
        since = psutil.Process(process.pid).create_time()
        query = "SELECT 1 FROM job WHERE job_type = ? AND state = 'running' AND unixepoch(latest_heartbeat) > ?"
        return bool(self.rows(query, _JOBS[name], since))

    def kill(self, *names: str) -> None:
        """End processes, with all that they started, as a crash of the machine does: by SIGKILL.

        :param names: of those that run
        """
        for name in names:
            process = self._processes.pop(name)
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for member in family:  # the parent first, which could tell of its children's end
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.send_signal(signal.SIGKILL)
            process.wait(10)
            psutil.wait_procs(family[1:], timeout=10)

    def stop(self) -> None:
        """End all processes."""
        self.kill(*self._processes)

    def log(self, name: str) -> Path:
        """Return where a process writes what it says.

        :param name: of `COMMANDS`, or `dag-processor`
        """
        return self.home / f"{name}.log"

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds in the database.

        :param query: with a `?` for each value
        """
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=20)) as database:
            return database.execute(query, values).fetchall()
