"""Operator that registers a staged object as a file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow_provider_hca.exceptions import DSSCopyError
from airflow_provider_hca.operators.base import DSSDeferrableOperator, identity, resolve_creator_uid
from airflow_provider_hca.triggers.wait import wait_result
from airflow_provider_hca.utils.identity import run_version, task_uuid
from airflow_provider_hca.utils.openlineage import Data, OpenLineageMixin
from airflow_provider_hca.utils.validation import boolean, seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.client.models import BundleFile
    from airflow_provider_hca.hooks.dss import DSSHook
    from airflow_provider_hca.upload.access import GCSAccess, S3Access


class DSSPutFileOperator(OpenLineageMixin, DSSDeferrableOperator):
    """Register a staged object as a file (`PUT /files/{uuid}`), and wait until the DSS has stored it.

    A DSS copies files above 64 MiB asynchronously. With `deferrable=True` the task waits for that in the triggerer.

    Returns, also as separate XComs: `uuid`, `version`, `fqid`, `replica`, `name` and `indexed`. The output of mapped
    tasks can be passed to `DSSPutBundleOperator(files=...)`.

    :param source_url: URL of an object staged with its four checksums, `s3://bucket/key` or `gs://bucket/key`; its
        scheme determines the replica. (templated)
    :param name: Name of the file in a bundle; the last part of the key if None. (templated)
    :param indexed: Whether the DSS indexes the content; if None, whether the name ends in `.json`. (templated)
    :param file_uuid: UUID of the file; derived from DAG run, task, map index and name if None. (templated)
    :param file_version: Version of the file, a DSS_VERSION; derived from the DAG run if None. (templated)
    :param sha256: SHA-256 of the content, 64 hexadecimal digits, to verify an asynchronous copy; if None and needed, it
        is read from the staged object, which takes credentials for the bucket. (templated)
    :param copy_timeout: Time to wait for an asynchronous copy, in seconds or as a `timedelta`
    :param deferrable: Whether to wait in the triggerer; `[operators] default_deferrable` by default
    :param poll_interval: Time between two polls in the triggerer, in seconds or as a `timedelta`
    :param aws_conn_id: Airflow connection of type `aws` to read the checksum from S3; boto3's own credentials and
        endpoint if None. (templated)
    :param gcp_conn_id: Airflow connection of type `google_cloud_platform` to read the checksum from Google Cloud
        Storage; Google's own credentials if None. (templated)
    :param creator_uid: Creator of the file; `creator_uid` of the connection if None. (templated)
    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
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
        "creator_uid",
        *DSSDeferrableOperator.template_fields,
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
        creator_uid: int | str | None = None,
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
        self.creator_uid = creator_uid

    def execute(self, context: Context) -> dict[str, Any]:
        """Register the object."""
        from airflow_provider_hca.client.identifiers import check_sha256
        from airflow_provider_hca.client.models import bundle_file, replica_of
        from airflow_provider_hca.upload.staging import staged_sha256

        with self._open_hook() as hook:
            creator_uid = resolve_creator_uid(self.creator_uid, hook)
            replica = replica_of(self.source_url)
            sha256 = check_sha256(self.sha256) if self.sha256 else None
            # Checked before the file is registered: without access the task could not wait for its copy.
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
            put = hook.put_file(file["uuid"], file["version"], source_url=self.source_url, creator_uid=creator_uid)
            self.log.info("file %s.%s (%s): %s", file["uuid"], file["version"], name, put.outcome)
            if put.outcome == "copying":
                self._await_copy(hook, replica, file, sha256 or staged_sha256(self.source_url, access=access))
            return self._complete(hook, dict(file))

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """Return the file after the wait in the triggerer."""
        result, carried = wait_result(event)
        file: dict[str, Any] = carried["file"]
        if result is None:
            raise DSSCopyError.late(file["uuid"], file["version"])
        with self._open_hook() as hook:
            return self._complete(hook, file)

    def _complete(self, hook: DSSHook, file: dict[str, Any]) -> dict[str, Any]:
        from airflow_provider_hca.client.models import replica_of

        replica = replica_of(self.source_url)
        self._report_lineage([Data.source(self.source_url)], [Data.file(hook.api.url, replica, file)])
        named = {name: file[name] for name in ("name", "indexed")}
        return {**identity(file["uuid"], file["version"], replica), **named}

    def _access(self, replica: str) -> S3Access | GCSAccess | None:
        from airflow_provider_hca.utils.credentials import cloud_access

        if self.sha256:
            return None
        return cloud_access(replica, aws_conn_id=self.aws_conn_id, gcp_conn_id=self.gcp_conn_id)

    def _await_copy(self, hook: DSSHook, replica: str, file: BundleFile, sha256: str) -> None:
        from airflow_provider_hca.client.waiters import FilesWaiter

        uuid, version = file["uuid"], file["version"]
        timeout = seconds("copy_timeout", self.copy_timeout)
        if self.deferrable:
            waiter = FilesWaiter([{"uuid": uuid, "version": version, "sha256": sha256}], [replica])
            self._defer_wait(waiter, time.time() + timeout, {"file": file})
        hook.wait_for_file(uuid, version, replica=replica, sha256=sha256, seconds=timeout)
