from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.secrets import BaseSecretsBackend
from airflow.utils.session import create_session

from airflow_provider_hca.plugins.connections import health, list_connections
from tests.plugins.auth_manager import READER
from tests.running import requests_of

if TYPE_CHECKING:
    from tests.local.server import LocalDSS
    from tests.plugins.airflow import AirflowWithUI

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]


def test_stored_ones_and_those_of_the_environment_are_listed(airflow: AirflowWithUI) -> None:
    """All connections of the type are listed by id, the default one first, and none of another type."""
    assert airflow.page("connections")["connections"] == ["hca_dss_default", "dss_down", "dss_token"]


def test_a_good_connection_is_healthy(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """A connection whose DSS takes its token is healthy; told are host and kind of credentials."""
    for connection, kind in (("hca_dss_default", "service account key"), ("dss_token", "token")):
        health = airflow.page(f"connections/{connection}/health")
        assert health.pop("seconds") < 60
        assert health == {
            "ok": True,
            "message": f"{ui_dss.url} answers and accepts the token",
            "host": ui_dss.url,
            "credentials": kind,
        }


def test_a_bad_connection_says_what_is_wrong(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """A DSS that is down, and one that refuses the token, are told in the words of the connection's own test."""
    down = airflow.page("connections/dss_down/health")
    assert not down["ok"]
    assert "connection refused" in down["message"]
    assert down["credentials"] == "none: reads only"
    refused = {"action": "status", "status": 401, "times": 9}
    for method, path in (("GET", "/collections"), ("PUT", "/files/")):
        ui_dss.control("POST", "faults", {"method": method, "path": path, **refused})
    health = airflow.page("connections/dss_token/health")
    ui_dss.control("DELETE", "faults")
    assert not health["ok"]
    assert "Check the credentials of this connection" in health["message"]


@pytest.mark.parametrize("scheme", ["https://", ""])
def test_a_password_in_the_host_is_not_shown(airflow: AirflowWithUI, scheme: str) -> None:
    """A host with a user and a password in it is wrong, and is told to be without being repeated."""
    wrong = {"connection_id": "dss_user", "conn_type": "hca_dss", "host": f"{scheme}me:hunter22@dss.example.org/v1"}
    airflow.api("POST", "/connections", wrong)
    try:
        bundles = airflow.call("GET", "/hca-dss/api/connections/dss_user/bundles?replica=aws")
        assert bundles.status_code == 409
        assert "hunter22" not in bundles.text
        answer = airflow.call("GET", "/hca-dss/api/connections/dss_user/health")
        assert (answer.status_code, answer.json()["ok"], answer.json()["host"]) == (200, False, "")
        assert "hunter22" not in answer.text
    finally:
        airflow.api("DELETE", "/connections/dss_user")


def test_credentials_are_not_tried_for_who_may_only_read(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """Who may not test connections in Airflow's form learns whether the DSS answers, and why no more."""
    ui_dss.control("DELETE", "requests")
    told = airflow.page("connections/dss_token/health", READER)
    assert told.pop("seconds") < 60
    assert told == {
        "ok": True,
        "message": f"{ui_dss.url} answers. Credentials were not tried: you may read connections, but not test them",
        "host": ui_dss.url,
        "credentials": "",
    }
    assert requests_of(ui_dss, "GET", "/v1/collections") == 0
    assert airflow.page("connections/dss_token/health", "op")["credentials"] == "token"
    assert requests_of(ui_dss, "GET", "/v1/collections") == 1


@pytest.mark.parametrize("setting", ["Disabled", "Hidden"])
def test_credentials_are_not_tried_where_airflow_tests_no_connections(
    ui_dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """Without `[core] test_connection` only whether the DSS answers is looked at: no key is read, no token is sent."""
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", setting)
    extra = {"key_path": "/no/such/key.json"}
    monkeypatch.setenv("AIRFLOW_CONN_KEYED", json.dumps({"conn_type": "hca_dss", "host": ui_dss.url, "extra": extra}))
    ui_dss.control("DELETE", "requests")
    told = asyncio.run(health("keyed", SimpleAuthManagerUser(username="a", role="admin")))
    assert told.ok
    assert told.message == (f"{ui_dss.url} answers. Credentials were not tried: [core] test_connection is {setting}")
    assert (told.host, told.credentials) == (ui_dss.url, "")
    assert requests_of(ui_dss, "GET", "/v1/collections") == 0
    assert requests_of(ui_dss, "GET", "/v1/bundles") + requests_of(ui_dss, "HEAD", "/v1/bundles") == 1
    monkeypatch.setenv("AIRFLOW_CONN_KEYED", json.dumps({"conn_type": "hca_dss", "host": "me:hunter22@dss"}))
    told = asyncio.run(health("keyed", SimpleAuthManagerUser(username="a", role="admin")))
    assert (told.ok, told.host) == (False, "")
    assert "hunter22" not in told.message


class Asked(BaseSecretsBackend):
    """A secrets backend that has nothing, and remembers what it was asked for."""

    conn_ids: ClassVar[list[str]] = []

    def get_conn_value(self, conn_id: str, *_: Any, **__: Any) -> None:
        """Remember the id."""
        self.conn_ids.append(conn_id)


@pytest.mark.usefixtures("airflow_db")
def test_those_of_the_environment_are_asked_for_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """To list connections of the environment, a secrets backend is asked for the default only."""
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", f"{Asked.__module__}.{Asked.__name__}")
    for name, made in (("ONE", {"conn_type": "hca_dss"}), ("OTHER", {"conn_type": "http"}), ("BROKEN", "{")):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", made if isinstance(made, str) else json.dumps(made))
    create_auth_manager()
    Asked.conn_ids.clear()
    with create_session() as session:
        listed = list_connections(SimpleAuthManagerUser(username="a", role="admin"), session)
    assert "one" in listed.connections
    assert not {"other", "broken"} & set(listed.connections)
    assert set(Asked.conn_ids) == {"hca_dss_default"}
