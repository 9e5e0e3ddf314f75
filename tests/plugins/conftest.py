"""Fixtures of the page: one Airflow with its UI, one local DSS and one browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.server import LocalDSS
from tests.plugins.samples import HOSTILE, write_bundle

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.plugins.airflow import AirflowWithUI

SECRET = "a-secret-of-a-connection"
# Needed as root and without a network.
_CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def ui_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a separate local DSS, so that bundles of other tests are not on the page."""
    options = ("--async-above", "2000000", "--copy-delay", "3", "--sync-delay", "0.2")
    with LocalDSS(tmp_path_factory.mktemp("ui-dss"), "--gcs", *options) as dss:
        yield dss


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory, airflow_db: Path, ui_dss: LocalDSS) -> Iterator[AirflowWithUI]:
    """Start an Airflow with a good connection, one to a missing DSS and one of another type."""
    from tests.plugins.airflow import AirflowWithUI

    about = json.loads(ui_dss.about["connection"])
    about["extra"]["retry_seconds"] = 2
    environment = {
        **ui_dss.about["env"],
        "AIRFLOW_CONN_HCA_DSS_DEFAULT": json.dumps(about),
        "AIRFLOW_CONN_DSS_DOWN": json.dumps({"conn_type": "hca_dss", "host": "http://127.0.0.1:1/v1"}),
        "AIRFLOW_CONN_NOT_A_DSS": json.dumps({"conn_type": "http", "host": "x", "password": SECRET}),
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    }
    airflow = AirflowWithUI(tmp_path_factory.mktemp("airflow-ui"), airflow_db, environment)
    try:
        airflow.begin(Path(__file__).parent / "dags" / "ingests.py")
        airflow.api("POST", "/connections", _stored(ui_dss))
        yield airflow
    finally:
        airflow.stop()


@pytest.fixture(autouse=True)
def no_faults_remain(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove faults that a failed test left in the shared DSS."""
    yield
    if "ui_dss" in request.fixturenames:
        request.getfixturevalue("ui_dss").control("DELETE", "faults")


def _stored(dss: LocalDSS) -> dict[str, Any]:
    return {"connection_id": "dss_token", "conn_type": "hca_dss", "host": dss.url, "password": dss.token()}


class Ingested:
    """Bundle that a DAG run created.

    :ivar task: Task that created it, from the API of the page
    """

    def __init__(self, airflow: AirflowWithUI, dag_id: str, run_id: str) -> None:
        self.dag_id, self.run_id = dag_id, run_id
        run = airflow.page("run", dag_id=dag_id, run_id=run_id)
        self.task = next(task for task in run["ingests"] if task["task_id"] == "upload")
        self.uuid: str = self.task["bundle"]["uuid"]
        self.version: str = self.task["bundle"]["version"]
        self.query = {"connection": "hca_dss_default", "replica": "aws", "uuid": self.uuid, "version": self.version}


@pytest.fixture(scope="session")
def ingested(airflow: AirflowWithUI, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """Upload a bundle with metadata, links and a file whose name is markup."""
    directory = tmp_path_factory.mktemp("islets")
    write_bundle(directory)
    (directory / HOSTILE).write_text("hostile")
    return Ingested(airflow, "ingest", airflow.run("ingest", directory=str(directory)))


@pytest.fixture(scope="session")
def hidden(airflow: AirflowWithUI, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """Upload a bundle by a DAG that some users may not read."""
    directory = tmp_path_factory.mktemp("hidden")
    (directory / "a.txt").write_text("a")
    return Ingested(airflow, "hidden", airflow.run("hidden", directory=str(directory)))


@pytest.fixture(scope="session")
def failed(airflow: AirflowWithUI, ui_dss: LocalDSS, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """Run an upload that fails because all its files conflict."""
    directory = tmp_path_factory.mktemp("failing")
    for number in range(7):
        (directory / f"read_{number}.fastq").write_text(f"{number}")
    conflict = {"method": "PUT", "path": "/files/", "action": "status", "status": 409, "times": 99}
    ui_dss.control("POST", "faults", conflict)
    run_id = airflow.run("ingest", directory=str(directory))
    ui_dss.control("DELETE", "faults")
    return Ingested(airflow, "ingest", run_id)


@pytest.fixture(scope="session")
def grouped(airflow: AirflowWithUI, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Upload ten files by a group of three shards; return the run id."""
    directory = tmp_path_factory.mktemp("grouped")
    for number in range(10):
        (directory / f"{number}.json").write_text(f"grouped {number}")
    return airflow.run("grouped", directory=str(directory))


# Scope: while it is open, Playwright's event loop counts as running in this thread, so no other test can run one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    assert path, "tests of the page need Chromium: run `scripts/setup chromium`, or set CHROMIUM to its path"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_CHROMIUM_OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(airflow: AirflowWithUI, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page of Airflow as a logged-in user.

    At the end, fail if a page sent a request to another host or had an error in a script.
    """
    requested: list[str] = []
    errors: list[str] = []
    contexts = []

    def opened(path: str, user: str = "admin", *, width: int = 1280, dark: bool = False) -> Page:
        theme = "dark" if dark else "light"
        context = browser.new_context(viewport={"width": width, "height": 900})
        context.set_default_timeout(120_000)  # ms, for a busy machine
        contexts.append(context)
        context.add_cookies([{"name": "_token", "value": airflow.token(user), "url": airflow.url}])
        # Frames without an address have no storage.
        context.add_init_script(f"if (location.origin === '{airflow.url}') localStorage.setItem('theme', '{theme}')")
        context.on("request", lambda request: requested.append(request.url))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        page = context.new_page()
        page.on("dialog", lambda dialog: errors.append(f"a dialog: {dialog.message}"))
        page.goto(airflow.url + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not [url for url in requested if not url.startswith((airflow.url, "data:", "blob:"))]
    assert not errors
