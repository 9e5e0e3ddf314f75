from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_4_PLUS

from airflow_provider_hca.plugins.plugin import DSSPlugin

_START = """
import json, sys, time
import airflow.providers.common.compat.sdk as sdk
sdk.AirflowPlugin, sdk.conf  # loaded before plugins are
before = set(sys.modules)
started = time.process_time()
from airflow_provider_hca.plugins.plugin import DSSPlugin
plugin = DSSPlugin()
{name: getattr(plugin, name) for name in ("listeners", "macros", "timetables", "operator_extra_links")}
print(json.dumps({"ms": (time.process_time() - started) * 1000, "modules": sorted(set(sys.modules) - before)}))
"""


@pytest.mark.system  # measures CPU time
def test_plugin_load_imports_nothing_of_the_page() -> None:
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    # Without the package itself, which Airflow 3 has loaded before for get_provider_info.
    ours = [name for name in runs[0]["modules"] if name.startswith("airflow_provider_hca.")]
    assert ours == ["airflow_provider_hca.plugins", "airflow_provider_hca.plugins.plugin"]
    assert not {"fastapi", "starlette", "aiohttp", "requests"} & set(runs[0]["modules"])
    assert min(run["ms"] for run in runs) < 30  # 5 on an idle machine


def test_plugin_is_an_entry_point_of_the_distribution() -> None:
    plugins = entry_points(group="airflow.plugins")
    assert [plugin.load() for plugin in plugins if plugin.value.startswith("airflow_provider_hca")] == [DSSPlugin]


def test_plugin_adds_page_and_tab_from_airflow_3_1() -> None:
    plugin = DSSPlugin()
    expected = ["nav", "dag_run"] if AIRFLOW_V_3_1_PLUS else []
    if AIRFLOW_V_3_4_PLUS:
        expected += ["task_instance", "asset"]
    assert [view["destination"] for view in plugin.external_views] == expected
    assert [app["url_prefix"] for app in plugin.fastapi_apps] == (["/hca-dss"] if AIRFLOW_V_3_1_PLUS else [])


def test_page_follows_the_base_url_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://tools.example.org/airflow/")
    for view in DSSPlugin().external_views:
        assert view["href"].startswith("/airflow/hca-dss/")
        assert view["icon"] == "/airflow/hca-dss/static/icon.svg"


_BROKEN = """
import sys
sys.modules["airflow.api_fastapi.core_api.security"] = None  # like a version of Airflow that moved it
from airflow_provider_hca.plugins.plugin import DSSPlugin
print(DSSPlugin().fastapi_apps, DSSPlugin().external_views)
"""


def test_plugin_without_importable_page_logs_an_error_and_adds_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", _BROKEN], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] []"
    if AIRFLOW_V_3_1_PLUS:
        assert "cannot load the DSS page in this version of Airflow" in done.stdout + done.stderr
