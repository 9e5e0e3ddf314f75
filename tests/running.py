"""Run DAGs in a real Airflow with its database, and operators without Airflow, on Airflow 2 and 3."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from tests.local.server import LocalDSS

LOGICAL_DATE = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
_NUMBERS = itertools.count()


def new_dag(dag_id: str, **options: Any) -> DAG:
    """Return a DAG without a schedule."""
    return DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), **options)


def new_date() -> datetime:
    """Return a logical date that no other run has."""
    return LOGICAL_DATE + timedelta(days=100, minutes=next(_NUMBERS))


def run(dag: DAG, *, logical_date: datetime | None = None, conf: dict[str, Any] | None = None) -> Any:
    """Run a DAG in this process; return the DAG run.

    :param dag: DAG to run
    :param logical_date: Logical date; a new one if None
    :param conf: Configuration of the run
    """
    date: Any = {"logical_date" if AIRFLOW_V_3_0_PLUS else "execution_date": logical_date or new_date()}
    if AIRFLOW_V_3_0_PLUS:
        with _bundle_without_files():
            _store(dag)
            return dag.test(run_conf=conf, **date)
    dag.sync_to_db()  # type: ignore[attr-defined]  # Airflow 2; needed for events of outlets
    return dag.test(run_conf=conf, **date)


@contextmanager
def _bundle_without_files() -> Iterator[None]:
    """Configure a DAG bundle without files.

    `dag.test()` parses all files of the DAG's bundle, or of all bundles if it does not know the bundle: with
    example_dags, 70 % of the time of a small DAG.
    """
    name = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"
    empty = Path(os.environ["AIRFLOW_HOME"], "testing")
    empty.mkdir(exist_ok=True)
    local = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = [
        {**local, "name": "dags-folder", "kwargs": {}},
        {**local, "name": "testing", "kwargs": {"path": str(empty)}},
    ]
    before = os.environ.get(name)
    os.environ[name] = json.dumps(bundles)
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _store(dag: DAG) -> None:
    """Store a DAG for `dag.test()` of Airflow 3."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="testing"))
        session.flush()
        lazy = LazyDeserializedDAG.from_dag(dag)
        SerializedDAG.bulk_write_to_db("testing", None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name="testing", session=session)


class TaskState(dict[str, Any]):
    """Task state store of Airflow 3.3, as far as the operators use it."""

    def set(self, key: str, value: Any) -> None:
        """Store a value."""
        self[key] = value

    def delete(self, key: str) -> None:
        """Remove a value."""
        self.pop(key, None)


def new_context(
    try_number: int = 1,
    *,
    dag_id: str = "",
    task_id: str = "t",
    logical_date: datetime = LOGICAL_DATE,
    state: TaskState | None = None,
    **variables: Any,
) -> Any:
    """Return a context, as far as the operators use it.

    :param try_number: Number of the try
    :param dag_id: Id of the DAG; a new one if empty
    :param task_id: Id of the task
    :param logical_date: Logical date of the DAG run
    :param state: Task state store of Airflow 3.3; an empty one if None
    :param variables: Other variables, for templates
    """
    dag_run = SimpleNamespace(
        logical_date=logical_date, data_interval_end=None, run_after=None, run_id="manual__1", clear_number=0
    )
    pushed: dict[str, Any] = {}
    start = datetime.now(UTC)
    ti = SimpleNamespace(
        dag_id=dag_id or f"dag_{next(_NUMBERS)}",
        task_id=task_id,
        map_index=-1,
        run_id=dag_run.run_id,
        try_number=try_number,
        max_tries=0,
        pushed=pushed,
    )
    ti.xcom_push = lambda key, value: pushed.update({key: value})
    ti.get_first_reschedule_date = lambda _: start
    context = {"dag_run": dag_run, "ti": ti, "run_id": dag_run.run_id, "logical_date": logical_date, **variables}
    context["ds"], context["ds_nodash"] = f"{logical_date:%Y-%m-%d}", f"{logical_date:%Y%m%d}"
    context["task_state_store"] = TaskState() if state is None else state
    return context


def next_try(context: Any) -> Any:
    """Return the context of the next try of a task."""
    ti = SimpleNamespace(**{**vars(context["ti"]), "try_number": context["ti"].try_number + 1})
    return {**context, "ti": ti}


