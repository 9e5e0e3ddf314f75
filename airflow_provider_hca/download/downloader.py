"""A bundle becomes a directory: its files are downloaded by some threads, checked, and put in their places.

A file has its name only when it is whole and checked. What is there already, and is right, is left alone, so running it
again is how it is resumed; of a file that was begun only the rest is fetched.

A DSS begins to make a copy to download from when it is first asked for a file, and wants to be asked again after ten
seconds. So each file is asked for without a wait, and only then those that were not ready are waited for: otherwise
every few files would have a wait of their own.
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
from airflow_provider_hca.download.directory import Parent, Target
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

log = logging.getLogger(__name__)

MIB = 1 << 20
DEFAULT_WORKERS = 8
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """What a download did.

    :ivar directory: where the files are
    :ivar files: that were wanted
    :ivar size: of those, in bytes
    :ivar downloaded_files: fetched by this try; the others were there
    :ivar downloaded_size: bytes fetched by this try
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
            f"bundle {self.uuid}.{self.version} is in {self.directory}: {self.files:,} files ({self.size / MIB:,.1f} "
            f"MiB), of which {self.downloaded_files:,} ({self.downloaded_size / MIB:,.1f} MiB) were downloaded now, in "
            f"{self.seconds:.1f} s"
        )


@dataclass(slots=True)
class _DownloadStats:
    """What was done so far; counted by many threads."""

    there: int = 0
    files: int = 0
    size: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class Downloader:
    """Downloads bundles into directories.

    :param dss: the DSS
    :param transport: runs the calls; give it the same `stop`
    :param replica: to download from
    :param workers: files under way at once; each needs a few MiB of memory
    :param stop: when set, `download` ends within seconds with a `DSSAbortedError`
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
            raise ValueError(f"max_workers must be at least 1, not {workers}")
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
        """Have the files of a bundle in a directory.

        :param uuid: of the bundle
        :param directory: is made where it is missing; other files in it are left alone
        :param version: of the bundle; the latest if None
        :param data_files: patterns of the files to take of those that are not indexed
        :param metadata_files: patterns of the files to take of those that are
        :raises ValueError: when an argument is not well-formed; nothing was written
        :raises DSSNotFoundError: when there is no such bundle; nothing was written
        :raises InvalidManifestError: when a name is one that no file must have; nothing was written
        :raises OSError: when the directory cannot be made or opened
        :raises DownloadError: when files could not be downloaded or written; the others are there
        :raises DSSAbortedError: when told to stop
        """
        if not str(directory):
            raise ValueError("directory is empty: give a path")
        started, directory = time.monotonic(), Path(directory)
        bundle = self._transport.run(self._dss.get_bundle(uuid, replica=self._replica, version=version))
        plan = partial(plan_download, bundle, data_files=data_files, metadata_files=metadata_files)
        wanted = plan()  # before a directory is made
        size = sum(file.size for file in wanted)
        log.info("downloading %s of %s files (%s MiB)", f"{len(wanted):,}", f"{len(bundle['files']):,}", _mib(size))
        with Target(directory) as target:
            _check_case(plan, target)
            tally = self._have_all(wanted, target, size)
        report = DownloadReport(
            uuid=bundle["uuid"],
            version=bundle["version"],
            replica=self._replica,
            directory=str(directory),
            files=len(wanted),
            size=size,
            downloaded_files=tally.files,
            downloaded_size=tally.size,
            seconds=round(time.monotonic() - started, 3),
        )
        log.info("%s", report)
        return report

    def _have_all(self, wanted: list[WantedFile], target: Target, size: int) -> _DownloadStats:
        tally = _DownloadStats()
        later: list[WantedFile] = []

        def progress(_: int) -> None:
            there = f"{tally.there:,} of {len(wanted):,} files"
            log.info("%s, %s of %s MiB downloaded", there, _mib(tally.size), _mib(size))

        def have(file: WantedFile) -> None:
            try:
                self._have(file, target, tally, wait=False)
            except NotReadyError:
                later.append(file)

        def have_later(file: WantedFile) -> None:
            self._have(file, target, tally, wait=True)

        failures: list[tuple[WantedFile, Exception]] = []
        for work, files in ((have, wanted), (have_later, later)):
            if all(_is_of_one_file(error) for _, error in failures):
                failures += run_parallel(
                    files,
                    work,
                    name="download",
                    workers=self._workers,
                    stop=self._stop,
                    goes_on=_is_of_one_file,
                    progress=progress,
                )
        if self._stop.is_set():
            raise DSSAbortedError("the download was stopped; a retry goes on from what is there")
        if failures:
            raise DownloadError(
                sorted((file.name, _told(error)) for file, error in failures),
                done=tally.there,
                total=len(wanted),
                permanent=any(isinstance(error, DSSError) and error.permanent for _, error in failures),
            )
        return tally

    def _have(self, file: WantedFile, target: Target, tally: _DownloadStats, *, wait: bool) -> None:
        """Have a file in its place, by looking or by downloading."""
        with target.open_parent(file.parts) as parent:
            if self._is_there(file, parent):
                parent.remove(file.partial_name)
            else:
                self._download(file, parent, tally, wait=wait)
        tally.add(there=1)

    def _is_there(self, file: WantedFile, parent: Parent) -> bool:
        name = file.parts[-1]
        if parent.size(name) != file.size:
            return False
        sha256 = hashlib.sha256()
        with parent.open(name) as opened:
            while chunk := opened.read(MIB):
                self._check_stop()
                sha256.update(chunk)
        return sha256.hexdigest() == file.sha256

    def _download(self, file: WantedFile, parent: Parent, tally: _DownloadStats, *, wait: bool) -> None:
        with parent.open_partial(file.partial_name) as opened:
            try:
                self._fetch(file, _Watched(opened, self._check_stop, tally), wait=wait)
                opened.flush()
            except Exception as error:
                if isinstance(error, DSSContentError) or not opened.tell():
                    parent.remove(file.partial_name)  # nothing that a later try could go on from
                raise
            parent.rename(file.partial_name, file.parts[-1])
        tally.add(files=1)

    def _fetch(self, file: WantedFile, opened: _Watched, *, wait: bool) -> None:
        """Fetch what is missing of a file; all of it, if what is there is not its beginning."""
        begun = opened.seek(0, os.SEEK_END)
        if 0 < begun <= file.size:
            try:
                self._fetch_rest(file, opened, begun=True, wait=wait)
            except DSSContentError:
                log.warning("%s: what an earlier try left is not its beginning; downloading it whole", file.name)
            else:
                return
        opened.empty()
        self._fetch_rest(file, opened, begun=False, wait=wait)

    def _fetch_rest(self, file: WantedFile, opened: _Watched, *, begun: bool, wait: bool) -> None:
        content = Content(opened)
        if begun:
            content.begin_with(opened)
        call = self._dss.get_content(file.uuid, replica=self._replica, version=file.version, content=content, wait=wait)
        found = self._transport.run(call)
        if (found.size, found.sha256) != (file.size, file.sha256):
            told = f"the manifest says {file.size:,} bytes with sha256 {file.sha256}, the file has {found.sha256}"
            raise DSSContentError(file.uuid, file.version, told)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise DSSAbortedError("stopped")


class _Watched:
    """A file whose reading can be stopped, and what is written to it is counted."""

    def __init__(self, file: BinaryIO, check_stop: Callable[[], None], tally: _DownloadStats) -> None:
        self._file, self._check_stop, self._tally = file, check_stop, tally

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def empty(self) -> None:
        self._file.seek(0)
        self._file.truncate()

    def read(self, size: int, /) -> bytes:
        self._check_stop()
        return self._file.read(size)

    def write(self, data: bytes, /) -> int:
        self._tally.add(size=len(data))
        return self._file.write(data)


def _check_case(plan: Callable[..., list[WantedFile]], target: Target) -> None:
    """Refuse names that differ in case only where that makes no difference; where there are none, nothing is tried."""
    try:
        plan(ignores_case=True)
    except InvalidManifestError:
        if target.ignores_case():
            raise


def _is_of_one_file(error: Exception) -> bool:
    """Return whether other files may fare better; what is wrong with the service or the disk would hit them all."""
    if isinstance(error, OSError):
        return error.errno not in _DISK
    return isinstance(error, DSSNotFoundError | DSSContentError)


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _mib(size: int) -> str:
    return f"{size / MIB:,.1f}"
