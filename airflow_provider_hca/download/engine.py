"""A bundle becomes a directory: its files are downloaded by some threads, checked, and put in their places.

A file has its name only when it is whole and checked. What is there already, and is right, is left alone, so running it
again is how it is resumed; of a file that was begun only the rest is fetched.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from airflow_provider_hca.client.content import Content
from airflow_provider_hca.client.protocol import DSSAPI
from airflow_provider_hca.client.transports import RequestsTransport
from airflow_provider_hca.download.directory import Parent, Target
from airflow_provider_hca.download.plan import WantedFile, plan_download
from airflow_provider_hca.exceptions import (
    DownloadError,
    DSSAbortedError,
    DSSContentError,
    DSSError,
    DSSNotFoundError,
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
class _Tally:
    files: int = 0
    size: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, files: int = 0, size: int = 0) -> None:
        with self.lock:
            self.files += files
            self.size += size


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
        directory: Path,
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
        :raises DSSNotFoundError: when there is no such bundle; nothing was written
        :raises InvalidManifestError: when a name is one that no file must have; nothing was written
        :raises DownloadError: when files could not be downloaded or written; the others are there
        :raises DSSAbortedError: when told to stop
        """
        started = time.monotonic()
        bundle = self._transport.run(self._dss.get_bundle(uuid, replica=self._replica, version=version))
        plan = partial(plan_download, bundle, data_files=data_files, metadata_files=metadata_files)
        plan()  # before a directory is made
        try:
            target = Target(directory)
            wanted = plan(ignores_case=target.ignores_case)
        except OSError as error:
            raise DownloadError([("", f"{directory}: {error.strerror}")], done=0, total=len(bundle["files"])) from None
        size = sum(file.size for file in wanted)
        log.info("downloading %d of %d files (%.1f MiB)", len(wanted), len(bundle["files"]), size / MIB)
        tally = _Tally()

        def progress(done: int) -> None:
            log.info("%d of %d files, %.1f of %.1f MiB downloaded", done, len(wanted), tally.size / MIB, size / MIB)

        failures = run_parallel(
            wanted,
            lambda file: self._have(file, target, tally),
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
                sorted((file.name, str(error)) for file, error in failures),
                done=len(wanted) - len(failures),
                total=len(wanted),
                permanent=any(isinstance(error, DSSError) and error.permanent for _, error in failures),
            )
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

    def _have(self, file: WantedFile, target: Target, tally: _Tally) -> None:
        """Have a file in its place, by looking or by downloading."""
        name, begun = file.parts[-1], file.partial_name
        with target.open_parent(file.parts) as parent:
            if self._is_there(file, parent, name):
                parent.remove(begun)
                return
            try:
                with parent.open(begun, os.O_RDWR | os.O_CREAT) as opened:
                    self._fetch(file, opened, tally)
            except Exception as error:
                if isinstance(error, DSSContentError) or parent.size(begun) == 0:
                    parent.remove(begun)  # nothing that a later try could go on from
                raise
            parent.rename(begun, name)
            tally.add(files=1)

    def _is_there(self, file: WantedFile, parent: Parent, name: str) -> bool:
        if parent.size(name) != file.size:
            return False
        sha256 = hashlib.sha256()
        with parent.open(name, os.O_RDONLY) as opened:
            while chunk := opened.read(MIB):
                self._check_stop()
                sha256.update(chunk)
        return sha256.hexdigest() == file.sha256

    def _fetch(self, file: WantedFile, opened: BinaryIO, tally: _Tally) -> None:
        begun = os.fstat(opened.fileno()).st_size
        if 0 < begun <= file.size:
            try:
                self._fetch_rest(file, opened, tally, begun=True)
            except DSSContentError:
                log.warning("%s: what an earlier try left is not its beginning; downloading it whole", file.name)
            else:
                return
        opened.seek(0)
        opened.truncate()
        self._fetch_rest(file, opened, tally, begun=False)

    def _fetch_rest(self, file: WantedFile, opened: BinaryIO, tally: _Tally, *, begun: bool) -> None:
        content = Content(_Counting(opened, tally))
        if begun:
            content.begin_with(opened)
        call = self._dss.get_content(file.uuid, replica=self._replica, version=file.version, content=content)
        found = self._transport.run(call)
        if (found.size, found.sha256) != (file.size, file.sha256):
            told = f"the manifest says {file.size:,} bytes with sha256 {file.sha256}, the file has {found.sha256}"
            raise DSSContentError(file.uuid, file.version, told)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise DSSAbortedError("stopped")


class _Counting:
    """A file that is written to, counted."""

    def __init__(self, file: BinaryIO, tally: _Tally) -> None:
        self._file, self._tally = file, tally

    def write(self, data: bytes, /) -> int:
        self._tally.add(size=len(data))
        return self._file.write(data)


def _is_of_one_file(error: Exception) -> bool:
    """Return whether other files may fare better; what is wrong with the service or the disk would hit them all."""
    if isinstance(error, OSError):
        return error.errno not in _DISK
    return isinstance(error, DSSNotFoundError | DSSContentError)
