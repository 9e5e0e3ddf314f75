"""Compare docs/events.md with the code, and run its DAG."""

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
def test_dag_of_page_watches_with_the_trigger_and_runs(dss: LocalDSS, tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    (tmp_path / "page.py").write_text(snippet.replace("schedule=[new_bundles]):", "schedule=[new_bundles]) as dag:"))
    dag = load(tmp_path / "page.py")
    ((watcher,),) = [asset.watchers for asset in dag.schedule]
    assert isinstance(watcher.trigger, DSSNewBundleTrigger)
    dag_run = run(dag)
    assert states(dag_run) == {"list_new": "success"}
    assert xcom(dag_run, "list_new") == []


def test_page_has_every_parameter_with_its_default() -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", _PAGE.partition("## What is new")[2], re.MULTILINE))
    assert documented == {
        "dss_conn_id": "`hca_dss_default`",
        "replica": "`aws`",
        "prefix": "all",
        "since": "none",
        "lookback": "a day",
        "poll_interval": "60 s",
    }
    parameters = inspect.signature(DSSNewBundleTrigger).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "dss_conn_id": "hca_dss_default",
        "replica": "aws",
        "prefix": "",
        "since": None,
        "lookback": 24 * 60 * 60,
        "poll_interval": 60,
    }


def test_page_has_the_limit_of_versions() -> None:
    assert f"{MOST_KEPT:,}" in _PAGE
    assert f"and the state holds {MOST_KEPT} of them" in _PAGE
