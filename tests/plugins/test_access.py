from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.routing import APIRoute

from airflow_provider_hca.plugins.app import make_app
from tests.local.server import VERSION, new_uuid
from tests.plugins.airflow import ROLES
from tests.plugins.auth_manager import ONLOOKER, OUTSIDER, STRANGER
from tests.plugins.conftest import SECRET, Ingested

if TYPE_CHECKING:
    import requests

    from tests.local.server import LocalDSS
    from tests.plugins.airflow import AirflowWithUI

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_CONNECTIONS = "/hca-dss/api/connections"
_HEALTH = f"{_CONNECTIONS}/hca_dss_default/health"


def _addresses() -> list[str]:
    """Return an address for each route of the page, with all that it wants."""
    values = {"{connection_id}": "hca_dss_default", "{uuid}": new_uuid(), "{name}": "main.js"}
    found = []
    for route in make_app().routes:
        assert isinstance(route, APIRoute), f"{route} has no permissions"
        path = route.path
        for name, value in values.items():
            path = path.replace(name, value)
        found.append(f"/hca-dss{path}?replica=aws&version={VERSION}&dag_id=ingest&run_id=x&fqid=x")
    return found


def _statuses(airflow: AirflowWithUI, user: str | None) -> dict[str, int]:
    return {address: airflow.call("GET", address, user).status_code for address in _addresses()}


def test_without_login_no_route_answers(airflow: AirflowWithUI) -> None:
    """Without login every route, also those of scripts, style and icons, answers 401."""
    statuses = _statuses(airflow, None)
    assert len(statuses) == 15
    assert set(statuses.values()) == {401}


def test_a_wrong_token_is_no_login(airflow: AirflowWithUI) -> None:
    """A token that is none, or another server's, is refused by every route."""
    for address in _addresses():
        answer = _with_token(airflow, address, "eyJhbGciOiJIUzI1NiJ9.e30.xyz")
        assert answer.status_code in {401, 403}, address


def test_who_may_not_see_plugins_sees_nothing(airflow: AirflowWithUI) -> None:
    """An administrator who is kept from plugins gets 403 from every route, and no entry in the navigation."""
    assert set(_statuses(airflow, STRANGER).values()) == {403}
    assert airflow.call("GET", "/api/v2/plugins", STRANGER).status_code == 403


def test_a_user_without_a_role_sees_nothing(airflow: AirflowWithUI) -> None:
    """Who has logged in and may do nothing at all gets 403 from every route."""
    manager = SimpleAuthManager()  # type: ignore[no-untyped-call]  # Airflow ships it so
    token = manager.generate_jwt(SimpleAuthManagerUser(username="nobody", role=None))
    for address in _addresses():
        assert _with_token(airflow, address, token).status_code == 403, address


def _with_token(airflow: AirflowWithUI, address: str, token: str) -> requests.Response:
    return airflow.call("GET", address, None, cookies={"_token": token})


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_what_it_may_see_elsewhere(airflow: AirflowWithUI, ingested: Ingested, role: str) -> None:
    """All roles see bundles and runs; the health of connections is for those who may read connections."""
    may_read = role in {"op", "admin"}
    assert airflow.call("GET", "/api/v2/connections", role).status_code == (200 if may_read else 403)
    assert airflow.call("GET", _HEALTH, role).status_code == (200 if may_read else 403)
    assert airflow.call("GET", "/hca-dss/connections", role).status_code == (200 if may_read else 403)
    assert airflow.page("connections", role)["readable"] is may_read
    bundles = airflow.page("connections/hca_dss_default/bundles", role, replica="aws")["bundles"]
    assert ingested.uuid in {each["uuid"] for each in bundles}
    assert airflow.page("run", role, dag_id="ingest", run_id=ingested.run_id)["ingests"]
    assert airflow.call("GET", "/hca-dss/", role).status_code == 200


@pytest.mark.parametrize("user", [OUTSIDER, ONLOOKER])
def test_a_dag_that_somebody_may_not_read_is_not_there_for_him(
    airflow: AirflowWithUI, ingested: Ingested, hidden: Ingested, user: str
) -> None:
    """Its run answers 403, neither its ingests are listed nor who made its bundle: its XComs are what counts."""
    run = {"dag_id": "hidden", "run_id": hidden.run_id}
    for address in ("/hca-dss/run", "/hca-dss/api/run"):
        assert airflow.call("GET", address, user, params=run).status_code == 403
        assert airflow.call("GET", address, "viewer", params=run).status_code == 200
    fqids = [f"{each.uuid}.{each.version}" for each in (ingested, hidden)]
    assert set(airflow.page("makers", "viewer", fqid=fqids)["makers"]) == set(fqids)
    assert set(airflow.page("makers", user, fqid=fqids)["makers"]) == {fqids[0]}
    assert "hidden" in {each["dag_id"] for each in airflow.page("ingests", "viewer")["ingests"]}
    assert "hidden" not in {each["dag_id"] for each in airflow.page("ingests", user)["ingests"]}


def test_only_connections_to_a_dss_are_used(airflow: AirflowWithUI) -> None:
    """Through a connection of another type nothing is sent, nor is it told whether there is one."""
    for path in ("health", "bundles?replica=aws", f"bundles/{new_uuid()}?replica=aws"):
        other = airflow.call("GET", f"{_CONNECTIONS}/not_a_dss/{path}")
        missing = airflow.call("GET", f"{_CONNECTIONS}/not_there/{path}")
        assert (other.status_code, missing.status_code) == (404, 404)
        assert other.text.replace("not_a_dss", "") == missing.text.replace("not_there", "")


def test_no_secret_reaches_the_browser(airflow: AirflowWithUI, ingested: Ingested, ui_dss: LocalDSS) -> None:
    """Neither the token nor the key of a connection is in any answer, also when something is wrong."""
    bundle = f"bundles/{ingested.uuid}?replica=aws"
    refused = {"method": "GET", "path": "/bundles", "action": "status", "status": 401, "times": 4}
    ui_dss.control("POST", "faults", refused)
    told = [
        airflow.call("GET", f"{_CONNECTIONS}/{connection}/{path}").text
        for connection in ("dss_token", "hca_dss_default", "dss_down", "not_a_dss")
        for path in ("health", "bundles?replica=aws", bundle)
    ]
    ui_dss.control("DELETE", "faults")
    told += [airflow.call("GET", address).text for address in _addresses()]
    stored = airflow.api("GET", "/connections/dss_token")
    assert stored["password"] in {"***", None}
    for text in told:
        assert "eyJ" not in text
        assert "PRIVATE KEY" not in text
        assert SECRET not in text


def test_every_answer_forbids_foreign_scripts_and_is_kept_by_nobody(airflow: AirflowWithUI) -> None:
    """All answers say that nothing but the page's own scripts runs, and that no cache is to keep them for others."""
    for address in _addresses():
        headers = airflow.call("GET", address).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';"), address
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"].startswith(("no-store", "private")), address
        assert headers["x-content-type-options"] == "nosniff"
