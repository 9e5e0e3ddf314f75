"""Mapped tasks counted by the database: a page of ingests can have more of them than it can read one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import Row, func, select, tuple_
from sqlalchemy.orm import Session

from airflow_provider_hca.plugins.filters import GROUP_KEY, SHARD_OPERATOR
from airflow_provider_hca.plugins.models import FAILED, OVER, Ingest, merged_state
from airflow_provider_hca.plugins.tasks import ACTIONS, REPORT_OPERATOR, same_run

_Key = tuple[str, str, str]  # DAG, run, task
_MAX_READ = 1_500  # tasks, each with up to a dozen XComs
_SEE_TASKS = "Open the row for the reasons"
_BUNDLE_OPERATOR = "DSSUploadShardsBundleOperator"
_EARLIER = {_BUNDLE_OPERATOR: ("plan", "shard"), REPORT_OPERATOR: ("plan", "ingest")}


def count_large(session: Session, keys: Sequence[_Key]) -> list[Ingest]:
    """Return those tasks as ingests, without bundles and sizes, that have too many mapped tasks to read them.

    :param keys: Tasks of a page; the first ones are left out, as many as can be read
    """
    rows: defaultdict[_Key, list[Row[Any]]] = defaultdict(list)
    for row in session.execute(
        select(
            *GROUP_KEY,
            TaskInstance.state,
            func.max(TaskInstance.operator).label("operator"),
            func.max(TaskInstance.map_index).label("map_index"),
            func.count().label("tasks"),
            func.min(TaskInstance.start_date).label("started"),
            func.max(TaskInstance.end_date).label("ended"),
            func.max(DagRun.state).label("run_state"),
        )
        .join(DagRun, same_run())
        .where(tuple_(*GROUP_KEY).in_(keys))
        .group_by(*GROUP_KEY, TaskInstance.state)
    ):
        rows[row[0], row[1], row[2]].append(row)
    counted, left = [], _MAX_READ
    for key in keys:
        left -= sum(row.tasks for row in rows[key])
        if left < 0 and any(row.map_index >= 0 for row in rows[key]):
            counted.append(_count(key, rows[key]))
    return counted


def _count(key: _Key, rows: Sequence[Row[Any]]) -> Ingest:
    run_state, operator = str(rows[0].run_state), max(row.operator or "" for row in rows)
    states = Counter({"no_state" if row.state is None else str(row.state): row.tasks for row in rows})
    state = merged_state(states, run_is_over=run_state in {"success", "failed"})
    ended = max(filter(None, (row.ended for row in rows)), default=None)
    return Ingest(
        dag_id=key[0],
        run_id=key[1],
        task_id=key[2],
        map_index=-1,
        operator=operator,
        run_state=run_state,
        state=state,
        try_number=1,
        started=min(filter(None, (row.started for row in rows)), default=None),
        ended=ended if state in OVER else None,
        bundle=None,
        action="create" if operator == SHARD_OPERATOR else ACTIONS.get(operator, "use"),
        file_count=None,
        byte_count=None,
        error=_SEE_TASKS if states.keys() & FAILED else "",
        progress=None,
        updated=None,
        states=dict(states),
    )


def include_earlier_tasks(session: Session, ingests: Sequence[Ingest]) -> list[Ingest]:
    """Return ingests, those of task groups since their first task, with the average rate of that time.

    Of a finished group only the last task is listed, whose files and bytes are those of the whole group.
    """
    earlier: dict[_Key, _Key] = {}  # by each earlier task of a group its last one
    for ingest in ingests:
        group = ingest.task_id.rpartition(".")[0]
        for name in _EARLIER.get(ingest.operator, ()):
            earlier[ingest.dag_id, ingest.run_id, f"{group}.{name}"] = _key(ingest)
    starts: dict[_Key, datetime] = {}
    for dag_id, run_id, task_id, started in session.execute(
        select(*GROUP_KEY, func.min(TaskInstance.start_date))
        .where(tuple_(*GROUP_KEY).in_(list(earlier)))
        .group_by(*GROUP_KEY)
    ):
        last = earlier[dag_id, run_id, task_id]
        if started is not None:
            starts[last] = min(started, starts.get(last, started))
    return [_since(ingest, starts.get(_key(ingest))) for ingest in ingests]


def _key(ingest: Ingest) -> _Key:
    return ingest.dag_id, ingest.run_id, ingest.task_id


def _since(ingest: Ingest, started: datetime | None) -> Ingest:
    if started is None:
        return ingest
    progress, ended = ingest.progress, ingest.ended
    if progress is not None and ended is not None and ended > started:
        rate = progress.staged_byte_count / (ended - started).total_seconds()
        progress = progress.model_copy(update={"rate": rate})
    return ingest.model_copy(update={"started": started, "progress": progress})
