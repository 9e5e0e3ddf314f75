"""How the files of a plan get into the staging bucket.

A file of up to 8 MiB is read once, into memory, and sent from there. One of up to 64 MiB is read twice, since its sums
go before its content; the second time from the system's cache. A larger one is read, summed and sent at the same time,
its parts by several threads; its sums follow in the end.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from airflow_provider_hca.client.models import FileMetadata
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.exceptions import DSSAbortedError, DSSConflictError, StagingError
from airflow_provider_hca.upload.changes import blaming_the_file, check_unchanged, read_unchanged
from airflow_provider_hca.upload.checksums import MIB, PART_SIZE, Checksums, checksum_bytes, checksum_stream
from airflow_provider_hca.upload.entries import FileChangedError, OtherContentError, PlannedFile
from airflow_provider_hca.upload.file_sums import FileSums, OpenFile, checksum_file
from airflow_provider_hca.upload.items import Item
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.report import UploadStats
from airflow_provider_hca.upload.sources.base import Source
from airflow_provider_hca.upload.staging.base import LargeCopy, LargeObject, Staging

log = logging.getLogger(__name__)

_SECTION = 8 * MIB  # that is read at once
_IN_MEMORY = 8 * MIB
# What is under way at once takes this much memory at most, or counts as if it did: so not too many parts of large files
# are begun, each of which an interruption would lose.
MEMORY = 64 * MIB

# Returns what a DSS knows of a file if an earlier try registered it.
LookUp = Callable[[PlannedFile], FileMetadata | None]


@dataclass(slots=True)
class Part:
    """A part of a large file, to be sent.

    :ivar number: from 0
    """

    large: _LargeFile | LargeObjectCopy
    number: int


def prefix_of(prefix: str, plan: Plan) -> str:
    """Return how all keys begin that a plan is staged under, and no other: so one listing tells what is there.

    :param prefix: of all that is staged, with the slash at its end, or empty
    """
    return f"{prefix}{plan.bundle_uuid}.{plan.bundle_version}/"


def key_of(file: PlannedFile, prefix: str) -> str:
    """Return the key that a file is staged under.

    It has not the file's name, since stores and servers differ in how they treat %, #, ? and blanks. It has the content
    type, which neither a listing nor an upload left open tells, and which a later try may change.

    :param prefix: as `prefix_of` returns it
    """
    return f"{prefix}{file.uuid}.{zlib.crc32(file.content_type.encode()):08x}"


def cost(work: Item | Part) -> int:
    """Return what staging something takes of the memory, in bytes."""
    return _IN_MEMORY if isinstance(work, Part) else min(work.file.size, _IN_MEMORY)


class Stager:
    """Stages the files of a plan; many threads may call `stage`.

    :param staging: the bucket
    :param plan: what is staged
    :param prefix: of the objects' keys
    :param creator_uid: who creates the files; another one in an earlier try is a conflict
    :param look_up: asks the DSS whether an earlier try registered a file; None when there was none
    :param policy: how long to go on trying to stage a file
    :param bandwidth: how many bytes a second
    :param tally: counts what is done
    :param stop: when set, everything ends with a `DSSAbortedError`
    """

    def __init__(
        self,
        staging: Staging,
        plan: Plan,
        *,
        prefix: str,
        creator_uid: int,
        look_up: LookUp | None,
        policy: RetryPolicy,
        bandwidth: RateLimiter,
        tally: UploadStats,
        stop: threading.Event,
    ) -> None:
        self.staging, self.tally = staging, tally
        self._prefix = prefix_of(prefix, plan)
        self._creator_uid, self._look_up = creator_uid, look_up
        self._policy, self._bandwidth, self._stop = policy, bandwidth, stop
        self._requests = RateLimiter()
        self.found: dict[str, str] = {}
        self._copier = None if plan.source is None else Copier(self, plan.source)
        self._large: list[_LargeFile] = []

    def key(self, file: PlannedFile) -> str:
        """Return the key that a file is staged under."""
        return key_of(file, self._prefix)

    def look(self) -> None:
        """See whether the bucket is there and, if there was an earlier try, what is in it."""
        self.persistently(self.staging.check)
        if self._look_up is None:
            return
        try:
            self.persistently(lambda: self.found.update(self.staging.find(self._prefix)))
        except StagingError as error:
            log.warning("%s; what earlier tries staged is not known, and will be sent again", error)

    def work(self, items: list[Item]) -> list[Item | Part]:
        """Return what is to be staged, one by one: small files, and parts of large ones."""
        works: list[Item | Part] = []
        for item in items:
            if item.file.size <= PART_SIZE:
                works.append(item)
            else:
                large: LargeObjectCopy | _LargeFile
                if self._copier is not None:
                    large = LargeObjectCopy(self._copier, item)
                else:
                    large = _LargeFile(self, item)
                    self._large.append(large)
                works.extend(Part(large, number) for number in range(large.part_count))
        return works

    def close(self) -> None:
        """Close the large files of which parts are left, since something else failed; nothing is staged any more."""
        for large in self._large:
            large.close()

    def stage(self, work: Item | Part) -> None:
        """Stage a file or a part of one, unless an earlier try did.

        :raises FileChangedError: when the file is not as planned
        :raises OSError: when it cannot be read
        :raises DSSError: when the store does not take it, or the DSS has another one
        """
        if isinstance(work, Part):
            work.large.stage(work.number)
        elif self._copier is not None:
            self._copier.stage(work)
        else:
            self._stage_small(work)

    def _stage_small(self, item: Item) -> None:
        started, file = time.monotonic(), item.file
        stored = self.look_up(file)
        content: bytes | Path
        if file.size <= _IN_MEMORY:
            content = read_unchanged(file)
            sums = checksum_bytes(content)
        else:
            content = file.path
            sums = checksum_file(content, file.size, self.on_summed)
            check_unchanged(file)
        item.sha256 = sums.sha256
        if not self.is_done(item, sums, stored):
            key = self.key(file)

            def put() -> None:
                with blaming_the_file(file):
                    self.staging.put(key, content, sums, file.content_type, self.on_sent)

            self.persistently(put)
            check_unchanged(file)
            self.tally.add(staged_files=1, staged_size=file.size)
        self.tally.took(time.monotonic() - started, file.name)

    def look_up(self, file: PlannedFile) -> FileMetadata | None:
        """Return what the DSS knows of a file, if an earlier try may have registered it."""
        return self._look_up(file) if self._look_up else None

    def is_done(self, item: Item, sums: Checksums, stored: FileMetadata | None) -> bool:
        """Return whether an earlier try staged a file as it is now, or even registered it.

        :param stored: what the DSS knows of it
        :raises DSSConflictError: when an earlier try registered it as it is not any more
        """
        if stored is not None:
            _check_same(item.file, sums.sha256, self._creator_uid, stored)
            item.registered = True
        elif self.found.get(self.key(item.file)) != self.staging.stored_sum(sums):
            return False
        self.tally.add(skipped_files=1, skipped_size=item.file.size)
        return True

    def persistently(self, act: Callable[[], None]) -> None:
        """Use the staging bucket again and again while its failure may pass."""
        started, attempt = time.monotonic(), 1
        while True:
            self.check_stop()
            self._requests.wait(self._stop)
            try:
                act()
            except StagingError as error:
                if error.throttled:
                    self._requests.slow_down(None)
                delay = None
                if not error.permanent:
                    delay = self._policy.delay(attempt, time.monotonic() - started, None)
                if delay is None:
                    raise
                attempt += 1
                self.tally.add(retries=1)
                log.warning("%s. Attempt %d of %d in %.1f s", error, attempt, self._policy.attempts, delay)
                self._stop.wait(delay)
            else:
                return

    def on_summed(self, count: int) -> None:
        """Count bytes of a large file that were summed."""
        self.check_stop()
        if count:
            self.tally.add(summed=count)

    def on_sent(self, count: int) -> None:
        """Count bytes that were sent."""
        self.check_stop()
        self.tally.add(sent=count)
        self._bandwidth.wait(self._stop, count)

    def on_copied(self, count: int) -> None:
        """Count bytes that the store copied."""
        self.check_stop()
        self.tally.add(sent=count)

    def check_stop(self) -> None:
        """Raise if the upload is to end."""
        if self._stop.is_set():
            raise DSSAbortedError("the upload was stopped; a retry goes on from what is staged and registered")


class _LargeFile:
    """A file above 64 MiB: opened by whoever stages the first part, finished by whoever stages the last."""

    def __init__(self, stager: Stager, item: Item) -> None:
        self._stager, self.item = stager, item
        self.part_count = stager.staging.part_count(item.file.size)
        self._left = self.part_count
        self._users = 0
        self._over = self._given_up = False
        self._lock = threading.Lock()
        self._started = 0.0
        self._stored: FileMetadata | None = None
        self._file: OpenFile | None = None
        self._sums: FileSums | None = None
        self._object: LargeObject | None = None

    def stage(self, number: int) -> None:
        """Stage a part; the last one completes the file."""
        with self._lock:
            if self._over:
                return
            self._users += 1
        try:
            self._stage(number)
        except BaseException as error:
            with self._lock:
                told, self._over = self._over, True
                # What is not worth going on with is not left in the bucket; the rest a later try takes up.
                self._given_up |= isinstance(error, FileChangedError | OSError)
            if self._sums is not None:
                self._sums.stop()  # others wait for it
            if not told:  # else this is but a consequence of what another thread met and told
                raise
        finally:
            self._leave()

    def _stage(self, number: int) -> None:
        with self._lock:
            if self._sums is None:
                self._open()
        with blaming_the_file(self.item.file):
            self._send(number)
            with self._lock:
                self._left -= 1
                last = not self._left
            if last:
                self._finish()

    def _open(self) -> None:
        file, stager = self.item.file, self._stager
        self._started = time.monotonic()
        check_unchanged(file)
        self._stored = stager.look_up(file)
        self._file = OpenFile(file.path)
        if self._stored is None and stager.key(file) not in stager.found:
            self._begin()
        computed = self._object is not None and self._object.computes_md5s
        self._sums = FileSums(self._file, file.size, stager.on_summed, md5s=not computed)

    def _begin(self) -> None:
        def begin() -> None:
            self._object = self._stager.staging.begin(self._stager.key(self.item.file), self.item.file.content_type)

        self._stager.persistently(begin)

    def _send(self, number: int) -> None:
        whole, file, sums = self._object, self._file, self._sums
        assert file is not None, "it was opened before"  # noqa: S101 - for the type checker
        assert sums is not None, "they were begun before"  # noqa: S101 - for the type checker
        if whole is not None:
            self._stager.persistently(lambda: whole.send(number, file, sums, self._stager.on_sent))
            return
        # What is there already is only read; but the parts of the file may be fewer than those of the object.
        for each in range(len(sums.parts)) if self.part_count == 1 else (number,):
            sums.md5(each)
            sums.release(each)

    def _finish(self) -> None:
        item, stager = self.item, self._stager
        assert self._sums is not None, "they were begun before"  # noqa: S101 - for the type checker
        sums = self._sums.result()
        item.sha256 = sums.sha256
        check_unchanged(item.file)
        if stager.is_done(item, sums, self._stored):
            if self._stored is None:  # an earlier try may have ended before it gave the object its sums
                stager.persistently(lambda: stager.staging.label(stager.key(item.file), sums))
        else:
            if self._object is None:  # what is there is another content
                self._begin()
                for number in range(self.part_count):
                    self._send(number)
            whole = self._object
            assert whole is not None, "it was begun"  # noqa: S101 - for the type checker
            stager.persistently(lambda: whole.finish(sums))
            check_unchanged(item.file)
            stager.tally.add(staged_files=1, staged_size=item.file.size)
        with self._lock:
            self._over = True
        stager.tally.took(time.monotonic() - self._started, item.file.name)

    def _leave(self) -> None:
        """Close what is open once nobody is at it any more."""
        with self._lock:
            self._users -= 1
            if self._over and not self._users:
                self._close()

    def close(self) -> None:
        """Close what is open when nobody will stage another part; what is staged is left for a later try."""
        with self._lock:
            self._over = True
            self._close()

    def _close(self) -> None:
        if self._file is None:
            return
        if self._sums is not None:
            self._sums.close()
        self._file.close()
        self._file = None
        if self._given_up and self._object is not None:
            self._object.abort()


class Copier:
    """Stages objects of a source; many threads may use it.

    :param stager: whose bucket it is
    :param source: of the objects
    """

    def __init__(self, stager: Stager, source: Source) -> None:
        self.stager, self.source = stager, source

    def stage(self, item: Item) -> None:
        """Stage an object of at most 64 MiB, unless an earlier try did.

        :raises FileChangedError: when it is not as planned
        :raises DSSError: when the store does not take it, or the DSS has another one
        """
        started, file, stager = time.monotonic(), item.file, self.stager
        stored = stager.look_up(file)
        sums = self.labels(file, stored) or self.read(file)
        if not stager.is_done(item, sums, stored):
            key = stager.key(file)
            sums = self.fitting(file, sums, lambda right: stager.staging.copy(key, self.source, file, right))
            stager.on_copied(file.size)
            stager.tally.add(staged_files=1, staged_size=file.size)
        item.sha256 = sums.sha256
        stager.tally.took(time.monotonic() - started, file.name)

    def fitting(self, file: PlannedFile, sums: Checksums, act: Callable[[Checksums], None]) -> Checksums:
        """Do something with the sums of an object; if the copy tells that they are not its, read it and do it again.

        :return: the sums that fit
        """
        fits: list[bool] = []

        def attempt() -> None:
            try:
                act(sums)
            except OtherContentError:
                fits.append(False)

        self.stager.persistently(attempt)
        if fits:
            sums = self.read(file)
            self.stager.persistently(lambda: act(sums))
        return sums

    def labels(self, file: PlannedFile, stored: FileMetadata | None) -> Checksums | None:
        """Return the sums that an object comes with, unless an earlier try found out that they are not its."""
        found: list[Checksums | None] = []
        self.stager.persistently(lambda: found.append(self.source.sums(file)))
        sums = found[0]
        return None if sums and stored and sums.sha256 != stored.sha256 else sums

    def read(self, file: PlannedFile) -> Checksums:
        """Return the sums of an object, which is read for them."""
        return checksum_stream(self._chunks(file), file.size)

    def _chunks(self, file: PlannedFile) -> Iterator[bytes]:
        for offset in range(0, file.size, _SECTION):
            section: list[bytes] = []
            size = min(_SECTION, file.size - offset)
            self.stager.persistently(partial(self._read, file, offset, size, section))
            yield section[0]

    def _read(self, file: PlannedFile, offset: int, size: int, into: list[bytes]) -> None:
        into[:] = [self.source.read(file, offset, size)]
        if len(into[0]) != size:
            raise StagingError(file.location, f"{len(into[0])} bytes came where {size} were to")
        self.stager.on_summed(size)


class LargeObjectCopy:
    """An object above 64 MiB: begun by whoever copies the first part, finished by whoever copies the last.

    :param copier: stages it
    :param item: of the object
    """

    def __init__(self, copier: Copier, item: Item) -> None:
        self._copier, self._stager, self.item = copier, copier.stager, item
        self.part_count = self._stager.staging.part_count(item.file.size)
        self._left = self.part_count
        self._over = False
        self._lock = threading.Lock()
        self._started = 0.0
        self._sums: Checksums | None = None
        self._copy: LargeCopy | None = None

    def stage(self, number: int) -> None:
        """Copy a part; the last one completes the object."""
        try:
            with self._lock:
                if self._copy is None and not self._over:
                    self._begin()
                copy = self._copy
                if self._over or copy is None:
                    return
            self._stager.persistently(lambda: copy.copy(number, self._stager.on_copied))
            with self._lock:
                self._left -= 1
                last = not self._left
            if last:
                self._finish(copy)
        except BaseException as error:
            with self._lock:
                told, self._over = self._over, True
            if told:  # this is but a consequence of what another thread met and told
                return
            if isinstance(error, FileChangedError) and self._copy is not None:
                self._copy.abort()  # what is not worth going on with is not left in the bucket
            raise

    def _begin(self) -> None:
        item, stager, copier = self.item, self._stager, self._copier
        self._started, key = time.monotonic(), stager.key(item.file)
        stored = stager.look_up(item.file)
        self._sums = copier.labels(item.file, stored)
        if self._sums is None and (stored is not None or key in stager.found):
            self._sums = copier.read(item.file)
        if self._sums is not None and stager.is_done(item, self._sums, stored):
            item.sha256, self._over = self._sums.sha256, True
            if stored is None:  # an earlier try may have ended before it gave the object its sums
                sums = self._sums
                stager.persistently(lambda: stager.staging.label(key, sums))
            return

        def begin() -> None:
            self._copy = stager.staging.begin_copy(key, copier.source, item.file)

        stager.persistently(begin)

    def _finish(self, copy: LargeCopy) -> None:
        sums = self._sums or self._copier.read(self.item.file)
        self.item.sha256 = self._copier.fitting(self.item.file, sums, copy.finish).sha256
        self._stager.tally.add(staged_files=1, staged_size=self.item.file.size)
        self._stager.tally.took(time.monotonic() - self._started, self.item.file.name)


def _check_same(file: PlannedFile, sha256: str, creator_uid: int, stored: FileMetadata) -> None:
    now = {"content": sha256, "content type": file.content_type, "creator_uid": creator_uid}
    then = {"content": stored.sha256, "content type": stored.content_type, "creator_uid": stored.creator_uid}
    changed = [what for what in now if now[what] != then[what]]
    if changed:
        raise DSSConflictError(
            "HEAD",
            f"/files/{file.uuid}",
            409,
            "file_already_exists",
            f"an earlier try registered version {file.version} with another {' and another '.join(changed)}: clear "
            "the DAG run, or give another bundle_version, and it becomes a new version",
        )
