"""The operator that registers a staged object."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow_provider_hca.operators.base import DSSOperator, boolean, seconds
from airflow_provider_hca.operators.identity import run_version, task_uuid

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class DSSPutFileOperator(DSSOperator):
    """Register one staged object as a file (`PUT /files/{uuid}`), and wait until the DSS has it.

    Returns the file as `DSSPutBundleOperator(files=...)` takes it: `uuid`, `version`, `name`, `indexed`. Mapped, its
    output is all the files of a bundle.

    :param source_url: `s3://bucket/key` or `gs://bucket/key` of an object staged with its four checksums; its scheme
        decides the replica (templated)
    :param name: of the file in a bundle; the last part of the key if None (templated)
    :param indexed: whether the DSS is to index its content; if None, whether the name ends in `.json` (templated)
    :param file_uuid: of the file; if None it derives from DAG run, task, map index and name (templated)
    :param file_version: of the file, a DSS_VERSION; if None it derives from the DAG run (templated)
    :param sha256: of the content; if None it is read from the staged object when it is needed, which takes credentials
        for the bucket on the worker. It is needed above 64 MiB, to know that the file stored is this one (templated)
    :param copy_timeout: how long to wait for an asynchronous copy, in seconds
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

    def execute(self, context: Context) -> dict[str, Any]:
        """Register the object; return the file."""
        from airflow_provider_hca.client.model import bundle_file, replica_of
        from airflow_provider_hca.upload.staging import staged_sha256

        with self._running() as (hook, creator_uid):
            replica = replica_of(self.source_url)
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
                hook.wait_for_file(
                    file["uuid"],
                    file["version"],
                    replica=replica,
                    sha256=self.sha256 or staged_sha256(self.source_url),
                    seconds=seconds("copy_timeout", self.copy_timeout),
                )
            return dict(file)