def execute(operator: Any, context: Any = None) -> Any:
    """Run an operator and its triggers as Airflow does; return its result.

    :param operator: Operator to run
    :param context: Context of the task; a new one if None
    """
    context = new_context() if context is None else context
    resume: tuple[str, dict[str, Any]] | None = None
    while True:
        try:
            return operator.resume_execution(*resume, context) if resume else operator.execute(context)
        except TaskDeferred as deferred:
            event = event_of(deferred.trigger)
            resume = deferred.method_name, {**(deferred.kwargs or {}), "event": event}
        except _reschedule_exception():
            resume = None


def event_of(trigger: Any) -> Any:
    """Run a trigger, deserialized as in a triggerer, to its end; return its only event."""
    path, arguments = json.loads(json.dumps(trigger.serialize()))
    module, name = path.rsplit(".", 1)
    restored = getattr(importlib.import_module(module), name)(**arguments)

    async def run() -> list[Any]:
        return [event.payload async for event in restored.run()]

    (event,) = asyncio.run(run())
    return json.loads(json.dumps(event))


def _reschedule_exception() -> type[Exception]:
    module = importlib.import_module("airflow.sdk.exceptions" if AIRFLOW_V_3_0_PLUS else "airflow.exceptions")
    error: type[Exception] = module.AirflowRescheduleException
    return error


def ending(operator: Any, context: Any = None) -> str:
    """Run an operator; return the state that Airflow would set for a task with retries.

    :param operator: Operator to run
    :param context: Context of the task; a new one if None
    """
    try:
        execute(operator, context)
    except AirflowSkipException:
        return "skipped"
    except (AirflowFailException, AirflowSensorTimeout):
        return "failed"
    except Exception:  # noqa: BLE001 - as Airflow does
        return "up_for_retry"
    return "success"


def event_extras(uri: str) -> list[dict[str, Any]]:
    """Return the extras of all events of an asset, oldest first."""
    from airflow.utils.session import create_session

    kind = "asset" if AIRFLOW_V_3_0_PLUS else "dataset"
    models = importlib.import_module(f"airflow.models.{kind}")
    event, asset = getattr(models, f"{kind.title()}Event"), getattr(models, f"{kind.title()}Model")
    with create_session() as session:
        query = session.query(event).join(asset, asset.id == getattr(event, f"{kind}_id")).filter(asset.uri == uri)
        return [row.extra for row in query.order_by(event.id)]


def output(operator: Any, key: str) -> Any:
    """Return an output of a task, for another task."""
    return operator.output[key]


def states(dag_run: Any) -> dict[str, str]:
    """Return the state of each task; of a mapped task, that of the last instance."""
    return {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}


def tries(dag_run: Any, task_id: str) -> int:
    """Return the number of tries of a task."""
    return int(dag_run.get_task_instance(task_id).try_number)


def xcom(dag_run: Any, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
    """Return an XCom of a task."""
    where = {"dag_id": dag_run.dag_id, "run_id": dag_run.run_id, "task_id": task_id, "map_index": map_index}
    if not AIRFLOW_V_3_0_PLUS:
        from airflow.models.xcom import XCom

        return XCom.get_one(key=key, **where)
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        row = session.scalar(select(XComModel).filter_by(key=key, **where))
        return None if row is None else XComModel.deserialize_value(row)


def connection(dss: LocalDSS, *, password: str | None = None, host: str | None = None, **extra: Any) -> str:
    """Return a connection to the local DSS, for `AIRFLOW_CONN_HCA_DSS_DEFAULT`, with short retries.

    :param dss: Local DSS
    :param password: Password; none if None
    :param host: URL of the API; that of the local DSS if None
    :param extra: Changes of the extra; None removes a value
    """
    settings = json.loads(dss.about["connection"])
    settings["host"] = dss.url if host is None else host
    if password is not None:
        settings["password"] = password
    extra = {**settings["extra"], "retry_seconds": 3, "creator_uid": 42, **extra}
    settings["extra"] = {key: value for key, value in extra.items() if value is not None}
    return json.dumps(settings)


def requests_of(dss: LocalDSS, method: str, prefix: str) -> int:
    """Return the number of requests that the DSS has received since the start of the test."""
    requests = dss.control("GET", "requests")
    return sum(
        request["count"] for request in requests if request["method"] == method and request["path"].startswith(prefix)
    )
