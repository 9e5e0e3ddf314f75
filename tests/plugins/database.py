"""Rows of DAG runs in Airflow's database, and the API of the page as it answers an administrator."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow.utils.session import create_session
from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from airflow_provider_hca.utils.ui_links import LINK_KEY, PROGRESS_KEY, BundleAddress
from tests.local.server import VERSION, new_uuid

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
_NUMBERS = itertools.count()


def new_dag() -> str:
    """Add a DAG; return its id, which no other DAG has."""
    dag_id = f"rows_{next(_NUMBERS)}"
    with create_session() as session:
        session.merge(DagBundleModel(name="rows"))
        session.flush()
        session.add(DagModel(dag_id=dag_id, bundle_name="rows"))  # type: ignore[no-untyped-call]  # untyped in Airflow
    return dag_id


class Rows:
    """Rows of one DAG run.

    :param dag_id: DAG, from `new_dag`
    :param state: State of the run
    """

    def __init__(self, dag_id: str, state: str = "success") -> None:
        self.dag_id, self.run_id = dag_id, f"manual__{next(_NUMBERS)}"
        run = {"dag_id": dag_id, "run_id": self.run_id, "state": state, "run_type": "manual", "run_after": START}
        with create_session() as session:
            session.execute(insert(DagRun).values(**run))
            self._id = session.scalar(select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id == self.run_id))

    def add(
        self,
        task_id: str,
        state: str | None,
        xcoms: Mapping[str, Any] | None = None,
        *,
        map_index: int = -1,
        label: str | None = None,
        operator: str = "DSSUploadDirectoryOperator",
        seconds: float | None = None,
    ) -> None:
        """Add a task instance with its XComs; each one starts a second later.

        On Airflow 3.4 a task in the state `up_for_retry` has a second task instance for its next try.

        :param label: Rendered `map_index_template`
        :param seconds: Duration of the task; it has no end if None
        """
        name = {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": task_id, "map_index": map_index}
        started = START + timedelta(seconds=next(_NUMBERS))
        task = {**name, "state": state, "try_number": 1, "operator": operator, "pool": "default_pool"}
        task |= {"start_date": started if state else None, "rendered_map_index": label, "pool_slots": 1}
        task |= {"end_date": None if seconds is None else started + timedelta(seconds=seconds)}
        values = [{"key": key, "value": value, "timestamp": started} for key, value in (xcoms or {}).items()]
        with create_session() as session:
            if AIRFLOW_V_3_4_PLUS:
                self._add_of_3_4(session, task, values)
                return
            session.execute(insert(TaskInstance.__table__).values(**task))
            if values:
                session.execute(insert(XComModel), [{**name, "dag_run_id": self._id, **value} for value in values])

    def retry(self, task_id: str, state: str) -> None:
        """Start the next try of a task that waits for it, and end it in a state before it pushes an XCom."""
        same = {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": task_id}
        with create_session() as session:
            if not AIRFLOW_V_3_4_PLUS:
                session.execute(delete(XComModel).filter_by(**same))
            session.execute(update(TaskInstance).filter_by(**same).values(state=state))

    def _add_of_3_4(self, session: Session, task: dict[str, Any], values: list[dict[str, Any]]) -> None:
        from airflow.models.xcom import XComModelV2

        task_id = uuid4()
        task |= {"id": task_id, "region_index": task.pop("map_index")}
        session.execute(insert(TaskInstance.__table__).values(**task))
        if values:
            session.execute(insert(XComModelV2), [{"task_instance_id": task_id, **value} for value in values])
        if task["state"] == "up_for_retry":
            added = session.scalars(select(TaskInstance).where(TaskInstance.id == task_id)).one()
            added.prepare_db_for_next_try(session)


def link(uuid: str = "", version: str | None = VERSION) -> dict[str, str]:
    """Return the XCom of the link to a bundle.

    :param uuid: UUID of the bundle; a new one if empty
    """
    return {LINK_KEY: BundleAddress.checked("hca_dss_default", "aws", uuid or new_uuid(), version).on_page("")}


def uploaded(uuid: str = "", **progress: Any) -> dict[str, Any]:
    """Return the XComs of an upload of 10 files."""
    state = {"phase": "done", "file_count": 10, "byte_count": 1000, "sent_byte_count": 1000, **progress}
    return {**link(uuid), PROGRESS_KEY: state}
