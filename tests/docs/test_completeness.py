"""Compare the documentation with the code: parameters, settings, codes, errors, messages, paths."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import airflow_provider_hca
from airflow_provider_hca import exceptions
from airflow_provider_hca.client.client import DSSClient
from airflow_provider_hca.hooks.connection import KNOWN_EXTRAS
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSUploadTaskGroup
from tests.docs.interface import CLASSES, HOOK_METHODS, OPERATORS, SENSORS, names, parameters_of

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_PACKAGE = Path(airflow_provider_hca.__file__).parent
_PAGES = sorted([*_ROOT.glob("*.md"), *_DOCS.rglob("*.md")])


def _documented(docstring: str | None) -> dict[str, str]:
    """Return the parameters that a docstring documents, with their texts."""
    parameters = re.findall(r":param (\w+):(.*?)(?=\n\s*:|\n\s*\n|\Z)", docstring or "", re.DOTALL)
    return {name: " ".join(text.split()) for name, text in parameters}


def _code_in_errors_page() -> set[str]:
    return set(re.findall(r"`([^`]+)`", (_DOCS / "errors.md").read_text()))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_class_documents_exactly_its_parameters(cls: type) -> None:
    documented = _documented(cls.__doc__)
    accepted = {name for base in cls.__mro__ for name in names(base.__init__)}  # type: ignore[misc]  # of a class
    assert parameters_of(cls) - set(documented) == set()
    assert set(documented) - accepted == set()
    assert all(documented.values())


def test_upload_group_documents_exactly_its_parameters() -> None:
    assert set(_documented(DSSUploadTaskGroup.__doc__)) == names(DSSUploadTaskGroup.__init__) | {"options"}


@pytest.mark.parametrize("cls", [*OPERATORS, *SENSORS], ids=lambda cls: cls.__name__)
def test_parameters_documented_as_templated_are_template_fields(cls: type) -> None:
    fields = set(cls.template_fields)  # type: ignore[attr-defined]  # of every operator
    documented = _documented(cls.__doc__)
    assert {name for name, text in documented.items() if "(templated)" in text} == fields & set(documented)


@pytest.mark.parametrize("method", HOOK_METHODS)
def test_client_documents_exactly_the_parameters_of_hook_method(method: str) -> None:
    assert (getattr(DSSHook, method).__doc__ or "").strip()
    function = getattr(DSSClient, method, DSSHook.close)
    assert set(_documented(function.__doc__)) == names(function)


def test_connection_page_has_exactly_the_known_extras() -> None:
    table = (_DOCS / "connection.md").read_text().partition("| extra |")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == KNOWN_EXTRAS


def _codes() -> set[str]:
    """Return the error codes of the local DSS: the second argument of a problem, or a `code` in a body."""
    codes: set[str] = set()
    for path in (_PACKAGE / "local").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ProblemError":
                codes |= _strings(node.args[1])
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value in {"code", "Code"}:
                        codes |= _strings(value)
    return codes


def _strings(node: ast.expr) -> set[str]:
    constants = [constant for constant in ast.walk(node) if isinstance(constant, ast.Constant)]
    return {constant.value for constant in constants if isinstance(constant.value, str)}


def test_errors_page_has_every_code() -> None:
    codes = _codes()
    assert {"file_already_exists", "illegal_version", "InternalServerError", "timed_out"} <= codes
    assert codes - _code_in_errors_page() == set()


def test_errors_page_has_every_class() -> None:
    classes = {name for name, cls in inspect.getmembers(exceptions, inspect.isclass) if issubclass(cls, Exception)}
    assert classes - _code_in_errors_page() == set()


@pytest.mark.parametrize("cls", [*OPERATORS, *SENSORS], ids=lambda cls: cls.__name__)
def test_how_to_names_every_operator_and_sensor(cls: type) -> None:
    if cls.__name__ not in {"DSSOperator", "DSSSensor"}:  # base classes
        assert f"`{cls.__name__}`" in (_DOCS / "howto.md").read_text()


def _messages() -> str:
    """Return all strings of the package, with `...` in the place of values."""
    strings = []
    for path in _PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values]
                strings.append("".join(parts))
    return "\n".join(strings)


def test_messages_of_errors_page_are_in_the_code() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (_DOCS / "errors.md").read_text().partition("## Messages")[2], re.MULTILINE)
    messages, unknown = _messages(), []
    for documented in (code for row in rows for code in re.findall(r"`([^`]+)`", row)):
        parts = [part.strip(" :.,") for part in re.split(r"\.\.\.|\d{3} |s3://\S*", documented)]
        unknown += [part for part in parts if part and part not in messages]
    assert len(rows) > 20
    assert unknown == []


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(_ROOT).as_posix())
def test_relative_links_lead_to_files(page: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    relative = [link for link in links if link and "://" not in link]
    assert [link for link in relative if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_paths_in_pages_for_developers_exist(name: str) -> None:
    text = (_ROOT / name).read_text().partition("## Models")[0]  # which names files of other projects
    paths = re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.(?:py|md|toml)|/))`", text)
    assert len(paths) > 10
    places = (_ROOT, _PACKAGE, _PACKAGE / "upload")
    assert [path for path in paths if not any((place / path).exists() for place in places)] == []


def test_tree_in_architecture_has_the_files_of_the_package() -> None:
    tree = (_ROOT / "ARCHITECTURE.md").read_text().partition("```text\n")[2].partition("```")[0]
    folder, missing, folders = "", [], set()
    for line in tree.splitlines()[1:]:
        indent, *entries = re.findall(r"^ *|[a-z_]+(?:\.py|/)(?= {2}|$)", line)
        if entries and len(indent) == 2:
            folder = entries[0]
        for entry in entries:
            path = entry if len(indent) == 2 else f"{folder}{entry}"
            missing += [] if (_PACKAGE / path).exists() else [path]
            folders.add(path.partition("/")[0])
    assert missing == []
    assert {path.name for path in _PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} - folders == set()
