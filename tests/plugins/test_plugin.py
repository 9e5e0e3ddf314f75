from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_hca.plugins.plugin import DSSPlugin

_START = """
import json, sys, time
import airflow.providers.common.compat.sdk as sdk
sdk.AirflowPlugin, sdk.conf  # what Airflow has loaded before it loads plugins
before = set(sys.modules)
started = time.process_time()
from airflow_provider_hca.plugins.plugin import DSSPlugin
made = DSSPlugin()
{name: getattr(made, name) for name in ("listeners", "macros", "timetables", "operator_extra_links")}
print(json.dumps({"ms": (time.process_time() - started) * 1000, "modules": sorted(set(sys.modules) - before)}))
"""


@pytest.mark.system  # measures CPU time
def test_it_adds_nothing_to_the_start_of_a_worker() -> None:
    """Loading the plugin as workers do takes less than 30 ms of processor time, and none of the page's modules."""
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    # Not the package itself, which Airflow 3 has loaded before, to read the provider's description.
    ours = [name for name in runs[0]["modules"] if name.startswith("airflow_provider_hca.")]
    assert ours == ["airflow_provider_hca.plugins", "airflow_provider_hca.plugins.plugin"]
    assert not {"fastapi", "starlette", "aiohttp", "requests"} & set(runs[0]["modules"])
    assert min(run["ms"] for run in runs) < 30  # 5 on an idle machine


def test_airflow_finds_it() -> None:
    """The installed distribution has it among Airflow's plugins."""
    found = [each for each in entry_points(group="airflow.plugins") if each.value.startswith("airflow_provider_hca")]
    assert [each.load() for each in found] == [DSSPlugin]


def test_it_shows_a_page_and_a_tab_where_airflow_can() -> None:
    """From Airflow 3.1 on there are an entry in the navigation and a tab on DAG runs; before, nothing."""
    made = DSSPlugin()
    expected = ["nav", "dag_run"] if AIRFLOW_V_3_1_PLUS else []
    assert [view["destination"] for view in made.external_views] == expected
    assert [each["url_prefix"] for each in made.fastapi_apps] == (["/hca-dss"] if AIRFLOW_V_3_1_PLUS else [])


def test_it_follows_the_path_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Airflow is not at the root of its host, the frame is where the page is."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://tools.example.org/airflow/")
    for view in DSSPlugin().external_views:
        assert view["href"].startswith("/airflow/hca-dss/")
        assert view["icon"] == "/airflow/hca-dss/static/icon.svg"


_BROKEN = """
import sys
sys.modules["airflow.api_fastapi.core_api.security"] = None  # as an Airflow would be that has moved it
from airflow_provider_hca.plugins.plugin import DSSPlugin
print(DSSPlugin().fastapi_apps, DSSPlugin().external_views)
"""


def test_an_airflow_that_it_does_not_know_starts_without_it() -> None:
    """Where something that the page uses is not there, there is no page, and an error in the log, but an Airflow."""
    done = subprocess.run([sys.executable, "-c", _BROKEN], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] []"
    if AIRFLOW_V_3_1_PLUS:
        assert "this Airflow cannot show the DSS page" in done.stdout + done.stderr
