"""Fuzz every operation by the OpenAPI document: there are no undefined responses and no unhandled errors."""

from __future__ import annotations

import copy
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CheckContext
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .server import VERSION, LocalDSS, User, new_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("fuzzed-dss")]

EXAMPLES = 25  # per operation, of valid and of invalid requests
OPERATIONS = [
    "PUT /files/{uuid}",
    "HEAD /files/{uuid}",
    "GET /files/{uuid}",
    "GET /bundles/all",
    "PUT /bundles/{uuid}",
    "GET /bundles/{uuid}",
    "PATCH /bundles/{uuid}",
    "POST /bundles/{uuid}/checkout",
    "GET /bundles/checkout/{checkout_job_id}",
    "GET /collections",
    "PUT /collections",
    "GET /collections/{uuid}",
    "PATCH /collections/{uuid}",
    "GET /events",
    "GET /events/{uuid}",
    "GET /subscriptions",
    "PUT /subscriptions",
    "GET /subscriptions/{uuid}",
    "POST /search",
    "DELETE /bundles/{uuid}",
    "DELETE /collections/{uuid}",
    "DELETE /subscriptions/{uuid}",
]
# Expected 500s: method, path, code and title, or None and the detail.
_EXPECTED = [
    ("PUT", "/files/{uuid}", "unhandled_exception", r"Could not find (s3|gs)://.*"),
    ("PUT", "/files/{uuid}", "unhandled_exception", r"(s3|gs)://.* has no metadata"),
    ("PUT", "/files/{uuid}", "unhandled_exception", r"The \w+ of (s3|gs)://.* is .*, but its hca-dss-\w+ is .*"),
    ("PUT", "/collections", "unhandled_exception", r"unhashable type: 'dict'"),
    ("PATCH", "/collections/{uuid}", "unhandled_exception", r"unhashable type: 'dict'"),
    ("PATCH", "/bundles/{uuid}", None, "'file_missing' is not one of .*"),
    ("GET", "/collections/{uuid}", None, "'forbidden' is not one of .*"),
    ("PATCH", "/collections/{uuid}", None, "'forbidden' is not one of .*"),
    ("DELETE", "/collections/{uuid}", None, "'forbidden' is not one of .*"),
    ("GET", "/files/{uuid}", "unhandled_exception", r"The content of file .* was not copied"),
]


