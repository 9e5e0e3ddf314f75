"""Download a bundle into a directory with several threads, and verify each file.

A file gets its name only when it is complete and verified. Files that exist with the right content are skipped, so
running a download again resumes it; of a partial file, only the rest is fetched.

The first request for a file makes the DSS start a checkout copy, with the answer to ask again after ten seconds. So all
files are requested once without waiting, and then those that were not ready are waited for. Otherwise every few files
would wait separately.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.downloads import Content, NotReadyError
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download.directory import OpenDirectory, TargetDirectory
from airflow_provider_hca.download.plan import WantedFile, plan_download
from airflow_provider_hca.exceptions import (
    DownloadError,
    DSSAbortedError,
    DSSContentError,
    DSSError,
    DSSNotFoundError,
    InvalidManifestError,
)
from airflow_provider_hca.parallel import run_parallel
from airflow_provider_hca.units import size_text

log = logging.getLogger(__name__)

MIB = 1 << 20
DEFAULT_WORKERS = 8
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


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
            f"bundle {self.uuid}.{self.version} is in {self.directory}: {self.files:,} files ({size_text(self.size)}), "
            f"{self.downloaded_files:,} of them ({size_text(self.downloaded_size)}) downloaded now, in "
            f"{self.seconds:.1f} s"
        )


@dataclass(slots=True)
class _DownloadStats:
    """Counts of a running download, shared by threads."""

    finished: int = 0
    files: int = 0
    size: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class Downloader:
    """Download bundles into directories.

    :param dss: API of the DSS
    :param transport: Driver that runs the calls; pass it the same `stop`
    :param replica: Replica to download from
    :param workers: Number of files downloaded at once; each needs a few MiB of memory
    :param stop: Event that ends `download` within seconds with a `DSSAbortedError`
    :raises ValueError: if `workers` is below 1
    """

    def __init__(
        self,
        dss: DSSAPI,
        transport: RequestsTransport,
        *,
        replica: str,
        workers: int = DEFAULT_WORKERS,
        stop: threading.Event | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"max_workers must be at least 1, got {workers}")
        self._dss, self._transport, self._replica, self._workers = dss, transport, replica, workers
        self._stop = stop or threading.Event()

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
            _check_case(plan, target)
            stats = self._download_all(wanted, target, size)
        report = DownloadReport(
            uuid=bundle["uuid"],
            version=bundle["version"],
            replica=self._replica,
            directory=str(directory),
            files=len(wanted),
            size=size,
            downloaded_files=stats.files,
            downloaded_size=stats.size,
            seconds=round(time.monotonic() - started, 3),
        )
        log.info("%s", report)
        return report

    def _download_all(self, wanted: list[WantedFile], target: TargetDirectory, size: int) -> _DownloadStats:
        stats = _DownloadStats()
        not_ready: list[WantedFile] = []

        def progress(_: int) -> None:
            files = f"{stats.finished:,} of {len(wanted):,} files"
            log.info("%s, %s of %s downloaded", files, size_text(stats.size), size_text(size))

        def download(file: WantedFile) -> None:
            try:
                self._ensure(file, target, stats, wait=False)
            except NotReadyError:
                not_ready.append(file)

        def wait_and_download(file: WantedFile) -> None:
            self._ensure(file, target, stats, wait=True)

        failures: list[tuple[WantedFile, Exception]] = []
        for work, files in ((download, wanted), (wait_and_download, not_ready)):
            if all(_concerns_one_file(error) for _, error in failures):
                failures += run_parallel(
                    files,
                    work,
                    name="download",
                    workers=self._workers,
                    stop=self._stop,
                    continue_after=_concerns_one_file,
                    on_progress=progress,
                )
        if self._stop.is_set():
            raise DSSAbortedError("the download was stopped; a retry resumes it")
        if failures:
            raise DownloadError(
                sorted((file.name, _describe(error)) for file, error in failures),
                done=stats.finished,
                total=len(wanted),
                permanent=any(isinstance(error, DSSError) and error.permanent for _, error in failures),
            )
        return stats

    def _ensure(self, file: WantedFile, target: TargetDirectory, stats: _DownloadStats, *, wait: bool) -> None:
        """Download a file unless it exists with the right content."""
        with target.open_parent(file.parts) as parent:
            if self._exists(file, parent):
                parent.remove(file.partial_name)
            else:
                self._download(file, parent, stats, wait=wait)
        stats.add(finished=1)

    def _exists(self, file: WantedFile, parent: OpenDirectory) -> bool:
        name = file.parts[-1]
        if parent.size(name) != file.size:
            return False
        sha256 = hashlib.sha256()
        with parent.open(name) as opened:
            while chunk := opened.read(MIB):
                self._check_stop()
                sha256.update(chunk)
        return sha256.hexdigest() == file.sha256

    def _download(self, file: WantedFile, parent: OpenDirectory, stats: _DownloadStats, *, wait: bool) -> None:
        with parent.open_partial(file.partial_name) as opened:
            try:
                self._fetch(file, _CountingFile(opened, self._check_stop, stats), wait=wait)
                opened.flush()
            except Exception as error:
                if isinstance(error, DSSContentError) or not opened.tell():
                    parent.remove(file.partial_name)  # a retry could not resume from it
                raise
            parent.rename(file.partial_name, file.parts[-1])
        stats.add(files=1)

    def _fetch(self, file: WantedFile, opened: _CountingFile, *, wait: bool) -> None:
        """Fetch the rest of a partial file; the whole file if the partial one has other content."""
        size = opened.seek(0, os.SEEK_END)
        if 0 < size <= file.size:
            try:
                self._fetch_rest(file, opened, resume=True, wait=wait)
            except DSSContentError:
                log.warning(
                    "%s: the partial file of an earlier try has other content; downloading the whole file", file.name
                )
            else:
                return
        opened.clear()
        self._fetch_rest(file, opened, resume=False, wait=wait)

    def _fetch_rest(self, file: WantedFile, opened: _CountingFile, *, resume: bool, wait: bool) -> None:
        content = Content(opened)
        if resume:
            content.begin_with(opened)
        call = self._dss.get_content(file.uuid, replica=self._replica, version=file.version, content=content, wait=wait)
        metadata = self._transport.run(call)
        if (metadata.size, metadata.sha256) != (file.size, file.sha256):
            reason = (
                f"the manifest has {file.size:,} bytes with sha256 {file.sha256}, the file has sha256 {metadata.sha256}"
            )
            raise DSSContentError(file.uuid, file.version, reason)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise DSSAbortedError("stopped")


class _CountingFile:
    """File that counts written bytes and checks for a stop before each read."""

    def __init__(self, file: BinaryIO, check_stop: Callable[[], None], stats: _DownloadStats) -> None:
        self._file, self._check_stop, self._stats = file, check_stop, stats

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def clear(self) -> None:
        self._file.seek(0)
        self._file.truncate()

    def read(self, size: int, /) -> bytes:
        self._check_stop()
        return self._file.read(size)

    def write(self, data: bytes, /) -> int:
        self._stats.add(size=len(data))
        return self._file.write(data)


def _check_case(plan: Callable[..., list[WantedFile]], target: TargetDirectory) -> None:
    """Refuse names that differ only in case if the file system ignores case, which is tested only if there are any."""
    try:
        plan(ignores_case=True)
    except InvalidManifestError:
        if target.ignores_case():
            raise


def _concerns_one_file(error: Exception) -> bool:
    """Return whether other files can succeed: errors of the service or the disk concern all files."""
    if isinstance(error, OSError):
        return error.errno not in _DISK
    return isinstance(error, DSSNotFoundError | DSSContentError)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
