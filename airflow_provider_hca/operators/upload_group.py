"""A directory becomes a bundle by many workers: tasks plan, register shards, and put it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import TaskGroup, conf

from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.links.dss import show_bundle
from airflow_provider_hca.operators.base import integer, mappings, seconds
from airflow_provider_hca.operators.upload import DSSUploadDirectoryOperator
from airflow_provider_hca.utils.fail_fast import fail_fast
from airflow_provider_hca.utils.identity import run_version, task_uuid
from airflow_provider_hca.utils.openlineage import Data
from airflow_provider_hca.utils.progress import ProgressReporter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.upload.plan import Plan

GIB = 1024**3
_OWN = ("task_id", "task_group", "dag", "do_xcom_push", "multiple_outputs", "shard", "shards", "registered")


class DSSUploadGroup(TaskGroup):
    """The tasks that `dss_upload_group` makes."""

    @property
    def output(self) -> Any:
        """What the bundle's task returns: `group.output["uuid"]`, as of a `DSSUploadDirectoryOperator`."""
        return self.children[f"{self.group_id}.bundle"].output  # type: ignore[attr-defined]  # it is a task


def dss_upload_group(
    group_id: str = "upload",
    *,
    directory: str,
    staging_bucket: str,
    max_shard_files: int = 2000,
    max_shard_bytes: int = 20 * GIB,
    **options: Any,
) -> DSSUploadGroup:
    """Upload a directory as a bundle with many workers; return the task group that does it.

    The group has three tasks:

    - `plan` walks the directory and cuts it into shards, which are ranges of names
    - `shard`, mapped over them, stages and registers the files of one and waits for the DSS's copies of them
    - `bundle` puts the bundle of all, and returns what `DSSUploadDirectoryOperator` returns, and `shard_count`

    The bundle is, byte for byte, the one that a `DSSUploadDirectoryOperator` makes whose `task_id` is this group's id:
    the same uuids, versions, order. Each shard is retried alone and goes on where its last try stopped. The names are
    given by `plan`: clearing a shard leaves them as they are, clearing the run or `plan` makes a new version.

    Every worker has to see the directory under the same path, with the same modification times: on a shared file
    system, or as a prefix of a bucket. A file that comes, goes or changes after it was planned is an error. Nothing but
    the ranges and counts goes through XCom. Airflow maps no task inside of a mapped task group, so this cannot be in
    one.

    :param group_id: of the task group
    :param directory: on all workers, or `s3://bucket/prefix` or `gs://bucket/prefix`; the files in it and below it
        become the bundle (templated)
    :param staging_bucket: bucket to stage in (templated)
    :param max_shard_files: in a shard
    :param max_shard_bytes: in a shard; a larger file has one to itself
    :param options: all other parameters of `DSSUploadDirectoryOperator`, the same of them templated, of which
        `max_workers`, `max_bytes_per_second` and `max_requests_per_second` hold for each shard; and those of Airflow's
        operators, such as `retries` or `pool`, for all tasks of the group, but `outlets` for `bundle` alone
    :raises ValueError: when an argument that holds no template is not well-formed
    :raises TypeError: when there is no such argument
    """
    own = sorted(set(options) & set(_OWN))
    if own:
        raise TypeError(f"dss_upload_group() takes no {', '.join(own)}: the tasks of the group have their own")
    options.update(directory=directory, staging_bucket=staging_bucket)
    outlets = options.pop("outlets", None)  # else each shard would start the DAGs that wait for the bundle
    group = DSSUploadGroup(group_id=group_id)
    with group:
        plan = DSSPlanUploadOperator(
            task_id="plan", max_shard_files=max_shard_files, max_shard_bytes=max_shard_bytes, **options
        )
        _check(plan)
        shard = DSSUploadShardOperator.partial(
            task_id="shard", **{"map_index_template": _SHARD_NAME, **options}
        ).expand(shard=plan.output)
        DSSUploadShardsBundleOperator(
            task_id="bundle", shards=plan.output, registered=shard.output, outlets=outlets, **options
        )
    return group


