from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_provider_hca.triggers.dss import DSSNewBundleTrigger

_PAGES = Path(__file__).parents[2] / "docs"
_WITH_WHAT_BOTH_HAVE = """
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow_provider_hca.triggers.dss import DSSNewBundleTrigger

with DAG("watch", schedule=[Asset("dss_new_bundles", watchers=[DSSNewBundleTrigger(replica="aws")])]):
    pass
"""


def _import_error(dag: str, directory: Path) -> str:
    """Return the last line of the import error of a DAG file."""
    from airflow.models.dagbag import DagBag

    (directory / "dag.py").write_text(dag)
    (error,) = DagBag(directory, include_examples=False).import_errors.values()
    return str(error).splitlines()[-1]


def test_trigger_on_airflow_2_is_an_error_with_an_alternative() -> None:
    with pytest.raises(RuntimeError, match=r"available since Airflow 3.*example_dss_new_bundles_scheduled\.py"):
        DSSNewBundleTrigger()


@pytest.mark.usefixtures("airflow_db")
def test_dag_with_a_watcher_has_the_same_import_error(tmp_path: Path) -> None:
    error = _import_error(_WITH_WHAT_BOTH_HAVE, tmp_path)
    assert error.startswith("RuntimeError: DSSNewBundleTrigger needs an AssetWatcher, available since Airflow 3")
    assert error.endswith("as in example_dss_new_bundles_scheduled.py")


@pytest.mark.usefixtures("airflow_db")
def test_dag_for_airflow_3_has_the_documented_import_error(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (_PAGES / "events.md").read_text(), re.DOTALL)
    error = _import_error(snippet, tmp_path)
    assert error == "ModuleNotFoundError: No module named 'airflow.sdk'"
    assert "`No module named 'airflow.sdk'`" in (_PAGES / "compatibility.md").read_text()
