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


def test_tries_have_the_same_uuid_and_version() -> None:
    one, two = context(try_number=1), context(try_number=2)
    assert (task_uuid(one), run_version(one)) == (task_uuid(two), run_version(two))


def test_uuid_depends_on_dag_run_task_map_index_and_parts() -> None:
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


def test_cleared_run_has_the_same_uuid_and_a_later_version() -> None:
    once, cleared = context(), context(clear_number=1)
    assert task_uuid(once) == task_uuid(cleared)
    assert (run_version(once), run_version(cleared)) == ("2026-03-01T000000.000000Z", "2026-03-01T000000.000001Z")


def test_version_is_the_end_of_the_data_interval() -> None:
    scheduled = context(data_interval_end=MIDNIGHT + timedelta(days=1))
    by_asset = context(logical_date=None, data_interval_end=None, run_after=MIDNIGHT + timedelta(hours=5))
    assert run_version(scheduled) == "2026-03-02T000000.000000Z"
    assert run_version(by_asset) == "2026-03-01T050000.000000Z"


def test_uuid_is_the_same_in_all_releases() -> None:
    """Otherwise every pipeline would upload everything again."""
    assert task_uuid(context()) == "c929c29f-c8d6-50ea-ab61-073b27c7ef59"
