"""Task group that uploads a directory with many workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import TaskGroup, conf

from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.operators.upload import DSSUploadDirectoryOperator
from airflow_provider_hca.units import amount, count_text
from airflow_provider_hca.utils.fail_fast import fail_fast
from airflow_provider_hca.utils.openlineage import Data
from airflow_provider_hca.utils.progress import ProgressReporter
from airflow_provider_hca.utils.validation import integer, mappings, seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.hooks.dss import DSSHook
    from airflow_provider_hca.upload.plan import Plan
    from airflow_provider_hca.upload.report import UploadReport

GIB = 1024**3
PLANNED_KEY = "planned"  # key of the XCom
_RESERVED = (
    *("task_id", "task_group", "dag", "do_xcom_push", "multiple_outputs"),
    *(PLANNED_KEY, "shard", "shards", "registered"),
)
_SHARD_NAME = "{{ task.shard['number'] }} of {{ task.shard['of'] }}"


class DSSUploadTaskGroup(TaskGroup):
    """Upload a directory as a bundle with many workers.

    The group has three tasks:

    - `plan` lists the directory, validates its metadata if asked, compares it with the latest version of a bundle that
      has a key or UUID, and divides what differs into shards, which are ranges of names
    - `shard`, mapped over the shards, stages and registers the files of one, and waits for their asynchronous copies
    - `bundle` creates the bundle of all files; it returns the result of `DSSUploadDirectoryOperator`, with
      `shard_count` among the `statistics`

    The bundle is identical to that of a `DSSUploadDirectoryOperator` whose `task_id` is the id of this group: the same
    UUIDs, versions and order. Each shard is retried separately and resumes. `plan` determines the names: clearing a
    shard keeps them, clearing the run or `plan` creates a new version.

    All workers have to see the directory under the same path and with the same modification times: on a shared file
    system, or as a prefix of a bucket. Changes to the directory after `plan` are errors. XComs hold only ranges and
    counts. Airflow does not support mapping inside a mapped task group, so this group cannot be mapped.

    The tasks are the attributes `plan`, `shard` and `bundle`, for further dependencies such as an approval.

    :param group_id: Id of the task group
    :param directory: Directory on all workers, or `s3://bucket/prefix` or `gs://bucket/prefix`; the bundle gets all
        files below it. (templated)
    :param staging_bucket: Bucket to stage in. (templated)
    :param max_shard_files: Maximum number of files in a shard
    :param max_shard_bytes: Maximum size of a shard, in bytes; a larger file gets a shard of its own
    :param options: All other parameters of `DSSUploadDirectoryOperator`, templated as there; `max_workers`,
        `max_bytes_per_second` and `max_requests_per_second` apply to each shard. Parameters of Airflow's operators,
        such as `retries` or `pool`, apply to all tasks, `trigger_rule` to `plan` only, `outlets` to `bundle` only
    :raises ValueError: if an argument without a template is invalid
    :raises TypeError: if an argument is unknown
    """

    def __init__(
        self,
        group_id: str = "upload",
        *,
        directory: str,
        staging_bucket: str,
        max_shard_files: int = 2000,
        max_shard_bytes: int = 20 * GIB,
        **options: Any,
    ) -> None:
        reserved = sorted(set(options) & set(_RESERVED))
        if reserved:
            raise TypeError(f"DSSUploadTaskGroup does not accept {', '.join(reserved)}: its tasks set their own")
        super().__init__(group_id=group_id)
        options.update(directory=directory, staging_bucket=staging_bucket)
        outlets = options.pop("outlets", None)  # of every shard, they would start the DAGs that wait for the bundle
        with self:
            plan = DSSPlanUploadOperator(
                task_id="plan", max_shard_files=max_shard_files, max_shard_bytes=max_shard_bytes, **options
            )
            check_arguments(plan, "max_shard_files", "max_shard_bytes")
            options.pop("trigger_rule", None)
            shard = DSSUploadShardOperator.partial(
                task_id="shard", **{"map_index_template": _SHARD_NAME, **options}
            ).expand(shard=plan.output)
            bundle = DSSUploadShardsBundleOperator(
                task_id="bundle",
                planned=plan.output[PLANNED_KEY],  # type: ignore[index]  # an XComArg of one task
                shards=plan.output,
                registered=shard.output,
                outlets=outlets,
                # Airflow skips `shard` if there are no shards, because the DSS has all files.
                trigger_rule="none_failed_min_one_success",
                **options,
            )
        self.plan, self.shard, self.bundle = plan, shard, bundle

    @property
    def output(self) -> Any:
        """Output of the task `bundle`, such as `group.output["uuid"]`."""
        return self.bundle.output


class DSSPlanUploadOperator(DSSUploadDirectoryOperator):
    """Plan the upload of a directory and divide it into shards; the first task of a `DSSUploadTaskGroup`.

    Returns a list of shards, each with the name of the bundle, a range of names, counts and a digest; and as XCom
    `planned` the report of the upload before its begin. Writes nothing to the DSS or the bucket.

    :param max_shard_files: Maximum number of files in a shard
    :param max_shard_bytes: Maximum size of a shard, in bytes; a larger file gets a shard of its own
    """

    def __init__(self, *, max_shard_files: int, max_shard_bytes: int, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=False, **kwargs)
        self.max_shard_files = max_shard_files
        self.max_shard_bytes = max_shard_bytes

    def execute(self, context: Context) -> list[dict[str, Any]]:  # type: ignore[override]  # a list
        """Plan the upload."""
        from airflow_provider_hca.upload.report import UploadReport
        from airflow_provider_hca.upload.shards import split_plan

        with self._open_hook() as hook:
            # Named as by an operator whose task_id is the id of the group.
            plan, changes = self._plan(context, task_id=self.task_id.rpartition(".")[0]), None
            self._validate(plan, ProgressReporter(context))
            if self._is_compared(context):
                self.log.info("comparing with the latest version of bundle %s", plan.bundle_uuid)
                plan, changes = self._compare(hook, plan)
            shards = split_plan(plan, max_files=self.max_shard_files, max_bytes=self.max_shard_bytes)
            _check_count(len(shards))
        self._report_lineage([Data.source(self.directory, files=len(plan.files), size=plan.size)])
        self.log.info("%s, in %s", amount(len(plan.files), plan.size), count_text(len(shards), "shard", "shards"))
        planned = UploadReport.of_plan(plan, self.replica, changes)
        context["ti"].xcom_push(key=PLANNED_KEY, value=planned.as_json())
        return [shard.as_json() for shard in shards]


class DSSUploadShardOperator(DSSUploadDirectoryOperator):
    """Stage and register the files of a shard; the mapped task of a `DSSUploadTaskGroup`.

    Returns the statistics of the shard.

    :param shard: Shard, an item of the output of `DSSPlanUploadOperator`
    """

    def __init__(self, *, shard: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(multiple_outputs=False, **kwargs)
        self.shard = shard

    def execute(self, context: Context) -> dict[str, Any]:
        """Register the files, unless the directory has changed."""
        progress = ProgressReporter(context).for_shard(self.shard)
        with self._open_hook() as hook, progress.reporting():
            plan = self._plan_shard(hook)
            self._show_bundle(context, hook, plan.bundle_uuid, plan.bundle_version)
            _, registered = self._register(context, self._uploader(hook, progress), plan, progress)
            progress.done(registered)
        return self._complete(context, registered.as_json())

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Return the statistics after the wait in the triggerer."""
        progress = ProgressReporter(context).for_shard(self.shard)
        with fail_fast(), progress.reporting("copy"):
            registered = self._registered(event)
            progress.done(registered)
        return self._complete(context, registered.as_json())

    def _complete(self, context: Context, registered: dict[str, Any]) -> dict[str, Any]:
        files, size = self.shard["file_count"], self.shard["byte_count"]
        self._report_lineage([Data.source(self.directory, files=files, size=size)])
        return {"tries": context["ti"].try_number, **registered}

    def _plan_shard(self, hook: DSSHook) -> Plan:
        from airflow_provider_hca.upload.changes import restore_kept
        from airflow_provider_hca.upload.shards import Shard

        shard = Shard.from_json(self.shard)
        with _retry_invalid_directory():
            plan = self._plan_as(shard.bundle_uuid, shard.bundle_version, names=shard.names)
        plan = restore_kept(plan, shard.base, shard.kept, self._base(hook, shard.bundle_uuid, shard.base))
        shard.check(plan, self.directory)
        return plan


