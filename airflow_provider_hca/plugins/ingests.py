"""Tasks that use bundles: the newest ingests, tasks of a DAG run, and the tasks that created bundles.

The source are the XComs of the tasks (`airflow_provider_hca.utils.ui_links`), found by the index of their keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ValidationError
from sqlalchemy import ColumnElement, Row, String, and_, cast, exists, func, select, tuple_
from sqlalchemy.orm import Session, aliased

from airflow_provider_hca.plugins import access
from airflow_provider_hca.plugins.models import (
    Action,
    Bundle,
    Ingest,
    Progress,
    drop_finished_shards,
    merge_shards,
    select_most_relevant,
)
from airflow_provider_hca.utils.ui_links import LINK_KEY, PROGRESS_KEY, BundleAddress

router = APIRouter(prefix="/api", dependencies=[access.READS_XCOMS])

_CREATED_KEY = "created"  # only tasks that create a bundle have it
_DOWNLOAD_KEY = "directory"  # only downloads have it
_RESULT_KEYS = (_CREATED_KEY, "file_count", "byte_count", _DOWNLOAD_KEY)
_MAX_CREATORS = 100
_MAX_TASKS = 200  # drawn by the browser every other second
_MAX_XCOMS = 20_000  # a DAG run can have very many mapped tasks
_TASK_KEY = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)
_TASK_COLUMNS = (
    *(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index, TaskInstance.operator),
    *(TaskInstance.state, TaskInstance.try_number, TaskInstance.start_date, TaskInstance.end_date),
)


class Ingests(BaseModel):
    """Ingests, newest first."""

    ingests: list[Ingest]


class Run(BaseModel):
    """DAG run with its tasks that use bundles.

    :ivar omitted: Number of tasks and shards that are not shown
    """

    dag_id: str
    run_id: str
    state: str
    ingests: list[Ingest]
    omitted: int


class Creator(BaseModel):
    """Task that created a bundle."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


class Creators(BaseModel):
    """Tasks that created bundles, by FQID."""

    creators: dict[str, Creator]


