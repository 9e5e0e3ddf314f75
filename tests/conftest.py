"""Fixtures that all tests of a worker share: an Airflow home and a local DSS."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

# The machine's settings must not reach the tests, nor must tests reach databases and buckets named there.
for name in list(os.environ):
    if name.startswith(("AIRFLOW_", "AWS_", "GOOGLE_", "STORAGE_")) and name != "AWS_CA_BUNDLE":
        del os.environ[name]
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, ["127.0.0.1,localhost", os.environ.get(name)]))

# Before the first import of Airflow, which reads these variables.
_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(
    AIRFLOW_HOME=str(_HOME),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(Path(__file__).parent.parent / "example_dags"),
    AIRFLOW__API_AUTH__JWT_SECRET="only-for-tests-" * 5,
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
)
from airflow.providers.common.compat.version_compat import (  # noqa: E402 - after the environment is set
    AIRFLOW_V_3_0_PLUS,
    AIRFLOW_V_3_1_PLUS,
)

from tests.airflow_processes import airflow, airflow_dss  # noqa: E402, F401 - as above, fixtures
from tests.local.server import LocalDSS  # noqa: E402 - as above
from tests.tiers import TierGuard  # noqa: E402 - as above

# Background jobs of a shell ignore SIGINT, and processes started by tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Secrets maskers: tasks and servers of Airflow 3, then Airflow 2.
_MASKERS = (
    "airflow.sdk._shared.secrets_masker.secrets_masker",
    "airflow._shared.secrets_masker.secrets_masker",
    "airflow.utils.log.secrets_masker",
)

# Features that an older Airflow lacks are not collected there; docs/compatibility.md lists them.
if AIRFLOW_V_3_0_PLUS:
    collect_ignore_glob = ["triggers/test_new_bundles_airflow2.py"]
else:  # no event-driven scheduling, and processes with other commands
    collect_ignore_glob = [
        "operators/test_nightly_process.py",
        "test_events_page.py",
        "test_scheduled_on_assets.py",
        "triggers/test_new_bundles.py",
        "triggers/test_processes.py",
    ]
if not AIRFLOW_V_3_1_PLUS:  # no pages in the UI
    collect_ignore_glob += ["plugins/test_[!p]*.py", "plugins/test_page*.py", "plugins/test_polling.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for the number and the timing of kills."""
    parser.addoption("--kills", type=int, default=10, help="number of kills in tests/upload/test_kills.py")
    parser.addoption("--kills-seed", type=int, default=7, help="seed of the moments of the kills")


def pytest_collection_finish() -> None:
    """Leave all modules and tests out of garbage collections, which are then quicker and more frequent."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """Register the guard of the tiers."""
    config.pluginmanager.register(TierGuard())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests of a module on one worker, so that its fixtures are set up once, unless they name a group."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def shared_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS that copies asynchronously above 100 kB and waits 1.5 s for missing files."""
    state = tmp_path_factory.mktemp("dss")
    options = ("--file-wait", "1.5", "--async-above", "100000", "--copy-delay", "0.4", "--sync-delay", "off")
    with LocalDSS(state, "--gcs", *options) as dss:
        yield dss


@pytest.fixture
def dss(shared_dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> LocalDSS:
    """Return the local DSS of the session without faults, with its environment variables set."""
    shared_dss.control("DELETE", "faults")
    shared_dss.control("DELETE", "requests")
    shared_dss.control("POST", "processes", {"count": 0})
    for name, value in shared_dss.about["env"].items():
        monkeypatch.setenv(name, value)
    return shared_dss


@pytest.fixture(scope="session")
def airflow_db() -> Path:
    """Create Airflow's database in the tests' home; return the path of a copy that no test writes to."""
    from airflow.utils.db import initdb

    initdb()
    untouched = _HOME / "untouched.db"
    with closing(sqlite3.connect(_HOME / "airflow.db")) as new, closing(sqlite3.connect(untouched)) as copy:
        new.backup(copy)
    return untouched


@pytest.fixture(autouse=True)
def _secrets_of_one_test() -> Iterator[None]:
    """Remove the secrets of a test from Airflow's maskers.

    For each new secret, Airflow compiles all of them into one regular expression, and `re` keeps 512 of these. With a
    new token in each test, time and memory would grow with the square of the number of tests.
    """
    before = {masker: (set(masker.patterns), masker.replacer) for masker in _maskers()}
    yield
    for masker in _maskers():
        masker.patterns, masker.replacer = before.get(masker, (set(), None))


def _maskers() -> list[Any]:
    modules = (sys.modules.get(name) for name in _MASKERS)
    return [module._secrets_masker() for module in modules if module is not None]  # noqa: SLF001 - no public name
