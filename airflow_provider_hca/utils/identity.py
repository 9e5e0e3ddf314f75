"""UUIDs and versions derived from the DAG run, so that a retry repeats the same PUT requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_hca.client.identifiers import derive_uuid, make_version

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def task_uuid(context: Context, *parts: str, task_id: str | None = None) -> str:
    """Return the UUID of a task in a DAG run, the same for all tries.

    Derived from the DAG, the run, the task and the map index. Clearing the run keeps it.

    :param context: Context of the running task
    :param parts: Parts that distinguish several UUIDs of one task
    :param task_id: Id of the task; the running task if None
    """
    run, ti = context["dag_run"], context["ti"]
    # A DAG has one run for a logical date, whatever its run id, and `airflow dags test` uses a new id each time.
    name = run.logical_date.isoformat() if run.logical_date else run.run_id
    map_index = -1 if ti.map_index is None else ti.map_index
    return derive_uuid(ti.dag_id, name, task_id or ti.task_id, map_index, *parts)


def run_version(context: Context) -> str:
    """Return the DSS_VERSION of a DAG run, the same for all its tasks and tries.

    The logical date, or the end of the data interval if later, so that newer runs create newer versions. Clearing the
    run adds a microsecond: a new version of the same bundle.

    :param context: Context of the running task
    """
    run = context["dag_run"]
    moments = [moment for moment in (run.logical_date, run.data_interval_end) if moment is not None]
    return make_version(max(moments) if moments else run.run_after, later=run.clear_number or 0)
