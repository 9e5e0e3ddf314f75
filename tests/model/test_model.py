from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.client.drivers import DRIVERS, driver
from tests.local.server import LocalDSS
from tests.running import connection

from . import mutants
from .over_http import HTTPModel

pytestmark = pytest.mark.system


def test_model_in_process_finds_no_violation() -> None:
    # In a process of its own: it replaces the clock of all modules.
    command = [sys.executable, "-m", "tests.model", "--minutes", "0.3"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_mutants_change_one_place_of_the_present_code_each() -> None:
    mutants.check_texts()


@pytest.mark.usefixtures("airflow_db")
def test_model_over_http_finds_no_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = settings(
        max_examples=2,
        stateful_step_count=15,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    arguments = ("--file-wait", "1", "--async-above", "100000", "--copy-delay", "0.2", "--sync-delay", "off")
    with contextlib.ExitStack() as stack:
        dss = HTTPModel.dss = stack.enter_context(LocalDSS(tmp_path / "dss", *arguments))
        for name, value in dss.about["env"].items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss))
        HTTPModel.drivers = {name: stack.enter_context(driver(name)) for name in DRIVERS}
        HTTPModel.directory = tmp_path
        run_state_machine_as_test(HTTPModel, settings=options)
