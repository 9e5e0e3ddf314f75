"""Conditions of database queries for ingests."""

from __future__ import annotations

import json
from typing import Any, Literal
from urllib.parse import urlencode

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import ColumnElement, String, and_, cast, exists, func, or_
from sqlalchemy.orm import aliased

from airflow_provider_hca.plugins.tasks import (
    CREATED_KEY,
    LABEL,
    REPORT_OPERATOR,
    is_last_try,
    same_task,
    same_task_has,
)
from airflow_provider_hca.utils.ui_links import ERROR_KEY, LINK_KEY, NAME_KEY, PROGRESS_KEY, REPORT_KEY

SHARD_OPERATOR = "DSSUploadShardOperator"
_UNIT_OPERATOR = "DSSIngestOperator"
_INGEST_OPERATORS = (
    "DSSUploadDirectoryOperator",
    "DSSPlanUploadOperator",
    SHARD_OPERATOR,
    "DSSUploadShardsBundleOperator",
    "DSSPlanIngestOperator",
    _UNIT_OPERATOR,
    REPORT_OPERATOR,
    "DSSPutBundleOperator",
    "DSSPatchBundleOperator",
)
GROUP_KEY = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id)

StateFilter = Literal["running", "success", "failed", "skipped"]
# Other states are "running".
_STATES = {"success": ["success"], "failed": ["failed", "upstream_failed"], "skipped": ["skipped", "removed"]}


def is_ingest() -> ColumnElement[bool]:
    """Return the condition for XComs of tasks that create or change a bundle, joined to their task instances."""
    # Other tasks may use the key `created`; a task that failed early has only the reason.
    created = and_(XComModel.key == CREATED_KEY, same_task_has(PROGRESS_KEY, LINK_KEY))
    failed = and_(XComModel.key == ERROR_KEY, TaskInstance.operator.in_(_INGEST_OPERATORS))
    report = and_(XComModel.key == REPORT_KEY, TaskInstance.operator == REPORT_OPERATOR)
    return or_(XComModel.key == PROGRESS_KEY, created, failed, report)


def is_finished_part() -> ColumnElement[bool]:
    """Return the condition for mapped tasks of a task group whose last task is listed instead."""
    return or_(
        _is_before(SHARD_OPERATOR, ".shard", ".bundle", PROGRESS_KEY, ERROR_KEY),
        _is_before(_UNIT_OPERATOR, ".ingest", ".report", REPORT_KEY, ERROR_KEY),
    )


def _is_before(operator: str, mapped: str, last: str, *keys: str) -> ColumnElement[bool]:
    other = aliased(XComModel)
    group = func.substr(TaskInstance.task_id, 1, func.length(TaskInstance.task_id) - len(mapped))
    return and_(
        TaskInstance.operator == operator,
        exists().where(
            other.dag_id == TaskInstance.dag_id,
            other.run_id == TaskInstance.run_id,
            other.task_id == group + last,
            other.key.in_(keys),
        ),
    )


def has_state(task: Any, state: StateFilter) -> ColumnElement[bool]:
    """Return the condition for a state of a task instance, joined to its DAG run."""
    if state in _STATES:
        return task.state.in_(_STATES[state])  # type: ignore[no-any-return]  # an alias is untyped
    over = [name for names in _STATES.values() for name in names]
    waits = and_(task.state.is_(None), DagRun.state.in_(("queued", "running")))
    return or_(task.state.notin_(over), waits)


def group_has_state(state: StateFilter) -> ColumnElement[bool]:
    """Return the condition for tasks with a mapped task in a state."""
    other = aliased(TaskInstance)
    return exists().where(
        *(getattr(other, column.key) == column for column in GROUP_KEY),
        DagRun.dag_id == other.dag_id,
        DagRun.run_id == other.run_id,
        is_last_try(other),
        has_state(other, state),
    )


def links_to(
    xcom: Any, connection: str, *, replica: str = "", uuid: str = "", version: str | None = None
) -> ColumnElement[bool]:
    """Return the condition for the XCom of a link to a bundle; see `BundleAddress.on_page`.

    :param replica: Replica; any if empty
    :param uuid: UUID of the bundle; any if empty
    :param version: Version of the bundle, or of a task that uses the latest one; any if None
    """
    place = {"connection": connection} | ({"replica": replica} if replica else {})
    conditions = [xcom.key == LINK_KEY, value_contains(xcom, f"?{urlencode(place)}&")]
    if uuid:
        conditions.append(value_contains(xcom, f"&uuid={uuid}"))
    if version:
        latest = ~value_contains(xcom, "&version=")
        conditions.append(or_(value_contains(xcom, f"&version={version}"), latest))
    return and_(*conditions)


def matches(text: str) -> ColumnElement[bool]:
    """Return the condition for tasks whose DAG, run, task, label or bundle matches a text."""
    return or_(*(_contains(column, text) for column in GROUP_KEY), matches_mapped(text))


def matches_mapped(text: str) -> ColumnElement[bool]:
    """Return the condition for a text in the label or the name of the bundle, or at the start of its UUID."""
    xcom = aliased(XComModel)
    has_uuid = and_(xcom.key == LINK_KEY, value_contains(xcom, f"&uuid={text}"))
    has_name = and_(xcom.key == NAME_KEY, value_contains(xcom, text))
    return or_(_contains(LABEL, text), exists().where(or_(has_uuid, has_name), *same_task(TaskInstance, xcom)))


def value_contains(xcom: Any, text: str) -> ColumnElement[bool]:
    """Return the condition for an XCom with a text."""
    # Databases differ in whether their JSON escapes letters.
    forms = {json.dumps(text, ensure_ascii=escaped)[1:-1] for escaped in (True, False)}
    return or_(*(_contains(cast(xcom.value, String), form) for form in sorted(forms)))


def _contains(column: Any, text: str) -> ColumnElement[bool]:
    return func.lower(column).contains(text.lower(), autoescape=True)
