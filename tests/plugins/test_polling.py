"""How often the page asks for a bundle that is not there."""

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


def _asked(page: Page) -> list[str]:
    """Return a list to which each question for a bundle is added."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/bundles/" in request.url else None)
    page.clock.install()
    return asked


def _let_pass(page: Page, minutes: int) -> None:
    for _ in range(minutes * 12):
        page.clock.run_for(5_000)
        page.evaluate("() => fetch('/hca-dss/static/icon.svg')")  # after which earlier answers are there, too


def test_a_missing_bundle_is_asked_for_more_and_more_rarely(open_page: OpenPage, ui_dss: LocalDSS) -> None:
    """The page goes on waiting for a bundle, once a minute in the end, in a hidden tab never, and shows it at last."""
    page = open_page("/hca-dss/static/style.css")
    asked = _asked(page)
    uuid = new_uuid()
    which = urlencode({"connection": "hca_dss_default", "replica": "aws", "uuid": uuid})
    page.goto(page.url.replace("static/style.css", f"bundle?{which}"))
    page.get_by_role("alert").get_by_text("at most a minute after it is made").wait_for()
    _let_pass(page, 10)
    assert 10 <= len(asked) <= 25
    page.evaluate("() => Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    before = len(asked)
    _let_pass(page, 10)
    assert len(asked) <= before + 1
    page.evaluate("() => Object.defineProperty(document, 'hidden', { value: false })")
    assert ui_dss.put_bundle([ui_dss.entry("a")], uuid).status_code == 201
    _let_pass(page, 2)
    page.get_by_role("heading", name="1 file").wait_for()
    before = len(asked)
    _let_pass(page, 2)
    assert len(asked) == before


@pytest.mark.parametrize("change", [{"connection": "not_there"}, {"connection": "not_a_dss"}, {"uuid": "none"}])
def test_what_never_comes_is_asked_for_once(open_page: OpenPage, change: dict[str, str]) -> None:
    """Through a connection that is not there, or for what is no uuid, the page does not ask again, and says why."""
    page = open_page("/hca-dss/static/style.css")
    asked = _asked(page)
    which = urlencode({"connection": "hca_dss_default", "replica": "aws", "uuid": new_uuid(), **change})
    page.goto(page.url.replace("static/style.css", f"bundle?{which}"))
    alert = page.get_by_role("alert")
    alert.get_by_text("This bundle cannot be shown").wait_for()
    assert ("uuid must be a uuid" if "uuid" in change else "there is no connection") in alert.inner_text()
    _let_pass(page, 5)
    assert len(asked) == 1
