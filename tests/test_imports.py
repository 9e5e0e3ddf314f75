from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parent.parent / "airflow_provider_hca"

# Which rooms a room may use; see the first lines of each package.
_ALLOWED = {
    "exceptions": set(),
    "get_provider_info": set(),
    "client": {"exceptions"},
    "assets": {"client.identifiers", "client.model"},
    "parallel": {"exceptions"},
    "upload": {"parallel", "client", "exceptions"},
    "download": {"parallel", "client", "exceptions"},
    "hooks": {"assets", "upload", "download", "client", "exceptions", "get_provider_info"},
    "operators": {"assets", "hooks", "triggers", "upload", "download", "client", "exceptions"},
    "sensors": {"operators.links", "hooks", "triggers", "client", "exceptions"},
    "triggers": {"hooks", "client", "exceptions"},
    "ui": {"hooks", "client", "exceptions"},
    "cli": {"hooks", "upload", "download", "client", "exceptions", "local"},
    "local": {"client.identifiers"},
}
_HEAVY = {
    "requests",
    "aiohttp",
    "boto3",
    "botocore",
    "google",
    "google_crc32c",
    "obstore",
    "fastapi",
    "uvicorn",
    "moto",
}


def _imports(path: Path, *, top_level_only: bool = False) -> list[str]:
    tree = ast.parse(path.read_text())
    nodes = ast.iter_child_nodes(tree) if top_level_only else ast.walk(tree)
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("room", sorted(_ALLOWED))
def test_dependencies_point_one_way(room: str) -> None:
    """A room imports only the rooms below it, also inside functions; the local DSS shares the identifiers alone."""
    paths = list((_PACKAGE / room).rglob("*.py")) or [_PACKAGE / f"{room}.py"]
    prefix = "airflow_provider_hca."
    for path in paths:
        for name in _imports(path):
            if not name.startswith(prefix):
                continue
            inner = name.removeprefix(prefix)
            allowed = {room, *_ALLOWED[room]}
            assert any(inner == each or inner.startswith(f"{each}.") for each in allowed), f"{path.name} imports {name}"


@pytest.mark.parametrize("room", ["exceptions", "parallel", "client", "upload", "download", "local"])
def test_only_the_upper_rooms_know_airflow(room: str) -> None:
    """Client, upload engine and local DSS run without Airflow."""
    for path in list((_PACKAGE / room).rglob("*.py")) or [_PACKAGE / f"{room}.py"]:
        assert not [name for name in _imports(path) if name.split(".")[0] == "airflow"], path


@pytest.mark.parametrize("room", ["hooks", "operators", "sensors", "triggers", "client", "cli"])
def test_no_heavy_library_at_module_level(room: str) -> None:
    """Parsing a DAG imports no HTTP library and no cloud SDK."""
    for path in (_PACKAGE / room).rglob("*.py"):
        assert not {name.split(".")[0] for name in _imports(path, top_level_only=True)} & _HEAVY, path


_PARSE = """
import json, sys, time
import airflow.providers.common.compat.sdk as sdk
sdk.DAG, sdk.BaseOperator, sdk.BaseSensorOperator, sdk.BaseHook  # what every DAG with operators loads
before = set(sys.modules)
airflow = time.process_time()
import airflow_provider_hca.operators.dss, airflow_provider_hca.sensors.dss
share = (time.process_time() - airflow) / airflow
print(json.dumps({"share": share, "modules": sorted(set(sys.modules) - before)}))
"""


@pytest.mark.system  # measures CPU time
def test_a_dag_with_all_operators_parses_quickly() -> None:
    """Operators and sensor cost a twentieth of what Airflow itself does, at their best of three."""
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", _PARSE], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    assert not {name.split(".")[0] for name in runs[0]["modules"]} & _HEAVY
    assert min(run["share"] for run in runs) < 0.05  # 0.03 as a rule; a share, since a busy machine makes both slower


def test_importing_the_package_costs_nothing() -> None:
    """The package itself imports nothing."""
    code = "import sys; before = set(sys.modules); import airflow_provider_hca; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'airflow_provider_hca'}"
