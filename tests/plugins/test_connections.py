from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.secrets import BaseSecretsBackend
from airflow.utils.session import create_session
from fastapi import HTTPException

from airflow_provider_hca.plugins.bundles import list_bundles
from airflow_provider_hca.plugins.connections import health, list_connections
from tests.plugins.auth_manager import READER
from tests.running import requests_of

if TYPE_CHECKING:
    from tests.airflow_processes import Airflow
    from tests.local.server import LocalDSS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]


def test_list_has_stored_connections_and_those_of_the_environment(airflow: Airflow) -> None:
    assert airflow.page("connections")["connections"] == ["hca_dss_default", "dss_down", "dss_token"]


def test_health_of_a_good_connection(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    for connection, kind in (("hca_dss_default", "service account key"), ("dss_token", "token")):
        health = airflow.page(f"connections/{connection}/health")
        assert health.pop("seconds") < 60
        assert health == {
            "ok": True,
            "message": f"{airflow_dss.url} answers and accepts the token",
            "host": airflow_dss.url,
            "credentials": kind,
            "read_only": False,
        }


def test_health_of_a_bad_connection_names_the_problem(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    down = airflow.page("connections/dss_down/health")
    assert not down["ok"]
    assert "connection refused" in down["message"]
    assert (down["credentials"], down["seconds"]) == ("none, read only", None)  # it did not answer
    unauthorized = {"action": "status", "status": 401, "times": 9}
    for method, path in (("GET", "/collections"), ("PUT", "/files/")):
        airflow_dss.control("POST", "faults", {"method": method, "path": path, **unauthorized})
    health = airflow.page("connections/dss_token/health")
    airflow_dss.control("DELETE", "faults")
    assert not health["ok"]
    assert "Check the credentials of this connection" in health["message"]


@pytest.mark.parametrize("scheme", ["https://", ""])
def test_health_hides_a_password_in_the_host(airflow: Airflow, scheme: str) -> None:
    stored = {"connection_id": "dss_user", "conn_type": "hca_dss", "host": f"{scheme}me:hunter22@dss.example.org/v1"}
    airflow.api("POST", "/connections", stored)
    try:
        bundles = airflow.call("GET", "/hca-dss/api/connections/dss_user/bundles?replica=aws")
        assert bundles.status_code == 409
        assert "hunter22" not in bundles.text
        answer = airflow.call("GET", "/hca-dss/api/connections/dss_user/health")
        assert (answer.status_code, answer.json()["ok"], answer.json()["host"]) == (200, False, "")
        assert "hunter22" not in answer.text
    finally:
        airflow.api("DELETE", "/connections/dss_user")


def test_health_without_permission_to_test_sends_no_token(airflow: Airflow, airflow_dss: LocalDSS) -> None:
    airflow_dss.control("DELETE", "requests")
    answer = airflow.page("connections/dss_token/health", READER)
    assert answer.pop("seconds") < 60
    assert answer == {
        "ok": True,
        "message": f"{airflow_dss.url} answers. "
        "Credentials were not tested: you may read connections, but not test them",
        "host": airflow_dss.url,
        "credentials": "",
        "read_only": False,
    }
    assert requests_of(airflow_dss, "GET", "/v1/collections") == 0
    assert airflow.page("connections/dss_token/health", "op")["credentials"] == "token"
    assert requests_of(airflow_dss, "GET", "/v1/collections") == 1


@pytest.mark.parametrize("setting", ["Disabled", "Hidden"])
def test_health_with_tests_disabled_sends_no_token(
    airflow_dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", setting)
    extra = {"key_path": "/no/such/key.json"}
    monkeypatch.setenv(
        "AIRFLOW_CONN_KEYED", json.dumps({"conn_type": "hca_dss", "host": airflow_dss.url, "extra": extra})
    )
    airflow_dss.control("DELETE", "requests")
    answer = asyncio.run(health("keyed", SimpleAuthManagerUser(username="a", role="admin")))
    assert answer.ok
    assert answer.message == (
        f"{airflow_dss.url} answers. Credentials were not tested: [core] test_connection is {setting}"
    )
    assert (answer.host, answer.credentials, answer.read_only) == (airflow_dss.url, "", False)
    assert requests_of(airflow_dss, "GET", "/v1/collections") == 0
    assert requests_of(airflow_dss, "GET", "/v1/bundles") + requests_of(airflow_dss, "HEAD", "/v1/bundles") == 1
    monkeypatch.setenv("AIRFLOW_CONN_KEYED", json.dumps({"conn_type": "hca_dss", "host": "me:hunter22@dss"}))
    answer = asyncio.run(health("keyed", SimpleAuthManagerUser(username="a", role="admin")))
    assert (answer.ok, answer.host) == (False, "")
    assert "hunter22" not in answer.message
    for password, credentials in {"": "none, read only", "a.b.c": ""}.items():
        values = {"conn_type": "hca_dss", "host": airflow_dss.url, "password": password}
        monkeypatch.setenv("AIRFLOW_CONN_KEYED", json.dumps(values))
        answer = asyncio.run(health("keyed", SimpleAuthManagerUser(username="a", role="admin")))
        assert (answer.ok, answer.credentials, answer.read_only) == (True, credentials, not password)


@pytest.mark.parametrize(("host", "seconds"), [(None, float), ("", type(None))], ids=["read only", "without host"])
def test_health_without_credentials(
    airflow_dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, host: str | None, seconds: type
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    url = airflow_dss.url if host is None else host
    monkeypatch.setenv("AIRFLOW_CONN_PLAIN", json.dumps({"conn_type": "hca_dss", "host": url}))
    answer = asyncio.run(health("plain", SimpleAuthManagerUser(username="a", role="admin")))
    assert (answer.ok, answer.read_only) == ((True, True) if url else (False, False))
    assert isinstance(answer.seconds, seconds)


class RecordingBackend(BaseSecretsBackend):
    """Empty secrets backend that records requested ids."""

    conn_ids: ClassVar[list[str]] = []

    def get_conn_value(self, conn_id: str, *_: Any, **__: Any) -> None:
        """Record the id."""
        self.conn_ids.append(conn_id)


@pytest.mark.usefixtures("airflow_db")
def test_list_asks_secrets_backends_for_the_default_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", f"{RecordingBackend.__module__}.{RecordingBackend.__name__}")
    for name, connection in (("ONE", '{"conn_type": "hca_dss"}'), ("OTHER", '{"conn_type": "http"}')):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", connection)
    create_auth_manager()
    RecordingBackend.conn_ids.clear()
    with create_session() as session:
        listed = list_connections(SimpleAuthManagerUser(username="a", role="admin"), session)
    assert "one" in listed.connections
    assert "other" not in listed.connections
    assert set(RecordingBackend.conn_ids) == {"hca_dss_default"}


MALFORMED = (
    "{",
    "[]",
    "3",
    "null",
    '{"nope": 1}',
    '{"conn_type": 5}',
    '{"conn_type": "http", "port": "x"}',
    '{"extra": {"a"}}',
    "http://[",
    "http://host:port",
    "http://host:99999999",
    "a://b://c://d",
    "%",
)


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.parametrize("malformed", MALFORMED)
def test_malformed_connection_of_any_type_hides_no_other(monkeypatch: pytest.MonkeyPatch, malformed: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ONE", '{"conn_type": "hca_dss"}')
    for name in ("BROKEN", "HCA_DSS_DEFAULT", ""):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", malformed)
    create_auth_manager()
    user = SimpleAuthManagerUser(username="a", role="admin")
    with create_session() as session:
        assert "one" in list_connections(user, session).connections
    for request in (list_bundles("broken", "aws"), health("broken", user)):
        with pytest.raises(HTTPException, match="no connection 'broken' of type 'hca_dss'") as caught:
            asyncio.run(request)
        assert caught.value.status_code == 404
