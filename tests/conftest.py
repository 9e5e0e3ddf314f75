"""What the tests of a worker share: an Airflow home of their own, and a local DSS in a process of its own."""

from __future__ import annotations

import atexit
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

# The machine's own settings must not reach the tests, nor the tests a database or a bucket that these name.
for name in list(os.environ):
    if name.startswith(("AIRFLOW_", "AWS_", "GOOGLE_", "STORAGE_")) and name != "AWS_CA_BUNDLE":
        del os.environ[name]
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, ["127.0.0.1,localhost", os.environ.get(name)]))

# Before anything imports Airflow, which reads all this at once.
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

from tests.local.server import LocalDSS  # noqa: E402 - as above
from tests.tiers import TierGuard  # noqa: E402 - as above

# A shell has what it starts in the background ignore SIGINT, and the processes of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Those of tasks and of servers in Airflow 3, and that of Airflow 2.
_MASKERS = (
    "airflow.sdk._shared.secrets_masker.secrets_masker",
    "airflow._shared.secrets_masker.secrets_masker",
    "airflow.utils.log.secrets_masker",
)

# What an older Airflow has no place for is not collected there; docs/compatibility.md has the table for users.
if AIRFLOW_V_3_0_PLUS:
    collect_ignore_glob = ["triggers/test_new_bundles_airflow2.py"]
else:  # no event starts a DAG, so there are no asset watchers
    collect_ignore_glob = [
        "test_events_page.py",
        "test_scheduled_on_assets.py",
        "triggers/test_new_bundles.py",
        "triggers/test_processes.py",
    ]
if not AIRFLOW_V_3_1_PLUS:  # the UI takes no pages: what is left is the plugin, which shows none
    collect_ignore_glob += ["plugins/test_[!p]*.py", "plugins/test_page*.py", "plugins/test_polling.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests that depend on chance run for longer, or repeat what they did."""
    parser.addoption("--kills", type=int, default=20, help="how often uploads are killed in tests/upload/test_kills.py")
    parser.addoption("--kills-seed", type=int, default=7, help="of the moments at which they are")


def pytest_configure(config: pytest.Config) -> None:
    """Watch over the tiers."""
    config.pluginmanager.register(TierGuard())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module on one worker, unless they name a group, so that its fixtures are made once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def shared_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS that copies asynchronously above 100 kB, and does not wait long for what is missing."""
    state = tmp_path_factory.mktemp("dss")
    options = ("--file-wait", "1.5", "--async-above", "100000", "--copy-delay", "0.4", "--sync-delay", "off")
    with LocalDSS(state, "--gcs", *options) as dss:
        yield dss


@pytest.fixture
def dss(shared_dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> LocalDSS:
    """Give the local DSS of the session, without faults, named in the environment as its users name it."""
    shared_dss.control("DELETE", "faults")
    shared_dss.control("DELETE", "requests")
    for name, value in shared_dss.about["env"].items():
        monkeypatch.setenv(name, value)
    return shared_dss


@pytest.fixture(scope="session")
def airflow_db() -> Path:
    """Make Airflow's database anew, in the tests' own home; return a copy that no test writes into."""
    from airflow.utils.db import initdb

    initdb()
    untouched = _HOME / "untouched.db"
    with closing(sqlite3.connect(_HOME / "airflow.db")) as made, closing(sqlite3.connect(untouched)) as copy:
        made.backup(copy)
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
