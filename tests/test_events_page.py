"""What docs/events.md says, against what there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from airflow_provider_hca.triggers.dss import DSSNewBundleTrigger
from airflow_provider_hca.triggers.watermark import MOST_KEPT
from tests.local.server import LocalDSS
from tests.running import run, states, xcom
from tests.test_examples import load

_PAGE = (Path(__file__).parents[1] / "docs" / "events.md").read_text()


@pytest.mark.usefixtures("airflow_db", "dss")
def test_its_dag_runs(dss: LocalDSS, tmp_path: Path) -> None:
    """The DAG of the page is one, watches with the trigger, and runs."""
    (snippet,) = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    (tmp_path / "page.py").write_text(snippet.replace("schedule=[new_bundles]):", "schedule=[new_bundles]) as dag:"))
    dag = load(tmp_path / "page.py")
    ((watcher,),) = [asset.watchers for asset in dag.schedule]
    assert isinstance(watcher.trigger, DSSNewBundleTrigger)
    dag_run = run(dag)
    assert states(dag_run) == {"list_new": "success"}
    assert xcom(dag_run, "list_new") == []


def test_it_tells_all_parameters() -> None:
    """Each parameter of the trigger is in the table, with its default."""
    told = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", _PAGE.partition("## What is new")[2], re.MULTILINE))
    assert told == {
        "dss_conn_id": "`hca_dss_default`",
        "replica": "`aws`",
        "prefix": "all",
        "since": "none",
        "lookback": "a day",
        "poll_interval": "60 s",
    }
    defaults = {name: each.default for name, each in inspect.signature(DSSNewBundleTrigger).parameters.items()}
    assert defaults == {
        "dss_conn_id": "hca_dss_default",
        "replica": "aws",
        "prefix": "",
        "since": None,
        "lookback": 24 * 60 * 60,
        "poll_interval": 60,
    }


def test_it_tells_the_limit() -> None:
    """The number of versions that a state holds is the one that the page names."""
    assert f"{MOST_KEPT:,}" in _PAGE
    assert f"and the state holds {MOST_KEPT} of them" in _PAGE
