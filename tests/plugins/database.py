"""Rows of DAG runs in Airflow's database, and the API of the page as it answers an administrator."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import insert, select

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
    ) -> None:
        """Add a task instance with its XComs; each one starts a second later.

        :param label: Rendered `map_index_template`
        """
        name = {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": task_id, "map_index": map_index}
        started = START + timedelta(seconds=next(_NUMBERS))
        task = {**name, "state": state, "try_number": 1, "operator": operator, "pool": "default_pool"}
        task |= {"start_date": started if state else None, "rendered_map_index": label, "pool_slots": 1}
        values = [
            {**name, "dag_run_id": self._id, "key": key, "value": value, "timestamp": started}
            for key, value in (xcoms or {}).items()
        ]
        with create_session() as session:
            session.execute(insert(TaskInstance.__table__).values(**task))
            if values:
                session.execute(insert(XComModel), values)


def link(uuid: str = "", version: str | None = VERSION) -> dict[str, str]:
    """Return the XCom of the link to a bundle.

    :param uuid: UUID of the bundle; a new one if empty
    """
    return {LINK_KEY: BundleAddress.checked("hca_dss_default", "aws", uuid or new_uuid(), version).on_page("")}


def uploaded(uuid: str = "", **progress: Any) -> dict[str, Any]:
    """Return the XComs of an upload of 10 files."""
    state = {"phase": "done", "file_count": 10, "byte_count": 1000, "sent_byte_count": 1000, **progress}
    return {**link(uuid), PROGRESS_KEY: state}
