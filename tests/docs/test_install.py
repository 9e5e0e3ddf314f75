"""Compare docs/install.md with pyproject.toml and the installed packages."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from airflow_provider_hca.hooks.connection import KNOWN_EXTRAS

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "install.md").read_text()
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]


def _rows(heading: str) -> list[list[set[str]]]:
    """Return the rows of a table: the code of each cell."""
    table = _PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    return [[set(re.findall(r"`([^`]+)`", cell)) for cell in row.strip("|").split("|")] for row in rows]


def _required(name: str, found: set[str]) -> set[str]:
    """Add the packages that a package needs, directly or not; return them all."""
    try:
        requirements = [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:  # for another platform
        return found
    for requirement in requirements:
        dependency = canonicalize_name(requirement.name)
        if dependency not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.add(dependency)
            _required(dependency, found)
    return found


def test_page_has_every_dependency_and_extra() -> None:
    direct = set().union(*(cells[0] for cells in _rows("package")))
    assert direct == {Requirement(each).name for each in _PROJECT["dependencies"]} - {"apache-airflow"}
    extras = set().union(*(cells[0] for cells in _rows("extra")))
    assert extras == set(_PROJECT["optional-dependencies"]) - {"docs", "dev"}


def test_packages_bring_along_those_of_the_page() -> None:
    for packages, _, others in _rows("package"):
        needed = set().union(*(_required(package, set()) for package in packages))
        assert others <= needed


def test_page_has_the_lower_bound_of_common_compat() -> None:
    (bound,) = re.findall(r"common-compat>=([\d.]+)", " ".join(_PROJECT["dependencies"]))
    assert f"`common-compat` below {bound}" in _PAGE
    assert f"older than {bound.removesuffix('.0')} |" in _PAGE


def test_settings_for_kubernetes_are_valid() -> None:
    (values,) = re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL)
    chart = yaml.safe_load(values)
    assert chart["workers"]["extraVolumeMounts"][0]["mountPath"] == "/etc/dss"
    assert yaml.safe_load(chart["extraEnvFrom"])[0]["secretRef"]["name"] == "dss-connection"
    (connection,) = re.findall(r"AIRFLOW_CONN_HCA_DSS_DEFAULT='(.*?)'", _PAGE, re.DOTALL)
    assert set(json.loads(connection)["extra"]) <= KNOWN_EXTRAS


def test_line_for_one_cloud_has_the_lower_bounds() -> None:
    section = _PAGE.partition("### One cloud")[2].partition("\n## ")[0]
    named = {*re.findall(r'"([a-z0-9-]+>=[\d.]+)"', section), "apache-airflow>=2.11"}
    assert named == set(_PROJECT["dependencies"])
