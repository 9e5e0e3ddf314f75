from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.local.server import LocalDSS
    from tests.ui.airflow import AirflowWithUI


def test_stored_ones_and_those_of_the_environment_are_listed(airflow: AirflowWithUI) -> None:
    """All connections of the type are listed by id, the default one first, and none of another type."""
    assert airflow.page("connections")["connections"] == ["hca_dss_default", "dss_down", "dss_token"]


def test_a_good_connection_is_healthy(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """A connection whose DSS takes its token is healthy; told are host and kind of credentials."""
    for connection, kind in (("hca_dss_default", "service account key"), ("dss_token", "token")):
        health = airflow.page(f"connections/{connection}/health")
        assert health.pop("seconds") < 10
        assert health == {
            "ok": True,
            "message": f"{ui_dss.url} answers and takes the token",
            "host": ui_dss.url,
            "credentials": kind,
        }


def test_a_bad_connection_says_what_is_wrong(airflow: AirflowWithUI, ui_dss: LocalDSS) -> None:
    """A DSS that is down, and one that refuses the token, are told in the words of the connection's own test."""
    down = airflow.page("connections/dss_down/health")
    assert not down["ok"]
    assert "the connection was refused" in down["message"]
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
