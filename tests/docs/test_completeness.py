"""Nothing public is undocumented, and nothing documented is not there."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import airflow_provider_hca
from airflow_provider_hca import exceptions
from airflow_provider_hca.hooks.connection import KNOWN_EXTRAS
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSUploadTaskGroup
from tests.docs.interface import CLASSES, HOOK_METHODS, OPERATORS, SENSORS, names, parameters_of

_DOCS = Path(__file__).parents[2] / "docs"
_PACKAGE = Path(airflow_provider_hca.__file__).parent


def _told(documentation: str | None) -> dict[str, str]:
    """Return what a docstring says of each parameter."""
    found = re.findall(r":param (\w+):(.*?)(?=\n\s*:|\n\s*\n|\Z)", documentation or "", re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_parameter_is_documented(cls: type) -> None:
    """The docstring of a class tells each parameter, in words, and tells of none that is not there."""
    told = _told(cls.__doc__)
    own = parameters_of(cls)
    taken = {name for base in cls.__mro__ for name in names(base.__init__)}  # type: ignore[misc]  # of a class
    assert own - set(told) == set()
    assert set(told) - taken == set()
    assert all(text for text in told.values())


def test_every_parameter_of_the_upload_group_is_documented() -> None:
    """The docstring of the task group has its own parameters; the others are an operator's."""
    assert set(_told(DSSUploadTaskGroup.__doc__)) == names(DSSUploadTaskGroup.__init__) | {"options"}


@pytest.mark.parametrize("cls", [*OPERATORS, *SENSORS], ids=lambda cls: cls.__name__)
def test_templated_parameters_say_so(cls: type) -> None:
    """What the docstring calls templated is templated, and the other way round."""
    fields = set(cls.template_fields)  # type: ignore[attr-defined]  # of every operator
    told = _told(cls.__doc__)
    assert {name for name, text in told.items() if "(templated)" in text} == fields & set(told)


@pytest.mark.parametrize("method", HOOK_METHODS)
def test_every_method_of_the_hook_is_documented(method: str) -> None:
    """Each method has a docstring that tells all of its parameters and no other."""
    function = getattr(DSSHook, method)
    assert (function.__doc__ or "").strip()
    assert set(_told(function.__doc__)) == names(function)


def test_every_extra_of_the_connection_is_documented() -> None:
    """The page of the connection has a row for each extra, and for no other."""
    table = (_DOCS / "connection.md").read_text().partition("| extra |")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == KNOWN_EXTRAS


def _codes() -> set[str]:
    """Return the error codes that the local DSS answers with: the second argument of a problem, or a `code`."""
    found: set[str] = set()
    for path in (_PACKAGE / "local").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ProblemError":
                found |= _texts(node.args[1])
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                found |= {
                    text
                    for key, value in pairs
                    if isinstance(key, ast.Constant) and key.value in {"code", "Code"}
                    for text in _texts(value)
                }
    return found


def _texts(node: ast.expr) -> set[str]:
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def test_every_code_is_documented() -> None:
    """Each code that a DSS is known to answer with has its place among the errors."""
    told = set(re.findall(r"`([^`]+)`", (_DOCS / "errors.md").read_text()))
    codes = _codes()
    assert {"file_already_exists", "illegal_version", "InternalServerError", "timed_out"} <= codes
    assert codes - told == set()


def test_every_error_is_documented() -> None:
    """Each class of error has its place among the errors."""
    told = set(re.findall(r"`([^`]+)`", (_DOCS / "errors.md").read_text()))
    classes = {name for name, cls in inspect.getmembers(exceptions, inspect.isclass) if issubclass(cls, Exception)}
    assert classes - told == set()


@pytest.mark.parametrize("cls", [*OPERATORS, *SENSORS], ids=lambda cls: cls.__name__)
def test_every_operator_and_sensor_has_a_how_to(cls: type) -> None:
    """The how-to shows each operator and sensor that is not a base of others."""
    if cls.__name__ not in {"DSSOperator", "DSSSensor"}:
        assert f"`{cls.__name__}`" in (_DOCS / "howto.md").read_text()


def _said() -> str:
    """Return all text that the package can say: its strings, with `...` where a value is filled in."""
    said = []
    for path in _PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                said.append(
                    "".join(str(each.value) if isinstance(each, ast.Constant) else "..." for each in node.values)
                )
    return "\n".join(said)


def test_every_message_of_the_page_is_one() -> None:
    """What the page lists as messages is what the package says, or what a DSS answers."""
    rows = re.findall(r"^\| (`.*?) \|", (_DOCS / "errors.md").read_text().partition("## Messages")[2], re.MULTILINE)
    said, strange = _said(), []
    for message in (message for row in rows for message in re.findall(r"`([^`]+)`", row)):
        parts = [part.strip(" :.,") for part in re.split(r"\.\.\.|\d{3} |s3://\S*", message)]
        strange += [part for part in parts if part and part not in said]
    assert len(rows) > 20
    assert strange == []
