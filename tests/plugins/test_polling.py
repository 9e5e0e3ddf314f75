"""Test how often the page requests a missing bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.local.server import new_uuid

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.local.server import LocalDSS

    OpenPage = Callable[..., Page]

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]


def _record_requests(page: Page) -> list[str]:
    """Return a list that grows by each request for a bundle, and replace the clock of the page."""
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url) if "/bundles/" in request.url else None)
    page.clock.install()
    return requested


def _let_pass(page: Page, minutes: int) -> None:
    for _ in range(minutes * 12):
        page.clock.run_for(5_000)
        page.evaluate("() => fetch('/hca-dss/static/icon.svg')")  # answered after all earlier requests


def test_missing_bundle_is_polled_with_growing_pauses(open_page: OpenPage, airflow_dss: LocalDSS) -> None:
    page = open_page("/hca-dss/static/style.css")
    requested = _record_requests(page)
    uuid = new_uuid()
    query = urlencode({"connection": "hca_dss_default", "replica": "aws", "uuid": uuid})
    page.goto(page.url.replace("static/style.css", f"bundle?{query}"))
    page.get_by_role("alert").get_by_text("within a minute after its creation").wait_for()
    _let_pass(page, 10)
    assert 10 <= len(requested) <= 25
    page.evaluate("() => Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    before = len(requested)
    _let_pass(page, 10)
    assert len(requested) <= before + 1
    page.evaluate("() => Object.defineProperty(document, 'hidden', { value: false })")
    assert airflow_dss.put_bundle([airflow_dss.entry("a")], uuid).status_code == 201
    _let_pass(page, 2)
    page.get_by_role("heading", name="1 file").wait_for()
    before = len(requested)
    _let_pass(page, 2)
    assert len(requested) == before


@pytest.mark.parametrize("change", [{"connection": "missing"}, {"connection": "not_a_dss"}, {"uuid": "none"}])
def test_invalid_bundle_is_requested_once(open_page: OpenPage, change: dict[str, str]) -> None:
    page = open_page("/hca-dss/static/style.css")
    requested = _record_requests(page)
    query = urlencode({"connection": "hca_dss_default", "replica": "aws", "uuid": new_uuid(), **change})
    page.goto(page.url.replace("static/style.css", f"bundle?{query}"))
    alert = page.get_by_role("alert")
    alert.get_by_text("Cannot show this bundle").wait_for()
    assert ("Uuid must be" if "uuid" in change else "No connection") in alert.inner_text()
    _let_pass(page, 5)
    assert len(requested) == 1
