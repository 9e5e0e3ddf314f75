"""Airflow's own processes, each started, killed and started again: what `dag.test()` cannot show."""

from __future__ import annotations

import contextlib
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


class Airflow:
    """An Airflow with a home, a database and ports of its own, whose processes can be killed.

    :param home: an empty directory
    :param database: an Airflow database in SQLite, which is copied
    :param environment: what its processes need besides, such as connections
    :ivar url: of its API server, once that is started
    """

    def __init__(self, home: Path, database: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        self._dags = home / "dags"
        self._dags.mkdir()
        self._database = Path(shutil.copy(database, home / "airflow.db"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            **environment,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._database}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags),
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
            # A task that has ended is noticed at the next heartbeat, by default after five seconds.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def add_dag(self, name: str, source: str) -> None:
        """Put a file into the DAGs folder, and have that read into the database.

        :param name: of the file
        :param source: what defines the DAG, which need not be unpaused
        """
        (self._dags / name).write_text(source)
        command = [sys.executable, "-m", "airflow", "dag-processor", "--num-runs", "1"]
        with self.log("dag-processor").open("ab") as log:
            subprocess.run(command, env=self._environment, stdout=log, stderr=log, check=True, timeout=300)

    def start(self, *names: str) -> None:
        """Start processes that do not run yet.

        :param names: of `COMMANDS`
        """
        for name in set(names) - set(self._processes):
            with self.log(name).open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "airflow", *COMMANDS[name]],
                    env=self._environment,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )

    def wait_for(self, what: str, condition: Callable[[], Any], seconds: float = 300, *, every: float = 0.2) -> None:
        """Wait until a condition is true.

        :param what: is waited for, for the error
        :param seconds: how long at most
        :param every: seconds between two looks
        """
        end = time.monotonic() + seconds
        while not condition():
            for name, process in self._processes.items():
                assert process.poll() is None, f"the {name} ended: {self.log(name).read_text()[-2000:]}"
            assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
            time.sleep(every)

    def kill(self, *names: str) -> None:
        """Kill processes and their descendants, like a crash of the machine.

        :param names: names of running processes
        """
        for name in names:
            process = self._processes.pop(name)
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for member in family:  # the parent first: it could report the end of its children
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.send_signal(signal.SIGKILL)
            process.wait(10)
            psutil.wait_procs(family[1:], timeout=10)

    def stop(self) -> None:
        """End all processes."""
        self.kill(*self._processes)

    def log(self, name: str) -> Path:
        """Return the log of a process.

        :param name: key of `COMMANDS`, or `dag-processor`
        """
        return self.home / f"{name}.log"

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query.

        :param query: SQL with a `?` for each value
        """
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=20)) as database:
            return database.execute(query, values).fetchall()