_SHARD_NAME = "{{ task.shard['number'] }} of {{ task.shard['of'] }}"


class DSSPlanUploadOperator(DSSUploadDirectoryOperator):
    """Plan the upload of a directory, and cut it into shards; the first task of a `dss_upload_group`.

    Returns a list of the shards: for each the bundle's name, its range of names, counts and a digest. Nothing is sent
    to the DSS or to the bucket.

    :param max_shard_files: in a shard
    :param max_shard_bytes: in a shard; a larger file has one to itself
    """

    def __init__(self, *, max_shard_files: int, max_shard_bytes: int, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=False, **kwargs)
        self.max_shard_files = max_shard_files
        self.max_shard_bytes = max_shard_bytes

    def execute(self, context: Context) -> list[dict[str, Any]]:  # type: ignore[override]  # several things
        """Return the shards."""
        from airflow_provider_hca.upload.shards import cut

        with fail_fast():
            # Named as an operator in place of the group would name it.
            uuid = self.bundle_uuid or task_uuid(context, task_id=self.task_id.rpartition(".")[0])
            plan = self._plan_as(uuid, self.bundle_version or run_version(context))
            shards = cut(plan, most_files=self.max_shard_files, most_bytes=self.max_shard_bytes)
            _check_count(len(shards))
        self._report_lineage([Data.source(self.directory, files=len(plan.files), size=plan.size)])
        self.log.info("%d files, %d bytes, in %d shards", len(plan.files), plan.size, len(shards))
        return [shard.as_json() for shard in shards]


