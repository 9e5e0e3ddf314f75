"""Test the page with fed responses: bundles that are missing, and a server that does not answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.local.server import VERSION, new_uuid

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.plugins.conftest import Ingested

    OpenPage = Callable[..., Page]

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("airflow")]

_TASK = {
    "dag_id": "d",
    "run_id": "r",
    "task_id": "t",
    "map_index": -1,
    "run_state": "failed",
    "error": "",
    "ended": None,
}
_REPORTED = {"dag_id": "d", "run_id": "r", "task_id": "night.report", "map_index": -1, "name": "key"}


def _task(action: str, state: str, replica: str = "aws", **values: Any) -> dict[str, Any]:
    return {**_TASK, "action": action, "state": state, "bundle": {"replica": replica}, **values}


@pytest.mark.parametrize(
    ("tasks", "reported", "title", "text"),
    [
        ([_task("create", "running", run_state="running")], False, "Still being created", "creates this bundle"),
        ([_task("shard", "success", run_state="running")], False, "Still being created", "creates this bundle"),
        ([_task("delete", "success"), _task("create", "success")], False, "Deleted", "deleted this bundle"),
        ([_task("create", "success")], False, "Deleted", "does not have it any more"),
        ([_task("create", "success", "gcp")], False, "Not in aws yet", "created this bundle in gcp"),
        ([_task("create", "success", bundle=None)], False, "Deleted", "does not have it any more"),
        ([_task("create", "failed", error="no space left")], False, "Never created", "no space left"),
        ([_task("shard", "success")], True, "Deleted", "reported that its batch created this bundle"),
        ([_task("download", "failed")], False, "Bundle not found", "a task or a batch is still uploading it"),
        ([], False, "Bundle not found", "no finished task"),
    ],
)
def test_page_explains_why_a_bundle_is_missing(
    open_page: OpenPage, tasks: list[dict[str, Any]], reported: bool, title: str, text: str
) -> None:
    uuid = new_uuid()
    page = open_page("/hca-dss/static/style.css")
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(json={"tasks": tasks})

    creators = {f"{uuid}.{VERSION}": _REPORTED} if reported else {}
    page.route("**/api/bundle-tasks?*", answer)
    page.route("**/api/creators?*", lambda route: route.fulfill(body=json.dumps({"creators": creators})))
    query = {"connection": "hca_dss_default", "replica": "aws", "uuid": uuid, "version": VERSION}
    page.goto(page.url.replace("static/style.css", f"bundle?{urlencode(query)}"))
    page.get_by_text(title, exact=True).wait_for()
    assert text in page.locator("main").inner_text()
    assert all("connection=hca_dss_default" in url and f"version={VERSION}" in url for url in asked)


@pytest.mark.usefixtures("failed")
def test_page_that_cannot_be_updated_shows_it_until_it_can(open_page: OpenPage) -> None:
    page = open_page("/hca-dss/ingests")
    page.locator("tbody tr").first.wait_for()
    page.route("**/api/ingests?*", lambda route: route.abort())
    notice = page.locator("#stale")
    notice.get_by_text("Not updated since").wait_for()
    assert page.locator("tbody tr").count() > 0
    page.unroute("**/api/ingests?*")
    notice.wait_for(state="detached")


def test_uuid_of_a_file_is_escaped_in_requests(open_page: OpenPage, ingested: Ingested) -> None:
    """A hostile DSS cannot make the browser ask other addresses of this Airflow."""
    page = open_page("/hca-dss/static/style.css")
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))

    def answer(route: Route) -> None:
        manifest = route.fetch().json()
        for file in manifest["files"]:
            file["uuid"] = "../../../../../api/v2/auth/logout?x="
        route.fulfill(json=manifest)

    page.route(f"**/bundles/{ingested.uuid}?*", answer)
    page.goto(page.url.replace("static/style.css", f"bundle?{urlencode(ingested.query)}"))
    page.get_by_text("Cannot draw links.json").wait_for()
    assert [url for url in requested if "/files/" in url]
    assert not [url for url in requested if "/auth/logout" in url]
