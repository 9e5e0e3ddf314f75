"""Routes of ingests, the tasks of a DAG run, and the tasks that created bundles."""

from __future__ import annotations

import json
from itertools import islice
from typing import Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from fastapi import APIRouter, HTTPException, Query
from pydantic import AfterValidator, BaseModel
from sqlalchemy import String, and_, cast, func, select, tuple_
from sqlalchemy.orm import aliased

from airflow_provider_hca.client.identifiers import check_uuid
from airflow_provider_hca.plugins import access
from airflow_provider_hca.plugins.batches import read_reported
from airflow_provider_hca.plugins.dss import LatestVersionQuery, ReplicaQuery
from airflow_provider_hca.plugins.filters import (
    GROUP_KEY,
    SHARD_OPERATOR,
    StateFilter,
    group_has_state,
    has_state,
    is_finished_part,
    is_ingest,
    links_to,
    matches,
    matches_mapped,
    value_contains,
)
from airflow_provider_hca.plugins.groups import count_large, include_earlier_tasks
from airflow_provider_hca.plugins.models import Bundle, Ingest, merge_mapped, select_most_relevant
from airflow_provider_hca.plugins.tasks import (
    ALL_TRIES,
    CREATED_KEY,
    TASK_KEY,
    bundle_of,
    is_last_try,
    read_tasks,
    same_run,
    same_task,
    same_task_has,
)
from airflow_provider_hca.plugins.text import plain_text
from airflow_provider_hca.utils.ui_links import NAME_KEY

router = APIRouter(prefix="/api", dependencies=[access.READS_XCOMS])

_MAX_CREATORS = 100
_MAX_BUNDLE_TASKS = 50
_MAX_NAMED = 200
_MAX_TASKS = 200  # drawn by the browser every other second


class Ingests(BaseModel):
    """Ingests, newest first; the mapped tasks of a task and DAG run are one ingest.

    :ivar total: Number of ingests with and without those that are not on this page
    :ivar dag_ids: DAGs that have ingests
    """

    ingests: list[Ingest]
    total: int
    dag_ids: list[str]


class MappedTasks(BaseModel):
    """Mapped tasks, by index.

    :ivar total: Number of tasks with and without those that are not on this page
    """

    ingests: list[Ingest]
    total: int


class Run(BaseModel):
    """DAG run with its tasks that use the DSS.

    :ivar omitted: Number of tasks, mapped ones too, that are not shown
    """

    dag_id: str
    run_id: str
    state: str
    ingests: list[Ingest]
    omitted: int


class BundleTasks(BaseModel):
    """Tasks that use a bundle, newest first."""

    tasks: list[Ingest]


