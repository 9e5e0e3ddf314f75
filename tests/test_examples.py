from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from tests.local.server import LocalDSS
from tests.running import run, states, xcom

_ROOT = Path(__file__).parent.parent
_EXAMPLES = sorted((_ROOT / "example_dags").glob("example_*.py"))


def load(path: Path) -> Any:
    """Return the one DAG that a file defines."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (dag,) = [each for each in vars(module).values() if isinstance(each, DAG)] or [module.upload.dag]
    return dag


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.parametrize("path", _EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs(path: Path, dss: LocalDSS) -> None:
    """Each example DAG succeeds as it is, and its bundle holds the example's files."""
    before = {bundle["uuid"] for bundle in _bundles(dss)}
    dag_run = run(load(path))
    (made,) = [bundle for bundle in _bundles(dss) if bundle["uuid"] not in before]
    answer = dss.call("GET", f"/bundles/{made['uuid']}", replica="aws").json()
    data = _ROOT / "example_dags" / "data" / "cell_42"
    names = sorted(each.relative_to(data).as_posix() for each in data.rglob("*") if each.is_file())
    assert set(states(dag_run).values()) == {"success"}
    assert [file["name"] for file in answer["bundle"]["files"]] == names


@pytest.mark.usefixtures("airflow_db")
def test_the_upload_example_looks_at_its_bundle(dss: LocalDSS) -> None:
    """The last task of example 1 counts the files of the bundle that the first one made."""
    dag_run = run(load(_ROOT / "example_dags" / "example_dss_upload_directory.py"))
    assert xcom(dag_run, "show") == xcom(dag_run, "upload", "file_count") == 5


def _bundles(dss: LocalDSS) -> list[dict[str, str]]:
    return list(dss.control("GET", "store")["bundles"])


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.parametrize("path", _EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs_as_a_script(path: Path, dss: LocalDSS) -> None:
    """`python example_dags/x.py` runs the DAG, in an Airflow whose DAGs folder holds it."""
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, check=False, env=os.environ.copy()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "state=success" in done.stdout + done.stderr


@pytest.mark.usefixtures("airflow_db")
def test_the_dag_of_the_readme_runs(dss: LocalDSS, tmp_path: Path) -> None:
    """The README's DAG, with a directory and bucket that exist, makes a bundle and finds it."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (_ROOT / "README.md").read_text(), re.DOTALL)
    if not AIRFLOW_V_3_0_PLUS:
        snippet = re.sub(r"from airflow.sdk import DAG  # Airflow 2: (.*)", r"\1", snippet)
    (tmp_path / "a.json").write_text("{}")
    path = tmp_path / "readme.py"
    path.write_text(snippet.replace("/data/experiment_42", str(tmp_path)).replace("my-staging-bucket", dss.bucket))
    assert str(tmp_path) in path.read_text()
    assert dss.bucket in path.read_text()
    assert len(snippet.splitlines()) <= 12
    dag_run = run(load(path))
    assert states(dag_run) == {"upload": "success", "available": "success"}
