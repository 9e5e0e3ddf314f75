from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parent.parent / "airflow_provider_hca"

_HEAVY = {
    "requests",
    "urllib3",
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


@pytest.mark.parametrize(
    "part", ["hooks", "operators", "sensors", "triggers", "utils", "links", "assets", "client", "cli"]
)
def test_no_heavy_library_at_module_level(part: str) -> None:
    """Parsing a DAG imports no HTTP library and no cloud SDK."""
    for path in {*(_PACKAGE / part).rglob("*.py")} - {_PACKAGE / "client" / "session.py"}:  # imported in functions only
        assert not {name.split(".")[0] for name in _imports(path, top_level_only=True)} & _HEAVY, path


_PARSE = """
import json, sys, time
import airflow.providers.common.compat.sdk as sdk
sdk.DAG, sdk.BaseOperator, sdk.BaseSensorOperator, sdk.BaseHook  # loaded by every DAG with operators
before = set(sys.modules)
airflow = time.process_time()
import airflow_provider_hca.operators.dss, airflow_provider_hca.sensors.dss
share = (time.process_time() - airflow) / airflow
print(json.dumps({"share": share, "modules": sorted(set(sys.modules) - before)}))
"""


@pytest.mark.system  # measures CPU time
def test_a_dag_with_all_operators_parses_quickly() -> None:
    """Importing operators and sensors costs less than a twentieth of importing Airflow (best of three)."""
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", _PARSE], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    assert not {name.split(".")[0] for name in runs[0]["modules"]} & _HEAVY
    assert min(run["share"] for run in runs) < 0.05  # usually 0.03; a share, because load slows down both


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import airflow_provider_hca; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'airflow_provider_hca'}"
