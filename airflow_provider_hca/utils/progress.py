"""What a running upload tells the page in the Airflow UI: how far it is, and in the end what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_hca.exceptions import DSSError, UploadError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.upload.plan import Plan
    from airflow_provider_hca.upload.report import Progress, Registered, UploadReport

log = logging.getLogger(__name__)

_CAUSES = 10  # what is shown on the page; the log of the task has all of it
_NAMES = 5
_LONGEST = 2000


class ProgressReporter:
    """Keeps one XCom up to date, whatever the task's `do_xcom_push`.

    :param context: of the running task
    """

    def __init__(self, context: Context) -> None:
        self._ti = context["ti"]
        self._told: dict[str, Any] = {}

    def of_shard(self, shard: Mapping[str, Any]) -> Self:
        """Take note that it is a shard, of a bundle that another task makes.

        :param shard: as JSON has it
        """
        self._told.update({name: shard[name] for name in ("file_count", "byte_count")})
        self._told.update(shard_number=shard["number"], shard_count=shard["of"])
        return self

    def planned(self, plan: Plan) -> None:
        """Take note of how much there is to do."""
        self._told.update(file_count=len(plan.files), byte_count=plan.size)

    def __call__(self, progress: Progress) -> None:
        """Tell how far it is."""
        self._push({**self._told, **asdict(progress)})

    def done(self, report: Registered | UploadReport) -> None:
        """Tell that it is done, with the rate over the whole of staging."""
        staging = report.seconds.get("stage", 0.0)
        rate = report.staged_size / staging if staging else 0.0
        self._push({**self._told, "phase": "done", "sent_byte_count": self._told["byte_count"], "rate": rate})

    def waiting(self, plan: Plan, copies: int) -> None:
        """Tell that the task leaves the worker until the DSS has copied some files."""
        counts = {"phase_done": 0, "phase_files": copies, "sent_byte_count": plan.size}
        self._push({**self._told, **counts, "phase": "copy", "rate": 0.0})

    @contextmanager
    def telling(self, phase: str = "plan") -> Iterator[None]:
        """Tell of an error that comes out of the work inside, in the log by cause, and let it pass.

        :param phase: in which the work begins
        """
        self._told["phase"] = phase
        self._push(self._told)
        try:
            yield
        # What the triggerer gave up for good comes as Airflow's exception, with a message of this package all the same:
        # none of those holds a secret; others' may.
        except (DSSError, ValueError, AirflowFailException) as error:
            self._push({**self._told, "rate": 0.0, "error": str(error)[:_LONGEST], "failures": _failures(error)})
            raise

    def _push(self, told: dict[str, Any]) -> None:
        from airflow_provider_hca.utils.ui_links import PROGRESS_KEY

        self._told = told
        try:
            self._ti.xcom_push(key=PROGRESS_KEY, value=told)
        except Exception as error:  # noqa: BLE001 - an upload of hours is not to fail because nobody could be told of it
            log.warning("cannot tell the page how far the upload is: %s", error)


def _failures(error: Exception) -> list[dict[str, Any]]:
    if not isinstance(error, UploadError):
        return []
    from airflow_provider_hca.upload.report import group_errors

    causes = group_errors(error.failures)
    for cause, names in causes:
        hit = "1 file" if len(names) == 1 else f"{len(names):,} files"
        log.error("%s failed: %s\n  %s", hit, cause, "\n  ".join(names))
    return [
        {"cause": cause[:_LONGEST], "count": len(names), "names": names[:_NAMES]} for cause, names in causes[:_CAUSES]
    ]