class DSSUploadShardOperator(DSSUploadDirectoryOperator):
    """Stage and register the files of a shard; the mapped task of a `dss_upload_group`.

    Returns what was done, without the files.

    :param shard: what `DSSPlanUploadOperator` returns for it
    """

    def __init__(self, *, shard: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(multiple_outputs=False, **kwargs)
        self.shard = shard

    def execute(self, context: Context) -> dict[str, Any]:
        """Register the files, unless the directory has changed; return what was done."""
        progress = ProgressReporter(context).of_shard(self.shard)
        with self._running(pool_size=self.max_workers) as (hook, creator_uid), progress.telling():
            plan = self._plan(context)
            show_bundle(context, hook, replica=self.replica, uuid=plan.bundle_uuid, version=plan.bundle_version)
            registered = self._register(context, self._uploader(hook, creator_uid, progress), plan, progress)
            progress.done(registered)
        return self._told(context, registered.without_copies())

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Take up the task after the DSS has copied what it copies later: there is nothing left to do."""
        progress = ProgressReporter(context).of_shard(self.shard)
        with fail_fast(), progress.telling("copy"):
            registered, _ = self._registered(event)
            progress.done(registered)
        return self._told(context, registered.without_copies())

    def _told(self, context: Context, done: dict[str, Any]) -> dict[str, Any]:
        files, size = self.shard["file_count"], self.shard["byte_count"]
        self._report_lineage([Data.source(self.directory, files=files, size=size)])
        return {"tries": context["ti"].try_number, **done}

    def _plan(self, context: Context) -> Plan:  # noqa: ARG002 - the names are in the shard
        from airflow_provider_hca.upload.shards import Shard

        shard = Shard.of_json(self.shard)
        with _planned_before():
            plan = self._plan_as(shard.bundle_uuid, shard.bundle_version, names=shard.names)
        shard.check(plan, self.directory)
        return plan


class DSSUploadShardsBundleOperator(DSSUploadDirectoryOperator):
    """Put the bundle of all shards; the last task of a `dss_upload_group`.

    Returns what `DSSUploadDirectoryOperator` returns, added up over the last tries of all shards, and `shard_count`.

    :param shards: what `DSSPlanUploadOperator` returns (templated)
    :param registered: what `DSSUploadShardOperator` returns, for all of them (templated)
    """

    template_fields: Sequence[str] = ("shards", "registered", *DSSUploadDirectoryOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "shards": "json",
        "registered": "json",
        **DSSUploadDirectoryOperator.template_fields_renderers,
    }

    def __init__(self, *, shards: Any, registered: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shards = shards
        self.registered = registered

    def execute(self, context: Context) -> dict[str, Any]:
        """Put the bundle, unless the directory has changed; return what it is called and what was done."""
        from airflow_provider_hca.upload.report import Registered
        from airflow_provider_hca.upload.shards import Shard, join

        progress = ProgressReporter(context)
        with self._running(pool_size=self.max_workers) as (hook, creator_uid), progress.telling("bundle"):
            shards = [Shard.of_json(each) for each in mappings("shards", self.shards)]
            done = [dict(each) for each in mappings("registered", self.registered)]
            tries = [each.pop("tries") for each in done]
            with _planned_before():
                plan = self._plan_as(shards[0].bundle_uuid, shards[0].bundle_version)
            registered = join(plan, shards, [Registered(copying=(), **each) for each in done], self.directory)
            show_bundle(context, hook, replica=self.replica, uuid=plan.bundle_uuid, version=plan.bundle_version)
            progress.planned(plan)
            uploader = self._uploader(hook, creator_uid, progress)
            if tries and max(tries) > 1:
                uploader.abort_multipart_uploads(plan)
            report = uploader.finish(plan, registered)
            progress.done(report)
            return {**self._made(context, hook, report), "shard_count": len(shards)}


@contextmanager
def _planned_before() -> Iterator[None]:
    """Have what is wrong with a directory tried again: `plan` has seen it whole, maybe on another worker."""
    try:
        yield
    except InvalidDirectoryError as error:
        raise InvalidDirectoryError(error.directory, error.offenders, permanent=False) from None


def _check_count(shards: int) -> None:
    most = conf.getint("core", "max_map_length", fallback=1024)
    if shards > most:
        raise ValueError(
            f"{shards:,} shards are more than Airflow maps ([core] max_map_length is {most:,}): give a larger "
            "max_shard_files or max_shard_bytes"
        )


def _check(task: DSSPlanUploadOperator) -> None:
    """Raise for what is wrong already when the DAG is parsed; a template is looked at when it is rendered."""
    from airflow_provider_hca.client.identifiers import check_uuid, check_version
    from airflow_provider_hca.client.models import check_replica
    from airflow_provider_hca.client.rate_limit import RateLimiter
    from airflow_provider_hca.upload.plan import check_options
    from airflow_provider_hca.upload.staging import check_bucket

    for name in ("max_shard_files", "max_shard_bytes", "max_workers"):
        value = getattr(task, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    seconds("copy_timeout", task.copy_timeout)
    for rate in (task.max_bytes_per_second, task.max_requests_per_second):
        RateLimiter(rate)
    literal = {name: value for name in task.template_fields if _is_literal(value := getattr(task, name))}
    check_options(
        hidden=task.hidden,
        symlinks=task.symlinks,
        **{name: literal[name] for name in ("include", "exclude", "indexed", "content_types") if name in literal},
    )
    checks: dict[str, Any] = {
        "replica": check_replica,
        "staging_bucket": check_bucket,
        "bundle_uuid": lambda value: value and check_uuid(value, "bundle_uuid"),
        "bundle_version": lambda value: value and check_version(value, "bundle_version"),
        "creator_uid": lambda value: value is None or integer("creator_uid", value),
    }
    for name, check in checks.items():
        if name in literal:
            check(literal[name])
    if {"directory", "replica", "staging_bucket", "staging_prefix"} <= set(literal):
        task.check_directory()


def _is_literal(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    if isinstance(value, Mapping):
        return all(_is_literal(each) for pair in value.items() for each in pair)
    if isinstance(value, Sequence):
        return all(_is_literal(each) for each in value)
    return value is None or isinstance(value, int | float)
