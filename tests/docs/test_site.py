"""The site that `scripts/docs` builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.interface import CLASSES, HOOK_METHODS, parameters_of

pytestmark = pytest.mark.system

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site once."""
    target = tmp_path_factory.mktemp("site")
    command = [str(_ROOT / "scripts" / "docs"), str(target)]
    environment = {**os.environ, "VENV": sys.prefix}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_is_built(site: Path) -> None:
    """The site builds without a warning, a broken link among them, and has every page."""
    docs = _ROOT / "docs"
    pages = [path.relative_to(docs).with_suffix(".html") for path in docs.rglob("*.md")]
    assert pages
    assert [page for page in pages if not (site / page).exists()] == []


def test_it_needs_no_network(site: Path) -> None:
    """No page loads a script, a style sheet, a font or a picture from elsewhere."""
    for page in site.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*?\bsrc="([^"]*)"', text)
        loaded += re.findall(r'<link\b[^>]*?rel="(?:stylesheet|preload|icon)"[^>]*?href="([^"]*)"', text)
        assert loaded
        assert not [url for url in loaded if re.match(r"(https?:)?//", url)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text()), sheet


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_is_in_the_reference(site: Path, cls: type) -> None:
    """Each operator, sensor, trigger and the hook is on its page, with each of its own parameters explained."""
    text = "".join(page.read_text() for page in (site / "api").glob("*.html"))
    (entry,) = re.findall(
        rf'<dt class="sig [^>]*id="[\w.]*\.{cls.__name__}">.*?(?=<dl class="py class">|$)', text, re.DOTALL
    )
    missing = [name for name in parameters_of(cls) if not re.search(rf"<strong>{name}</strong>", entry)]
    assert missing == []


@pytest.mark.parametrize("method", HOOK_METHODS)
def test_every_method_of_the_hook_is_in_the_reference(site: Path, method: str) -> None:
    """Each public method of the hook is on the hook's page."""
    assert f'id="airflow_provider_hca.hooks.dss.DSSHook.{method}"' in (site / "api" / "hook.html").read_text()
