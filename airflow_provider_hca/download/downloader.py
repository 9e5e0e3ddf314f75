"""Download a bundle into a directory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download.directory import TargetDirectory
from airflow_provider_hca.download.files import DEFAULT_WORKERS, FileDownloader, describe_failure
from airflow_provider_hca.download.plan import WantedFile, plan_download
from airflow_provider_hca.exceptions import DownloadError, DSSError, InvalidManifestError
from airflow_provider_hca.units import amount, size_text

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """Result of a download.

    :ivar directory: Path of the directory
    :ivar files: Number of files that match the patterns
    :ivar size: Size of these files in bytes
    :ivar downloaded_files: Number of files downloaded by this try; the others existed
    :ivar downloaded_size: Bytes downloaded by this try
    :ivar seconds: Duration in seconds
    """

    uuid: str
    version: str
    replica: str
    directory: str
    files: int
    size: int
    downloaded_files: int
    downloaded_size: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"bundle {self.uuid}.{self.version} is in {self.directory}: {amount(self.files, self.size)}, "
            f"{self.downloaded_files:,} of them ({size_text(self.downloaded_size)}) downloaded now, in "
            f"{self.seconds:.1f} s"
        )


class Downloader:
    """Download bundles into directories.

    :param dss: API of the DSS
    :param transport: Driver that runs the calls; its stop event ends `download` within seconds
    :param replica: Replica to download from
    :param workers: Number of files downloaded at once; each needs less than 1 MiB of memory
    :raises ValueError: if `workers` is below 1
    """

    def __init__(
        self, dss: DSSAPI, transport: RequestsTransport, *, replica: str, workers: int = DEFAULT_WORKERS
    ) -> None:
        self._dss, self._transport, self._replica = dss, transport, replica
        self._files = FileDownloader(dss, transport, replica=replica, workers=workers)

    def download(
        self,
        uuid: str,
        directory: str | Path,
        *,
        version: str | None = None,
        data_files: Sequence[str] = ("*",),
        metadata_files: Sequence[str] = ("*",),
    ) -> DownloadReport:
        """Download the files of a bundle into a directory.

        :param uuid: UUID of the bundle
        :param directory: Path of the directory, created if missing; other files in it are not changed
        :param version: Version of the bundle; the latest if None
        :param data_files: Patterns for files that are not indexed
        :param metadata_files: Patterns for indexed files
        :raises ValueError: if an argument is invalid; nothing was written
        :raises DSSNotFoundError: if the bundle does not exist; nothing was written
        :raises InvalidManifestError: if a file name is unsafe; nothing was written
        :raises OSError: if the directory cannot be created or opened
        :raises DownloadError: if files could not be downloaded or written; the others are complete
        :raises DSSAbortedError: if stopped
        """
        if not str(directory):
            raise ValueError("directory is empty: give a path")
        started, directory = time.monotonic(), Path(directory)
        bundle = self._transport.run(self._dss.get_bundle(uuid, replica=self._replica, version=version))
        plan = partial(plan_download, bundle, data_files=data_files, metadata_files=metadata_files)
        wanted = plan()  # before the directory is created
        size = sum(file.size for file in wanted)
        log.info("downloading %s of %s files (%s)", f"{len(wanted):,}", f"{len(bundle['files']):,}", size_text(size))
        with TargetDirectory(directory) as target:
            check_case(plan, target)
            result = self._files.download(wanted, target)
        if result.failures:
            raise download_error(result.failures, done=len(result.complete), total=len(wanted))
        report = DownloadReport(
            uuid=bundle["uuid"],
            version=bundle["version"],
            replica=self._replica,
            directory=str(directory),
            files=len(wanted),
            size=size,
            downloaded_files=len(result.new),
            downloaded_size=result.size,
            seconds=round(time.monotonic() - started, 3),
        )
        log.info("%s", report)
        return report


def download_error(failures: Sequence[tuple[WantedFile, Exception]], *, done: int, total: int) -> DownloadError:
    """Return the error of a bundle from those of its files.

    :param failures: Files that failed, with their errors
    :param done: Number of complete files
    :param total: Number of selected files
    """
    return DownloadError(
        sorted((file.name, describe_failure(error)) for file, error in failures),
        done=done,
        total=total,
        permanent=any(isinstance(error, DSSError) and error.permanent for _, error in failures),
    )


def check_case(plan: Callable[..., list[WantedFile]], target: TargetDirectory) -> None:
    """Refuse names that differ only in case if the file system ignores case, which is tested only if there are any."""
    try:
        plan(ignores_case=True)
    except InvalidManifestError:
        if target.ignores_case():
            raise
