"""Tasks of a `DSSIngestTaskGroup`: upload the directories of a unit of work, and report the batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, BaseNotifier

from airflow_provider_hca.exceptions import (
    DSSAbortedError,
    DSSConflictError,
    DSSError,
    InvalidDirectoryError,
    UploadError,
)
from airflow_provider_hca.operators.base import exceeds
from airflow_provider_hca.operators.upload import DSSUploadDirectoryOperator
from airflow_provider_hca.operators.upload_group import DSSUploadShardOperator, DSSUploadShardsBundleOperator
from airflow_provider_hca.utils.fail_fast import report_errors
from airflow_provider_hca.utils.identity import run_version
from airflow_provider_hca.utils.openlineage import Data, add_to_outlets
from airflow_provider_hca.utils.progress import ProgressReporter
from airflow_provider_hca.utils.ui_links import REPORT_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.hooks.dss import DSSHook
    from airflow_provider_hca.upload.batch import BatchReport, BundleResult, Row
    from airflow_provider_hca.upload.uploader import Uploader

    OnReport = Callable[[dict[str, Any], Context], None] | BaseNotifier

T = TypeVar("T")

BATCH_KEY = "batch"  # keys of XComs
RESULTS_KEY = "results"
_AT_ONCE = 8  # bundles of a unit; each has files in progress


class _BatchOperator(DSSUploadDirectoryOperator):
    """Base of tasks that create the bundles of several directories."""

    operator_extra_links = ()

    def __init__(self, *, partitioned: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.partitioned = partitioned

    def _report_created(self, context: Context, hook: DSSHook, results: Sequence[BundleResult]) -> None:
        """Report directories and created bundles to OpenLineage, and the bundles to the events of the outlets."""
        created = [_as_bundle(result, self.replica) for result in results if result.outcome == "created"]
        self._report_lineage(
            [Data.source(result.directory, files=result.file_count, size=result.byte_count) for result in results],
            [Data.bundle(hook.api.url, bundle) for bundle in created],
        )
        if not created:
            self.outlets = []  # Airflow would send an event for each
        for bundle in created:
            add_to_outlets(context, self.outlets, hook.api.url, bundle, partitioned=self.partitioned)


class DSSIngestOperator(_BatchOperator, DSSUploadShardOperator):
    """Upload the directories of a unit of work, or a part of a large one; the mapped task of a `DSSIngestTaskGroup`.

    Returns nothing; the XCom `results` has the result of each directory, or the statistics of the part.

    :param unit: Unit of work, an item of the output of `DSSPlanIngestOperator`
    :param partitioned: Whether each bundle is a partition of the assets in `outlets`
    """

    def __init__(self, *, unit: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(directory=unit.get("directory", ""), shard=unit.get("shard", {}), **kwargs)
        self.unit = unit

    def execute(self, context: Context) -> None:  # type: ignore[override]  # results are pushed before it fails
        """Upload the unit."""
        if self.shard:
            self.outlets = []  # of the whole directory, in `report`
            self._push(context, shard=super().execute(context))
        else:
            self._upload_rows(context)

    def execute_complete(self, context: Context, event: Any) -> None:  # type: ignore[override]  # as execute
        """Finish a part after the wait in the triggerer."""
        self.outlets = []
        self._push(context, shard=super().execute_complete(context, event))

    @property
    def _pool_size(self) -> int:
        return _AT_ONCE

    @staticmethod
    def _push(context: Context, **results: Any) -> None:
        context["ti"].xcom_push(key=RESULTS_KEY, value={"unit": context["ti"].map_index, **results})

    def _upload_rows(self, context: Context) -> None:
        """Upload whole directories, push their results, and raise if some failed."""
        from airflow_provider_hca.upload.batch import BatchReport, Row

        rows = [Row(**row) for row in self.unit["rows"]]
        progress = ProgressReporter(context)
        with self._open_hook() as hook, progress.reporting("directories"):
            results = self._upload_all(context, hook, rows, progress)
            self._push(context, rows=[result.as_json() for result in results])
            files, size = sum(result.file_count for result in results), sum(result.byte_count for result in results)
            progress.directories(len(rows), len(rows), file_count=files, byte_count=size)
            self.log.info("%s", BatchReport(results))
            self._report_created(context, hook, results)
        with report_errors():
            _raise_failed(results)

    def _upload_all(
        self, context: Context, hook: DSSHook, rows: Sequence[Row], progress: ProgressReporter
    ) -> list[BundleResult]:
        from airflow_provider_hca.parallel import run_parallel
        from airflow_provider_hca.upload.batch import BundleResult
        from airflow_provider_hca.upload.stager import MEMORY

        version, stop = run_version(context), self._stop or threading.Event()
        hook.get_conn()  # here, so that all threads share it
        # Without the progress of each bundle: with small ones, its reports would take longer than the uploads.
        get_uploader = _called_once(lambda: self._uploader(hook))
        resume = context["ti"].try_number > 1
        results: dict[Row, BundleResult] = {}

        def upload(row: Row) -> None:
            results[row] = self._upload_row(row, hook, get_uploader, version, resume=resume)

        def report(done: int) -> None:
            self.log.info("%d of %d directories done", done, len(rows))
            progress.directories(done, len(rows))

        failures = run_parallel(
            list(rows),
            upload,
            name="bundle",
            workers=_AT_ONCE,
            cost=lambda row: min(row.byte_count, MEMORY),
            budget=2 * MEMORY,
            stop=stop,
            continue_after=lambda _: False,
            on_progress=report,
        )
        if stop.is_set():
            raise DSSAbortedError("the upload was stopped; a retry resumes it")
        for row, error in failures:
            results[row] = BundleResult.of_error(row, "failed", error)
        for row in rows:
            if row not in results:
                not_tried = BundleResult.of_error(row, "failed", failures[-1][1])  # as permanent as this error
                cause = "not tried, since the DSS or the store failed for another directory"
                results[row] = replace(not_tried, cause=cause)
        return [results[row] for row in rows]

    def _upload_row(
        self, row: Row, hook: DSSHook, get_uploader: Callable[[], Uploader], version: str, *, resume: bool
    ) -> BundleResult:
        """Upload a directory.

        :raises DSSError: if other directories would fail too
        """
        from airflow_provider_hca.client.identifiers import bundle_uuid_of
        from airflow_provider_hca.upload.batch import BundleResult
        from airflow_provider_hca.upload.report import UploadReport

        try:
            plan = self._plan_as(bundle_uuid_of(row.bundle_key), version, directory=row.directory)
            plan, changes = self._compare(hook, plan)
            if plan.bundle_version != version:
                report = UploadReport.of_plan(plan, self.replica, changes)
                return BundleResult.of_report(row, "unchanged", report)
            report = get_uploader().upload(plan, resume=resume, changes=changes)
            return BundleResult.of_report(row, "created", report)
        except AirflowSkipException as error:
            return BundleResult.of_error(row, "skipped", error)
        except InvalidDirectoryError as error:
            return BundleResult.of_error(row, "invalid" if error.permanent else "failed", error)
        except (UploadError, DSSConflictError, ValueError) as error:
            return BundleResult.of_error(row, "failed", error)


class DSSReportIngestOperator(_BatchOperator, DSSUploadShardsBundleOperator):
    """Report a batch; the last task of a `DSSIngestTaskGroup`.

    Creates the bundles of divided directories, and returns the report.

    :param max_failed: Number of directories, or as a float their share, that may be invalid or fail
    :param collection_uuid: UUID of a collection to which the bundles are added. (templated)
    :param on_report: Function that is called with the report and the context, or a notifier
    :param partitioned: Whether each bundle is a partition of the assets in `outlets`
    """

    template_fields: Sequence[str] = (
        "collection_uuid",
        *(
            name
            for name in DSSUploadDirectoryOperator.template_fields
            if name not in {"directory", "bundle_key", "bundle_uuid", "bundle_version"}
        ),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = DSSUploadDirectoryOperator.template_fields_renderers

    def __init__(
        self,
        *,
        max_failed: float,
        collection_uuid: str | None,
        on_report: OnReport | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(directory="", planned=None, shards=[], registered=[], **kwargs)
        self.max_failed = max_failed
        self.collection_uuid = collection_uuid
        self.on_report = on_report

    def execute(self, context: Context) -> dict[str, Any]:
        """Create the bundles of divided directories, and report the batch."""
        with report_errors():
            return self._execute(context)

    def _execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_hca.upload.batch import BatchReport

        # Pulled, since an argument cannot be the output of a mapped task that was skipped (Airflow 2) or failed.
        ti, group = context["ti"], self.task_id.rpartition(".")[0]
        batch = ti.xcom_pull(task_ids=f"{group}.plan", key=BATCH_KEY)
        if not batch:
            raise AirflowFailException(f"the batch was not planned: see the task '{group}.plan'")
        units = ti.xcom_pull(task_ids=f"{group}.plan") or []
        pushed = ti.xcom_pull(task_ids=[f"{group}.ingest"], key=RESULTS_KEY)
        outputs = {output["unit"]: output for output in pushed if output is not None}
        with self._open_hook() as hook:
            report = BatchReport(self._results(hook, batch, units, outputs))
            self.log.info("%s", report)
            result = {"dss_conn_id": self.dss_conn_id, "replica": self.replica, **report.as_json()}
            ti.xcom_push(key=REPORT_KEY, value=result)
            divided = {record["row"]["bundle_key"] for record in batch["divided"]}
            # `ingest` did so for the others.
            self._report_created(context, hook, [one for one in report.results if one.bundle_key in divided])
            _raise_temporary(context, batch, report)
            if self.collection_uuid:
                self._add_to_collection(hook, self.collection_uuid, report)
        if isinstance(self.on_report, BaseNotifier):
            copy(self.on_report)({**context, "report": result})  # a call replaces its templates
        elif self.on_report is not None:
            self.on_report(result, context)
        if exceeds(self.max_failed, report.failed, len(report.results)):
            raise AirflowFailException(
                f"{report.failed:,} of {len(report.results):,} directories are invalid or failed, more than "
                f"max_failed={self.max_failed!r} allows: see the causes above, correct them, and clear the run"
            )
        return result

    def _results(
        self,
        hook: DSSHook,
        batch: Mapping[str, Any],
        units: Sequence[Mapping[str, Any]],
        outputs: Mapping[int, Mapping[str, Any]],
    ) -> list[BundleResult]:
        """Return the result of each directory, in the order of the batch."""
        from airflow_provider_hca.upload.batch import BundleResult, Row

        found = [BundleResult.from_json(result) for result in batch["results"]]
        for output in outputs.values():
            found += [BundleResult.from_json(result) for result in output.get("rows", ())]
        for record in batch["divided"]:
            shards = [(outputs.get(unit), units[unit]["shard"]) for unit in record["units"]]
            found.append(self._finish(hook, Row(**record["row"]), record["planned"], shards))
        by_key = {result.bundle_key: result for result in found}
        lost = DSSError("its task did not finish: see the log of the task 'ingest'; a retry or the next run uploads it")
        rows = [Row(**row) for row in batch["rows"]]
        return [by_key.get(row.bundle_key) or BundleResult.of_error(row, "failed", lost) for row in rows]

    def _finish(
        self,
        hook: DSSHook,
        row: Row,
        planned: Mapping[str, Any],
        shards: Sequence[tuple[Mapping[str, Any] | None, Mapping[str, Any]]],
    ) -> BundleResult:
        """Create the bundle of a divided directory."""
        from airflow_provider_hca.upload.batch import BundleResult
        from airflow_provider_hca.upload.report import UploadReport

        self.directory, report = row.directory, UploadReport.from_json(planned)
        if report.version == report.base:
            return BundleResult.of_report(row, "unchanged", report)
        registered = [output["shard"] for output, _ in shards if output]
        try:
            self._put_bundle(hook, report, [shard for _, shard in shards], registered)
        except DSSAbortedError:
            raise
        except (DSSError, ValueError) as error:
            return BundleResult.of_error(row, "failed", error)
        return BundleResult.of_report(row, "created", report)

    def _add_to_collection(self, hook: DSSHook, uuid: str, report: BatchReport) -> None:
        """Put a version of a collection that has the latest versions of the bundles, unless the latest one does.

        The response to GET does not contain the latest version, which a PATCH would need.
        """
        from airflow_provider_hca.client.identifiers import make_version
        from airflow_provider_hca.client.models import MAX_CHANGES

        collection = hook.get_collection(uuid, replica=self.replica)
        latest = {result.uuid: result.version for result in report.results if result.version}
        others = [item for item in collection["contents"] if item["type"] != "bundle" or item["uuid"] not in latest]
        links = [{"type": "bundle", "uuid": bundle, "version": version} for bundle, version in latest.items()]
        if all(link in collection["contents"] for link in links) and len(collection["contents"]) == len(others + links):
            return
        contents, version = [*others, *links], make_version()
        texts = {name: collection[name] for name in ("name", "description", "details")}
        hook.put_collection(uuid, version, replica=self.replica, contents=contents[:MAX_CHANGES], **texts)
        if more := contents[MAX_CHANGES:]:
            version = hook.change_collection(uuid, version, replica=self.replica, add_contents=more).version
        self.log.info("collection %s.%s has the bundles", uuid, version)


def _called_once(function: Callable[[], T]) -> Callable[[], T]:
    """Return a function for several threads, which calls the given one until it succeeds, and keeps the result."""
    lock, cached = threading.Lock(), cache(function)

    def call() -> T:
        with lock:
            return cached()

    return call


def _raise_failed(results: Sequence[BundleResult]) -> None:
    failed = [result for result in results if result.outcome == "failed"]
    if not failed:
        return
    message = f"{len(failed):,} of {len(results):,} directories failed; {failed[0].directory}: {failed[0].cause}"
    if all(result.permanent for result in failed):
        raise AirflowFailException(message)
    raise DSSError(message)


def _raise_temporary(context: Context, batch: Mapping[str, Any], report: BatchReport) -> None:
    """Raise if a retry may create the bundle of a divided directory whose parts are all registered."""
    keys = {record["row"]["bundle_key"] for record in batch["divided"]}
    failed = [result for result in report.results if result.bundle_key in keys and result.outcome == "failed"]
    if context["ti"].try_number <= context["ti"].max_tries and not all(result.permanent for result in failed):
        raise DSSError(f"{failed[0].directory}: {failed[0].cause}")


def _as_bundle(result: BundleResult, replica: str) -> dict[str, Any]:
    return {
        "uuid": result.uuid,
        "version": result.version,
        "fqid": f"{result.uuid}.{result.version}",
        "replica": replica,
        "file_count": result.file_count,
        "byte_count": result.byte_count,
    }
