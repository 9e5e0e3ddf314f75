"""Tests of the site that `scripts/docs` builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.interface import CLASSES, HOOK_METHODS, OPERATORS, SENSORS, parameters_of

pytestmark = pytest.mark.system

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [str(_ROOT / "scripts" / "docs"), str(target)]
    environment = {**os.environ, "VENV": sys.prefix}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    return target


def test_site_has_every_page(site: Path) -> None:
    docs = _ROOT / "docs"
    pages = [path.relative_to(docs).with_suffix(".html") for path in docs.rglob("*.md")]
    assert pages
    assert [page for page in pages if not (site / page).exists()] == []


def test_site_loads_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*?\bsrc="([^"]*)"', text)
        loaded += re.findall(r'<link\b[^>]*?rel="(?:stylesheet|preload|icon)"[^>]*?href="([^"]*)"', text)
        assert loaded
        assert not [url for url in loaded if re.match(r"(https?:)?//", url)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text()), sheet


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_reference_has_class_with_its_parameters(site: Path, cls: type) -> None:
    text = "".join(page.read_text() for page in (site / "api").glob("*.html"))
    (entry,) = re.findall(
        rf'<dt class="sig [^>]*id="[\w.]*\.{cls.__name__}">.*?(?=<dl class="py class">|$)', text, re.DOTALL
    )
    missing = [name for name in parameters_of(cls) if not re.search(rf"<strong>{name}</strong>", entry)]
    assert missing == []


@pytest.mark.parametrize("cls", [*OPERATORS, *SENSORS], ids=lambda cls: cls.__name__)
def test_signature_has_inherited_parameters(site: Path, cls: type) -> None:
    text = "".join((site / "api" / f"{page}.html").read_text() for page in ("operators", "sensors"))
    (signature,) = re.findall(rf'<dt class="sig [^>]*id="[\w.]*\.{cls.__name__}">.*?</dt>', text, re.DOTALL)
    shown = set(re.findall(r'<em class="sig-param"><span class="n"><span class="pre">(\w+)<', signature))
    bases = [base for base in cls.__mro__ if base.__module__.startswith("airflow_provider_hca.")]
    assert shown == set().union(*map(parameters_of, bases))


def test_operations_link_to_methods_and_classes(site: Path) -> None:
    links = re.findall(r'href="api/\w+.html#[\w.]*\.(\w+)"', (site / "operations.html").read_text())
    methods = set(HOOK_METHODS) - {"close", "test_connection"}  # which are not operations
    assert methods <= set(links)
    assert {cls.__name__ for cls in [*OPERATORS, *SENSORS]} - {"DSSOperator", "DSSSensor"} <= set(links)


@pytest.mark.parametrize("method", HOOK_METHODS)
def test_reference_has_hook_method(site: Path, method: str) -> None:
    assert f'id="airflow_provider_hca.hooks.dss.DSSHook.{method}"' in (site / "api" / "hook.html").read_text()
