"""Fixtures of the page: DAGs, a connection, bundles and one browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.local.server import LocalDSS
from tests.plugins.samples import NAME_WITH_MARKUP, write_bundle

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from playwright.sync_api import Browser, Page

    from tests.airflow_processes import Airflow

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
def airflow(airflow: Airflow, airflow_dss: LocalDSS) -> Airflow:
    """Return the Airflow with the DAGs of these tests and a stored connection."""
    dags = Path(__file__).parent / "dags" / "ingests.py"
    airflow.add_dag(dags.name, dags.read_text())
    token = airflow_dss.token()
    stored = {"connection_id": "dss_token", "conn_type": "hca_dss", "host": airflow_dss.url, "password": token}
    airflow.api("POST", "/connections", stored)
    return airflow


@pytest.fixture(autouse=True)
def no_faults_remain(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove faults that a failed test left in the shared DSS."""
    yield
    if "airflow_dss" in request.fixturenames:
        request.getfixturevalue("airflow_dss").control("DELETE", "faults")


@pytest.fixture(scope="session")
def page_api(airflow_db: Path) -> TestClient:
    """Return a client of the page in this process, with the permissions of an administrator."""
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    from airflow_provider_hca.plugins.app import make_app

    create_auth_manager()
    app = make_app()
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="a", role="admin")
    return TestClient(app)


class Ingested:
    """Bundle that a DAG run created.

    :ivar task: Task that created it, from the API of the page
    """

    def __init__(self, airflow: Airflow, dag_id: str, run_id: str) -> None:
        self.dag_id, self.run_id = dag_id, run_id
        run = airflow.page("run", dag_id=dag_id, run_id=run_id)
        self.task = next(task for task in run["ingests"] if task["task_id"] == "upload")
        self.uuid: str = self.task["bundle"]["uuid"]
        self.version: str = self.task["bundle"]["version"]
        self.query = {"connection": "hca_dss_default", "replica": "aws", "uuid": self.uuid, "version": self.version}


@pytest.fixture(scope="session")
def ingested(airflow: Airflow, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """Upload a bundle with metadata, links and a file whose name is markup."""
    directory = tmp_path_factory.mktemp("islets")
    write_bundle(directory)
    (directory / NAME_WITH_MARKUP).write_text("markup")
    return Ingested(airflow, "ingest", airflow.run("ingest", directory=str(directory)))


@pytest.fixture(scope="session")
def hidden(airflow: Airflow, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """Upload a bundle by a DAG that some users may not read."""
    directory = tmp_path_factory.mktemp("hidden")
    (directory / "a.txt").write_text("a")
    return Ingested(airflow, "hidden", airflow.run("hidden", directory=str(directory)))


@pytest.fixture(scope="session")
def failed(airflow: Airflow, airflow_dss: LocalDSS, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    """Run an upload that fails because all its files conflict."""
    directory = tmp_path_factory.mktemp("failing")
    for number in range(7):
        (directory / f"read_{number}.fastq").write_text(f"{number}")
    conflict = {"method": "PUT", "path": "/files/", "action": "status", "status": 409, "times": 99}
    airflow_dss.control("POST", "faults", conflict)
    run_id = airflow.run("ingest", directory=str(directory))
    airflow_dss.control("DELETE", "faults")
    return Ingested(airflow, "ingest", run_id)


@pytest.fixture(scope="session")
def grouped(airflow: Airflow, tmp_path_factory: pytest.TempPathFactory) -> str:
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
def open_page(airflow: Airflow, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page of Airflow as a logged-in user.

    At the end, fail if a page sent a request to another host or had an error in a script.
    """
    requested: list[str] = []
    errors: list[str] = []
    contexts = []

    def opened(path: str, user: str = "admin", *, width: int = 1280) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900})
        context.set_default_timeout(120_000)  # ms, for a busy machine
        contexts.append(context)
        context.add_cookies([{"name": "_token", "value": airflow.token(user), "url": airflow.url}])
        # Frames without an address have no storage.
        context.add_init_script(f"if (location.origin === '{airflow.url}') localStorage.setItem('theme', 'light')")
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
