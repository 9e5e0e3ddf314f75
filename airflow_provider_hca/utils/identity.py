"""What a task's files and bundles are called, so that a retry repeats the same PUTs and makes nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_hca.client.identifiers import derive_uuid, make_version

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def task_uuid(context: Context, *parts: str, task_id: str | None = None) -> str:
    """Return the uuid that belongs to this task of this DAG run, the same in every try.

    It derives from the DAG, the run, the task and the map index. A cleared run keeps it.

    :param context: of the running task
    :param parts: what tells several uuids of one task apart
    :param task_id: whose uuid it is, if not the running task's
    """
    run, ti = context["dag_run"], context["ti"]
    # A DAG has one run for a logical date, whatever its run id, and `airflow dags test` makes up a new id each time.
    name = run.logical_date.isoformat() if run.logical_date else run.run_id
    map_index = -1 if ti.map_index is None else ti.map_index
    return derive_uuid(ti.dag_id, name, task_id or ti.task_id, map_index, *parts)


def run_version(context: Context) -> str:
    """Return the DSS_VERSION that belongs to this DAG run, the same for all its tasks and tries.

    It is the run's logical date, or the end of its data interval if that is later, so that newer runs make newer
    versions. Clearing the run makes it later by a microsecond: a new version of the same bundle.

    :param context: of the running task
    """
    run = context["dag_run"]
    moments = [moment for moment in (run.logical_date, run.data_interval_end) if moment is not None]
    return make_version(max(moments) if moments else run.run_after, later=run.clear_number or 0)
