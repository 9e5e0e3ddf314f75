"""Airflow's own processes, for what `dag.test()` cannot show: one Airflow with UI for all tests of a worker."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.local.server import LocalDSS

SECRET = "a-secret-of-a-connection"
_COMMANDS = {
    "api-server": ["api-server", "--workers", "1"],
    "dag-processor": ["dag-processor"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
_ROOT = Path(__file__).parents[1]


class Airflow:
    """Airflow with a home, a database and ports of its own, whose processes can be killed.

    :param home: Empty directory for `AIRFLOW_HOME`
    :param database: Initialized SQLite database of Airflow; it is copied
    :param environment: Environment variables for its processes, such as connections
    :ivar url: URL of its API server
    """

    def __init__(self, home: Path, database: Path, environment: Mapping[str, str]) -> None:
        from tests.plugins.auth_manager import USERS

        self.home = home
        self._dags = home / "dags"
        self._dags.mkdir()
        self._database = Path(shutil.copy(database, home / "airflow.db"))
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({name: name for name in USERS}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._tokens: dict[str, str] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            **environment,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._database}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # on a busy machine, 5 s are not enough to start a task
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",  # the first task imports Airflow's providers too
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__AUTH_MANAGER": "tests.plugins.auth_manager.PickyAuthManager",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            # New files are read soon, and never again.
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "86400",
            # Kills are noticed after 15 s instead of 30 s. On a busy machine a heartbeat can be late by 4 s, and a
            # scheduler that takes itself for dead resets the tasks that it runs.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
            "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
            # The end of a task is noticed at its next heartbeat, by default after 5 s.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "PYTHONPATH": str(_ROOT),  # has the auth manager
            "PYTHONUNBUFFERED": "1",
        }

    def add_dag(self, name: str, source: str) -> None:
        """Write a file to the DAGs folder and wait until its DAGs are in the database, unpaused.

        :param name: Name of the file
        :param source: Python source that defines DAGs
        """
        path = self._dags / name
        path.write_text(source)
        self.start("dag-processor")

        def parsed() -> bool:
            errors = self.rows("SELECT stacktrace FROM import_error WHERE filename LIKE ?", f"%{name}")
            assert not errors, errors[0][0]
            return bool(self.rows("SELECT 1 FROM dag WHERE fileloc = ?", str(path)))

        self.wait_for(f"the DAGs of {name}", parsed)

    def start(self, *names: str) -> None:
        """Start processes that do not run.

        :param names: Names of the processes: `api-server`, `dag-processor`, `scheduler`, `triggerer`
        """
        for name in set(names) - set(self._processes):
            with self.log(name).open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "airflow", *_COMMANDS[name]],
                    env=self._environment,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )

    def wait_for(
        self, event: str, condition: Callable[[], Any], seconds: float = 300, *, interval: float = 0.2
    ) -> None:
        """Wait until a condition is true.

        :param event: Name of the event, for the error message
        :param condition: Function that returns whether it happened
        :param seconds: Maximum time in seconds
        :param interval: Seconds between two calls of `condition`
        """
        end = time.monotonic() + seconds
        while not condition():
            for name, process in self._processes.items():
                assert process.poll() is None, f"the {name} ended: {self.log(name).read_text()[-2000:]}"
            assert time.monotonic() < end, f"waited {seconds:.0f} s for {event}"
            time.sleep(interval)

    def kill(self, *names: str) -> None:
        """Kill running processes and their children by SIGKILL, like a crash of the machine.

        :param names: Names of the processes
        """
        for name in names:
            process = self._processes.pop(name)
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for member in family:  # the parent first, so that it cannot report the end of its children
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.send_signal(signal.SIGKILL)
            process.wait(10)
            psutil.wait_procs(family[1:], timeout=10)

    def stop(self) -> None:
        """Kill all processes."""
        self.kill(*self._processes)

    def log(self, name: str) -> Path:
        """Return the path of the log of a process."""
        return self.home / f"{name}.log"

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the result of a query to the database.

        :param query: SQL with a `?` for each value
        """
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=20)) as database:
            return database.execute(query, values).fetchall()

    def wait_until_ready(self) -> None:
        """Wait until the API server answers."""
        self.wait_for("the API server", self._answers)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/api/v2/version", timeout=10).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def token(self, user: str) -> str:
        """Return the token of a user; log in at the first call."""
        if user not in self._tokens:
            body = {"username": user, "password": user}
            answer = requests.post(f"{self.url}/auth/token", json=body, timeout=60)
            assert answer.ok, answer.text
            self._tokens[user] = answer.json()["access_token"]
        return self._tokens[user]

    def call(self, method: str, path: str, user: str | None = "admin", **options: Any) -> requests.Response:
        """Send a request as a user, or without a login."""
        headers = {} if user is None else {"Authorization": f"Bearer {self.token(user)}"}
        return requests.request(method, self.url + path, headers=headers, timeout=60, allow_redirects=False, **options)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call Airflow's REST API as an administrator."""
        answer = self.call(method, f"/api/v2{path}", json=body)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def page(self, path: str, user: str = "admin", **query: Any) -> Any:
        """Return the JSON of the plugin's API for a user."""
        answer = self.call("GET", f"/hca-dss/api/{path}", user, params=query)
        assert answer.ok, answer.text
        return answer.json()

    def start_run(self, dag_id: str, **conf: Any) -> str:
        """Trigger a run of a DAG; return its id."""
        run_id: str = self.api("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        state: str = self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def run(self, dag_id: str, **conf: Any) -> str:
        """Run a DAG to its end; return the id of the run."""
        run_id = self.start_run(dag_id, **conf)
        self.wait_for(f"the end of {dag_id}", lambda: self.run_state(dag_id, run_id) in {"success", "failed"})
        return run_id


@pytest.fixture(scope="session")
def airflow_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start the local DSS of `airflow`, in which bundles of other tests would be on the page and start DAGs."""
    options = ("--async-above", "2000000", "--copy-delay", "3", "--sync-delay", "0.2")
    with LocalDSS(tmp_path_factory.mktemp("airflow-dss"), "--gcs", *options) as dss:
        yield dss


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory, airflow_db: Path, airflow_dss: LocalDSS) -> Iterator[Airflow]:
    """Start an Airflow with a good connection, one to a missing DSS and one of another type; without triggerer.

    Its tests are in the xdist group `airflow`, so that one worker starts it.
    """
    connection = json.loads(airflow_dss.about["connection"])
    connection["extra"]["retry_seconds"] = 2
    environment = {
        **airflow_dss.about["env"],
        "AIRFLOW_CONN_HCA_DSS_DEFAULT": json.dumps(connection),
        "AIRFLOW_CONN_DSS_DOWN": json.dumps({"conn_type": "hca_dss", "host": "http://127.0.0.1:1/v1"}),
        "AIRFLOW_CONN_NOT_A_DSS": json.dumps({"conn_type": "http", "host": "x", "password": SECRET}),
    }
    airflow = Airflow(tmp_path_factory.mktemp("airflow"), airflow_db, environment)
    try:
        airflow.start("api-server", "dag-processor", "scheduler")
        airflow.wait_until_ready()
        yield airflow
    finally:
        airflow.stop()
