from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_hca.client.identifiers import bundle_uuid_of
from tests.local.server import LocalDSS
from tests.running import LOGICAL_DATE, run, states, xcom

pytestmark = pytest.mark.system

_ROOT = Path(__file__).parent.parent
_EXAMPLES = sorted((_ROOT / "example_dags").glob("example_*.py"))
# How many bundles each leaves; those of deleted ones count, since a DSS keeps them.
_BUNDLES = {
    "example_dss_approval": 1,
    "example_dss_download_bundle": 1,
    "example_dss_every_call": 2,
    "example_dss_lineage": 1,
    "example_dss_new_bundles": 0,
    "example_dss_new_bundles_scheduled": 0,
    "example_dss_nightly_batch": 1,
    "example_dss_partitions": 1,
    "example_dss_put_files": 1,
    "example_dss_upload_directory": 1,
    "example_dss_upload_group": 1,
}
# An approval, and a run for each partition, need Airflow's processes: test_nightly_process.py runs these examples.
_BY_PROCESSES = {"example_dss_approval", "example_dss_partitions"}
# Airflow 2 starts no DAGs by events, so that example defines none there.
_DAGS = [
    path
    for path in _EXAMPLES
    if path.stem not in _BY_PROCESSES and (AIRFLOW_V_3_0_PLUS or path.stem != "example_dss_new_bundles")
]
_SCRIPTS = [path for path in _EXAMPLES if "dag.test()" in path.read_text()]


def load_all(path: Path) -> list[Any]:
    """Return all DAGs of a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [each for each in vars(module).values() if isinstance(each, DAG)] or [module.upload.dag]


def load(path: Path) -> Any:
    """Return the only DAG of a file."""
    (dag,) = load_all(path)
    return dag


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.parametrize("path", _DAGS, ids=lambda path: path.stem)
def test_example_runs(path: Path, dss: LocalDSS) -> None:
    before = {(bundle["uuid"], bundle["version"]) for bundle in _bundles(dss)}
    ended = [state for dag in load_all(path) for state in states(run(dag)).values()]
    made = {(bundle["uuid"], bundle["version"]) for bundle in _bundles(dss) if bundle["replica"] == "aws"} - before
    assert set(ended) <= {"success", "skipped"}
    if path.stem == "example_dss_nightly_batch":  # another test may have run it: then nothing has changed
        uuid = bundle_uuid_of("example/cell_42")
        made = {max((bundle["uuid"], bundle["version"]) for bundle in _bundles(dss) if bundle["uuid"] == uuid)}
    assert len({uuid for uuid, _ in made}) == _BUNDLES[path.stem]
    data = _ROOT / "example_dags" / "data" / "cell_42"
    names = sorted(each.relative_to(data).as_posix() for each in data.rglob("*") if each.is_file())
    if _BUNDLES[path.stem] == 1:
        ((uuid, version),) = made
        answer = dss.call("GET", f"/bundles/{uuid}", replica="aws", version=version).json()
        assert [file["name"] for file in answer["bundle"]["files"]] == names


def test_all_examples_are_listed() -> None:
    assert {path.stem for path in _EXAMPLES} == set(_BUNDLES)


@pytest.mark.usefixtures("airflow_db")
def test_every_call_example_has_all_calls(dss: LocalDSS) -> None:
    # Of another day than the other tests': what this example deletes stays deleted.
    date = LOGICAL_DATE + timedelta(days=1)
    dag_run = run(load(_ROOT / "example_dags" / "example_dss_every_call.py"), logical_date=date)
    calls = {
        *("upload", "put_file", "put_bundle", "patch_bundle", "delete_bundle"),
        *("put_collection", "get_collection", "get_collections", "patch_collection", "delete_collection"),
    }
    bundle = xcom(dag_run, "put_bundle", "uuid")
    assert calls <= set(states(dag_run))
    assert set(states(dag_run).values()) == {"success"}
    assert xcom(dag_run, "patch_bundle", "file_count") == 6
    assert xcom(dag_run, "patch_collection", "item_count") == 2
    assert "@" in xcom(dag_run, "get_collection")
    assert xcom(dag_run, "get_collections") >= 1
    assert xcom(dag_run, "delete_collection", "deleted") is True
    assert dss.call("GET", f"/bundles/{bundle}", replica="aws").status_code == 404


@pytest.mark.usefixtures("airflow_db")
def test_download_example_restores_the_uploaded_files(dss: LocalDSS, tmp_path: Path) -> None:
    dag_run = run(load(_ROOT / "example_dags" / "example_dss_download_bundle.py"), conf={"target": str(tmp_path)})
    target = Path(xcom(dag_run, "reads", "directory"))
    data = _ROOT / "example_dags" / "data" / "cell_42"
    expected = {path.relative_to(data): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert target.parent == tmp_path
    assert {path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()} == expected
    downloaded = xcom(dag_run, "reads", "statistics")["downloaded_file_count"]
    assert xcom(dag_run, "metadata", "file_count") + downloaded == len(expected)


@pytest.mark.usefixtures("airflow_db")
def test_upload_example_counts_the_files(dss: LocalDSS) -> None:
    dag_run = run(load(_ROOT / "example_dags" / "example_dss_upload_directory.py"))
    assert xcom(dag_run, "show") == xcom(dag_run, "upload", "file_count") == 5


def _bundles(dss: LocalDSS) -> list[dict[str, str]]:
    return list(dss.control("GET", "store")["bundles"])


_RUN_SCRIPTS = """
import runpy, sys
for path in sys.argv[1:]:
    print("script", path, flush=True)
    runpy.run_path(path, run_name="__main__")
"""


@pytest.mark.usefixtures("airflow_db", "dss")
def test_examples_run_as_scripts() -> None:
    """`python example_dags/x.py` runs the DAG. All in one process, because importing Airflow takes most of the time."""
    command = [sys.executable, "-c", _RUN_SCRIPTS, *map(str, _SCRIPTS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    outputs = done.stdout.split("script /")[1:]
    assert len(outputs) == len(_SCRIPTS)
    for output in outputs:
        assert "state=success" in output, output


@pytest.mark.usefixtures("airflow_db")
def test_dag_of_the_readme_runs(dss: LocalDSS, tmp_path: Path) -> None:
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
