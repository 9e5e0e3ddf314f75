"""Progress of a running upload, for the page in the Airflow UI."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_hca.exceptions import DSSError, InvalidMetadataError, UploadError
from airflow_provider_hca.units import count_text

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.upload.plan import Plan
    from airflow_provider_hca.upload.report import UploadReport
    from airflow_provider_hca.validation.report import ValidationReport

log = logging.getLogger(__name__)

_VALIDATION_KEY = "validation"

# Limits of the page; the log of the task has everything.
_MAX_CAUSES = 10
_MAX_NAMES = 5
_MAX_LENGTH = 2000


class ProgressReporter:
    """Report progress and errors as an XCom, whatever the task's `do_xcom_push`.

    :param context: Context of the running task
    """

    def __init__(self, context: Context) -> None:
        self._ti = context["ti"]
        self._state: dict[str, Any] = {}

    def for_shard(self, shard: Mapping[str, Any]) -> Self:
        """Report the progress of a shard.

        :param shard: Shard, as JSON
        """
        self._state.update({name: shard[name] for name in ("file_count", "byte_count")})
        self._state.update(shard_number=shard["number"], shard_count=shard["of"])
        return self

    def planned(self, plan: Plan) -> None:
        """Set the totals."""
        self._state.update(file_count=len(plan.files), byte_count=plan.size)

    def comparing(self) -> None:
        """Report that the files are compared with the latest version of the bundle."""
        self._push({**self._state, "phase": "compare"})

    def validated(self, report: ValidationReport) -> None:
        """Report the findings of a validation as the XCom `validation`; log warnings, errors are raised later."""
        from airflow_provider_hca.validation.report import MAX_XCOM_BYTES

        if not report.error_count:
            log.log(logging.WARNING if report.findings else logging.INFO, "%s", report)
        self._push_as(_VALIDATION_KEY, report.as_json(MAX_XCOM_BYTES))

    def all_validated(self, reports: Iterable[ValidationReport]) -> None:
        """Log the findings of many directories, and report them as the XCom `validation`, by directory."""
        from airflow_provider_hca.validation.report import MAX_XCOM_BYTES

        found, left = {}, MAX_XCOM_BYTES
        for report in sorted(reports, key=lambda report: (-report.error_count, report.directory)):
            if report.findings:
                log.warning("%s", report)
            if report.findings and left > 0:
                found[report.directory] = report.as_json(left)
                left -= len(json.dumps(found[report.directory]))
        if found:
            self._push_as(_VALIDATION_KEY, found)

    def directories(self, done: int, total: int, *, file_count: int = 0, byte_count: int = 0) -> None:
        """Report how many directories of a batch are done, and what they have in all."""
        self._state.update(file_count=file_count, byte_count=byte_count)
        self._push({**self._state, "phase": "directories", "phase_done": done, "phase_files": total})

    def __call__(self, report: UploadReport) -> None:
        """Report progress."""
        self._push({**self._state, **report.progress()})

    def done(self, report: UploadReport, *, with_rate: bool = True) -> None:
        """Report the end.

        :param with_rate: Whether to report the average rate of staging: not if the seconds are sums over shards
        """
        staging = report.seconds.get("stage", 0.0) if with_rate else 0.0
        report.phase, report.rate = "done", report.staged_byte_count / staging if staging else 0.0
        self(report)

    def waiting(self, report: UploadReport) -> None:
        """Report that the task waits in the triggerer for the DSS's copies."""
        report.phase, report.phase_done, report.phase_files, report.rate = "copy", 0, len(report.copying), 0.0
        self(report)

    @contextmanager
    def reporting(self, phase: str = "plan") -> Iterator[None]:
        """Report errors of the block, log failed files by cause if there are many, and raise them again.

        :param phase: First phase of the block
        """
        self._state["phase"] = phase
        self._push(self._state)
        try:
            yield
        # Only messages of this package, which hold no secrets; permanent failures of a trigger are among them, as
        # AirflowFailException.
        except (DSSError, ValueError, AirflowFailException) as error:
            self._push({**self._state, "rate": 0.0, "error": str(error)[:_MAX_LENGTH], "failures": _failures(error)})
            raise

    def _push(self, state: dict[str, Any]) -> None:
        from airflow_provider_hca.utils.ui_links import PROGRESS_KEY

        self._state = state
        self._push_as(PROGRESS_KEY, state)

    def _push_as(self, key: str, value: dict[str, Any]) -> None:
        try:
            self._ti.xcom_push(key=key, value=value)
        except Exception as error:  # noqa: BLE001 - a failed report must not end an upload of hours
            log.warning("cannot report the progress of the upload: %s", error)


def _failures(error: Exception) -> list[dict[str, Any]]:
    if isinstance(error, UploadError):
        failures = list(error.failures)
    elif isinstance(error, InvalidMetadataError):
        failures = [(name, f"{path}: {reason}" if path else reason) for name, path, reason in error.findings]
    else:
        return []
    from airflow_provider_hca.causes import group_errors

    causes = group_errors(failures)
    if " more" in str(error):  # the message, which Airflow logs, names the first files only
        for cause, names in causes:
            log.error("%s failed: %s\n  %s", count_text(len(names), "file", "files"), cause, "\n  ".join(names))
    return [
        {"cause": cause[:_MAX_LENGTH], "count": len(names), "names": names[:_MAX_NAMES]}
        for cause, names in causes[:_MAX_CAUSES]
    ]
