"""Running DAGs in a real Airflow with its database, on both lines of Airflow."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from tests.local.server import LocalDSS

LOGICAL_DATE = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def new_dag(dag_id: str, **options: Any) -> DAG:
    """Return a DAG without a schedule."""
    return DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), **options)


def run(dag: DAG, *, logical_date: datetime = LOGICAL_DATE, conf: dict[str, Any] | None = None) -> Any:
    """Run a DAG in this process; return the DAG run."""
    if AIRFLOW_V_3_0_PLUS:
        _store(dag)
    else:
        dag.sync_to_db()  # type: ignore[attr-defined]  # Airflow 2's, where the outlets' events are kept
    date = {"logical_date" if AIRFLOW_V_3_0_PLUS else "execution_date": logical_date}
    return dag.test(run_conf=conf, **date)  # type: ignore[arg-type]  # one call for both lines of Airflow


def _store(dag: DAG) -> None:
    """Write a DAG where `dag.test()` of Airflow 3 looks for it."""
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


def fake_context(try_number: int = 1) -> Any:
    """Return the parts of a context that the operators use, outside Airflow."""
    run = SimpleNamespace(
        logical_date=LOGICAL_DATE, data_interval_end=None, run_after=None, run_id="manual__1", clear_number=0
    )
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(dag_id="d", task_id="t", map_index=-1, try_number=try_number, pushed=pushed)
    ti.xcom_push = lambda key, value: pushed.update({key: value})
    return {"dag_run": run, "ti": ti}


def event_extras(uri: str) -> list[dict[str, Any]]:
    """Return what Airflow has been told with each event of an asset, oldest first."""
    from airflow.utils.session import create_session

    kind = "asset" if AIRFLOW_V_3_0_PLUS else "dataset"
    models = importlib.import_module(f"airflow.models.{kind}")
    event, asset = getattr(models, f"{kind.title()}Event"), getattr(models, f"{kind.title()}Model")
    with create_session() as session:
        found = session.query(event).join(asset, asset.id == getattr(event, f"{kind}_id")).filter(asset.uri == uri)
        return [each.extra for each in found.order_by(event.id)]


def output(operator: Any, key: str) -> Any:
    """Return what a task will push under a key, as another task takes it."""
    return operator.output[key]


def states(dag_run: Any) -> dict[str, str]:
    """Return how each task ended; of a mapped task, the last instance."""
    return {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}


def tries(dag_run: Any, task_id: str) -> int:
    """Return how often a task was tried."""
    return int(dag_run.get_task_instance(task_id).try_number)


def xcom(dag_run: Any, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
    """Return what a task pushed."""
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
    """Return a connection to the local DSS, changed as told, for `AIRFLOW_CONN_HCA_DSS_DEFAULT`.

    An extra of None is taken out; retries are short unless told otherwise.
    """
    made = json.loads(dss.about["connection"])
    made["host"] = dss.url if host is None else host
    if password is not None:
        made["password"] = password
    extra = {**made["extra"], "retry_seconds": 3, "creator_uid": 42, **extra}
    made["extra"] = {key: value for key, value in extra.items() if value is not None}
    return json.dumps(made)


def requests_of(dss: LocalDSS, method: str, prefix: str) -> int:
    """Return how many requests the DSS has seen since the test began."""
    seen = dss.control("GET", "requests")
    return sum(each["count"] for each in seen if each["method"] == method and each["path"].startswith(prefix))
