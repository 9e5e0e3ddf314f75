"""An Airflow with CeleryExecutor, Redis and PostgreSQL in a directory, on free ports."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg2

from scripts.ingest_cluster.processes import Processes, free_ports, listens

HEARTBEAT_TIMEOUT = 15  # seconds without a heartbeat until Airflow fails a task; 300 by default
_DETECTION_INTERVAL = 5  # seconds between two searches for such tasks
_HOURS = 3600.0


class Cluster:
    """An Airflow with workers that are started and killed.

    :param place: empty directory that the user `postgres` can enter
    :param processes: starts the processes
    :param environment: additional environment variables, such as connections
    """

    def __init__(self, place: Path, processes: Processes, environment: Mapping[str, str]) -> None:
        self._place, self._processes = place, processes
        self._redis, self._database, self._api = free_ports(3)
        self.dags = place / "dags"
        self.dags.mkdir()
        url = f"postgresql+psycopg2://airflow@127.0.0.1:{self._database}/airflow"
        self._environment = {
            **os.environ,
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            **environment,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW_HOME": str(place / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self._api}/execution/",
            "AIRFLOW__CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{self._redis}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{url}",
            "AIRFLOW__CELERY__WORKER_ENABLE_REMOTE_CONTROL": "True",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._api),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            # A task gets its token when it is queued, and LocalExecutor queues all of them at once.
            "AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME": "86400",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": str(_DETECTION_INTERVAL),
        }

    def start(self) -> None:
        """Start all processes except the workers, and wait until they are ready."""
        self._start_stores()
        self._airflow("db", "migrate")
        for name, arguments in {
            "api-server": ["--workers", "1"],
            "scheduler": ["--skip-serve-logs"],
            "dag-processor": [],
        }.items():
            self._processes.start(name, ["airflow", name, *arguments], self._environment)
        self._processes.wait_for("the API server", lambda: listens(self._api), 120)

    def start_worker(self, name: str) -> None:
        """Start a worker that runs one task at a time, and wait until it is ready."""
        command = ["airflow", "celery", "worker", "-H", f"{name}@%h", "-c", "1", "--skip-serve-logs"]
        self._processes.start(name, command, self._environment)
        log = self._place / "logs" / f"{name}.log"
        self._processes.wait_for(f"worker {name}", lambda: f"{name}@" in log.read_text() and _is_ready(log), 120)

    def trigger(self, dag_id: str, run_id: str, logical_date: str) -> None:
        """Wait until a DAG is parsed, and trigger a run.

        :param logical_date: logical date in ISO 8601
        """
        self._processes.wait_for(
            f"the DAG {dag_id}", lambda: self.rows("select 1 from serialized_dag where dag_id = %s", dag_id), 120
        )
        self._airflow("dags", "trigger", dag_id, "--run-id", run_id, "--logical-date", logical_date)

    def run(self, dag_id: str, number: int, meanwhile: Callable[[str], None] = lambda _: None) -> float:
        """Run a DAG, and return its duration in seconds.

        :param number: number of the run, from 1 to 9
        :param meanwhile: called with the id of the run after its start
        :raises RuntimeError: if the run fails
        """
        run_id = f"run_{number}"
        self.trigger(dag_id, run_id, f"2026-03-0{number}T00:00:00+00:00")
        meanwhile(run_id)
        query = "select state, extract(epoch from end_date - start_date) from dag_run where run_id = %s"

        def ended() -> Any:
            state, took = self.rows(query, run_id)[0]
            if state == "failed":
                raise RuntimeError(f"{run_id} failed")
            return float(took) if state == "success" else None

        seconds: float = self._processes.wait_for(run_id, ended, _HOURS)
        return seconds

    def kill_half_way(self, run_id: str, task_id: str, worker: str) -> None:
        """Kill a worker when half of a mapped task is done, while it runs one of them."""
        query = "select state, pid from task_instance where run_id = %s and task_id = %s and map_index >= 0"

        def half_way() -> bool:
            rows = self.rows(query, run_id, task_id)
            done = sum(state == "success" for state, _ in rows)
            own = {process.pid for process in self._processes.family(worker)}
            return done >= len(rows) // 2 and any(state == "running" and pid in own for state, pid in rows)

        self._processes.wait_for(f"half of {task_id}", half_way, _HOURS)
        time.sleep(1)
        self._processes.kill(worker)

    def retries(self, run_id: str) -> list[str]:
        """Return the tasks of a run that were repeated, with their map indexes, once for each repetition."""
        query = "select task_id, map_index, try_number - 1 from task_instance where run_id = %s and try_number > 1"
        return [f"{task_id}[{index}]" for task_id, index, count in self.rows(query, run_id) for _ in range(count)]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query.

        :param query: query with a `%s` for each value
        """
        where = {"host": "127.0.0.1", "port": self._database, "user": "airflow", "dbname": "airflow"}
        connection = psycopg2.connect(**where)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def _start_stores(self) -> None:
        data = self._place / "postgres"
        data.mkdir()
        bin_directory = _postgres()
        options: dict[str, Any] = {"cwd": data}
        if os.getuid() == 0:  # PostgreSQL does not run as root
            shutil.chown(data, "postgres", "postgres")
            options["user"] = "postgres"
        init = [
            str(bin_directory / "initdb"),
            "-D",
            str(data / "db"),
            "-U",
            "airflow",
            "--auth=trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL, **options)
        listening = ["-p", str(self._database), "-k", str(data), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command = [str(bin_directory / "postgres"), "-D", str(data / "db"), *listening]
        self._processes.start("postgres", command, os.environ, **options)
        redis = [
            "redis-server",
            "--port",
            str(self._redis),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self._place),
        ]
        self._processes.start("redis", redis, os.environ)
        self._processes.wait_for("PostgreSQL", self._create_database, 60)
        self._processes.wait_for("Redis", lambda: listens(self._redis), 60)

    def _create_database(self) -> bool:
        """Create Airflow's database; return False if PostgreSQL is not ready."""
        where = {"host": "127.0.0.1", "port": self._database, "user": "airflow", "dbname": "postgres"}
        try:
            connection = psycopg2.connect(**where)
        except psycopg2.OperationalError:
            return False
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("create database airflow")
        connection.close()
        return True

    def _airflow(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"airflow {' '.join(arguments)}: {(done.stdout + done.stderr)[-2000:]}")


def _postgres() -> Path:
    """Return the directory of PostgreSQL's programs: in Debian only some are on the path."""
    paths = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    return paths[-1].parent if paths else Path(str(shutil.which("initdb"))).parent


def _is_ready(log: Path) -> bool:
    return " ready." in log.read_text()
