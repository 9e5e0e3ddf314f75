"""Stage the files of a plan.

A file of up to 8 MiB is read once, into memory, and sent from there. Up to 64 MiB it is read twice, since its checksums
are sent before its content; the second time from the system's cache. A larger file is hashed while its parts are sent,
and labelled with its checksums at the end. Objects of a source are copied by the store.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol, TypeVar

from airflow_provider_hca.client.models import FileMetadata
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.exceptions import DSSAbortedError, DSSConflictError, StagingError
from airflow_provider_hca.parallel import Workers
from airflow_provider_hca.upload.checksums import MIB, PART_SIZE, Checksums, checksum_bytes, checksum_stream
from airflow_provider_hca.upload.entries import FileChangedError, OtherContentError, PlannedFile
from airflow_provider_hca.upload.keys import bundle_prefix_of, key_of, last_part, prefix_of
from airflow_provider_hca.upload.local_files import LocalDirectory, OpenFile
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.report import UploadReport
from airflow_provider_hca.upload.sources.base import Source
from airflow_provider_hca.upload.staging.base import UNFINISHED, Staging
from airflow_provider_hca.upload.staging.parts import PartsRunner

log = logging.getLogger(__name__)

T = TypeVar("T")

MEMORY = 64 * MIB  # of all files in progress
_IN_MEMORY = 8 * MIB
_MAX_PARTS = MEMORY // _IN_MEMORY  # in progress at once: an interruption loses them
_SECTION = 8 * MIB  # of an object that is read


@dataclass(slots=True)
class Item:
    """A planned file during an upload.

    :ivar stored: file with its UUID that the DSS has, if any
    :ivar key: key of the staged object, after it is staged
    :ivar sha256: sha256 of its content, after it is staged
    :ivar registered: whether the DSS has it
    :ivar copying: whether the DSS is copying it
    """

    file: PlannedFile
    sha256: str = ""
    stored: FileMetadata | None = None
    key: str = ""
    registered: bool = False
    copying: bool = False


def cost(item: Item) -> int:
    """Return the share of `MEMORY` of an item; that of a large file lets two of them be in progress."""
    return MEMORY // 2 if item.file.size > PART_SIZE else min(item.file.size, _IN_MEMORY)


class Stager:
    """Stages the files of a plan; several threads may call `stage`.

    :param staging: staging bucket
    :param plan: plan of the upload
    :param prefix: prefix of all staged objects
    :param creator_uid: creator of the files; another one in an earlier try is a conflict
    :param policy: retries of requests to the store
    :param bandwidth: limit of bytes per second
    :param workers: maximum number of parts in progress
    :param report: record that is added to
    :param stop: event that ends everything with a `DSSAbortedError`
    """

    def __init__(
        self,
        staging: Staging,
        plan: Plan,
        *,
        prefix: str,
        creator_uid: int,
        policy: RetryPolicy,
        bandwidth: RateLimiter,
        workers: int,
        report: UploadReport,
        stop: threading.Event,
    ) -> None:
        self.staging, self.report = staging, report
        self._source, self._directory, self._prefix = plan.source, plan.directory, prefix_of(prefix, plan)
        self._bundle_prefix, self._creator_uid = bundle_prefix_of(prefix, plan), creator_uid
        self._policy, self._bandwidth, self._stop = policy, bandwidth, stop
        self._requests = RateLimiter()
        self._workers = min(workers, _MAX_PARTS)
        self._staged: dict[str, dict[str, str]] = {}  # key by stored sum, by last part of the key
        self._halted = False

    @cached_property
    def _pool(self) -> Workers:
        return Workers(self._workers, "part")

    def close(self) -> None:
        """End the threads."""
        if "_pool" in self.__dict__:
            self._pool.close()

    def halt(self) -> None:
        """Cancel large files in progress, since another file failed."""
        self._halted = True

    def check(self) -> None:
        """Check the bucket."""
        self.retry(self.staging.check)

    def find(self, base: str | None) -> bool:
        """Find what earlier tries and runs staged for this bundle; return whether there may be anything.

        :param base: version of the bundle whose files, and those of earlier ones, need not be found
        """
        # "0" follows "/" in ASCII. A version that a PATCH created can be newer than that of the run.
        after = "" if base is None else min(f"{self._bundle_prefix}{base}0", self._prefix)
        try:
            found = self.retry(lambda: self.staging.find(self._bundle_prefix, after=after))
        except StagingError as error:
            log.warning("%s; cannot find what earlier tries staged: all files are sent again", error)
            return True
        for key, stored_sum in sorted(found.items()):
            self._staged.setdefault(key.rpartition("/")[2], {})[stored_sum] = key
        return bool(found)

    def stage(self, item: Item) -> None:
        """Stage a file, unless an earlier try or run did.

        :raises FileChangedError: if the file differs from its plan
        :raises OSError: if it cannot be read
        :raises DSSError: if the store refuses it, or the DSS has another one
        """
        started, file = time.monotonic(), item.file
        stored = item.stored if item.stored is not None and item.stored.version == file.version else None
        found = self._staged.get(last_part(file), {})
        item.key = found.get(UNFINISHED) or key_of(file, self._prefix)
        content: _Content
        if self._source is not None:
            content = _SourceObject(self, self._source, file, stored)
        else:
            assert self._directory is not None, "a plan has a source or a directory"  # noqa: S101 - for the type checker
            kind = _LargeFile if file.size > PART_SIZE else _SmallFile
            content = kind(self, self._directory, file)
        sums = content.checksums(needed=item.stored is not None or any(found))
        if sums is not None and (self._is_registered(item, sums) or self._is_staged(item, sums, found)):
            self.report.add(skipped_file_count=1, skipped_byte_count=file.size)
        else:
            sums = content.stage(item.key, sums)
            self.report.add(staged_file_count=1, staged_byte_count=file.size)
        item.sha256 = sums.sha256
        self.report.add_duration(file.name, time.monotonic() - started)

    def _is_registered(self, item: Item, sums: Checksums) -> bool:
        """Return whether the DSS has a file with this content, which can be one of an earlier version.

        :raises DSSConflictError: if an earlier try registered the version with other content
        """
        file, stored = item.file, item.stored
        if stored is None:
            return False
        if stored.version == file.version:
            _check_same(file, sums.sha256, self._creator_uid, stored)
        elif (stored.sha256, stored.content_type) == (sums.sha256, file.content_type):
            item.file = replace(file, version=stored.version, registered=True)
        else:
            return False
        item.registered = True
        return True

    def _is_staged(self, item: Item, sums: Checksums, found: Mapping[str, str]) -> bool:
        """Return whether an object with this content was found, and use that."""
        key = found.get(self.staging.stored_sum(sums))
        if key is None:
            return False
        item.key = key
        if item.file.size > PART_SIZE:  # the process that staged it may have ended before it labelled the object
            self.retry(partial(self.staging.label, key, sums))
        return True

    def parts(self) -> PartsRunner:
        """Return a runner for the parts of one large object."""
        return PartsRunner(self._pool, retry=self.retry, on_read=self.on_read, on_sent=self.on_sent)

    def retry(self, call: Callable[[], T]) -> T:
        """Call a function that uses the staging bucket again while its failure may be temporary."""
        started, attempt = time.monotonic(), 1
        while True:
            self.check_stop()
            self._requests.wait(self._stop)
            try:
                return call()
            except StagingError as error:
                if error.throttled:
                    self._requests.slow_down(None)
                delay = None
                if not error.permanent:
                    delay = self._policy.delay(attempt, time.monotonic() - started, None)
                if delay is None:
                    raise
                attempt += 1
                self.report.add(retry_count=1)
                log.warning("%s; attempt %d of %d in %.1f s", error, attempt, self._policy.attempts, delay)
                self._stop.wait(delay)

    def on_read(self, count: int) -> None:
        """Count hashed bytes of a large file."""
        self.check_stop()
        if count:
            self.report.add(summed_byte_count=count)

    def on_sent(self, count: int) -> None:
        """Wait until bytes may be sent, and count them."""
        if count and self._source is None:  # copies do not pass this machine
            self._bandwidth.wait(self._stop, count)
        self.check_stop()
        if count:
            self.report.add(sent_byte_count=count)

    def check_stop(self) -> None:
        """Raise if the upload is to end."""
        if self._stop.is_set() or self._halted:
            raise DSSAbortedError("the upload was stopped; a retry resumes it")


class _Content(Protocol):
    """Content of a planned file."""

    def checksums(self, *, needed: bool) -> Checksums | None:
        """Return the checksums, or None if they are not needed and would have to be computed first."""
        ...

    def stage(self, key: str, sums: Checksums | None) -> Checksums:
        """Stage the content under a key, and return its checksums.

        :param sums: checksums that `checksums` returned
        """
        ...


class _SmallFile:
    """A file of at most 64 MiB."""

    def __init__(self, stager: Stager, directory: LocalDirectory, file: PlannedFile) -> None:
        self._stager, self._directory, self._file = stager, directory, file
        self._content: bytes | None = None

    def checksums(self, *, needed: bool) -> Checksums:  # noqa: ARG002 - always needed, to be sent first
        if self._file.size <= _IN_MEMORY:
            self._content = self._directory.read_unchanged(self._file)
            return checksum_bytes(self._content)
        with self._directory.open(self._file) as opened:
            sums = checksum_stream(opened.read(0, self._file.size, self._stager.on_read), self._file.size)
        self._directory.check_unchanged(self._file)
        return sums

    def stage(self, key: str, sums: Checksums | None) -> Checksums:
        assert sums is not None, "checksums() returned them"  # noqa: S101 - for the type checker
        if self._content is not None:
            self._stager.on_sent(len(self._content))  # not in `_put`: a wait would end the time for its retries
            self._put(key, self._content, sums)
        else:
            with self._directory.open(self._file) as opened:
                self._put(key, opened, sums)
        self._directory.check_unchanged(self._file)
        return sums

    def _put(self, key: str, content: bytes | OpenFile, sums: Checksums) -> None:
        file, stager = self._file, self._stager

        def put() -> None:
            with self._directory.detect_change(file):
                stager.staging.put(key, content, sums, file.content_type, stager.on_sent)

        stager.retry(put)


class _LargeFile:
    """A file above 64 MiB."""

    def __init__(self, stager: Stager, directory: LocalDirectory, file: PlannedFile) -> None:
        self._stager, self._directory, self._file = stager, directory, file

    def checksums(self, *, needed: bool) -> Checksums | None:
        directory, file = self._directory, self._file
        directory.check_unchanged(file)
        if not needed:
            return None
        with directory.detect_change(file), directory.open(file) as opened, self._stager.parts() as runner:
            sums = runner.checksum(opened, file.size)
        directory.check_unchanged(file)
        return sums

    def stage(self, key: str, _: Checksums | None) -> Checksums:
        directory, file, stager = self._directory, self._file, self._stager
        with directory.open(file) as opened:
            transfer = stager.retry(partial(stager.staging.begin, key, file.content_type, opened, file.size))
            try:
                with directory.detect_change(file):
                    with stager.parts() as runner:
                        sums = runner.send(transfer, opened, file.size)
                    directory.check_unchanged(file)
                    stager.retry(partial(transfer.finish, sums))
                    directory.check_unchanged(file)
            except (FileChangedError, OSError):  # after any other error a later try resumes
                transfer.abort()
                raise
        return sums


class _SourceObject:
    """An object of a source."""

    def __init__(self, stager: Stager, source: Source, file: PlannedFile, stored: FileMetadata | None) -> None:
        self._stager, self._source, self._file, self._stored = stager, source, file, stored

    def checksums(self, *, needed: bool) -> Checksums | None:
        sums = self._stager.retry(lambda: self._source.sums(self._file))
        if sums and self._stored and sums.sha256 != self._stored.sha256:
            sums = None  # an earlier try found that they are not those of the content
        return self._read() if sums is None and (needed or self._file.size <= PART_SIZE) else sums

    def stage(self, key: str, sums: Checksums | None) -> Checksums:
        file, stager = self._file, self._stager
        if file.size <= PART_SIZE:
            sums = self._finish(lambda sums: stager.staging.copy(key, self._source, file, sums), sums)
            stager.on_sent(file.size)
            return sums
        transfer = stager.retry(partial(stager.staging.begin_copy, key, self._source, file))
        try:
            with stager.parts() as runner:
                runner.copy(transfer)
            return self._finish(transfer.finish, sums)
        except FileChangedError:
            transfer.abort()
            raise

    def _finish(self, finish: Callable[[Checksums], None], sums: Checksums | None) -> Checksums:
        """Finish a copy; if it refutes the checksums that the object is labelled with, compute them and try again."""
        if sums is not None:
            refuted = self._stager.retry(partial(_is_refuted, finish, sums))
            if not refuted:
                return sums
        computed = self._read()
        self._stager.retry(partial(finish, computed))
        return computed

    def _read(self) -> Checksums:
        return checksum_stream(self._sections(), self._file.size)

    def _sections(self) -> Iterator[bytes]:
        for offset in range(0, self._file.size, _SECTION):
            yield self._stager.retry(partial(self._section, offset, min(_SECTION, self._file.size - offset)))

    def _section(self, offset: int, size: int) -> bytes:
        content = self._source.read(self._file, offset, size)
        if len(content) != size:
            raise StagingError(self._file.location, f"expected {size} bytes, got {len(content)}")
        self._stager.on_read(size)
        return content


def _is_refuted(finish: Callable[[Checksums], None], sums: Checksums) -> bool:
    try:
        finish(sums)
    except OtherContentError:
        return True
    return False


def _check_same(file: PlannedFile, sha256: str, creator_uid: int, stored: FileMetadata) -> None:
    now = {"content": sha256, "content type": file.content_type, "creator_uid": creator_uid}
    then = {"content": stored.sha256, "content type": stored.content_type, "creator_uid": stored.creator_uid}
    changed = [name for name in now if now[name] != then[name]]
    if changed:
        raise DSSConflictError(
            "HEAD",
            f"/files/{file.uuid}",
            409,
            "file_already_exists",
            f"an earlier try registered version {file.version} with another {' and another '.join(changed)}: clear "
            "the DAG run, or set another bundle_version of the upload, so that the file gets a new version",
        )
