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
    """Return what Airflow's UI shows of a DAG file that cannot be read: the last line."""
    from airflow.models.dagbag import DagBag

    (directory / "dag.py").write_text(dag)
    (error,) = DagBag(directory, include_examples=False).import_errors.values()
    return str(error).splitlines()[-1]


def test_it_says_what_to_do_on_airflow_2() -> None:
    """On Airflow 2 the module can be imported, and using the trigger says what there is instead."""
    with pytest.raises(RuntimeError, match=r"available since Airflow 3.*example_dss_new_bundles_scheduled\.py"):
        DSSNewBundleTrigger()


@pytest.mark.usefixtures("airflow_db")
def test_a_dag_with_a_watcher_says_so_too(tmp_path: Path) -> None:
    """A DAG that makes the trigger is not read, and the error that Airflow shows of it says what there is instead."""
    error = _import_error(_WITH_WHAT_BOTH_HAVE, tmp_path)
    assert error.startswith("RuntimeError: DSSNewBundleTrigger needs an AssetWatcher, available since Airflow 3")
    assert error.endswith("as in example_dss_new_bundles_scheduled.py")


@pytest.mark.usefixtures("airflow_db")
def test_a_dag_for_airflow_3_gets_the_error_of_the_table(tmp_path: Path) -> None:
    """The DAG of the page on events fails at Airflow's own import, with the message that the table explains."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (_PAGES / "events.md").read_text(), re.DOTALL)
    error = _import_error(snippet, tmp_path)
    assert error == "ModuleNotFoundError: No module named 'airflow.sdk'"
    assert "`No module named 'airflow.sdk'`" in (_PAGES / "compatibility.md").read_text()
