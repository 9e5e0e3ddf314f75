"""The operator that registers a staged object."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow_provider_hca.operators.base import DSSOperator, DSSWaitingOperator, boolean, seconds
from airflow_provider_hca.triggers.dss import wait_result
from airflow_provider_hca.utils.identity import run_version, task_uuid
from airflow_provider_hca.utils.openlineage import Data, OpenLineageMixin

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.client.models import BundleFile
    from airflow_provider_hca.hooks.dss import DSSHook
    from airflow_provider_hca.upload.access import GCSAccess, S3Access


class DSSPutFileOperator(OpenLineageMixin, DSSWaitingOperator):
    """Register one staged object as a file (`PUT /files/{uuid}`), and wait until the DSS has it.

    A DSS copies content above 64 MiB after it has answered. With `deferrable=True` no worker slot is held meanwhile.

    Returns the file as `DSSPutBundleOperator(files=...)` takes it: `uuid`, `version`, `name`, `indexed`. Mapped, its
    output is all the files of a bundle.

    :param source_url: `s3://bucket/key` or `gs://bucket/key` of an object staged with its four checksums; its scheme
        decides the replica (templated)
    :param name: of the file in a bundle; the last part of the key if None (templated)
    :param indexed: whether the DSS is to index its content; if None, whether the name ends in `.json` (templated)
    :param file_uuid: of the file; if None it derives from DAG run, task, map index and name (templated)
    :param file_version: of the file, a DSS_VERSION; if None it derives from the DAG run (templated)
    :param sha256: of the content, 64 hexadecimal digits; if None it is read from the staged object when it is needed,
        which takes credentials for the bucket. It is needed above 64 MiB, to know that the file stored is this one
        (templated)
    :param copy_timeout: how long to wait for an asynchronous copy, in seconds or as a `timedelta`
    :param deferrable: whether to wait for it in the triggerer; by default as Airflow's `[operators]
        default_deferrable` says
    :param poll_interval: between two looks there, in seconds or as a `timedelta`
    :param aws_conn_id: the Airflow connection of type `aws` to read it from S3 with; boto3's own credentials and
        endpoint if None (templated)
    :param gcp_conn_id: the Airflow connection of type `google_cloud_platform` to read it from Google Cloud Storage
        with; Google's own credentials if None (templated)
    :param creator_uid: who creates it; the connection's `creator_uid` if None (templated)
    :param dss_conn_id: the Airflow connection (templated)
    """

    template_fields: Sequence[str] = (
        "source_url",
        "name",
        "indexed",
        "file_uuid",
        "file_version",
        "sha256",
        "aws_conn_id",
        "gcp_conn_id",
        *DSSOperator.template_fields,
    )

    def __init__(
        self,
        *,
        source_url: str,
        name: str | None = None,
        indexed: bool | str | None = None,
        file_uuid: str | None = None,
        file_version: str | None = None,
        sha256: str | None = None,
        copy_timeout: float | timedelta = 3600,
        aws_conn_id: str | None = None,
        gcp_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_url = source_url
        self.name = name
        self.indexed = indexed
        self.file_uuid = file_uuid
        self.file_version = file_version
        self.sha256 = sha256
        self.copy_timeout = copy_timeout
        self.aws_conn_id = aws_conn_id
        self.gcp_conn_id = gcp_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Register the object; return the file."""
        from airflow_provider_hca.client.models import bundle_file, check_sha256, replica_of
        from airflow_provider_hca.upload.staging import staged_sha256

        with self._running() as (hook, creator_uid):
            replica = replica_of(self.source_url)
            sha256 = check_sha256(self.sha256) if self.sha256 else None
            access = self._access(replica)
            name = self.name or self.source_url.rsplit("/", 1)[-1]
            indexed = fnmatchcase(name, "*.json") if self.indexed is None else boolean("indexed", self.indexed)
            file = bundle_file(
                {
                    "uuid": self.file_uuid or task_uuid(context, name),
                    "version": self.file_version or run_version(context),
                    "name": name,
                    "indexed": indexed,
                }
            )
            answer = hook.put_file(file["uuid"], file["version"], source_url=self.source_url, creator_uid=creator_uid)
            self.log.info("file %s.%s (%s): %s", file["uuid"], file["version"], name, answer.outcome)
            if answer.outcome == "copying":
                self._await_copy(hook, replica, file, sha256 or staged_sha256(self.source_url, access=access))
            return self._done(hook, dict(file))

    def _done(self, hook: DSSHook, file: dict[str, Any]) -> dict[str, Any]:
        """Return the file, and tell what it was made of."""
        from airflow_provider_hca.client.models import replica_of

        made = Data.file(hook.api.url, replica_of(self.source_url), file)
        self._report_lineage([Data.source(self.source_url)], [made])
        return file

    def _access(self, replica: str) -> S3Access | GCSAccess | None:
        """Return how to read the staged object's sum, before anything is registered that could not be waited for."""
        from airflow_provider_hca.utils.credentials import cloud_access

        if self.sha256:
            return None
        return cloud_access(replica, aws_conn_id=self.aws_conn_id, gcp_conn_id=self.gcp_conn_id)

    def _await_copy(self, hook: DSSHook, replica: str, file: BundleFile, sha256: str) -> None:
        from airflow_provider_hca.client.waiters import FilesWaiter

        uuid, version = file["uuid"], file["version"]
        timeout = seconds("copy_timeout", self.copy_timeout)
        if self.deferrable:
            wait = FilesWaiter([{"uuid": uuid, "version": version, "sha256": sha256}], [replica])
            self._wait_in_triggerer(wait, time.time() + timeout, {"file": file})
        hook.wait_for_file(uuid, version, replica=replica, sha256=sha256, seconds=timeout)

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """Take up the task after its wait in the triggerer; return the file."""
        from airflow_provider_hca.client.api.files import late_copy

        result, carried = wait_result(event)
        file: dict[str, Any] = carried["file"]
        if result is None:
            raise late_copy(file["uuid"], file["version"])
        with self._running() as (hook, _):
            return self._done(hook, file)