class Creator(BaseModel):
    """Task that created a bundle.

    :ivar name: Name of the bundle: its key or directory; empty if unknown
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    name: str


class NamedBundles(BaseModel):
    """Bundles whose name contains a text, newest first."""

    bundles: list[Bundle]


class Creators(BaseModel):
    """Tasks that created bundles, by FQID."""

    creators: dict[str, Creator]


@router.get("/ingests")
def list_ingests(
    user: access.User,
    session: SessionDep,
    dag_id: str = "",
    state: StateFilter | None = None,
    text: Annotated[str, Query(max_length=250)] = "",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Ingests:
    """Return a page of the ingests of DAGs that the user may read.

    Filters apply to mapped tasks: an ingest is listed if one of its tasks matches.
    """
    readable = access.readable_dags(user)
    ours = select(*GROUP_KEY).join(XComModel, and_(*same_task(TaskInstance))).where(is_ingest(), is_last_try())
    ours = ours.execution_options(**ALL_TRIES)
    dag_ids = session.scalars(ours.with_only_columns(TaskInstance.dag_id).distinct()).all()
    matching = ours.where(TaskInstance.dag_id.in_([dag_id] if dag_id in readable else [] if dag_id else readable))
    matching = matching.where(~is_finished_part())
    if state:
        matching = matching.where(group_has_state(state))
    if text:
        matching = matching.where(matches(text))
    groups = matching.group_by(*GROUP_KEY)
    total = session.scalar(select(func.count()).select_from(groups.subquery()), execution_options=ALL_TRIES) or 0
    newest = func.max(func.coalesce(TaskInstance.start_date, XComModel.timestamp)).desc()
    page = groups.order_by(newest, *GROUP_KEY).offset(offset).limit(limit)
    keys = [(key[0], key[1], key[2]) for key in session.execute(page)]
    counted = count_large(session, keys)
    read = list({*keys} - {_name(ingest)[:3] for ingest in counted})
    found = [*merge_mapped(read_tasks(session, lambda columns: tuple_(*columns[:3]).in_(read))), *counted]
    found = include_earlier_tasks(session, found)
    found.sort(key=lambda ingest: keys.index(_name(ingest)[:3]))
    return Ingests(
        ingests=[_await_bundle(ingest).model_copy(update={"members": []}) for ingest in found],
        total=total,
        dag_ids=sorted(readable & set(dag_ids)),
    )


@router.get("/mapped")
def list_mapped_tasks(
    dag_id: str,
    run_id: str,
    task_id: str,
    session: SessionDep,
    state: StateFilter | None = None,
    text: Annotated[str, Query(max_length=250)] = "",
    limit: Annotated[int, Query(ge=1, le=5000)] = 50,
) -> MappedTasks:
    """Return the first mapped tasks of a task by index.

    :param text: Filter of the ingests; if no label or bundle matches it, it matched the DAG, run or task
    """
    mapped = and_(*(column == value for column, value in zip(GROUP_KEY, (dag_id, run_id, task_id), strict=True)))
    matching = select(TaskInstance.map_index).where(mapped, TaskInstance.map_index >= 0)
    if state:
        matching = matching.join(DagRun, same_run()).where(has_state(TaskInstance, state))
    if text and session.scalar(matching.where(matches_mapped(text)).limit(1)) is not None:
        matching = matching.where(matches_mapped(text))
    total = session.scalar(select(func.count()).select_from(matching.subquery())) or 0
    first = session.scalars(matching.order_by(TaskInstance.map_index).limit(limit)).all()

    def condition(columns: Any) -> Any:
        return and_(tuple_(*columns[:3]) == tuple_(dag_id, run_id, task_id), columns[3].in_(first))

    found = read_tasks(session, condition, any_task=True)
    return MappedTasks(ingests=sorted(found, key=lambda ingest: ingest.map_index), total=total)


@router.get("/run")
def get_run(dag_id: str, run_id: str, session: SessionDep, task_id: str = "") -> Run:
    """Return the tasks of a DAG run that use the DSS, or one of them."""
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise HTTPException(404, f"no run {run_id!r} of DAG {dag_id!r}")
    names = (dag_id, run_id, task_id) if task_id else (dag_id, run_id)
    found = merge_mapped(read_tasks(session, lambda columns: tuple_(*columns[: len(names)]) == tuple_(*names)))
    ordered = sorted(found, key=lambda task: (task.started is None, task.started, task.task_id, task.map_index))
    shown, omitted = select_most_relevant(ordered, _MAX_TASKS)
    return Run(dag_id=dag_id, run_id=run_id, state=str(run.state), ingests=shown, omitted=omitted)


@router.get("/bundle-tasks")
def list_bundle_tasks(
    uuid: Annotated[str, AfterValidator(lambda value: check_uuid(value))],
    connection: str,
    user: access.User,
    session: SessionDep,
    version: LatestVersionQuery = None,
) -> BundleTasks:
    """Return the newest tasks that create, change, delete, download or wait for a bundle, if the user may read them.

    :param version: Version, for tasks that use it or the latest one; any if None
    """
    links = session.execute(
        select(*TASK_KEY)
        .where(
            links_to(XComModel, connection, uuid=uuid, version=version),
            XComModel.dag_id.in_(access.readable_dags(user)),
        )
        .order_by(XComModel.timestamp.desc())
        .limit(_MAX_BUNDLE_TASKS)
        .execution_options(**ALL_TRIES)
    ).all()
    names = list(dict.fromkeys(tuple(link) for link in links))
    tasks = read_tasks(session, lambda columns: tuple_(*columns[:4]).in_(names)) if names else []
    return BundleTasks(tasks=sorted(tasks, key=lambda task: names.index(_name(task))))


@router.get("/creators")
def find_creators(
    user: access.User,
    session: SessionDep,
    connection: str,
    fqid: Annotated[list[str], Query(max_length=_MAX_CREATORS)],
) -> Creators:
    """Return the tasks that created bundles, if Airflow has their XComs and the user may read them."""
    readable = access.readable_dags(user)
    name, link = aliased(XComModel), aliased(XComModel)
    rows = session.execute(
        select(XComModel.value, *TASK_KEY, name.value.label("name"))
        .join(link, and_(links_to(link, connection), *same_task(link)))
        .outerjoin(name, and_(name.key == NAME_KEY, *same_task(name)))
        .where(
            XComModel.key == "fqid",
            # As text, since databases differ in how they compare JSON.
            cast(XComModel.value, String).in_([json.dumps(value) for value in fqid]),
            XComModel.dag_id.in_(readable),
            same_task_has(CREATED_KEY),
        )
        .order_by(XComModel.timestamp)  # the first task created it, later ones found it
        .limit(10 * _MAX_CREATORS)
    )
    creators: dict[str, Creator] = {}
    for value, *task in rows:
        values = dict(zip(Creator.model_fields, [*task[:4], plain_text(task[4])], strict=True))
        creators.setdefault(value, Creator(**values))
    missing = {*fqid} - creators.keys()
    reported = read_reported(session, readable, lambda entry: str(entry.get("fqid")) in missing) if missing else ()
    for reporter, bundle in reported:
        if bundle.connection == connection:
            values = dict(zip(Creator.model_fields, [*reporter[:4], bundle.name], strict=True))
            creators.setdefault(f"{bundle.uuid}.{bundle.version}", Creator(**values))
    return Creators(creators=creators)


@router.get("/named-bundles")
def find_named_bundles(
    text: Annotated[str, Query(min_length=1, max_length=250)],
    connection: str,
    replica: ReplicaQuery,
    user: access.User,
    session: SessionDep,
) -> NamedBundles:
    """Return the bundles of a replica whose key or directory contains a text, if the user may read their tasks."""
    readable = access.readable_dags(user)
    link = aliased(XComModel)
    rows = session.execute(
        select(link.value, XComModel.value)
        .join(link, and_(links_to(link, connection, replica=replica), *same_task(link)))
        .where(
            XComModel.key == NAME_KEY,
            value_contains(XComModel, text),
            XComModel.dag_id.in_(readable),
            same_task_has(CREATED_KEY),
        )
        .order_by(XComModel.timestamp.desc())
        .limit(_MAX_NAMED)
    )
    found = [bundle_of(value, name) for value, name in rows]

    def is_named(entry: dict[str, Any]) -> bool:
        return any(text.lower() in str(entry.get(key)).lower() for key in ("bundle_key", "directory"))

    found += [bundle for _, bundle in islice(read_reported(session, readable, is_named), _MAX_NAMED)]
    here = [bundle for bundle in dict.fromkeys(found) if bundle and _place(bundle) == (connection, replica)]
    return NamedBundles(bundles=sorted(here, key=lambda bundle: bundle.version or "", reverse=True)[:_MAX_NAMED])


def _place(bundle: Bundle) -> tuple[str, str]:
    return bundle.connection, bundle.replica


def _name(task: Ingest) -> tuple[str, str, str, int]:
    return task.dag_id, task.run_id, task.task_id, task.map_index


def _await_bundle(ingest: Ingest) -> Ingest:
    """Return an upload group as running between its shards and the task that creates the bundle."""
    waiting = ingest.operator == SHARD_OPERATOR and ingest.state == "success"
    is_over = ingest.run_state in {"success", "failed"}
    return ingest.model_copy(update={"state": "running"}) if waiting and not is_over else ingest
