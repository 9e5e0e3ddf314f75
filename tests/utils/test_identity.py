from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from airflow_provider_hca.utils.identity import run_version, task_uuid

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def context(**changes: Any) -> Any:
    run = {
        "logical_date": MIDNIGHT,
        "data_interval_end": MIDNIGHT,
        "run_after": MIDNIGHT,
        "run_id": "manual__1",
        "clear_number": 0,
    }
    ti = {"dag_id": "dag", "task_id": "task", "map_index": -1, "try_number": 1}
    for name, value in changes.items():
        (run if name in run else ti)[name] = value
    return {"dag_run": SimpleNamespace(**run), "ti": SimpleNamespace(**ti)}


def test_tries_share_their_names() -> None:
    """A retry has the same uuid and version as the try before."""
    one, two = context(try_number=1), context(try_number=2)
    assert (task_uuid(one), run_version(one)) == (task_uuid(two), run_version(two))


def test_everything_that_is_another_bundle_has_another_uuid() -> None:
    """DAG, run, task, map index and given parts each make another uuid."""
    others = [
        task_uuid(context()),
        task_uuid(context(dag_id="dag2")),
        task_uuid(context(task_id="task2")),
        task_uuid(context(map_index=0)),
        task_uuid(context(map_index=1)),
        task_uuid(context(logical_date=MIDNIGHT + timedelta(days=1))),
        task_uuid(context(logical_date=None, run_id="asset__1")),
        task_uuid(context(logical_date=None, run_id="asset__2")),
        task_uuid(context(), "name"),
    ]
    assert len(set(others)) == len(others)


def test_a_cleared_run_is_a_new_version_of_the_same_bundle() -> None:
    """Clearing keeps the uuid and makes the version later."""
    once, cleared = context(), context(clear_number=1)
    assert task_uuid(once) == task_uuid(cleared)
    assert (run_version(once), run_version(cleared)) == ("2026-03-01T000000.000000Z", "2026-03-01T000000.000001Z")


def test_a_version_is_the_end_of_the_runs_interval() -> None:
    """A scheduled run's version is when its data were complete; a run without dates has the time it was due."""
    scheduled = context(data_interval_end=MIDNIGHT + timedelta(days=1))
    by_asset = context(logical_date=None, data_interval_end=None, run_after=MIDNIGHT + timedelta(hours=5))
    assert run_version(scheduled) == "2026-03-02T000000.000000Z"
    assert run_version(by_asset) == "2026-03-01T050000.000000Z"


def test_names_stay_what_they_are() -> None:
    """A new release derives the same uuid as this one, else every pipeline would upload everything again."""
    assert task_uuid(context()) == "c929c29f-c8d6-50ea-ab61-073b27c7ef59"
