"""The interface definition the local DSS gives of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
from openapi_spec_validator import validate

if TYPE_CHECKING:
    from .server import LocalDSS


@pytest.fixture
def definition(dss: LocalDSS) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{dss.url}/swagger.json", timeout=10).json()
    return found


def test_valid(dss: LocalDSS, definition: dict[str, Any]) -> None:
    """The definition is valid OpenAPI and names this server, over plain http."""
    validate(definition)
    assert definition["servers"] == [{"url": dss.url}]


def test_who_needs_a_token(definition: dict[str, Any]) -> None:
    """Exactly the operations that ask for a token say so."""
    secured = {
        f"{method.upper()} {path}"
        for path, methods in definition["paths"].items()
        for method, operation in methods.items()
        if operation.get("security")
    }
    writing = {"PUT /files/{uuid}", "PUT /bundles/{uuid}", "PATCH /bundles/{uuid}", "DELETE /bundles/{uuid}"}
    collections = {f"{method} /collections/{{uuid}}" for method in ("GET", "PATCH", "DELETE")}
    assert secured == {*writing, "GET /collections", "PUT /collections", *collections}


def test_pages_and_redirects(definition: dict[str, Any]) -> None:
    """Paged operations have a 206 and GET file a 302: the original client decides by that."""
    paths = definition["paths"]
    paged = {path for path, methods in paths.items() if "206" in methods.get("get", {"responses": {}})["responses"]}
    assert paged == {"/bundles/{uuid}", "/bundles/all", "/collections"}
    assert "302" in paths["/files/{uuid}"]["get"]["responses"]


def test_plain_bodies(definition: dict[str, Any]) -> None:
    """Every property of a body has a plain type: the original client cannot read a choice of types."""
    bodies = [
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for methods in definition["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
    ]
    names = ["BundleChange", "CheckoutWish", "CollectionChange", "Deletion", "NewBundle", "NewCollection", "NewFile"]
    assert sorted(bodies) == names
    for name in bodies:
        for described in definition["components"]["schemas"][name]["properties"].values():
            assert described["type"] in {"string", "integer", "array", "object"}
