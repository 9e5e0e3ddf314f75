"""The OpenAPI document of the local DSS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
from openapi_spec_validator import validate

if TYPE_CHECKING:
    from .server import LocalDSS


@pytest.fixture
def definition(dss: LocalDSS) -> dict[str, Any]:
    document: dict[str, Any] = requests.get(f"{dss.url}/swagger.json", timeout=10).json()
    return document


def test_document_is_valid_openapi(dss: LocalDSS, definition: dict[str, Any]) -> None:
    validate(definition)
    assert definition["servers"] == [{"url": dss.url}]


def test_secured_operations_are_marked(definition: dict[str, Any]) -> None:
    secured = {
        f"{method.upper()} {path}"
        for path, methods in definition["paths"].items()
        for method, operation in methods.items()
        if operation.get("security")
    }
    writing = {"PUT /files/{uuid}", "PUT /bundles/{uuid}", "PATCH /bundles/{uuid}", "DELETE /bundles/{uuid}"}
    collections = {f"{method} /collections/{{uuid}}" for method in ("GET", "PATCH", "DELETE")}
    lists = {f"{method} /{noun}" for method in ("GET", "PUT") for noun in ("collections", "subscriptions")}
    subscriptions = {f"{method} /subscriptions/{{uuid}}" for method in ("GET", "DELETE")}
    assert secured == {*writing, *lists, *collections, *subscriptions}


def test_paged_operations_have_206(definition: dict[str, Any]) -> None:
    """The original client distinguishes paged operations and downloads by their statuses."""
    paths = definition["paths"]
    paged = {
        f"{method} {path}"
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "206" in operation["responses"]
    }
    lists = {f"get /{noun}" for noun in ("bundles/{uuid}", "bundles/all", "collections", "events")}
    assert paged == {*lists, "post /search"}
    assert "302" in paths["/files/{uuid}"]["get"]["responses"]


def test_body_properties_have_plain_types(definition: dict[str, Any]) -> None:
    """The original client does not support a choice of types."""
    bodies = [
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for methods in definition["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
    ]
    assert sorted(bodies) == [
        "CheckoutRequest",
        "DeleteBundleRequest",
        "PatchBundleRequest",
        "PatchCollectionRequest",
        "PutBundleRequest",
        "PutCollectionRequest",
        "PutFileRequest",
        "PutSubscriptionRequest",
        "SearchRequest",
    ]
    for name in bodies:
        for described in definition["components"]["schemas"][name]["properties"].values():
            assert described["type"] in {"string", "integer", "array", "object"}


def test_operations_define_their_errors(definition: dict[str, Any]) -> None:
    forms = {"application/problem+json": ["Problem", "FrameworkProblem"], "application/json": ["BareProblem"]}
    for path, methods in definition["paths"].items():
        for method, operation in methods.items():
            responses = operation["responses"]
            wanted = {"400", "500", "502", "503", "504"} | ({"401", "403"} if "security" in operation else set())
            assert responses.keys() >= wanted | ({"415"} if "requestBody" in operation else set()), path
            assert ("422" in responses) == (path in _UNPROCESSABLE.get(method, ())), path
            content = responses["500"].get("content", {})
            names = {
                kind: [model["$ref"].rpartition("/")[2] for model in media["schema"]["anyOf"]]
                for kind, media in content.items()
            }
            assert names == (forms if method != "head" else {})


_UNPROCESSABLE = {
    "put": {"/files/{uuid}", "/collections"},
    "head": {"/files/{uuid}"},
    "patch": {"/collections/{uuid}"},
}