def only_expected_server_errors(
    ctx: CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Fail on a 5xx that is not expected."""
    if response.status_code < 500:
        return
    body = response.json()
    for method, path, code, title in _EXPECTED:
        if (case.method, case.operation.path) != (method, path) or response.status_code != 500:
            continue
        if code is None and re.fullmatch(title, body.get("detail", "")):
            return
        if code is not None and body.get("code") == code and re.fullmatch(title, body["title"], re.DOTALL):
            return
    pytest.fail(f"{case.method} {case.operation.path} returned {response.status_code} {body}")


CHECKS = [
    only_expected_server_errors,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@pytest.fixture(scope="module")
def fuzzed_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    directory = tmp_path_factory.mktemp("fuzzed")
    options = ("--gcs", "--file-wait", "0", "--sync-delay", "0", "--checkout-delay", "0", "--copy-delay", "0")
    with LocalDSS(directory / "state", *options, "--async-above", "20", errors=directory / "errors") as dss:
        yield dss


def _uuids(name: str) -> list[str]:
    """Return constant uuids, so that the fuzzer sends the same requests each time."""
    return [str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name} {number}")) for number in range(6)]


def _fill(dss: LocalDSS) -> dict[str, list[Any]]:
    """Fill the DSS and return values by parameter name; some of them do not exist."""
    small, large = dss.stage(b'{"a": [1]}', kind="application/json"), dss.stage(b"x" * 30)
    # The fuzzer's choices are correlated: most values must be valid, or all examples may be invalid.
    staged = [small, large, *(dss.stage(f"{number}".encode()) for number in range(5))]
    files, bundles, collections = _uuids("file"), _uuids("bundle"), _uuids("collection")
    for file, source in zip(files, (small, small, large), strict=False):
        assert dss.put_file(source, file).status_code in {201, 202}
    dss.wait_for_head(files[2], 200)
    entries = [dss.entry(f"{number}.json", file, indexed=True) for number, file in enumerate(files[:3])]
    body = {"name": "n", "description": "d", "details": {}, "contents": []}
    for bundle, collection in zip(bundles[:5], collections, strict=False):
        assert dss.put_bundle(entries, bundle).status_code == 201
        query = {"uuid": collection, "version": VERSION, "replica": "aws"}
        assert dss.call("PUT", "/collections", body, **query).status_code == 201
    query = {"uuid": collections[5], "version": VERSION, "replica": "aws"}
    assert User(dss).call("PUT", "/collections", body, **query).status_code == 201
    callback = {"callback_url": "http://127.0.0.1:9/"}
    subscriptions = [dss.call("PUT", "/subscriptions", callback, replica="aws").json()["uuid"] for _ in range(8)]
    to_delete = _uuids("delete")[:2]
    for deleted in to_delete:
        assert dss.put_bundle(entries, deleted).status_code == 201
        query = {"uuid": deleted, "version": VERSION, "replica": "aws"}
        assert dss.call("PUT", "/collections", body, **query).status_code == 201
    job = dss.call("POST", f"/bundles/{bundles[0]}/checkout", {}, replica="aws").json()["checkout_job_id"]
    return {
        "files": files,
        "bundles": bundles,
        "events": bundles,
        "collections": collections,
        "subscriptions": subscriptions[:6],
        "delete bundles": to_delete,
        "delete collections": to_delete,
        "delete subscriptions": subscriptions[6:],
        "checkout_job_id": [job, new_uuid()],
        "version": [VERSION, *(f"202{year}-01-01T000000.000000Z" for year in (5, 6, 7)), "no version"],
        "patched version": [VERSION],
        "source_url": [*staged, f"s3://{dss.bucket}/no-such-key", "gs://a/b", "wasb://a/b"],
    }


def _restrict(definition: dict[str, Any], known: dict[str, list[Any]]) -> None:
    """Restrict parameters to known values, which the fuzzer could not guess."""
    for path, methods in definition["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                name = path.split("/")[1] if parameter["name"] == "uuid" else parameter["name"]
                if (method, parameter["name"]) == ("delete", "uuid"):
                    name = f"delete {name}"  # used by no other test: they run in any order
                if (method, name) == ("patch", "version"):
                    name = "patched version"
                if name in known:
                    parameter["schema"] = {"enum": known[name]}
    schemas = definition["components"]["schemas"]
    for model in ("BundleFile", "CollectionItem"):
        schemas[model]["properties"] |= {
            "uuid": {"enum": known["files"][:4]},
            "version": {"enum": known["version"][:2]},
        }
    schemas["CollectionItem"]["properties"]["type"] = {"enum": ["file", "bundle", "fragment"]}
    schemas["PutFileRequest"]["properties"]["source_url"] = {"enum": known["source_url"]}
    queries = [{"match_all": {}}, {"term": {"files.0_json.a": 1}}, {"fuzzy": {}}]
    for model in ("SearchRequest", "PutSubscriptionRequest"):
        schemas[model]["properties"]["es_query"] = {"enum": [{"query": query} for query in queries]}
    for name, model in (("jmespath_query", "PutSubscriptionRequest"), ("expression", "Attachment")):
        schemas[model]["properties"][name] = {"enum": ["files", "abs(manifest)", "a["]}


def _operations(definition: dict[str, Any]) -> dict[str, Any]:
    results = schemathesis.openapi.from_dict(definition).get_all_operations()
    return {result.ok().label: result.ok() for result in results if isinstance(result, Ok)}


@pytest.fixture(scope="module")
def operations(fuzzed_dss: LocalDSS) -> dict[GenerationMode, dict[str, Any]]:
    """Return all operations by label, for valid and for invalid requests."""
    definition = requests.get(f"{fuzzed_dss.url}/swagger.json", timeout=10).json()
    invalid = _operations(copy.deepcopy(definition))
    _restrict(definition, _fill(fuzzed_dss))
    return {GenerationMode.NEGATIVE: invalid, GenerationMode.POSITIVE: _operations(definition)}


def test_every_operation_is_fuzzed(operations: dict[GenerationMode, dict[str, Any]]) -> None:
    assert sorted(operations[GenerationMode.POSITIVE]) == sorted(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("label", OPERATIONS)
def test_fuzzed_operation_returns_defined_responses(
    fuzzed_dss: LocalDSS, operations: dict[GenerationMode, dict[str, Any]], label: str, mode: GenerationMode
) -> None:
    statuses = set()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operations[mode][label].as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case[Any]) -> None:
        response = case.call(fuzzed_dss.url, headers=fuzzed_dss.authorization, timeout=30, allow_redirects=False)
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    send()
    wanted = range(200, 400) if mode is GenerationMode.POSITIVE else range(400, 500)
    assert statuses.intersection(wanted), f"the statuses were {statuses}"


def test_fuzzing_logged_no_traceback(fuzzed_dss: LocalDSS) -> None:
    assert fuzzed_dss.errors is not None
    assert "Traceback" not in fuzzed_dss.errors.read_text()
