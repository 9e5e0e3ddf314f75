"""Operator that uploads a directory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_hca.client.identifiers import bundle_uuid_of
from airflow_provider_hca.links.dss import DSSBundleLink, show_bundle
from airflow_provider_hca.operators.base import identity
from airflow_provider_hca.operators.staging import DSSStagingOperator
from airflow_provider_hca.utils.identity import run_version, task_uuid
from airflow_provider_hca.utils.metadata import open_schemas
from airflow_provider_hca.utils.openlineage import Data, OpenLineageMixin
from airflow_provider_hca.utils.progress import ProgressReporter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.hooks.dss import DSSHook
    from airflow_provider_hca.upload.changes import Changes
    from airflow_provider_hca.upload.entries import Names
    from airflow_provider_hca.upload.options import Compare, Hidden, Symlinks
    from airflow_provider_hca.upload.plan import Plan
    from airflow_provider_hca.upload.report import UploadReport
    from airflow_provider_hca.upload.uploader import Uploader
    from airflow_provider_hca.validation.schemas import SchemaStore
    from airflow_provider_hca.validation.validator import MissingSchemas


IfUnchanged = Literal["succeed", "skip"]
IfNewerExists = Literal["fail", "skip"]


class DSSUploadDirectoryOperator(OpenLineageMixin, DSSStagingOperator):
    """Upload a directory as a bundle: stage its files with their checksums, register them, create the bundle.

    A retry resumes after the files that the previous try registered. All tries of a task create one bundle version, and
    each file once.

    With `bundle_key` or `bundle_uuid`, and after the DAG run was cleared, only what differs from the latest version of
    the bundle is uploaded: other files keep their UUID and version, files that the directory lacks are left out of the
    new version. If nothing differs, no version is created, and no asset event: the result is the latest version. What a
    failed run staged or registered is used if it has the same content.

    Returns, also as separate XComs such as `task.output["uuid"]`: `uuid`, `version`, `fqid`, `replica`, `file_count`,
    `byte_count`, `created` (whether this try created the bundle), and `statistics` of this try: `staged_file_count`,
    `staged_byte_count`, `skipped_file_count`, `registered_file_count`, `copied_file_count`, `retry_count`, `seconds` by
    phase, and `slowest_files`, pairs of name and seconds.

    Patterns are shell globs, matched against the path relative to the directory; `*` matches `/` too.

    :param directory: Directory on the worker, or `s3://bucket/prefix` or `gs://bucket/prefix` in the cloud of the
        replica; the bundle gets all files below it. Objects are copied to the staging bucket by the store; the worker
        reads only those without checksums in their tags or metadata. (templated)
    :param staging_bucket: Bucket to stage in, of S3 for `aws`, of Google Cloud Storage for `gcp`. (templated)
    :param replica: Replica to upload to, `aws` or `gcp`. (templated)
    :param staging_prefix: Prefix of the keys of staged objects. (templated)
    :param bundle_key: Name of the bundle, from which its UUID derives: the same in each DAG run, task and deployment.
        Projects that share a DSS need a prefix in it. (templated)
    :param bundle_uuid: UUID of the bundle; derived from `bundle_key`, or from DAG run, task and map index if None.
        (templated)
    :param bundle_version: Version of the bundle and its files, a DSS_VERSION; derived from the DAG run if None.
        (templated)
    :param include: Patterns of the files to upload. (templated)
    :param exclude: Patterns of files to exclude from those. (templated)
    :param hidden: `skip` or `include` files and directories whose names begin with a dot
    :param symlinks: `error` on symbolic links, `follow` or `skip` them
    :param indexed: Patterns of the files that the DSS indexes. (templated)
    :param content_types: Content types by pattern, such as `{"*.gz": "application/gzip; dcp-type=data"}`; guessed from
        the name otherwise. (templated)
    :param compare: `checksum` reads each file to compare it with the latest version of the bundle; `size-mtime`
        compares its size, and its modification time with the time of the version, so it misses files that were
        replaced by older ones of the same size
    :param if_unchanged: `succeed` or `skip` the task if the bundle needs no new version
    :param if_newer_exists: `fail` or `skip` the task if files differ and the bundle has a version that is not older
        than the one to create, for example after a backfill of an older date
    :param max_changed: Maximum number of files that may be added, changed or removed, as an integer, or as a float the
        share of the latest version's files; unlimited if None
    :param validate: Directory of JSON Schemas on the worker, or `s3://bucket/prefix` or `gs://bucket/prefix`, to
        validate the HCA metadata before anything is sent; invalid metadata fails the task, and the findings are the
        XCom `validation`. Needs the extra `validate`. No validation if None. (templated)
    :param missing_schemas: `error` or `warning` for documents whose schema version is not in `validate`
    :param max_workers: Maximum number of files in progress
    :param max_bytes_per_second: Maximum rate of sending to the bucket; unlimited if None
    :param max_requests_per_second: Maximum rate of requests to the DSS; unlimited if None
    :param delete_staged: Whether to delete what was staged for this version and earlier ones once the bundle exists
    :param copy_timeout: Time to wait for the asynchronous copies of the DSS (files above 64 MiB), in seconds or as a
        `timedelta`
    :param deferrable: Whether to wait in the triggerer; `[operators] default_deferrable` by default
    :param poll_interval: Time between two polls in the triggerer, in seconds or as a `timedelta`
    :param creator_uid: Creator of files and bundle; `creator_uid` of the connection if None. (templated)
    :param aws_conn_id: Airflow connection of type `aws` for S3; boto3's own credentials and endpoint if None.
        (templated)
    :param gcp_conn_id: Airflow connection of type `google_cloud_platform` for Google Cloud Storage; Google's own
        credentials if None. (templated)
    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
    """

    template_fields: Sequence[str] = (
        "directory",
        "staging_bucket",
        "replica",
        "staging_prefix",
        "bundle_key",
        "bundle_uuid",
        "bundle_version",
        "include",
        "exclude",
        "indexed",
        "content_types",
        "validate",
        "aws_conn_id",
        "gcp_conn_id",
        "creator_uid",
        *DSSStagingOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"content_types": "json"}
    operator_extra_links: Collection[Any] = (DSSBundleLink(),)

    def __init__(
        self,
        *,
        directory: str,
        staging_bucket: str,
        replica: str = "aws",
        staging_prefix: str | None = None,
        bundle_key: str | None = None,
        bundle_uuid: str | None = None,
        bundle_version: str | None = None,
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        hidden: Hidden = "skip",
        symlinks: Symlinks = "error",
        indexed: Sequence[str] = ("*.json",),
        content_types: Mapping[str, str] | None = None,
        compare: Compare = "checksum",
        if_unchanged: IfUnchanged = "succeed",
        if_newer_exists: IfNewerExists = "fail",
        max_changed: float | None = None,
        validate: str | None = None,
        missing_schemas: MissingSchemas = "error",
        max_workers: int = 64,
        max_bytes_per_second: float | None = None,
        max_requests_per_second: float | None = None,
        delete_staged: bool = False,
        copy_timeout: float | timedelta = 3600,
        aws_conn_id: str | None = None,
        gcp_conn_id: str | None = None,
        creator_uid: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.directory = directory
        self.staging_bucket = staging_bucket
        self.replica = replica
        self.staging_prefix = staging_prefix
        self.bundle_key = bundle_key
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.include = include
        self.exclude = exclude
        self.hidden = hidden
        self.symlinks = symlinks
        self.indexed = indexed
        self.content_types = content_types
        self.compare = compare
        self.if_unchanged = if_unchanged
        self.if_newer_exists = if_newer_exists
        self.max_changed = max_changed
        self.validate = validate
        self.missing_schemas = missing_schemas
        self.max_workers = max_workers
        self.max_bytes_per_second = max_bytes_per_second
        self.max_requests_per_second = max_requests_per_second
        self.delete_staged = delete_staged
        self.copy_timeout = copy_timeout
        self.aws_conn_id = aws_conn_id
        self.gcp_conn_id = gcp_conn_id
        self.creator_uid = creator_uid

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload the directory."""
        from airflow_provider_hca.upload.report import UploadReport

        progress = ProgressReporter(context)
        with self._open_hook() as hook, progress.reporting():
            plan = self._plan(context)
            self._show_bundle(context, hook, plan.bundle_uuid, plan.bundle_version)
            progress.planned(plan)
            self._validate(plan, progress)
            changes = None
            if self._is_compared(context):
                progress.comparing()
                new_version = plan.bundle_version
                plan, changes = self._compare(hook, plan)
                if plan.bundle_version != new_version:
                    unchanged = UploadReport.of_plan(plan, self.replica, changes)
                    return self._unchanged(context, hook, unchanged, progress)
            uploader = self._uploader(hook, progress)  # late, since the SDK of the cloud takes 0.4 s to open the bucket
            plan, report = self._register(context, uploader, plan, progress, changes)
            report = uploader.finish(plan, report)
            progress.done(report)
            return self._result(context, hook, report)

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Create the bundle after the wait in the triggerer.

        The directory is planned again, so it has to exist, but its files are not read again.
        """
        from airflow_provider_hca.upload.changes import restore_kept

        progress = ProgressReporter(context)
        with self._open_hook() as hook, progress.reporting("copy"):
            registered = self._registered(event)
            # Under the same name: clearing another task of the run meanwhile gives the run another version.
            plan = self._plan_as(registered.uuid, registered.version)
            progress.planned(plan)
            uploader = self._uploader(hook, progress)
            get_base = self._base(hook, plan.bundle_uuid, registered.base)
            plan = restore_kept(plan, registered.base, registered.kept, get_base)
            report = uploader.finish(plan, registered)
            progress.done(report)
            return self._result(context, hook, report)

    def _validate(self, plan: Plan, progress: ProgressReporter) -> None:
        """Validate the metadata if asked, report the findings, and raise if there are errors."""
        if self.validate:
            from airflow_provider_hca.validation.validator import validate

            report = validate(plan, self._schemas(), missing_schemas=self.missing_schemas, stop=self._stop)
            progress.validated(report)
            report.raise_errors()

    def _schemas(self) -> SchemaStore:
        assert self.validate is not None, "only used if it is given"  # noqa: S101 - for the type checker
        return open_schemas(self.validate, aws_conn_id=self.aws_conn_id, gcp_conn_id=self.gcp_conn_id)

    def _show_bundle(self, context: Context, hook: DSSHook, uuid: str, version: str) -> None:
        name = self.bundle_key or self.directory
        show_bundle(context, hook, replica=self.replica, uuid=uuid, version=version, name=name)

    def _is_compared(self, context: Context) -> bool:
        """Return whether the bundle can have an earlier version."""
        return bool(self.bundle_key or self.bundle_uuid or context["dag_run"].clear_number)

    def _compare(self, hook: DSSHook, plan: Plan) -> tuple[Plan, Changes]:
        """Compare a plan with the latest version; return that of the latest version if it has all files.

        :raises ValueError: if more files changed than `max_changed` allows, or the latest version is not older
        :raises AirflowSkipException: if the latest version is not older, and `if_newer_exists` is `skip`
        """
        from airflow_provider_hca.upload.changes import NewerVersionError, check_max_changed, check_newer, compare

        plan, changes = compare(plan, hook.api, hook.get_conn().transport, self._options())
        try:
            check_newer(plan, changes)
        except NewerVersionError as error:
            if self.if_newer_exists == "skip":
                raise AirflowSkipException(str(error)) from None
            raise
        check_max_changed(changes, self.max_changed)
        if changes.version is not None and not changes.count:
            plan = replace(plan, bundle_version=changes.version)
        return plan, changes

    def _unchanged(
        self, context: Context, hook: DSSHook, report: UploadReport, progress: ProgressReporter
    ) -> dict[str, Any]:
        """Return the result for a bundle that needs no new version, without asset events."""
        self._show_bundle(context, hook, report.uuid, report.version)
        progress.done(report)
        if self.if_unchanged == "skip":
            raise AirflowSkipException(f"bundle {report.uuid}.{report.version} has all files already")
        self.outlets = []  # Airflow would send an event for each
        self._report_lineage([self._source(report)])
        return self._as_dictionary(report)

    def _source(self, report: UploadReport) -> Data:
        return Data.source(self.directory, files=report.file_count, size=report.byte_count)

    @staticmethod
    def _as_dictionary(report: UploadReport) -> dict[str, Any]:
        return {
            **identity(report.uuid, report.version, report.replica),
            "file_count": report.file_count,
            "byte_count": report.byte_count,
            "created": report.created,
            "statistics": report.statistics(),
        }

    def _result(self, context: Context, hook: DSSHook, report: UploadReport) -> dict[str, Any]:
        result = self._as_dictionary(report)
        self._report_bundle(context, hook.api.url, result, [self._source(report)])
        return result

    def _register(
        self,
        context: Context,
        uploader: Uploader,
        plan: Plan,
        progress: ProgressReporter,
        changes: Changes | None = None,
    ) -> tuple[Plan, UploadReport]:
        """Register all files of a plan, and wait until the DSS has copied them, in the worker or in the triggerer."""
        plan, report = uploader.register(plan, resume=context["ti"].try_number > 1, changes=changes)
        self._await_copies(uploader, plan, report, progress)
        return plan, report

    def check_choices(self) -> None:
        """Raise a ValueError if an argument is not one of its choices."""
        from airflow_provider_hca.upload.options import check_choice

        check_choice("if_unchanged", self.if_unchanged, get_args(IfUnchanged))
        check_choice("if_newer_exists", self.if_newer_exists, get_args(IfNewerExists))

    def _plan(self, context: Context, task_id: str | None = None) -> Plan:
        self.check_choices()
        if self.bundle_key is not None and self.bundle_uuid is not None:
            raise ValueError("bundle_key and bundle_uuid exclude each other: the UUID derives from the key")
        uuid = self.bundle_uuid if self.bundle_key is None else bundle_uuid_of(self.bundle_key)
        return self._plan_as(uuid or task_uuid(context, task_id=task_id), self.bundle_version or run_version(context))

    def _plan_as(
        self, bundle_uuid: str, bundle_version: str, *, names: Names | None = None, directory: str | None = None
    ) -> Plan:
        directory = self.directory if directory is None else directory
        return self._plan_files(directory, bundle_uuid, bundle_version, names=names)