@router.get("/ingests")
def list_ingests(user: access.User, session: SessionDep, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Ingests:
    """Return the newest ingests of DAGs that the user may read."""
    task_key = _TASK_KEY[:3]  # all map indexes
    newest = session.execute(
        select(*task_key)
        .where(
            XComModel.key.in_((PROGRESS_KEY, _CREATED_KEY)),
            XComModel.dag_id.in_(access.readable_dags(user)),
            _same_task_has(PROGRESS_KEY, LINK_KEY),  # other tasks may use the key `created`
        )
        .group_by(*task_key)
        .order_by(func.max(XComModel.timestamp).desc())
        .limit(2 * limit)  # the shards of a group and the task that creates its bundle are one ingest
    ).all()
    found = _ingests(session, tuple_(*task_key).in_([tuple(row) for row in newest])) if newest else []
    created = [ingest for ingest in drop_finished_shards(merge_shards(found)) if ingest.action == "create"]
    created.sort(key=lambda ingest: ingest.started.timestamp() if ingest.started else 0.0, reverse=True)
    return Ingests(ingests=[ingest.model_copy(update={"shards": []}) for ingest in created[:limit]])


@router.get("/run")
def get_run(dag_id: str, run_id: str, session: SessionDep) -> Run:
    """Return the tasks of a DAG run that use bundles."""
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise HTTPException(404, f"no run {run_id!r} of DAG {dag_id!r}")
    found = merge_shards(_ingests(session, XComModel.dag_run_id == run.id))
    ordered = sorted(found, key=lambda task: (task.started is None, task.started, task.task_id, task.map_index))
    shown, omitted = select_most_relevant(ordered, _MAX_TASKS)
    return Run(dag_id=dag_id, run_id=run_id, state=str(run.state), ingests=shown, omitted=omitted)


@router.get("/creators")
def find_creators(
    user: access.User, session: SessionDep, fqid: Annotated[list[str], Query(max_length=_MAX_CREATORS)]
) -> Creators:
    """Return the tasks that created bundles, if Airflow has their XComs and the user may read them."""
    rows = session.execute(
        select(XComModel.value, *_TASK_KEY)
        .where(
            XComModel.key == "fqid",
            # As text, since databases differ in how they compare JSON.
            cast(XComModel.value, String).in_([json.dumps(value) for value in fqid]),
            XComModel.dag_id.in_(access.readable_dags(user)),
            _same_task_has(_CREATED_KEY),
        )
        .order_by(XComModel.timestamp)  # the first task created it, later ones found it
        .limit(10 * _MAX_CREATORS)
    )
    creators: dict[str, Creator] = {}
    for value, dag_id, run_id, task_id, map_index in rows:
        creators.setdefault(value, Creator(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index))
    return Creators(creators=creators)


def _ingests(session: Session, condition: Any) -> list[Ingest]:
    """Return the tasks with XComs for the page."""
    rows = session.execute(
        select(XComModel.key, XComModel.value, XComModel.timestamp, *_TASK_COLUMNS, DagRun.state.label("run_state"))
        .select_from(XComModel)
        .join(TaskInstance, and_(*_same_task(TaskInstance)))
        .join(DagRun, XComModel.dag_run_id == DagRun.id)
        .where(condition, XComModel.key.in_((PROGRESS_KEY, LINK_KEY, *_RESULT_KEYS)))
        .order_by(XComModel.timestamp.desc())
        .limit(_MAX_XCOMS)
    )
    xcoms: dict[tuple[Any, ...], dict[str, tuple[Any, datetime]]] = {}
    tasks: dict[tuple[Any, ...], Any] = {}
    for row in rows:
        name = (row.dag_id, row.run_id, row.task_id, row.map_index)
        tasks[name] = row
        xcoms.setdefault(name, {})[row.key] = (row.value, row.timestamp)
    # Other tasks may use the other keys.
    ours = {name: values for name, values in xcoms.items() if values.keys() & {PROGRESS_KEY, LINK_KEY}}
    return [_ingest(tasks[name], values) for name, values in ours.items()]


def _same_task_has(*keys: str) -> ColumnElement[bool]:
    other = aliased(XComModel)
    return exists().where(other.key.in_(keys), *_same_task(other))


def _same_task(other: Any) -> list[ColumnElement[bool]]:
    """Return the conditions that join rows of another table, or an alias, to the same task."""
    return [column == getattr(other, column.key) for column in _TASK_KEY]


def _ingest(task: Row[Any], xcoms: Mapping[str, tuple[Any, datetime]]) -> Ingest:
    values = {key: value for key, (value, _) in xcoms.items()}
    address = BundleAddress.of(values.get(LINK_KEY))
    progress = _progress(values.get(PROGRESS_KEY))
    counts = {name: _count(values.get(name)) for name in ("file_count", "byte_count")}
    if progress is not None:
        counts = {name: getattr(progress, name) if count is None else count for name, count in counts.items()}
    return Ingest(
        dag_id=task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        map_index=task.map_index,
        operator=task.operator or "",
        run_state=str(task.run_state),
        state=None if task.state is None else str(task.state),
        try_number=task.try_number,
        started=task.start_date,
        ended=task.end_date,
        bundle=None
        if address is None
        else Bundle(connection=address.conn_id, replica=address.replica, uuid=address.uuid, version=address.version),
        action=_action(values, progress),
        progress=progress,
        updated=xcoms[PROGRESS_KEY][1] if PROGRESS_KEY in xcoms else None,
        file_count=counts["file_count"],
        byte_count=counts["byte_count"],
    )


def _action(values: Mapping[str, Any], progress: Progress | None) -> Action:
    if _DOWNLOAD_KEY in values:
        return "download"
    if progress is not None and progress.shard_number is not None:
        return "shard"
    return "create" if values.keys() & {PROGRESS_KEY, _CREATED_KEY} else "use"


def _progress(value: Any) -> Progress | None:
    try:
        return Progress.model_validate(value)
    except ValidationError:  # XCom of another provider
        return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None
