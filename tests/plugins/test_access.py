from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.routing import APIRoute

from airflow_provider_hca.plugins.app import make_app
from tests.airflow_processes import SECRET
from tests.local.server import VERSION, new_uuid
from tests.plugins.auth_manager import ONLOOKER, OUTSIDER, ROLES, STRANGER
from tests.plugins.conftest import Ingested

if TYPE_CHECKING:
    import requests

    from tests.airflow_processes import Airflow
    from tests.local.server import LocalDSS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_CONNECTIONS = "/hca-dss/api/connections"
_HEALTH = f"{_CONNECTIONS}/hca_dss_default/health"


def _addresses() -> list[str]:
    """Return an address for each route of the page, with all parameters."""
    values = {"{connection_id}": "hca_dss_default", "{uuid}": new_uuid(), "{name}": "main.js", "{asset_id}": "1"}
    addresses = []
    for route in make_app().routes:
        assert isinstance(route, APIRoute), f"{route} has no permissions"
        path = route.path
        for name, value in values.items():
            path = path.replace(name, value)
        addresses.append(
            f"/hca-dss{path}?replica=aws&version={VERSION}&dag_id=ingest&run_id=x&task_id=x&fqid=x&uuid={new_uuid()}&text=x&connection=x"
        )
    return addresses


def _statuses(airflow: Airflow, user: str | None) -> dict[str, int]:
    return {address: airflow.call("GET", address, user).status_code for address in _addresses()}


def test_routes_without_login_answer_401(airflow: Airflow) -> None:
    statuses = _statuses(airflow, None)
    assert len(statuses) == 20
    assert set(statuses.values()) == {401}


def test_routes_with_an_invalid_token_answer_401(airflow: Airflow) -> None:
    for address in _addresses():
        answer = _with_token(airflow, address, "eyJhbGciOiJIUzI1NiJ9.e30.xyz")
        assert answer.status_code in {401, 403}, address


def test_routes_without_permission_to_see_plugins_answer_403(airflow: Airflow) -> None:
    assert set(_statuses(airflow, STRANGER).values()) == {403}
    assert airflow.call("GET", "/api/v2/plugins", STRANGER).status_code == 403


def test_routes_without_a_role_answer_403(airflow: Airflow) -> None:
    manager = SimpleAuthManager()  # type: ignore[no-untyped-call]  # untyped in Airflow
    token = manager.generate_jwt(SimpleAuthManagerUser(username="roleless", role=None))
    for address in _addresses():
        assert _with_token(airflow, address, token).status_code == 403, address


def _with_token(airflow: Airflow, address: str, token: str) -> requests.Response:
    return airflow.call("GET", address, None, cookies={"_token": token})


@pytest.mark.parametrize("role", ROLES)
def test_roles_have_the_permissions_of_airflow(airflow: Airflow, ingested: Ingested, role: str) -> None:
    may_read = role in {"op", "admin"}
    assert airflow.call("GET", "/api/v2/connections", role).status_code == (200 if may_read else 403)
    assert airflow.call("GET", _HEALTH, role).status_code == (200 if may_read else 403)
    assert airflow.call("GET", "/hca-dss/connections", role).status_code == (200 if may_read else 403)
    assert airflow.page("connections", role)["readable"] is may_read
    bundles = airflow.page("connections/hca_dss_default/bundles", role, replica="aws")["bundles"]
    assert ingested.uuid in {bundle["uuid"] for bundle in bundles}
    assert airflow.page("run", role, dag_id="ingest", run_id=ingested.run_id)["ingests"]
    assert airflow.call("GET", "/hca-dss/", role).status_code == 200


@pytest.mark.parametrize("user", [OUTSIDER, ONLOOKER])
def test_unreadable_dag_is_hidden_everywhere(airflow: Airflow, ingested: Ingested, hidden: Ingested, user: str) -> None:
    run = {"dag_id": "hidden", "run_id": hidden.run_id}
    for address in ("/hca-dss/run", "/hca-dss/api/run"):
        assert airflow.call("GET", address, user, params=run).status_code == 403
        assert airflow.call("GET", address, "viewer", params=run).status_code == 200
    fqids = [f"{bundle.uuid}.{bundle.version}" for bundle in (ingested, hidden)]
    here: dict[str, Any] = {"connection": "hca_dss_default"}
    assert set(airflow.page("creators", "viewer", fqid=fqids, **here)["creators"]) == set(fqids)
    assert set(airflow.page("creators", user, fqid=fqids, **here)["creators"]) == {fqids[0]}
    name = airflow.page("creators", "viewer", fqid=fqids, **here)["creators"][fqids[1]]["name"]
    named = {"text": name, "replica": "aws", **here}
    assert airflow.page("named-bundles", "viewer", **named)["bundles"]
    assert hidden.uuid not in {bundle["uuid"] for bundle in airflow.page("named-bundles", user, **named)["bundles"]}
    assert airflow.page("bundle-tasks", "viewer", uuid=hidden.uuid, **here)["tasks"]
    assert airflow.page("bundle-tasks", user, uuid=hidden.uuid, **here)["tasks"] == []
    mapped = {**run, "task_id": "upload"}
    assert airflow.call("GET", "/hca-dss/api/mapped", user, params=mapped).status_code == 403
    assert airflow.call("GET", "/hca-dss/api/mapped", "viewer", params=mapped).status_code == 200
    assert "hidden" in {ingest["dag_id"] for ingest in airflow.page("ingests", "viewer")["ingests"]}
    assert "hidden" not in {ingest["dag_id"] for ingest in airflow.page("ingests", user)["ingests"]}


def test_connection_of_another_type_is_answered_like_a_missing_one(airflow: Airflow) -> None:
    for path in ("health", "bundles?replica=aws", f"bundles/{new_uuid()}?replica=aws"):
        other = airflow.call("GET", f"{_CONNECTIONS}/not_a_dss/{path}")
        missing = airflow.call("GET", f"{_CONNECTIONS}/missing/{path}")
        assert (other.status_code, missing.status_code) == (404, 404)
        assert other.text.replace("not_a_dss", "") == missing.text.replace("missing", "")


def test_responses_contain_no_secrets(airflow: Airflow, ingested: Ingested, airflow_dss: LocalDSS) -> None:
    bundle = f"bundles/{ingested.uuid}?replica=aws"
    unauthorized = {"method": "GET", "path": "/bundles", "action": "status", "status": 401, "times": 4}
    airflow_dss.control("POST", "faults", unauthorized)
    texts = [
        airflow.call("GET", f"{_CONNECTIONS}/{connection}/{path}").text
        for connection in ("dss_token", "hca_dss_default", "dss_down", "not_a_dss")
        for path in ("health", "bundles?replica=aws", bundle)
    ]
    airflow_dss.control("DELETE", "faults")
    texts += [airflow.call("GET", address).text for address in _addresses()]
    stored = airflow.api("GET", "/connections/dss_token")
    assert stored["password"] in {"***", None}
    for text in texts:
        assert "eyJ" not in text
        assert "PRIVATE KEY" not in text
        assert SECRET not in text


def test_responses_forbid_foreign_scripts_and_caching(airflow: Airflow) -> None:
    for address in _addresses():
        headers = airflow.call("GET", address).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';"), address
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"].startswith(("no-store", "private")), address
        assert headers["x-content-type-options"] == "nosniff"
