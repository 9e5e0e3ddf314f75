"""Bundles of batches, read from the reports of the batches in Airflow's database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import Row, and_, select
from sqlalchemy.orm import Session

from airflow_provider_hca.plugins.models import Bundle
from airflow_provider_hca.plugins.tasks import REPORT_OPERATOR, TASK_KEY, bundle_at, same_task
from airflow_provider_hca.utils.ui_links import REPORT_KEY, BundleAddress

# A report has the bundles that its night created.
_MAX_REPORTS = 50
_MAX_BUNDLES = 50_000


def read_reported(
    session: Session, dag_ids: Collection[str], wanted: Callable[[dict[str, Any]], bool]
) -> Iterator[tuple[Row[Any], Bundle]]:
    """Yield bundles that the newest batches created, each with the key of the task that reported it, newest first.

    :param dag_ids: DAGs that the user may read
    :param wanted: Function that returns whether to yield a bundle with these `directory`, `bundle_key` and `fqid`
    """
    reports = session.execute(
        select(*TASK_KEY, XComModel.value)
        .join(TaskInstance, and_(*same_task(TaskInstance)))
        .where(
            XComModel.key == REPORT_KEY,
            TaskInstance.operator == REPORT_OPERATOR,
            XComModel.dag_id.in_(dag_ids),
        )
        .order_by(XComModel.timestamp.desc())
        .limit(_MAX_REPORTS)
        .execution_options(yield_per=1)  # each may be megabytes
    )
    left = _MAX_BUNDLES
    for row in reports:
        bundles = row.value.get("bundles") if isinstance(row.value, dict) else None
        for entry in bundles[:left] if isinstance(bundles, list) else ():
            left -= 1
            bundle = _bundle(row.value, entry) if isinstance(entry, dict) and wanted(entry) else None
            if bundle is not None:
                yield row, bundle
        if left <= 0:
            return


def _bundle(report: dict[str, Any], entry: dict[str, Any]) -> Bundle | None:
    uuid, _, version = str(entry.get("fqid")).partition(".")
    try:
        address = BundleAddress.checked(str(report.get("dss_conn_id")), str(report.get("replica")), uuid, version)
    except ValueError:
        return None
    return bundle_at(address, entry.get("bundle_key"))
