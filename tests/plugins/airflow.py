"""Airflow with its UI and a user for each role."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.airflow_processes import Airflow
from tests.plugins.auth_manager import ONLOOKER, OUTSIDER, READER, STRANGER

ROLES = ("viewer", "user", "op", "admin")
USERS = {**{role: role for role in ROLES}, STRANGER: "admin", OUTSIDER: "viewer", ONLOOKER: "viewer", READER: "op"}
_ROOT = Path(__file__).parents[2]


class AirflowWithUI(Airflow):
    """Airflow with UI and scheduler.

    :param home: Empty directory for `AIRFLOW_HOME`
    :param database: Initialized SQLite database of Airflow; it is copied
    :param environment: Environment variables for its processes, such as connections
    """

    def __init__(self, home: Path, database: Path, environment: Mapping[str, str]) -> None:
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({name: name for name in USERS}))
        users = {
            "AIRFLOW__CORE__AUTH_MANAGER": "tests.plugins.auth_manager.PickyAuthManager",
            "PYTHONPATH": str(_ROOT),  # has the auth manager
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        }
        super().__init__(home, database, {**environment, **users})
        self._tokens: dict[str, str] = {}

    def begin(self, dags: Path) -> None:
        """Parse the DAGs, start the processes and wait until the API answers.

        :param dags: Path of the file that defines them
        """
        self.start("ui")
        self.add_dag(dags.name, dags.read_text())
        self.start("scheduler")
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
        """Return the JSON of the page's API for a user."""
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
