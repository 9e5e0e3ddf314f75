"""Download files of any number and size into a directory, and verify each.

A file gets its name only when it is complete and verified. Files that exist with the right content are skipped, so
running a download again resumes it; of a partial file, only the rest is fetched.

Small files are fetched into memory on one event loop, and written by a few threads. Large files are fetched by a thread
each. (With `requests`, 500 files of 4 KiB take three times the processor time.)

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
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.bulk import run_bulk
from airflow_provider_hca.client.downloads import Content, NotReadyError
from airflow_provider_hca.client.models import FileMetadata
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download.directory import OpenDirectory, TargetDirectory
from airflow_provider_hca.download.plan import WantedFile
from airflow_provider_hca.exceptions import DSSAbortedError, DSSContentError, DSSNotFoundError
from airflow_provider_hca.parallel import Workers, run_parallel
from airflow_provider_hca.units import size_text

log = logging.getLogger(__name__)

MIB = 1 << 20
DEFAULT_WORKERS = 32
_SMALL = 256 * 1024  # bytes; a larger file is worth a thread, and resuming it
_WRITERS = 4  # threads that write small files
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


class ErrorLimit:
    """Decides whether to continue after an error. The first one of the disk ends the work, and some of the service do.

    :param tolerated: Number of errors of the service after which the work continues; they may concern one file
    :ivar fatal: Error that ended the work; None without one
    """

    def __init__(self, tolerated: int) -> None:
        self.fatal: Exception | None = None
        self._left = tolerated
        self._lock = threading.Lock()

    def continue_after(self, error: Exception) -> bool:
        """Return whether to continue after an error."""
        if isinstance(error, NotReadyError) or _concerns_one_file(error):
            return True
        with self._lock:
            self._left = -1 if isinstance(error, OSError) else self._left - 1
            if self._left < 0:
                self.fatal = self.fatal or error
            return self.fatal is None


@dataclass(slots=True)
class Downloaded:
    """Progress and result of a download; several threads add to it.

    :ivar limit: Errors after which no further file is started
    :ivar complete: Files that exist with the right content
    :ivar new: Those of them that were downloaded now
    :ivar size: Bytes received, including those of unfinished files
    :ivar failures: Files that failed, with their errors
    """

    limit: ErrorLimit
    complete: list[WantedFile] = field(default_factory=list)
    new: list[WantedFile] = field(default_factory=list)
    size: int = 0
    failures: list[tuple[WantedFile, Exception]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_size(self, size: int) -> None:
        """Count received bytes."""
        with self.lock:
            self.size += size


class FileDownloader:
    """Downloads files.

    :param dss: API of the DSS
    :param transport: Driver that runs the calls; its stop event ends downloads within seconds
    :param replica: Replica to download from
    :param workers: Number of files downloaded at once; each needs less than 1 MiB of memory
    :param tolerant: Whether the first error of the service may concern one file: the download then ends when as many
        files failed as are downloaded at once
    :raises ValueError: if `workers` is below 1
    """

    def __init__(
        self, dss: DSSAPI, transport: RequestsTransport, *, replica: str, workers: int, tolerant: bool = False
    ) -> None:
        if workers < 1:
            raise ValueError(f"max_workers must be at least 1, got {workers}")
        self._dss, self._transport, self._replica, self._workers = dss, transport, replica, workers
        self._stop, self._tolerant = transport.stop, tolerant

    def download(self, wanted: list[WantedFile], target: TargetDirectory) -> Downloaded:
        """Download files into a directory; see `Downloaded.limit` for errors that concern all files.

        :param wanted: Files with different names
        :param target: Directory
        :raises DSSAbortedError: if stopped
        """
        tolerated = min(self._workers, len(wanted)) - 1 if self._tolerant else 0
        result, size = Downloaded(ErrorLimit(tolerated)), sum(file.size for file in wanted)

        def progress(_: int) -> None:
            files = f"{len(result.complete):,} of {len(wanted):,} files"
            log.info("%s, %s of %s downloaded", files, size_text(result.size), size_text(size))

        job = _Job(self._dss, self._transport, self._replica, self._workers, target, result, progress)
        small, large = job.find_missing(wanted)
        for wait in (False, True):
            if result.limit.fatal is None and not self._stop.is_set():
                small, large = job.download(small, large, wait=wait)
        if self._stop.is_set():
            raise DSSAbortedError("the download was stopped; a retry resumes it")
        return result


@dataclass(frozen=True, slots=True)
class _Job:
    """One call of `FileDownloader.download`."""

    dss: DSSAPI
    transport: RequestsTransport
    replica: str
    workers: int
    target: TargetDirectory
    result: Downloaded
    on_progress: Callable[[int], None]

    def find_missing(self, wanted: list[WantedFile]) -> tuple[list[WantedFile], list[WantedFile]]:
        """Return the files that do not exist with the right content: those to fetch into memory, and all others."""
        small: set[WantedFile] = set()
        large: set[WantedFile] = set()

        def look(file: WantedFile) -> None:
            with self.target.open_parent(file.parts) as parent:
                partial_size = parent.size(file.partial_name)
                if not self._exists(file, parent):
                    (small if file.size <= _SMALL and partial_size is None else large).add(file)
                    return
                if partial_size is not None:
                    parent.remove(file.partial_name)
            self.result.complete.append(file)

        self.result.failures += self._in_threads(wanted, look)
        return [file for file in wanted if file in small], [file for file in wanted if file in large]

    def download(
        self, small: list[WantedFile], large: list[WantedFile], *, wait: bool
    ) -> tuple[list[WantedFile], list[WantedFile]]:
        """Download files, and return those that the DSS still prepares.

        :param wait: Whether to wait for them
        """
        failures = self._download_small(small, wait=wait)
        if self.result.limit.fatal is None and not self.transport.stop.is_set():
            failures += self._in_threads(large, partial(self._download_large, wait=wait))
        not_ready = {file for file, error in failures if isinstance(error, NotReadyError)}
        self.result.failures += [(file, error) for file, error in failures if file not in not_ready]
        return [file for file in small if file in not_ready], [file for file in large if file in not_ready]

    def _in_threads(
        self, files: list[WantedFile], work: Callable[[WantedFile], None]
    ) -> list[tuple[WantedFile, Exception]]:
        return run_parallel(
            files,
            work,
            name="download",
            workers=self.workers,
            stop=self.transport.stop,
            continue_after=self.result.limit.continue_after,
            on_progress=self.on_progress,
        )

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

    # Small files

    def _download_small(self, files: list[WantedFile], *, wait: bool) -> list[tuple[WantedFile, Exception]]:
        def fetch(file: WantedFile) -> Call[bytearray]:
            received = _Memory(file)
            metadata = yield from self._get_content(file, Content(received), wait=wait)
            _check_metadata(file, metadata)
            return received.content

        with Workers(min(_WRITERS, len(files)), "download") as writers:
            return run_bulk(
                files,
                fetch,
                transport=self.transport,
                concurrency=self.workers,
                continue_after=self.result.limit.continue_after,
                on_progress=self.on_progress,
                finish=partial(writers.submit, self._write),
            )

    def _write(self, file: WantedFile, content: bytearray) -> None:
        """Write a small file."""
        self.result.add_size(len(content))
        with self.target.open_parent(file.parts) as parent, parent.open_partial(file.partial_name) as opened:
            try:
                clear(opened)
                opened.write(content)
                opened.flush()
            except OSError:
                parent.remove(file.partial_name)
                raise
            parent.rename(file.partial_name, file.parts[-1])
        self._done(file)

    # Large files

    def _download_large(self, file: WantedFile, *, wait: bool) -> None:
        with (
            self.target.open_parent(file.parts) as parent,
            parent.open_partial(file.partial_name) as opened,
        ):
            try:
                self._fetch(file, _CountingFile(opened, self._check_stop, self.result), wait=wait)
                opened.flush()
            except Exception as error:
                if isinstance(error, DSSContentError) or not opened.tell():
                    parent.remove(file.partial_name)  # a retry could not resume from it
                raise
            parent.rename(file.partial_name, file.parts[-1])
        self._done(file)

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
        _check_metadata(file, self.transport.run(self._get_content(file, content, wait=wait)))

    def _get_content(self, file: WantedFile, content: Content, *, wait: bool) -> Call[FileMetadata]:
        return self.dss.get_content(file.uuid, replica=self.replica, version=file.version, content=content, wait=wait)

    def _done(self, file: WantedFile) -> None:
        self.result.new.append(file)
        self.result.complete.append(file)

    def _check_stop(self) -> None:
        if self.transport.stop.is_set():
            raise DSSAbortedError("stopped")


def clear(file: BinaryIO) -> None:
    """Remove the content of a file, if any: a file that was truncated is written to the disk when ext4 closes it."""
    if file.seek(0, os.SEEK_END):
        file.seek(0)
        file.truncate()


class _CountingFile:
    """File that counts written bytes and checks for a stop before each read."""

    def __init__(self, file: BinaryIO, check_stop: Callable[[], None], result: Downloaded) -> None:
        self._file, self._check_stop, self._result = file, check_stop, result

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def clear(self) -> None:
        clear(self._file)

    def read(self, size: int, /) -> bytes:
        self._check_stop()
        return self._file.read(size)

    def write(self, data: bytes, /) -> int:
        self._result.add_size(len(data))
        return self._file.write(data)


class _Memory:
    """Content of a small file, at most as large as in the manifest: that of the response may be larger."""

    def __init__(self, file: WantedFile) -> None:
        self.content = bytearray()
        self._file = file

    def write(self, data: bytes, /) -> None:
        if len(self.content) + len(data) > self._file.size:
            raise DSSContentError(self._file.uuid, self._file.version, f"expected {self._file.size:,} bytes, got more")
        self.content += data


def _concerns_one_file(error: Exception) -> bool:
    """Return whether other files can succeed: errors of the service or the disk concern all files."""
    if isinstance(error, OSError):
        return error.errno not in _DISK
    return isinstance(error, DSSNotFoundError | DSSContentError)


def _check_metadata(file: WantedFile, metadata: FileMetadata) -> None:
    """Compare a downloaded file, which has the content of its metadata, with the manifest."""
    if (metadata.size, metadata.sha256) != (file.size, file.sha256):
        reason = (
            f"the manifest has {file.size:,} bytes with sha256 {file.sha256}, the file has sha256 {metadata.sha256}"
        )
        raise DSSContentError(file.uuid, file.version, reason)


def describe_failure(error: Exception) -> str:
    """Return the message of the error of a file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
