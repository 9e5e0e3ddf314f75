"""Operator that downloads a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_hca.links.dss import DSSBundleLink, show_bundle
from airflow_provider_hca.operators.base import DSSOperator, identity
from airflow_provider_hca.utils.openlineage import Data, OpenLineageMixin

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class DSSDownloadBundleOperator(OpenLineageMixin, DSSOperator):
    """Download the files of a bundle to a directory of the worker (`GET /bundles/{uuid}`, `GET /files/{uuid}`).

    Files are downloaded in parallel and verified by their SHA-256; a file gets its name only when it is complete. A
    retry or a further run skips complete files and resumes partial ones. Names in the bundle and links on the disk
    cannot make it write outside the directory.

    Returns, also as separate XComs: `uuid`, `version`, `fqid`, `replica`, `directory`, `file_count`, `byte_count`, and
    `statistics` of this try: `downloaded_file_count` and `downloaded_byte_count`.

    Patterns are shell globs, matched against the name in the bundle; `*` matches `/` too. Metadata files are the
    `indexed` ones, data files all others.

    :param bundle_uuid: UUID of the bundle. (templated)
    :param directory: Directory on the worker; created if missing, other files in it are kept. (templated)
    :param bundle_version: Version of the bundle, a DSS_VERSION; the latest if None. (templated)
    :param replica: Replica to download from, `aws` or `gcp`. (templated)
    :param data_files: Patterns of the data files to download; none with `[]`. (templated)
    :param metadata_files: Patterns of the metadata files to download; none with `[]`. (templated)
    :param max_workers: Number of files downloaded at once; each takes less than 1 MiB of memory
    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
    """

    template_fields: Sequence[str] = (
        "bundle_uuid",
        "directory",
        "bundle_version",
        "replica",
        "data_files",
        "metadata_files",
        *DSSOperator.template_fields,
    )
    operator_extra_links = (DSSBundleLink(),)

    def __init__(
        self,
        *,
        bundle_uuid: str,
        directory: str,
        bundle_version: str | None = None,
        replica: str = "aws",
        data_files: Sequence[str] = ("*",),
        metadata_files: Sequence[str] = ("*",),
        max_workers: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bundle_uuid = bundle_uuid
        self.directory = directory
        self.bundle_version = bundle_version
        self.replica = replica
        self.data_files = data_files
        self.metadata_files = metadata_files
        self.max_workers = max_workers

    @property
    def _pool_size(self) -> int:
        return self.max_workers

    def execute(self, context: Context) -> dict[str, Any]:
        """Download the bundle."""
        from airflow_provider_hca.download.downloader import Downloader

        with self._open_hook() as hook:
            show_bundle(context, hook, replica=self.replica, uuid=self.bundle_uuid, version=self.bundle_version)
            downloader = Downloader(hook.api, hook.get_conn().transport, replica=self.replica, workers=self.max_workers)
            report = downloader.download(
                self.bundle_uuid,
                self.directory,
                version=self.bundle_version or None,
                data_files=self.data_files,
                metadata_files=self.metadata_files,
            )
            result = {
                **identity(report.uuid, report.version, report.replica),
                "directory": report.directory,
                "file_count": report.files,
                "byte_count": report.size,
                "statistics": {
                    "downloaded_file_count": report.downloaded_files,
                    "downloaded_byte_count": report.downloaded_size,
                },
            }
            target = Data.source(report.directory, files=report.files, size=report.size)
            self._report_lineage([Data.bundle(hook.api.url, result)], [target])
            return result
