"""Task group that uploads many directories, each as a bundle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, TaskGroup, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_hca.operators.ingest import BATCH_KEY, DSSIngestOperator, DSSReportIngestOperator
from airflow_provider_hca.operators.upload import DSSUploadDirectoryOperator
from airflow_provider_hca.operators.upload_group import GIB, check_arguments
from airflow_provider_hca.units import count_text
from airflow_provider_hca.utils.identity import run_version
from airflow_provider_hca.utils.progress import ProgressReporter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.hooks.dss import DSSHook
    from airflow_provider_hca.operators.ingest import OnReport
    from airflow_provider_hca.upload.batch import BundleResult, Planned, Row
    from airflow_provider_hca.upload.plan import Plan
    from airflow_provider_hca.upload.rows import Fields
    from airflow_provider_hca.upload.shards import Shard
    from airflow_provider_hca.validation.report import ValidationReport

_RESERVED = (
    *("task_id", "task_group", "dag", "do_xcom_push", "multiple_outputs"),
    *("bundle_uuid", "bundle_version", "if_unchanged", "unit"),
)


class DSSIngestTaskGroup(TaskGroup):
    """Upload many directories, each as the next version of a bundle of its own, and report their results.

    The group has three tasks:

    - `plan` lists all directories, validates their metadata if asked, and divides them into units of work: small
      directories share a unit, large ones are divided. It sends nothing
    - `ingest`, mapped over the units, uploads what differs from the latest versions
    - `report` creates the bundles of divided directories, and reports; it runs whatever happened before

    A directory that is invalid, or fails, does not stop the others. `ingest` is retried for those that failed; the next
    run takes up what is left. `report` returns the numbers of directories `created`, `unchanged`, `skipped`, `invalid`
    and `failed`, `file_count`, `byte_count`, `bundles` (`directory`, `bundle_key` and `fqid` of those created) and
    `causes` of failures with some of their directories. The tasks are the attributes `plan`, `ingest` and `report`.

    :param group_id: Id of the task group
    :param directory: Directory or prefix; each directory in it becomes a bundle. (templated)
    :param table: CSV or TSV file, or URL of an object, with a column `directory` and perhaps `bundle_key`. (templated)
    :param rows: Directories, or dictionaries with `directory` and perhaps `bundle_key`; also the output of another
        task. (templated)
    :param staging_bucket: Bucket to stage in. (templated)
    :param bundle_key: Template of the keys, rendered for each directory with `row`, which has the `name` of the
        directory and all columns; by default the column `bundle_key`, or else the directory
    :param max_task_files: Maximum number of files of a mapped task
    :param max_task_bytes: Maximum size of the files of a mapped task, in bytes; a larger file gets a task of its own
    :param max_failed: Number of directories, or as a float their share, that may be invalid or fail in a successful run
    :param collection_uuid: UUID of a collection of yours that gets a new version with the bundles, in place of their
        earlier versions. (templated)
    :param on_report: Function that is called with the report and the context of the task, or one of Airflow's
        notifiers, whose templates have `report`
    :param partitioned: Whether each bundle is a partition of the assets in `outlets`, with its FQID as the key: one
        event, and one run of a DAG with a `PartitionedAssetTimetable`, for each bundle (Airflow 3.2 and newer)
    :param options: All other parameters of `DSSUploadDirectoryOperator` except `if_unchanged`, templated as there;
        `max_bytes_per_second` and `max_requests_per_second` apply to each mapped task. Parameters of Airflow's
        operators, such as `retries` or `pool`, apply to all tasks, `trigger_rule` to `plan` only, `outlets` to `ingest`
        and `report`
    :raises ValueError: if an argument without a template is invalid
    :raises TypeError: if an argument is unknown
    """

    def __init__(
        self,
        group_id: str = "ingest",
        *,
        staging_bucket: str,
        directory: str | None = None,
        table: str | None = None,
        rows: Any = None,
        bundle_key: str | None = None,
        max_task_files: int = 2000,
        max_task_bytes: int = 20 * GIB,
        max_failed: float = 0,
        collection_uuid: str | None = None,
        on_report: OnReport | None = None,
        partitioned: bool = False,
        **options: Any,
    ) -> None:
        reserved = sorted(set(options) & set(_RESERVED))
        if reserved:
            raise TypeError(f"DSSIngestTaskGroup does not accept {', '.join(reserved)}: its tasks set their own")
        if sum(given is not None for given in (directory, table, rows)) != 1:
            raise ValueError("give one of directory, table and rows")
        if partitioned and not AIRFLOW_V_3_2_PLUS:
            raise ValueError("partitioned needs Airflow 3.2 or newer")
        super().__init__(group_id=group_id)
        options["staging_bucket"] = staging_bucket
        trigger_rule = {"trigger_rule": options.pop("trigger_rule")} if "trigger_rule" in options else {}
        with self:
            plan = DSSPlanIngestOperator(
                task_id="plan",
                directory=directory,
                table=table,
                rows=rows,
                bundle_key=bundle_key,
                max_task_files=max_task_files,
                max_task_bytes=max_task_bytes,
                **{name: value for name, value in options.items() if name != "outlets"},
                **trigger_rule,
            )
            check_arguments(plan, "max_task_files", "max_task_bytes")
            ingest = DSSIngestOperator.partial(
                task_id="ingest",
                partitioned=partitioned,
                **{"map_index_template": "{{ task.unit['label'] }}", **options},
            ).expand(unit=plan.output)
            report = DSSReportIngestOperator(
                task_id="report",
                max_failed=max_failed,
                collection_uuid=collection_uuid,
                on_report=on_report,
                partitioned=partitioned,
                trigger_rule="all_done",
                **options,
            )
            [plan, ingest] >> report
        self.plan, self.ingest, self.report = plan, ingest, report

    @property
    def output(self) -> Any:
        """Output of the task `report`, such as `group.output["created"]`."""
        return self.report.output


class DSSPlanIngestOperator(DSSUploadDirectoryOperator):
    """Plan a batch and divide it into units of work; the first task of a `DSSIngestTaskGroup`.

    Returns a list of units; and as XCom `batch` the results of invalid directories, and the plans of divided ones.

    :param directory: Directory or prefix with the directories to upload. (templated)
    :param table: Table of directories. (templated)
    :param rows: List of directories. (templated)
    :param bundle_key: Template of the keys, rendered for each directory
    :param max_task_files: Maximum number of files of a unit
    :param max_task_bytes: Maximum size of a unit, in bytes
    """

    operator_extra_links = ()
    template_fields: Sequence[str] = (
        "table",
        "rows",
        *(name for name in DSSUploadDirectoryOperator.template_fields if name not in {"bundle_key", "bundle_uuid"}),
    )

    def __init__(
        self,
        *,
        directory: str | None,
        table: str | None,
        rows: Any,
        max_task_files: int,
        max_task_bytes: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(directory=directory or "", multiple_outputs=False, **kwargs)
        self.table = table
        self.rows = rows
        self.max_task_files = max_task_files
        self.max_task_bytes = max_task_bytes

    def execute(self, context: Context) -> list[dict[str, Any]]:  # type: ignore[override]  # a list
        """Plan the batch."""
        from airflow_provider_hca.upload.batch import check_keys, is_large, plan_batch

        with self._open_hook() as hook:
            stop = self._stop or threading.Event()
            rows = self._rows(context)
            check_keys(rows)
            version = run_version(context)
            reports: list[ValidationReport] = []
            check = self._metadata_check(reports)
            batch = plan_batch(rows, lambda row: check(self._plan_row(row, version)), stop=stop)
            self.log.info("%s", batch)
            ProgressReporter(context).all_validated(reports)
            for result in batch.invalid:
                self.log.warning("%s: %s", result.directory, result.cause)
            limits = {"max_files": self.max_task_files, "max_bytes": self.max_task_bytes}
            large = [one for one in batch.planned if is_large(one, **limits)]
            small = [one for one in batch.planned if not is_large(one, **limits)]
            failed, divided, units = self._divide(hook, large, version)
            units += self._pack(small, **limits, used=len(units))
        self.log.info("%s", count_text(len(units), "task", "tasks"))
        results = [result.as_json() for result in [*batch.invalid, *failed]]
        value = {"rows": [asdict(row) for row in rows], "results": results, "divided": divided}
        context["ti"].xcom_push(key=BATCH_KEY, value=value)
        return units

    @staticmethod
    def _pack(planned: Sequence[Planned], *, max_files: int, max_bytes: int, used: int) -> Iterator[dict[str, Any]]:
        """Yield units of small directories, as few as Airflow's limit requires beside the `used` ones."""
        from airflow_provider_hca.upload.batch import label_of, pack

        free = conf.getint("core", "max_map_length", fallback=1024) - used
        if free < 1:
            raise ValueError(
                f"{used:,} tasks for large directories exceed the limit of Airflow ([core] max_map_length): "
                "increase max_task_files or max_task_bytes"
            )
        for packed in pack(planned, max_files=max_files, max_bytes=max_bytes, max_units=free):
            rows = [replace(one.row, byte_count=one.byte_count) for one in packed]
            yield {"label": label_of(rows), "rows": [asdict(row) for row in rows]}

    def _rows(self, context: Context) -> list[Row]:
        from airflow_provider_hca.upload.batch import Row
        from airflow_provider_hca.upload.rows import directories_in, read_list, read_table
        from airflow_provider_hca.upload.sources.base import is_url

        location = self.table or self.directory
        access = self._access() if is_url(location) else None
        if self.table:
            found = read_table(self.table, access)
        elif self.rows is not None:
            if not isinstance(self.rows, Iterable) or isinstance(self.rows, str | Mapping):
                raise ValueError(f"rows must be a list of directories or dictionaries, got {self.rows!r:.200}")
            found = read_list(self.rows)
        else:
            found = directories_in(self.directory, self._options(), access)
        return [Row(fields["directory"], key) for fields, key in zip(found, self._keys(found, context), strict=True)]

    def _keys(self, rows: Sequence[Fields], context: Context) -> list[str]:
        if self.bundle_key is None:
            return [str(fields.get("bundle_key") or fields["directory"]) for fields in rows]
        environment = self.get_template_env()
        return [
            str(self.render_template(self.bundle_key, {**context, "row": fields}, environment))  # type: ignore[typeddict-unknown-key]
            for fields in rows
        ]

    def _plan_row(self, row: Row, version: str) -> Plan:
        from airflow_provider_hca.client.identifiers import bundle_uuid_of

        return self._plan_as(bundle_uuid_of(row.bundle_key), version, directory=row.directory)

    def _metadata_check(self, reports: list[ValidationReport]) -> Callable[[Plan], Plan]:
        """Return a function that validates the metadata of a plan if asked, adds its report, and returns the plan."""
        if not self.validate:
            return lambda plan: plan
        from airflow_provider_hca.validation.validator import validate

        schemas = self._schemas()

        def check(plan: Plan) -> Plan:
            report = validate(plan, schemas, missing_schemas=self.missing_schemas, stop=self._stop)
            reports.append(report)
            report.raise_errors()
            return plan

        return check

    def _divide(
        self, hook: DSSHook, large: Sequence[Planned], version: str
    ) -> tuple[list[BundleResult], list[dict[str, Any]], list[dict[str, Any]]]:
        """Compare large directories with their latest versions.

        :return: results of those that failed, records of the others for `report`, and the units of work
        """
        from airflow_provider_hca.upload.batch import BundleResult
        from airflow_provider_hca.upload.report import UploadReport
        from airflow_provider_hca.upload.shards import split_plan

        failed: list[BundleResult] = []
        divided: list[dict[str, Any]] = []
        units: list[dict[str, Any]] = []
        for row in (one.row for one in large):
            try:
                plan, changes = self._compare(hook, self._plan_row(row, version))
            except AirflowSkipException as error:
                failed.append(BundleResult.of_error(row, "skipped", error))
                continue
            except ValueError as error:
                failed.append(BundleResult.of_error(row, "failed", error))
                continue
            shards = split_plan(plan, max_files=self.max_task_files, max_bytes=self.max_task_bytes)
            numbers = range(len(units), len(units) + len(shards))
            units += [
                {"label": _part_label(row, shard), "directory": row.directory, "shard": shard.as_json()}
                for shard in shards
            ]
            planned = UploadReport.of_plan(plan, self.replica, changes).as_json()
            divided.append({"row": asdict(row), "planned": planned, "units": [*numbers]})
        return failed, divided, units


def _part_label(row: Row, shard: Shard) -> str:
    return row.name if shard.of == 1 else f"{row.name} ({shard.number} of {shard.of})"
