"""The operator that uploads a directory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_hca.exceptions import DSSWaitError
from airflow_provider_hca.links.dss import DSSBundleLink, show_bundle
from airflow_provider_hca.operators.base import DSSOperator, DSSWaitingOperator, seconds
from airflow_provider_hca.triggers.dss import wait_result
from airflow_provider_hca.utils.identity import run_version, task_uuid
from airflow_provider_hca.utils.openlineage import Data, OpenLineageMixin
from airflow_provider_hca.utils.progress import ProgressReporter

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.hooks.dss import DSSHook
    from airflow_provider_hca.upload.access import GCSAccess, S3Access
    from airflow_provider_hca.upload.entries import Names
    from airflow_provider_hca.upload.plan import Plan
    from airflow_provider_hca.upload.report import Registered, UploadReport
    from airflow_provider_hca.upload.sources.local import Hidden, Symlinks
    from airflow_provider_hca.upload.uploader import Uploader


class DSSUploadDirectoryOperator(OpenLineageMixin, DSSWaitingOperator):
    """Upload a directory as a bundle: stage its files with their checksums, register them, put the bundle.

    A retry finds what the try before registered and goes on from there; however often a task is tried, it makes one
    bundle version, and each file once. A cleared DAG run makes a new version of the same bundle.

    Returns, also as an XCom each, so that `task.output["uuid"]` is the bundle's uuid: `uuid`, `version`, `fqid`,
    `replica`, `file_count`, `byte_count`, `created` (whether this try made the bundle), and what this try did:
    `staged_file_count`, `staged_byte_count`, `skipped_file_count`, `registered_file_count`, `copied_file_count`,
    `retry_count`, `seconds` (by phase) and `slowest_files` (pairs of name and seconds).

    Patterns are shell globs, matched with the path relative to the directory; `*` matches `/` too.

    :param directory: on the worker, or `s3://bucket/prefix` or `gs://bucket/prefix` in the cloud of the replica; the
        files in it and below it become the bundle. Objects are copied to the staging bucket by the store itself; the
        worker reads only those that have not got their checksums in their tags or metadata (templated)
    :param staging_bucket: bucket to stage in, of S3 for `aws`, of Google Cloud Storage for `gcp` (templated)
    :param replica: `aws` or `gcp` (templated)
    :param staging_prefix: of the staged objects' keys (templated)
    :param bundle_uuid: of the bundle; if None it derives from DAG run, task and map index (templated)
    :param bundle_version: of the bundle and its files, a DSS_VERSION; if None it derives from the run (templated)
    :param include: patterns of the files to take (templated)
    :param exclude: patterns of the files to leave out of those (templated)
    :param hidden: `skip` leaves out files and directories whose names begin with a dot, `include` takes them
    :param symlinks: whether a symbolic link is an `error`, to `follow`, or to `skip`
    :param indexed: patterns of the files that the DSS is to index (templated)
    :param content_types: content types by pattern, as in `{"*.gz": "application/gzip; dcp-type=data"}`; others are
        guessed from the name (templated)
    :param max_workers: files under way at once, at most; there are as many as make it faster
    :param max_bytes_per_second: how much is sent to the bucket at most; without limit if None
    :param max_requests_per_second: how often the DSS is asked at most; without limit if None
    :param delete_staged: whether to remove from the bucket what was staged, and nothing else, once the bundle is there
    :param copy_timeout: how long to wait for the DSS's asynchronous copies (files above 64 MiB), in seconds or as a
        `timedelta`
    :param deferrable: whether to wait for them in the triggerer, so that no worker slot is held; by default as
        Airflow's `[operators] default_deferrable` says
    :param poll_interval: between two looks there, in seconds or as a `timedelta`
    :param creator_uid: who creates all of it; the connection's `creator_uid` if None (templated)
    :param aws_conn_id: the Airflow connection of type `aws` for a bucket of S3; boto3's own credentials and endpoint if
        None (templated)
    :param gcp_conn_id: the Airflow connection of type `google_cloud_platform` for a bucket of Google Cloud Storage;
        Google's own credentials if None (templated)
    :param dss_conn_id: the Airflow connection (templated)
    """

    template_fields: Sequence[str] = (
        "directory",
        "staging_bucket",
        "replica",
        "staging_prefix",
        "bundle_uuid",
        "bundle_version",
        "include",
        "exclude",
        "indexed",
        "content_types",
        "aws_conn_id",
        "gcp_conn_id",
        *DSSOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"content_types": "json"}
    operator_extra_links = (DSSBundleLink(),)

    def __init__(
        self,
        *,
        directory: str,
        staging_bucket: str,
        replica: str = "aws",
        staging_prefix: str | None = None,
        bundle_uuid: str | None = None,
        bundle_version: str | None = None,
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        hidden: Hidden = "skip",
        symlinks: Symlinks = "error",
        indexed: Sequence[str] = ("*.json",),
        content_types: Mapping[str, str] | None = None,
        max_workers: int = 64,
        max_bytes_per_second: float | None = None,
        max_requests_per_second: float | None = None,
        delete_staged: bool = False,
        copy_timeout: float | timedelta = 3600,
        aws_conn_id: str | None = None,
        gcp_conn_id: str | None = None,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.directory = directory
        self.staging_bucket = staging_bucket
        self.replica = replica
        self.staging_prefix = staging_prefix
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.include = include
        self.exclude = exclude
        self.hidden = hidden
        self.symlinks = symlinks
        self.indexed = indexed
        self.content_types = content_types
        self.max_workers = max_workers
        self.max_bytes_per_second = max_bytes_per_second
        self.max_requests_per_second = max_requests_per_second
        self.delete_staged = delete_staged
        self.copy_timeout = copy_timeout
        self.aws_conn_id = aws_conn_id
        self.gcp_conn_id = gcp_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload the directory; return what the bundle is called and what was done."""
        progress = ProgressReporter(context)
        with self._running(pool_size=self.max_workers) as (hook, creator_uid), progress.telling():
            plan = self._plan(context)
            show_bundle(context, hook, replica=self.replica, uuid=plan.bundle_uuid, version=plan.bundle_version)
            progress.planned(plan)
            uploader = self._uploader(hook, creator_uid, progress)
            report = uploader.finish(plan, self._register(context, uploader, plan, progress))
            progress.done(report)
            return self._made(context, hook, report)

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Take up the task after the DSS has copied what it copies later: put the bundle.

        The directory is planned again, so it has to be there, but its files are not read again.
        """
        progress = ProgressReporter(context)
        with self._running(pool_size=self.max_workers) as (hook, creator_uid), progress.telling("copy"):
            registered, named = self._registered(event)
            plan = self._plan_as(named[0], named[1])
            progress.planned(plan)
            report = self._uploader(hook, creator_uid, progress).finish(plan, registered)
            progress.done(report)
            return self._made(context, hook, report)

    def _made(self, context: Context, hook: DSSHook, report: UploadReport) -> dict[str, Any]:
        """Return what was done, and tell of the bundle where somebody waits for it."""
        made = _as_xcom(report)
        self._report_bundle(
            context, hook.api.url, made, [Data.source(self.directory, files=report.files, size=report.size)]
        )
        return made

    def _register(self, context: Context, uploader: Uploader, plan: Plan, progress: ProgressReporter) -> Registered:
        """Register all files of a plan and wait until the DSS has copied them, maybe in the triggerer."""
        from airflow_provider_hca.client.waiters import FilesWaiter

        registered = uploader.register(plan, resume=context["ti"].try_number > 1)
        if self.deferrable and registered.copying:
            progress.waiting(plan, len(registered.copying))
            files = [dict(zip(("uuid", "version", "sha256"), each, strict=True)) for each in registered.copying]
            deadline = time.time() + seconds("copy_timeout", self.copy_timeout)
            # With its name: who clears another task of the run meanwhile gives the run another version.
            carried = {"bundle": [plan.bundle_uuid, plan.bundle_version], **registered.without_copies()}
            self._wait_in_triggerer(FilesWaiter(files, [self.replica]), deadline, carried)
        return uploader.await_copies(plan, registered)

    @staticmethod
    def _registered(event: Any) -> tuple[Registered, list[str]]:
        """Return what was registered before the wait in the triggerer that is over now, and the bundle's name."""
        from airflow_provider_hca.upload.report import Registered

        result, carried = wait_result(event)
        if result is None:
            raise DSSWaitError(
                "the DSS has not copied all files in time: give it a longer copy_timeout; a retry goes on waiting"
            )
        named: list[str] = carried["bundle"]
        return Registered(copying=(), **{what: value for what, value in carried.items() if what != "bundle"}), named

    def _plan(self, context: Context) -> Plan:
        return self._plan_as(self.bundle_uuid or task_uuid(context), self.bundle_version or run_version(context))

    def _plan_as(self, bundle_uuid: str, bundle_version: str, names: Names | None = None) -> Plan:
        from airflow_provider_hca.upload.entries import EVERY_NAME
        from airflow_provider_hca.upload.plan import plan_directory
        from airflow_provider_hca.upload.sources.base import is_url

        self.check_directory()
        return plan_directory(
            self.directory,
            bundle_uuid=bundle_uuid,
            bundle_version=bundle_version,
            include=self.include,
            exclude=self.exclude,
            hidden=self.hidden,
            symlinks=self.symlinks,
            indexed=self.indexed,
            content_types=self.content_types,
            names=names or EVERY_NAME,
            access=self._access() if is_url(self.directory) else None,
        )

    def check_directory(self) -> None:
        """Raise if the directory cannot be staged in the bucket, as far as that can be seen without a look at them.

        :raises ValueError: then
        """
        from airflow_provider_hca.upload.sources.base import check_source, staged_under

        staged = staged_under(self.staging_bucket, self.staging_prefix)
        check_source(self.directory, replica=self.replica, staged=staged)

    def _access(self) -> S3Access | GCSAccess | None:
        from airflow_provider_hca.utils.credentials import cloud_access

        return cloud_access(self.replica, aws_conn_id=self.aws_conn_id, gcp_conn_id=self.gcp_conn_id)

    def _uploader(self, hook: DSSHook, creator_uid: int, progress: ProgressReporter) -> Uploader:
        from airflow_provider_hca.client.models import check_replica
        from airflow_provider_hca.upload.staging import open_staging
        from airflow_provider_hca.upload.uploader import Uploader

        access = self._access()
        transport = hook.get_conn()
        transport.pace.limit(self.max_requests_per_second)
        return Uploader(
            hook.api,
            transport,
            open_staging(self.replica, self.staging_bucket, workers=self.max_workers, access=access),
            replica=check_replica(self.replica),
            creator_uid=creator_uid,
            staging_prefix=self.staging_prefix,
            workers=self.max_workers,
            bytes_per_second=self.max_bytes_per_second,
            delete_staged=self.delete_staged,
            copy_seconds=seconds("copy_timeout", self.copy_timeout),
            stop=self._stop,
            on_progress=progress,
        )


def _as_xcom(report: UploadReport) -> dict[str, Any]:
    """Return what an upload did, as the task that made the bundle tells it."""
    return {
        "uuid": report.uuid,
        "version": report.version,
        "fqid": f"{report.uuid}.{report.version}",
        "replica": report.replica,
        "file_count": report.files,
        "byte_count": report.size,
        "created": report.created,
        "staged_file_count": report.staged_files,
        "staged_byte_count": report.staged_size,
        "skipped_file_count": report.skipped_files,
        "registered_file_count": report.registered_files,
        "copied_file_count": report.copied_files,
        "retry_count": report.retries,
        "seconds": report.seconds,
        "slowest_files": [[name, spent] for name, spent in report.slowest],
    }
