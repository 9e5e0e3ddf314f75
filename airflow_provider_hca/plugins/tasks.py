"""Tasks that use bundles, read from Airflow's database.

The source are the XComs of the tasks (`airflow_provider_hca.utils.ui_links`), found by the index of their keys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS
from pydantic import BaseModel, ValidationError
from sqlalchemy import ColumnElement, Row, and_, exists, null, or_, select, true, tuple_
from sqlalchemy.orm import Session, aliased

from airflow_provider_hca.plugins.models import Action, Bundle, Ingest, Progress, Report, Target
from airflow_provider_hca.plugins.text import plain_text
from airflow_provider_hca.utils.ui_links import ERROR_KEY, LINK_KEY, NAME_KEY, PROGRESS_KEY, REPORT_KEY, BundleAddress

_Model = TypeVar("_Model", bound=BaseModel)
_XComs = dict[str, tuple[Any, datetime]]  # value and time, by key
CREATED_KEY = "created"  # only tasks that create a bundle have it
_DOWNLOAD_KEY = "directory"  # only downloads have it
_TARGET_KEYS = ("uuid", "version", "replica", "name", "item_count", "deleted")
_OWN_KEYS = (PROGRESS_KEY, LINK_KEY, ERROR_KEY)
_RESULT_KEYS = (NAME_KEY, CREATED_KEY, REPORT_KEY, "file_count", "byte_count", _DOWNLOAD_KEY)
REPORT_OPERATOR = "DSSReportIngestOperator"
# Subclasses are known by their XComs only.
ACTIONS: dict[str, Action] = {
    "DSSUploadDirectoryOperator": "create",
    "DSSPlanUploadOperator": "create",
    "DSSUploadShardOperator": "shard",
    "DSSUploadShardsBundleOperator": "create",
    "DSSPlanIngestOperator": "use",
    "DSSIngestOperator": "use",
    REPORT_OPERATOR: "use",
    "DSSPutBundleOperator": "create",
    "DSSPatchBundleOperator": "change",
    "DSSDeleteBundleOperator": "delete",
    "DSSDownloadBundleOperator": "download",
    "DSSDownloadBundlesOperator": "download",
    "DSSCheckoutBundleOperator": "use",
    "DSSPutFileOperator": "put_file",
    "DSSPutCollectionOperator": "put_collection",
    "DSSPatchCollectionOperator": "change_collection",
    "DSSDeleteCollectionOperator": "delete_collection",
    "DSSBundleSensor": "use",
    "DSSFileSensor": "use",
}
_KILLED = "The task failed without a reported reason, for example because it was killed. Its log may have the reason"
_UPSTREAM_FAILED = "A task before this one failed"
_MAX_ROWS = 20_000  # a DAG run can have very many mapped tasks
TASK_KEY = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)
LABEL = TaskInstance.__table__.c.rendered_map_index  # the attribute of the class replaces a missing label
_TASK_COLUMNS = (
    *(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index, TaskInstance.operator),
    *(TaskInstance.state, TaskInstance.try_number, TaskInstance.start_date, TaskInstance.end_date, LABEL),
    TaskInstance.id,
)
# Execution options. Since Airflow 3.4 each try has its own task instance and XComs, and queries find those of the last
# try only, which has no XComs before it starts. In older versions the XComs of a try exist until the next one starts.
ALL_TRIES = {"include_all_attempts": True}
_TRY_KEY = XComModel.task_instance_id if AIRFLOW_V_3_4_PLUS else null()
_NOT_STARTED = {None, "scheduled", "queued", "up_for_retry"}


def read_tasks(session: Session, condition: Callable[[Sequence[Any]], Any], *, any_task: bool = False) -> list[Ingest]:
    """Return the tasks that use the DSS, with the other mapped tasks of the same tasks.

    :param condition: Function that returns a condition for the columns DAG, run, task and map index
    :param any_task: Whether to return tasks that have not reported anything, too
    """
    tries: defaultdict[tuple[Any, ...], dict[Any, _XComs]] = defaultdict(dict)
    xcoms = session.execute(
        select(*TASK_KEY, XComModel.key, XComModel.value, XComModel.timestamp, _TRY_KEY.label("try_id"))
        .where(condition(TASK_KEY), XComModel.key.in_((*_OWN_KEYS, *_RESULT_KEYS, *_TARGET_KEYS)))
        .order_by(XComModel.timestamp.desc())
        .limit(_MAX_ROWS)
        .execution_options(**ALL_TRIES)
    ).all()
    for row in xcoms:
        tries[row[:4]].setdefault(row.try_id, {})[row.key] = (row.value, row.timestamp)
    wanted = condition(_TASK_COLUMNS)
    if not any_task:
        # Other tasks may use the other keys.
        reporting = {name[:3] for name, found in tries.items() if set().union(*found.values()) & set(_OWN_KEYS)}
        is_ours = or_(TaskInstance.operator.in_(ACTIONS), tuple_(*_TASK_COLUMNS[:3]).in_(list(reporting)))
        wanted = and_(wanted, is_ours)
    tasks = session.execute(
        select(*_TASK_COLUMNS, DagRun.state.label("run_state"))
        .join(DagRun, same_run())
        .where(wanted)
        .order_by(*_TASK_COLUMNS[:4])
        .limit(_MAX_ROWS)
    ).all()
    found = [_ingest(task, _last_xcoms(task, tries[task[:4]])) for task in tasks]
    if len(xcoms) == _MAX_ROWS:  # the reasons of other failures were not read
        found = [task.model_copy(update={"error": ""}) if task.error == _KILLED else task for task in found]
    return found


def _last_xcoms(task: Row[Any], tries: Mapping[Any, _XComs]) -> _XComs:
    """Return the XComs of the last try; of the one before if it has not started.

    :param tries: XComs by try, newest first
    """
    if AIRFLOW_V_3_4_PLUS and task.state not in _NOT_STARTED:
        return tries.get(task.id, {})
    return next(iter(tries.values()), {})


def is_last_try(task: Any = TaskInstance) -> ColumnElement[bool]:
    """Return the condition for task instances of the last try in a query of all tries."""
    return task.working_set.is_(True) if AIRFLOW_V_3_4_PLUS else true()


def same_task_has(*keys: str) -> ColumnElement[bool]:
    """Return the condition for XComs whose task has another XCom with one of some keys."""
    other = aliased(XComModel)
    return exists().where(other.key.in_(keys), *same_task(other))


def same_task(other: Any, xcom: Any = XComModel) -> list[ColumnElement[bool]]:
    """Return the conditions that join rows of another table, or an alias, to the XComs of the same task."""
    return [getattr(xcom, column.key) == getattr(other, column.key) for column in TASK_KEY]


def same_run() -> ColumnElement[bool]:
    """Return the condition that joins task instances to their DAG run."""
    return and_(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)


def _ingest(task: Row[Any], xcoms: _XComs) -> Ingest:
    values = {key: value for key, (value, _) in xcoms.items()}
    if task.operator == REPORT_OPERATOR and isinstance(values.get(REPORT_KEY), dict):
        values = {**values[REPORT_KEY], **values}  # a batch that failed has no result
    progress = _parse(Progress, values.get(PROGRESS_KEY))
    _, updated = xcoms.get(PROGRESS_KEY, (None, None))
    return Ingest(
        dag_id=task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        map_index=task.map_index,
        label=task.rendered_map_index or "",
        operator=task.operator or "",
        run_state=str(task.run_state),
        state=None if task.state is None else str(task.state),
        try_number=task.try_number,
        started=task.start_date,
        ended=task.end_date,
        bundle=bundle_of(values.get(LINK_KEY), values.get(NAME_KEY)),
        target=_target(task, values),
        action=_action(task.operator, values),
        changed=next((values[key] for key in (CREATED_KEY, "deleted") if isinstance(values.get(key), bool)), None),
        error=_error(task.state, values.get(ERROR_KEY), progress),
        progress=progress,
        report=_parse(Report, values.get(REPORT_KEY)) if task.operator == REPORT_OPERATOR else None,
        updated=updated,
        file_count=_count("file_count", values, progress),
        byte_count=_count("byte_count", values, progress),
    )


def bundle_of(link: Any, name: Any) -> Bundle | None:
    """Return the bundle in a link, or None for any other value.

    :param link: XCom with the link to the bundle
    :param name: XCom with the name of the bundle; None without one
    """
    address = BundleAddress.of(link)
    return None if address is None else bundle_at(address, name)


def bundle_at(address: BundleAddress, name: Any) -> Bundle:
    """Return the bundle at an address.

    :param name: Name of the bundle as Airflow stored it; None without one
    """
    return Bundle(
        connection=address.conn_id,
        replica=address.replica,
        uuid=address.uuid,
        version=address.version,
        name=plain_text(name),
    )


def _error(state: str | None, reported: Any, progress: Progress | None) -> str:
    if state == "upstream_failed":
        return _UPSTREAM_FAILED
    if state not in {"failed", "up_for_retry"}:
        return ""
    reason = progress.error if progress is not None else ""
    return reason or plain_text(reported) or (_KILLED if state == "failed" else "")


def _action(operator: str | None, values: Mapping[str, Any]) -> Action:
    if operator in ACTIONS:
        return ACTIONS[operator]
    if _DOWNLOAD_KEY in values:
        return "download"
    return "create" if values.keys() & {PROGRESS_KEY, CREATED_KEY} else "use"


def _target(task: Row[Any], values: Mapping[str, Any]) -> Target | None:
    is_target = ACTIONS.get(task.operator, "").endswith(("_file", "_collection"))
    if not is_target or task.state != "success" or not isinstance(values.get("uuid"), str):
        return None
    texts = {key: plain_text(values.get(key)) for key in ("uuid", "version", "replica", "name")}
    return Target(**texts, item_count=_count("item_count", values))


def _parse(model: type[_Model], value: Any) -> _Model | None:
    try:
        return model.model_validate(value)
    except ValidationError:  # XCom of another provider
        return None


def _count(name: str, values: Mapping[str, Any], progress: Progress | None = None) -> int | None:
    """Return a count in the result of a task, or else in its progress."""
    value = values.get(name)
    return value if isinstance(value, int) else getattr(progress, name, None)
