from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

_CONFTEST = """
from tests.tiers import TierGuard

def pytest_configure(config):
    config.addinivalue_line("markers", "system: of the system tier")
    config.pluginmanager.register(TierGuard())
"""
_TESTS = """
import subprocess
import sys

import pytest

@pytest.fixture(scope="session")
def airflow():
    return 1

@pytest.mark.system
def test_system_test_starts_anything(airflow):
    with pytest.raises(FileNotFoundError):
        subprocess.run(["no/such/airflow"])

def test_unit_test_starts_python():
    subprocess.run([sys.executable, "-c", "pass"], check=True)

def test_unit_test_starts_a_script():
    subprocess.run(["no/such/airflow", "version"])

def test_unit_test_starts_a_module():
    subprocess.run([sys.executable, "-m", "airflow", "version"])

def test_unit_test_starts_a_module_with_options():
    subprocess.run([sys.executable, "-u", "-m", "airflow", "version"])

def test_unit_test_starts_a_shell():
    subprocess.run("cd . && true && airflow version", shell=True)

def test_unit_test_starts_a_browser():
    subprocess.run("chromium")

def test_unit_test_swallows_the_failure():
    try:
        subprocess.run(["no/such/airflow"])
    except BaseException:
        pass

def test_unit_test_uses_shared_processes(airflow):
    pass
"""


def test_guard_fails_unit_tests_that_belong_to_the_system_tier(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a process of its own: this one has a guard, too.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makeconftest(_CONFTEST)
    pytester.makepyfile(_TESTS)
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:xdist")
    # The swallowed failure, and the shared processes, are errors at teardown and setup.
    result.assert_outcomes(passed=3, failed=5, errors=7)
    result.stdout.fnmatch_lines(["*a test of the unit tier uses airflow: mark it with*"])
