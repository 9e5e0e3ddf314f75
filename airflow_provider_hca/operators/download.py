"""The operator that downloads a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_hca.links.dss import DSSBundleLink, show_bundle
from airflow_provider_hca.operators.base import DSSOperator
from airflow_provider_hca.utils.openlineage import Data, OpenLineageMixin

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class DSSDownloadBundleOperator(OpenLineageMixin, DSSOperator):
    """Have the files of a bundle in a directory of the worker (`GET /bundles/{uuid}`, `GET /files/{uuid}`).

    Files are fetched in parallel, checked by their sha256, and have their names only when they are whole. A retry, or
    running it again, leaves alone what is there and right, and fetches of a file that was begun only the rest. No name
    in a bundle, and no link on the disk, makes it write anywhere else.

    Returns, also as an XCom each, `uuid`, `version`, `fqid`, `replica`, `directory`, `file_count`, `byte_count`, and
    what this try did: `downloaded_file_count`, `downloaded_byte_count`.

    Patterns are shell globs, matched with the name in the bundle; `*` matches `/` too. Metadata files are those that
    are `indexed`, data files all others.

    :param bundle_uuid: of the bundle (templated)
    :param directory: on the worker; it is made where it is missing, and other files in it are left alone (templated)
    :param bundle_version: of the bundle, a DSS_VERSION; the latest if None (templated)
    :param replica: `aws` or `gcp` (templated)
    :param data_files: patterns of the data files to take; `[]` takes none (templated)
    :param metadata_files: patterns of the metadata files to take; `[]` takes none (templated)
    :param max_workers: files under way at once; each takes a few MiB of memory
    :param dss_conn_id: the Airflow connection (templated)
    """

    template_fields: Sequence[str] = (
        "bundle_uuid",
        "directory",
        "bundle_version",
        "replica",
        "data_files",
        "metadata_files",
        "dss_conn_id",
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
        max_workers: int = 8,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.bundle_uuid = bundle_uuid
        self.directory = directory
        self.bundle_version = bundle_version
        self.replica = replica
        self.data_files = data_files
        self.metadata_files = metadata_files
        self.max_workers = max_workers

    def execute(self, context: Context) -> dict[str, Any]:
        """Download the bundle; return what it is and where."""
        from airflow_provider_hca.download.downloader import Downloader

        with self._running(pool_size=self.max_workers) as (hook, _):
            show_bundle(context, hook, replica=self.replica, uuid=self.bundle_uuid, version=self.bundle_version)
            downloader = Downloader(
                hook.api, hook.get_conn(), replica=self.replica, workers=self.max_workers, stop=self._stop
            )
            report = downloader.download(
                self.bundle_uuid,
                self.directory,
                version=self.bundle_version or None,
                data_files=self.data_files,
                metadata_files=self.metadata_files,
            )
            fetched = {
                "uuid": report.uuid,
                "version": report.version,
                "fqid": f"{report.uuid}.{report.version}",
                "replica": report.replica,
                "directory": report.directory,
                "file_count": report.files,
                "byte_count": report.size,
                "downloaded_file_count": report.downloaded_files,
                "downloaded_byte_count": report.downloaded_size,
            }
            target = Data.source(report.directory, files=report.files, size=report.size)
            self._report_lineage([Data.bundle(hook.api.url, fetched)], [target])
            return fetched
