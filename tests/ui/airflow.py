"""An Airflow with its UI, and a user for each role, and what tests ask of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.airflow_processes import Airflow, wait_for

ROLES = ("viewer", "user", "op", "admin")
_PROCESSES = ("ui", "scheduler")


class AirflowWithUI(Airflow):
    """An Airflow whose pages can be looked at, and whose scheduler runs DAGs.

    :param home: an empty directory
    :param database: an Airflow database in SQLite, which is copied
    :param dags: the DAGs folder
    :param environment: what its processes need besides, such as connections
    """

    def __init__(self, home: Path, database: Path, dags: Path, environment: Mapping[str, str]) -> None:
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({role: role for role in ROLES}))
        users = {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{role}:{role}" for role in ROLES),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        }
        super().__init__(home, database, dags, {**environment, **users})
        self._tokens: dict[str, str] = {}

    def begin(self) -> None:
        """Read the DAGs, start what is needed, and wait until it works."""
        self.parse_dags()
        self.start(*_PROCESSES)
        self.wait_until_healthy(*_PROCESSES, seconds=180)

    def token(self, role: str) -> str:
        """Return the token of the user with that role, who logs in at the first time."""
        if role not in self._tokens:
            body = {"username": role, "password": role}
            answer = requests.post(f"{self.url}/auth/token", json=body, timeout=60)
            assert answer.ok, answer.text
            self._tokens[role] = answer.json()["access_token"]
        return self._tokens[role]

    def call(self, method: str, path: str, role: str | None = "admin", **options: Any) -> requests.Response:
        """Send a request as the user with that role, or without login."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.token(role)}"}
        return requests.request(method, self.url + path, headers=headers, timeout=60, allow_redirects=False, **options)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Use Airflow's own interface as an administrator."""
        answer = self.call(method, f"/api/v2{path}", json=body)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def page(self, path: str, role: str | None = "admin", **query: Any) -> Any:
        """Return what the page's own interface answers."""
        answer = self.call("GET", f"/hca-dss/api/{path}", role, params=query)
        assert answer.ok, answer.text
        return answer.json()

    def start_run(self, dag_id: str, **conf: Any) -> str:
        """Begin a run of a DAG; return its id."""
        run_id: str = self.api("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return how a run is."""
        state: str = self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def run(self, dag_id: str, **conf: Any) -> str:
        """Run a DAG to its end; return the id of the run."""
        run_id = self.start_run(dag_id, **conf)
        wait_for(f"the end of {dag_id}", lambda: self.run_state(dag_id, run_id) in {"success", "failed"}, 120)
        return run_id
