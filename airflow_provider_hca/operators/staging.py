"""Base class of the operators that stage and register the files of a directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_provider_hca.exceptions import DSSWaitError
from airflow_provider_hca.operators.base import DSSDeferrableOperator, resolve_creator_uid
from airflow_provider_hca.triggers.wait import wait_result
from airflow_provider_hca.utils.validation import seconds

if TYPE_CHECKING:
    from airflow_provider_hca.client.models import Bundle
    from airflow_provider_hca.hooks.dss import DSSHook
    from airflow_provider_hca.upload.access import GCSAccess, S3Access
    from airflow_provider_hca.upload.entries import Names
    from airflow_provider_hca.upload.options import UploadOptions
    from airflow_provider_hca.upload.plan import Plan
    from airflow_provider_hca.upload.report import UploadReport
    from airflow_provider_hca.upload.uploader import Uploader
    from airflow_provider_hca.utils.progress import ProgressReporter


class DSSStagingOperator(DSSDeferrableOperator):
    """Base operator: plans a directory, opens the staging bucket, waits for the DSS's copies.

    Attributes of the operator that are called like those of `UploadOptions` are options of the upload.
    """

    replica: str
    staging_bucket: str | None
    staging_prefix: str | None
    copy_timeout: float | timedelta
    creator_uid: int | str | None
    aws_conn_id: str | None
    gcp_conn_id: str | None

    def _plan_files(self, directory: str, bundle_uuid: str, bundle_version: str, *, names: Names | None = None) -> Plan:
        from airflow_provider_hca.upload.entries import EVERY_NAME
        from airflow_provider_hca.upload.plan import plan_directory
        from airflow_provider_hca.upload.sources.base import is_url

        self.check_directory(directory)
        return plan_directory(
            directory,
            self._options(),
            bundle_uuid=bundle_uuid,
            bundle_version=bundle_version,
            names=names or EVERY_NAME,
            access=self._access() if is_url(directory) else None,
        )

    def check_directory(self, directory: str) -> None:
        """Raise if the directory cannot be staged in the bucket, without looking at either.

        :param directory: path, or URL of a prefix
        :raises ValueError: if the bucket's name is invalid or the bucket is in another cloud, or staged objects would
            be part of the directory
        """
        from airflow_provider_hca.upload.sources.base import check_source, staged_under
        from airflow_provider_hca.upload.staging import check_bucket

        check_bucket(str(self.staging_bucket))
        staged = staged_under(str(self.staging_bucket), self.staging_prefix)
        check_source(directory, replica=self.replica, staged=staged)

    def _access(self) -> S3Access | GCSAccess | None:
        from airflow_provider_hca.utils.credentials import cloud_access

        return cloud_access(self.replica, aws_conn_id=self.aws_conn_id, gcp_conn_id=self.gcp_conn_id)

    def _options(self) -> UploadOptions:
        from airflow_provider_hca.upload.options import UploadOptions

        values = {field.name: getattr(self, field.name) for field in fields(UploadOptions) if hasattr(self, field.name)}
        return UploadOptions(**{**values, "copy_timeout": seconds("copy_timeout", self.copy_timeout)})

    def _uploader(self, hook: DSSHook, on_progress: Callable[[UploadReport], None] | None = None) -> Uploader:
        from airflow_provider_hca.upload.staging import open_staging
        from airflow_provider_hca.upload.uploader import Uploader

        options = self._options()
        return Uploader(
            hook.api,
            hook.get_conn().transport,
            open_staging(self.replica, str(self.staging_bucket), workers=options.max_workers, access=self._access()),
            options,
            creator_uid=resolve_creator_uid(self.creator_uid, hook),
            stop=self._stop,
            on_progress=on_progress,
        )

    def _await_copies(self, uploader: Uploader, plan: Plan, report: UploadReport, progress: ProgressReporter) -> None:
        """Wait until the DSS has copied all files, in the worker or in the triggerer."""
        from airflow_provider_hca.client.waiters import FilesWaiter

        files = [dict(zip(("uuid", "version", "sha256"), copy, strict=True)) for copy in report.copying]
        if files and self._may_defer(waiter := FilesWaiter(files, [self.replica])):
            progress.waiting(report)
            deadline = time.time() + seconds("copy_timeout", self.copy_timeout)
            self._defer_wait(waiter, deadline, report.as_json())
        uploader.await_copies(plan, report)

    @staticmethod
    def _registered(event: Any) -> UploadReport:
        """Return the report of the registered files, as carried by the trigger."""
        from airflow_provider_hca.upload.report import UploadReport

        result, carried = wait_result(event)
        if result is None:
            raise DSSWaitError(
                "the DSS has not copied all files within copy_timeout: increase it; a retry resumes the wait"
            )
        return UploadReport.from_json(carried)

    def _base(self, hook: DSSHook, uuid: str, version: str | None) -> Callable[[], Bundle]:
        """Return a function that returns the bundle that a plan was compared with."""
        return cache(lambda: hook.get_bundle(uuid, replica=self.replica, version=version))