class DSSUploadShardsBundleOperator(DSSUploadDirectoryOperator):
    """Create the bundle of all shards; the last task of a `DSSUploadTaskGroup`.

    Returns the result of `DSSUploadDirectoryOperator`. The `statistics` are sums over the last tries of all shards, and
    include `shard_count`.

    :param planned: XCom `planned` of `DSSPlanUploadOperator`. (templated)
    :param shards: Output of `DSSPlanUploadOperator`. (templated)
    :param registered: Outputs of all `DSSUploadShardOperator` tasks. (templated)
    """

    template_fields: Sequence[str] = ("planned", "shards", "registered", *DSSUploadDirectoryOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "planned": "json",
        "shards": "json",
        "registered": "json",
        **DSSUploadDirectoryOperator.template_fields_renderers,
    }

    def __init__(self, *, planned: Any, shards: Any, registered: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planned = planned
        self.shards = shards
        self.registered = registered

    def execute(self, context: Context) -> dict[str, Any]:
        """Create the bundle, unless the directory has changed."""
        from airflow_provider_hca.upload.report import UploadReport

        progress = ProgressReporter(context)
        with self._open_hook() as hook, progress.reporting("bundle"):
            planned = UploadReport.from_json(self.planned)
            if planned.version == planned.base:
                return self._unchanged(context, hook, planned, progress)
            self._show_bundle(context, hook, planned.uuid, planned.version)
            shards, registered = mappings("shards", self.shards), mappings("registered", self.registered or ())
            report = self._put_bundle(hook, planned, shards, registered, progress)
            progress.done(report, with_rate=False)
            result = self._result(context, hook, report)
            result["statistics"]["shard_count"] = len(shards)
            return result

    def _put_bundle(
        self,
        hook: DSSHook,
        planned: UploadReport,
        shards: Sequence[Mapping[str, Any]],
        registered: Sequence[Mapping[str, Any]],
        progress: ProgressReporter | None = None,
    ) -> UploadReport:
        from airflow_provider_hca.upload.report import UploadReport
        from airflow_provider_hca.upload.shards import Shard, join_shards

        outputs = [dict(output) for output in registered]
        tries = [output.pop("tries") for output in outputs]
        with _retry_invalid_directory():
            plan = self._plan_as(planned.uuid, planned.version)
        plan, report = join_shards(
            plan,
            planned,
            [Shard.from_json(shard) for shard in shards],
            [UploadReport.from_json(output) for output in outputs],
            self.directory,
            self._base(hook, planned.uuid, planned.base),
        )
        if progress is not None:
            progress.planned(plan)
        uploader = self._uploader(hook, progress)
        if tries and max(tries) > 1:
            uploader.abort_multipart_uploads(plan)
        return uploader.finish(plan, report)


@contextmanager
def _retry_invalid_directory() -> Iterator[None]:
    """Make errors of the directory temporary: `plan` has read all of it, possibly on another worker."""
    try:
        yield
    except InvalidDirectoryError as error:
        raise InvalidDirectoryError(error.directory, error.offenders, permanent=False) from None


def _check_count(shards: int) -> None:
    limit = conf.getint("core", "max_map_length", fallback=1024)
    if shards > limit:
        raise ValueError(
            f"{shards:,} shards exceed the limit of Airflow ([core] max_map_length is {limit:,}): increase "
            "max_shard_files or max_shard_bytes"
        )


def check_arguments(task: DSSUploadDirectoryOperator, *limits: str) -> None:
    """Raise for invalid arguments when the DAG is parsed; those with templates are checked when they are rendered.

    :param task: Task with the arguments
    :param limits: Names of those that are integers of at least 1
    """
    from airflow_provider_hca.upload.options import UploadOptions

    for name in limits:
        value = getattr(task, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    task.check_choices()
    seconds("copy_timeout", task.copy_timeout)
    names = [field.name for field in fields(UploadOptions) if field.name != "copy_timeout"]
    UploadOptions(**{name: value for name in names if _is_literal(value := getattr(task, name))})
    _check_literals(task, {name: value for name in task.template_fields if _is_literal(value := getattr(task, name))})


def _check_literals(task: DSSUploadDirectoryOperator, literal: Mapping[str, Any]) -> None:
    from airflow_provider_hca.client.identifiers import check_uuid, check_version
    from airflow_provider_hca.upload.staging import check_bucket

    if "staging_bucket" in literal:
        check_bucket(literal["staging_bucket"])
    if literal.get("bundle_uuid"):
        check_uuid(literal["bundle_uuid"], "bundle_uuid")
    if literal.get("bundle_version"):
        check_version(literal["bundle_version"], "bundle_version")
    if literal.get("creator_uid") is not None:
        integer("creator_uid", literal["creator_uid"])
    if task.directory and {"directory", "replica", "staging_bucket", "staging_prefix"} <= set(literal):
        task.check_directory(task.directory)


def _is_literal(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    if isinstance(value, Mapping):
        return all(_is_literal(item) for pair in value.items() for item in pair)
    if isinstance(value, Sequence):
        return all(_is_literal(item) for item in value)
    return value is None or isinstance(value, int | float)
