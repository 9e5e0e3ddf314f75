"""What tasks did with bundles: the newest ingests, those of one DAG run, and which run made a bundle.

All of it is read from the XComs of the tasks (`airflow_provider_hca.utils.ui_links`), by the index of their keys.
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
    bundles_once,
    most_telling,
    shards_as_one,
)
from airflow_provider_hca.utils.ui_links import LINK_KEY, PROGRESS_KEY, BundleAddress

router = APIRouter(prefix="/api", dependencies=[access.READS_XCOMS])

_CREATED_KEY = "created"  # pushed only by operators that create a bundle
_FETCHED_KEY = "directory"  # pushed only by downloads
_RESULT_KEYS = (_CREATED_KEY, "file_count", "byte_count", _FETCHED_KEY)
_MOST_MAKERS = 100
_MOST_TASKS = 200  # that a browser draws every other second
_MOST_XCOMS = 20_000  # of mapped tasks there may be very many
_OF_TASK = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)
_TOLD_OF_TASK = (
    *(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index, TaskInstance.operator),
    *(TaskInstance.state, TaskInstance.try_number, TaskInstance.start_date, TaskInstance.end_date),
)


class Ingests(BaseModel):
    """Ingests, newest first."""

    ingests: list[Ingest]


class Run(BaseModel):
    """A DAG run, and its tasks that have to do with bundles.

    :ivar omitted: how many tasks are too many to show, shards too
    """

    dag_id: str
    run_id: str
    state: str
    ingests: list[Ingest]
    omitted: int


class Maker(BaseModel):
    """The task that made a bundle."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


class Makers(BaseModel):
    """The tasks that made bundles, by FQID."""

    makers: dict[str, Maker]


@router.get("/ingests")
def list_ingests(user: access.User, session: SessionDep, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Ingests:
    """Return the newest ingests of the DAGs that the user may read."""
    of_mapped = _OF_TASK[:3]
    newest = session.execute(
        select(*of_mapped)
        .where(
            XComModel.key.in_((PROGRESS_KEY, _CREATED_KEY)),
            XComModel.dag_id.in_(access.readable_dags(user)),
            _same_task_left(PROGRESS_KEY, LINK_KEY),  # any task may push an XCom `created`
        )
        .group_by(*of_mapped)
        .order_by(func.max(XComModel.timestamp).desc())
        .limit(2 * limit)  # the shards of a group, and what makes its bundle, are one ingest
    ).all()
    found = _ingests(session, tuple_(*of_mapped).in_([tuple(row) for row in newest])) if newest else []
    made = [each for each in bundles_once(shards_as_one(found)) if each.action == "make"]
    made.sort(key=lambda each: each.started.timestamp() if each.started else 0.0, reverse=True)
    return Ingests(ingests=[each.model_copy(update={"shards": []}) for each in made[:limit]])


@router.get("/run")
def get_run(dag_id: str, run_id: str, session: SessionDep) -> Run:
    """Return what the tasks of a DAG run do with bundles."""
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise HTTPException(404, f"there is no run {run_id!r} of the DAG {dag_id!r}")
    found = shards_as_one(_ingests(session, XComModel.dag_run_id == run.id))
    in_order = sorted(found, key=lambda each: (each.started is None, each.started, each.task_id, each.map_index))
    shown, omitted = most_telling(in_order, _MOST_TASKS)
    return Run(dag_id=dag_id, run_id=run_id, state=str(run.state), ingests=shown, omitted=omitted)


@router.get("/makers")
def find_makers(
    user: access.User, session: SessionDep, fqid: Annotated[list[str], Query(max_length=_MOST_MAKERS)]
) -> Makers:
    """Return which tasks made bundles, as far as Airflow remembers and the user may know."""
    rows = session.execute(
        select(XComModel.value, *_OF_TASK)
        .where(
            XComModel.key == "fqid",
            # As text, since databases differ in how they compare JSON.
            cast(XComModel.value, String).in_([json.dumps(each) for each in fqid]),
            XComModel.dag_id.in_(access.readable_dags(user)),
            _same_task_left(_CREATED_KEY),
        )
        .order_by(XComModel.timestamp)  # of several the first made it, and the others found it made
        .limit(10 * _MOST_MAKERS)
    )
    makers: dict[str, Maker] = {}
    for value, dag_id, run_id, task_id, map_index in rows:
        makers.setdefault(value, Maker(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index))
    return Makers(makers=makers)


def _ingests(session: Session, which: Any) -> list[Ingest]:
    """Return the tasks that left something for the page."""
    rows = session.execute(
        select(XComModel.key, XComModel.value, XComModel.timestamp, *_TOLD_OF_TASK, DagRun.state.label("run_state"))
        .select_from(XComModel)
        .join(TaskInstance, and_(*_same_task(TaskInstance)))
        .join(DagRun, XComModel.dag_run_id == DagRun.id)
        .where(which, XComModel.key.in_((PROGRESS_KEY, LINK_KEY, *_RESULT_KEYS)))
        .order_by(XComModel.timestamp.desc())
        .limit(_MOST_XCOMS)
    )
    left: dict[tuple[Any, ...], dict[str, tuple[Any, datetime]]] = {}
    tasks: dict[tuple[Any, ...], Any] = {}
    for row in rows:
        name = (row.dag_id, row.run_id, row.task_id, row.map_index)
        tasks[name] = row
        left.setdefault(name, {})[row.key] = (row.value, row.timestamp)
    # Any task may push an XCom of the other keys.
    ours = {name: told for name, told in left.items() if told.keys() & {PROGRESS_KEY, LINK_KEY}}
    return [_ingest(tasks[name], told) for name, told in ours.items()]


def _same_task_left(*keys: str) -> ColumnElement[bool]:
    other = aliased(XComModel)
    return exists().where(other.key.in_(keys), *_same_task(other))


def _same_task(other: Any) -> list[ColumnElement[bool]]:
    """Return what holds of rows of another table, or of another place in this one, that belong to the same task."""
    return [column == getattr(other, column.key) for column in _OF_TASK]


def _ingest(task: Row[Any], told: Mapping[str, tuple[Any, datetime]]) -> Ingest:
    values = {key: value for key, (value, _) in told.items()}
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
        told=told[PROGRESS_KEY][1] if PROGRESS_KEY in told else None,
        file_count=counts["file_count"],
        byte_count=counts["byte_count"],
    )


def _action(values: Mapping[str, Any], progress: Progress | None) -> Action:
    if _FETCHED_KEY in values:
        return "fetch"
    if progress is not None and progress.shard_number is not None:
        return "shard"
    return "make" if values.keys() & {PROGRESS_KEY, _CREATED_KEY} else "see"


def _progress(value: Any) -> Progress | None:
    try:
        return Progress.model_validate(value)
    except ValidationError:  # somebody else's XCom of that name
        return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None
