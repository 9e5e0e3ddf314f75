"""Compare the table of operations in the documentation with the interface definition and the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import requests

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators import dss as _operators
from airflow_provider_hca.sensors import dss as _sensors
from tests.local.server import LocalDSS

_ROOT = Path(__file__).parent.parent
_PAGE = (_ROOT / "docs" / "operations.md").read_text()
# The interface definition, if it is next to the project; it is not part of the repository.
_DEFINITION = _ROOT.parent / "shared" / "dss" / "dss-api.yml"

OPERATIONS = {
    "POST /search",
    "HEAD /files/{uuid}",
    "GET /files/{uuid}",
    "PUT /files/{uuid}",
    "GET /subscriptions",
    "PUT /subscriptions",
    "GET /subscriptions/{uuid}",
    "DELETE /subscriptions/{uuid}",
    "GET /collections",
    "PUT /collections",
    "GET /collections/{uuid}",
    "PATCH /collections/{uuid}",
    "DELETE /collections/{uuid}",
    "GET /bundles/all",
    "GET /bundles/{uuid}",
    "PUT /bundles/{uuid}",
    "PATCH /bundles/{uuid}",
    "DELETE /bundles/{uuid}",
    "POST /bundles/{uuid}/checkout",
    "GET /bundles/checkout/{checkout_job_id}",
    "GET /events",
    "GET /events/{uuid}",
}


def _table() -> dict[str, list[set[str]]]:
    """Return the other columns by operation."""
    rows = {}
    for line in _PAGE.partition("\n## ")[0].splitlines():
        cells = [set(re.findall(r"`([^`]+)`", cell)) for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            ((operation,), *others) = cells
            assert operation not in rows
            rows[operation] = others
    return rows


def test_table_has_exactly_the_operations_with_a_method() -> None:
    table = _table()
    assert set(table) == OPERATIONS
    assert all(methods for methods, _, _ in table.values())


def test_local_dss_defines_the_same_operations(dss: LocalDSS) -> None:
    definition = requests.get(f"{dss.url}/swagger.json", timeout=10).json()
    defined = {f"{method.upper()} {path}" for path, methods in definition["paths"].items() for method in methods}
    assert defined == OPERATIONS


if _DEFINITION.exists():

    def test_list_matches_interface_definition() -> None:
        operations, path = set(), ""
        paths = _DEFINITION.read_text().partition("\npaths:\n")[2].partition("\ndefinitions:\n")[0]
        for line in paths.splitlines():
            if match := re.fullmatch(r"  (/\S*):", line):
                path = match[1]
            elif match := re.fullmatch(r"    (get|put|post|patch|delete|head):", line):
                operations.add(f"{match[1].upper()} {path}")
        assert operations == OPERATIONS


def test_table_has_every_operator_and_sensor() -> None:
    columns = [set().union(*cells) for cells in zip(*_table().values(), strict=True)]
    assert all(callable(getattr(DSSHook, method)) for method in columns[0])
    assert columns[1] == set(_operators.__all__) - {"DSSOperator"}
    assert columns[2] == {name for name in vars(_sensors) if re.fullmatch(r"DSS\w+Sensor", name)}


def test_table_of_waits_has_every_class_and_whether_it_is_deferrable() -> None:
    cells = re.findall(r"^\| (`DSS.*?) \| (yes|no)", _PAGE.partition("\n## ")[2], re.MULTILINE)
    table = {name: answer == "yes" for names, answer in cells for name in re.findall(r"`(\w+)`", names)}
    classes = [getattr(_operators, name) for name in _operators.__all__ if name != "DSSOperator"]
    classes += [cls for name, cls in vars(_sensors).items() if re.fullmatch(r"DSS\w+Sensor", name)]
    groups = {"DSSUploadTaskGroup", "DSSIngestTaskGroup"}  # which pass it to their tasks
    assert table == {
        cls.__name__: cls.__name__ in groups
        or any("deferrable" in inspect.signature(base.__init__).parameters for base in cls.__mro__)
        for cls in classes
        if cls.__name__ != "DSSSensor"
    }
