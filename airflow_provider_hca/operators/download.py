"""Operators that download bundles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.links.dss import DSSBundleLink, show_bundle
from airflow_provider_hca.operators.base import DSSOperator, exceeds, identity
from airflow_provider_hca.utils.openlineage import Data, OpenLineageMixin, bundle_inputs
from airflow_provider_hca.utils.ui_links import REPORT_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_hca.download.batch import BatchDownloadReport


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


class DSSDownloadBundlesOperator(OpenLineageMixin, DSSOperator):
    """Download several bundles, each to the subdirectory `UUID.VERSION` of a directory of the worker.

    The bundles are those of a list, a collection or a manifest. Files are downloaded, verified and resumed as by
    `DSSDownloadBundleOperator`. A bundle that fails does not stop the others, unless the DSS or the disk fails for all.
    Retries try those again that failed for a reason that may pass.

    Returns, also as separate XComs: `directory`, `replica`, the numbers of bundles `downloaded`, `unchanged` (all files
    existed) and `failed`, `file_count` and `byte_count` of complete files, `causes` of failures with some of their
    bundles, and `statistics` of this try: `downloaded_file_count` and `downloaded_byte_count`. The XCom `report` has
    the same, also of a try that fails.

    :param directory: Directory on the worker; created if missing, other files in it are kept. (templated)
    :param bundles: UUIDs (latest version) or FQIDs of bundles, or dictionaries with `uuid` and `version`, `fqid` or
        `bundle_fqid`: results of a search, or the output of another task. (templated)
    :param collection_uuid: UUID of a collection whose bundles to download, also those of collections in it; files that
        it links to directly get the path `files/UUID.VERSION`, and count as bundles. (templated)
    :param collection_version: Version of the collection, a DSS_VERSION; the latest if None. (templated)
    :param manifest: Manifest of the original client on the worker: TSV with a column `bundle_uuid` and perhaps
        `bundle_version`, and `file_name` and `file_sha256` of the data files to download. (templated)
    :param replica: Replica to download from, `aws` or `gcp`. (templated)
    :param data_files: Patterns of the data files to download; none with `[]`. (templated)
    :param metadata_files: Patterns of the metadata files to download; none with `[]`. (templated)
    :param max_workers: Number of files downloaded at once; each takes less than 1 MiB of memory
    :param max_failed: Number of bundles, or as a float their share, that may fail in a successful task
    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
    """

    template_fields: Sequence[str] = (
        "directory",
        "bundles",
        "collection_uuid",
        "collection_version",
        "manifest",
        "replica",
        "data_files",
        "metadata_files",
        *DSSOperator.template_fields,
    )

    def __init__(
        self,
        *,
        directory: str,
        bundles: Any = None,
        collection_uuid: str | None = None,
        collection_version: str | None = None,
        manifest: str | None = None,
        replica: str = "aws",
        data_files: Sequence[str] = ("*",),
        metadata_files: Sequence[str] = ("*",),
        max_workers: int = 32,
        max_failed: float = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.directory = directory
        self.bundles = bundles
        self.collection_uuid = collection_uuid
        self.collection_version = collection_version
        self.manifest = manifest
        self.replica = replica
        self.data_files = data_files
        self.metadata_files = metadata_files
        self.max_workers = max_workers
        self.max_failed = max_failed

    @property
    def _pool_size(self) -> int:
        return self.max_workers

    def execute(self, context: Context) -> dict[str, Any]:
        """Download the bundles."""
        from airflow_provider_hca.download.batch import BatchDownloader
        from airflow_provider_hca.download.selection import select

        with self._open_hook() as hook:
            transport = hook.get_conn().transport
            selection = select(
                hook.api,
                transport,
                replica=self.replica,
                bundles=self.bundles,
                collection_uuid=self.collection_uuid,
                collection_version=self.collection_version or None,
                manifest=self.manifest,
            )
            downloader = BatchDownloader(hook.api, transport, replica=self.replica, workers=self.max_workers)
            report = downloader.download(
                selection, self.directory, data_files=self.data_files, metadata_files=self.metadata_files
            )
            result = report.as_json()
            context["ti"].xcom_push(key=REPORT_KEY, value=result)
            self._raise_failed(context, report)
            target = Data.source(report.directory, files=report.files, size=report.size)
            self._report_lineage(bundle_inputs(hook.api.url, self.replica, report.bundles), [target])
            return result

    def _raise_failed(self, context: Context, report: BatchDownloadReport) -> None:
        """Raise if a retry may help, or if more bundles failed than allowed."""
        if not report.failures:
            return
        first, failed, total = report.failures[0], len(report.failures), sum(report.counts.values())
        message = f"{failed:,} of {total:,} bundles failed, such as {first.name}: {first.cause}"
        allowed = not exceeds(self.max_failed, failed, total)
        if all(failure.permanent for failure in report.failures):
            if not allowed:
                raise AirflowFailException(message)
        elif not allowed or context["ti"].try_number <= context["ti"].max_tries:
            raise DSSError(message)
