"""A plan becomes a bundle: stage all its files, register them, wait for the DSS's copies, put the bundle.

The phases follow one another, and in each some threads take file after file: nothing is registered, which is for ever,
before every file has been read and staged. Nothing is written down here: uuids and versions come with the plan, so
that a second try finds at the DSS what the first one did.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from airflow_provider_hca.client.exchange import RetryPolicy
from airflow_provider_hca.client.model import FileMetadata, PutBundle, Replica
from airflow_provider_hca.client.protocol import DSSAPI
from airflow_provider_hca.client.transports import RequestsTransport
from airflow_provider_hca.exceptions import (
    DSSAbortedError,
    DSSConflictError,
    DSSCopyError,
    DSSError,
    DSSResponseError,
    InvalidDirectoryError,
    StagingError,
    UploadError,
)
from airflow_provider_hca.parallel import run_parallel
from airflow_provider_hca.upload.checksums import MIB, Checksums, checksum_bytes, checksum_file
from airflow_provider_hca.upload.plan import Plan, PlannedFile
from airflow_provider_hca.upload.report import Progress, Registered, UploadReport, amount
from airflow_provider_hca.upload.staging import Staging

log = logging.getLogger(__name__)

DEFAULT_WORKERS = 8
# A file up to this size is read once, into memory, and sent from there. A larger one is read twice, a MiB at a time,
# so that a worker never needs more memory than this.
_IN_MEMORY = 8 * MIB
_HEADS_FAIL_AT_MOST = 3
_MISSING_SECONDS = 300.0  # every file was seen to be there: one that is missing is only not yet seen by all servers


class _FileChangedError(DSSError):
    """The content is not what was planned."""


@dataclass(slots=True)
class _Item:
    """A planned file on its way.

    :ivar sha256: of its content, once it is staged
    """

    file: PlannedFile
    sha256: str = ""
    registered: bool = False
    copying: bool = False


@dataclass(slots=True)
class _Tally:
    """What was done so far; counted by many threads."""

    staged_files: int = 0
    staged_size: int = 0
    sent: int = 0
    summed: int = 0
    skipped_size: int = 0
    registered_files: int = 0
    heads_failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


class Uploader:
    """Uploads directories as bundles.

    :param dss: the DSS
    :param transport: runs the calls; give it the same `stop`
    :param staging: where to stage; decides the replica
    :param replica: where the bundle is made
    :param creator_uid: who creates files and bundle
    :param staging_prefix: of the staged objects' keys
    :param workers: files under way at once; each needs up to 8 MiB of memory
    :param copy_seconds: how long to wait for the DSS's asynchronous copies
    :param policy: how long to go on trying to stage a file; as with calls of the DSS if None
    :param stop: when set, `upload` ends within seconds with an `DSSAbortedError`
    :param on_progress: called at the beginning of each phase and every few seconds in it, in the caller's thread
    """

    def __init__(
        self,
        dss: DSSAPI,
        transport: RequestsTransport,
        staging: Staging,
        *,
        replica: Replica,
        creator_uid: int,
        staging_prefix: str = "",
        workers: int = DEFAULT_WORKERS,
        copy_seconds: float = 3600.0,
        policy: RetryPolicy | None = None,
        stop: threading.Event | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"max_workers must be at least 1, not {workers}")
        self._dss, self._transport, self._staging = dss, transport, staging
        self._replica, self._creator_uid = replica, creator_uid
        self._prefix = f"{staging_prefix.strip('/')}/" if staging_prefix.strip("/") else ""
        self._workers, self._copy_seconds = workers, copy_seconds
        self._policy = policy or dss.retry
        self._stop = stop or threading.Event()
        self._on_progress = on_progress
        self._tally = _Tally()

    def upload(self, plan: Plan, *, resume: bool = False) -> UploadReport:
        """Make the bundle that is planned: `register`, `await_copies` and `finish` in one.

        :param plan: from `plan_directory`
        :param resume: whether an earlier try may have got somewhere: then each file is looked up first, and what is
            registered with the same content is neither staged nor registered again
        :raises DSSError: what any of the three raises
        """
        registered = self.register(plan, resume=resume)
        return self.finish(plan, self.await_copies(plan, registered))

    def register(self, plan: Plan, *, resume: bool = False) -> Registered:
        """Stage and register all files of a plan.

        :param plan: from `plan_directory`
        :param resume: whether an earlier try may have got somewhere
        :raises DSSError: when the DSS does not answer or does not take the token; nothing was staged
        :raises StagingError: when the bucket is not there; nothing was staged
        :raises InvalidDirectoryError: when files changed or could not be read; nothing was registered by this try
        :raises UploadError: when files could not be staged or registered
        :raises DSSAbortedError: when told to stop
        """
        self._tally = _Tally()
        items = [_Item(file) for file in plan.files]
        seconds: dict[str, float] = {}
        skipped = f"; {plan.skipped:,} were left out (include, exclude, hidden, symlinks)" if plan.skipped else ""
        log.info("uploading %s%s", amount(len(items), plan.size), skipped)
        # Before hours of staging: does the DSS answer, does it take the token, is the bucket there?
        self._transport.run(self._dss.find_bundle(plan.bundle_uuid, replica=self._replica))
        self._transport.run(self._dss.check_token())
        self._persistently(self._staging.check)

        failures = self._phase("stage", items, lambda item: self._stage(item, resume=resume), seconds)
        changed = [(name, str(error)) for name, error in failures if isinstance(error, _FileChangedError | OSError)]
        if changed and len(changed) == len(failures):
            raise InvalidDirectoryError(str(_directory(plan)), changed, permanent=False)
        self._raise(failures, items)

        to_register = [item for item in items if not item.registered]
        if to_register:
            # Staging may outlast a token: it is renewed here, once, and not by all threads together.
            self._transport.run(self._dss.authenticate())
        self._raise(self._phase("register", to_register, self._register, seconds), items)
        copying = tuple((item.file.uuid, item.file.version, item.sha256) for item in items if item.copying)
        return Registered(
            copying=copying,
            digest=plan.digest,
            staged_files=self._tally.staged_files,
            staged_size=self._tally.staged_size,
            registered_files=self._tally.registered_files,
            copied_files=len(copying),
            seconds={phase: round(spent, 3) for phase, spent in seconds.items()},
        )

    def await_copies(self, plan: Plan, registered: Registered) -> Registered:
        """Wait until the DSS has copied what it copies asynchronously; return the same without copies to wait for.

        :param plan: the same as registered
        :param registered: from `register`
        :raises UploadError: when copies failed, or took too long
        :raises DSSAbortedError: when told to stop
        """
        sums = {uuid: sha256 for uuid, _, sha256 in registered.copying}
        items = [_Item(file, sums.get(file.uuid, ""), registered=file.uuid not in sums) for file in plan.files]
        copying = [item for item in items if not item.registered]
        seconds = dict(registered.seconds)
        deadline = time.monotonic() + self._copy_seconds
        self._raise(self._phase("copy", copying, lambda item: self._await_copy(item, deadline), seconds), items)
        return replace(registered, copying=(), seconds=seconds)

    def finish(self, plan: Plan, registered: Registered) -> UploadReport:
        """Put the bundle of files that are all there.

        :param plan: the same as registered
        :param registered: from `register`, its copies waited for
        :raises InvalidDirectoryError: when it is another plan
        """
        if plan.digest != registered.digest:
            told = "files came or went while the DSS was copying: a retry takes the directory as it is then"
            raise InvalidDirectoryError(_directory(plan), [("", told)], permanent=False)
        started = time.monotonic()
        self._tell("bundle", 0, len(plan.files))
        result = self._put_bundle(plan)
        report = UploadReport(
            uuid=result.uuid,
            version=result.version,
            replica=self._replica,
            files=len(plan.files),
            size=plan.size,
            staged_files=registered.staged_files,
            staged_size=registered.staged_size,
            registered_files=registered.registered_files,
            copied_files=registered.copied_files,
            created=result.outcome == "created",
            seconds={**registered.seconds, "bundle": round(time.monotonic() - started, 3)},
        )
        log.info("%s", report)
        return report

    def _stage(self, item: _Item, *, resume: bool) -> None:
        file = item.file
        stored = self._stored(file) if resume else None
        content = _read(file) if file.size <= _IN_MEMORY else None
        sums = checksum_bytes(content) if content is not None else checksum_file(file.path, file.size, self._on_summed)
        item.sha256 = sums.sha256
        _check_unchanged(file, content)
        if stored is not None:
            self._check_same(file, item.sha256, stored)
            item.registered = True
            self._tally.add(skipped_size=file.size)
            return
        if resume and self._is_staged(file, sums):
            self._tally.add(skipped_size=file.size)
            return
        self._put_object(file, content, sums)
        _check_unchanged(file, content)
        self._tally.add(staged_files=1, staged_size=file.size)

    def _stored(self, file: PlannedFile) -> FileMetadata | None:
        call = self._dss.head_file(file.uuid, replica=self._replica, version=file.version)
        try:
            return self._transport.run(call)
        except DSSResponseError as error:
            # 422 and 500 are what a DSS answers for ever after an earlier try's copy failed: it is to be done again.
            # 500 for many files is a DSS in trouble.
            self._tally.add(heads_failed=int(error.status == 500))
            if error.status not in {404, 422, 500} or self._tally.heads_failed > _HEADS_FAIL_AT_MOST:
                raise
            return None

    def _check_same(self, file: PlannedFile, sha256: str, stored: FileMetadata) -> None:
        now = {"content": sha256, "content type": file.content_type, "creator_uid": self._creator_uid}
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

    def _is_staged(self, file: PlannedFile, sums: Checksums) -> bool:
        try:
            return self._staging.holds(self._key(file), sums, file.content_type)
        except StagingError as error:
            log.debug("cannot look at what an earlier try staged: %s", error)  # then it is staged again
            return False

    def _put_object(self, file: PlannedFile, content: bytes | None, sums: Checksums) -> None:
        def put() -> None:
            try:
                self._staging.put(
                    self._key(file), file.path if content is None else content, sums, file.content_type, self._on_sent
                )
            except DSSAbortedError:
                raise
            except Exception:
                _check_unchanged(file, content)  # else the store is not to blame, and trying again will not help
                raise

        self._persistently(put)

    def _persistently(self, act: Callable[[], None]) -> None:
        """Use the staging bucket again and again while its failure may pass."""
        started, attempt = time.monotonic(), 1
        while True:
            self._check_stop()
            try:
                act()
            except StagingError as error:
                delay = None
                if not error.permanent:
                    delay = self._policy.delay(attempt, time.monotonic() - started, None)
                if delay is None:
                    raise
                attempt += 1
                log.warning("%s. Attempt %d of %d in %.1f s", error, attempt, self._policy.attempts, delay)
                self._stop.wait(delay)
            else:
                return

    def _register(self, item: _Item) -> None:
        file = item.file
        call = self._dss.put_file(
            file.uuid, file.version, source_url=self._staging.url(self._key(file)), creator_uid=self._creator_uid
        )
        outcome = self._transport.run(call).outcome
        item.copying = outcome == "copying"
        item.registered = not item.copying
        self._tally.add(registered_files=int(outcome != "identical"))

    def _await_copy(self, item: _Item, deadline: float) -> None:
        call = self._dss.wait_for_file(
            item.file.uuid,
            item.file.version,
            replica=self._replica,
            sha256=item.sha256,
            seconds=max(0.0, deadline - time.monotonic()),
        )
        self._transport.run(call)
        item.registered = True

    def _put_bundle(self, plan: Plan) -> PutBundle:
        self._check_stop()
        return self._transport.run(
            self._dss.put_bundle(
                plan.bundle_uuid,
                plan.bundle_version,
                replica=self._replica,
                creator_uid=self._creator_uid,
                files=[file.as_member() for file in plan.files],
                missing_seconds=min(self._copy_seconds, _MISSING_SECONDS),
            )
        )

    def _phase(
        self, name: str, items: list[_Item], work: Callable[[_Item], None], seconds: dict[str, float]
    ) -> list[tuple[str, Exception]]:
        """Do `work` for all items, in threads, and return the names of those that failed, and why."""
        if not items:
            return []
        started = time.monotonic()
        last = [started, 0]

        size = sum(item.file.size for item in items)
        self._tell(name, 0, len(items))

        def progress(done: int) -> None:
            now, sent = time.monotonic(), self._tally.sent
            rate = (sent - last[1]) / MIB / (now - last[0])
            last[:] = now, sent
            self._tell(name, done, len(items), rate * MIB if name == "stage" else 0.0)
            left = f"{len(items) - done:,} files"
            if name == "stage":
                left += f" and {max(0, size - sent - self._tally.skipped_size) / MIB:,.1f} MiB"
            flow = ""
            if name == "stage":
                summed = f" {self._tally.summed / MIB:,.1f} MiB of large files summed," if self._tally.summed else ""
                flow = f"{summed} {sent / MIB:,.1f} MiB sent, {rate:,.1f} MiB/s,"
            log.info("%s: %s of %s files after %.0f s,%s %s left", name, done, len(items), now - started, flow, left)

        failures = run_parallel(
            items, work, name=name, workers=self._workers, stop=self._stop, goes_on=_is_of_one_file, progress=progress
        )
        self._check_stop()
        seconds[name] = time.monotonic() - started
        return [(item.file.name, error) for item, error in failures]

    def _tell(self, phase: str, done: int, files: int, rate: float = 0.0) -> None:
        self._on_progress(Progress(phase, done, files, self._tally.sent + self._tally.skipped_size, rate))

    def _raise(self, failures: list[tuple[str, Exception]], items: list[_Item]) -> None:
        if not failures:
            return
        raise UploadError(
            sorted((name, str(error)) for name, error in failures),
            done=sum(item.registered for item in items),
            total=len(items),
            permanent=any(isinstance(error, DSSError) and error.permanent for _, error in failures),
        )

    def _key(self, file: PlannedFile) -> str:
        # Not the file's name: stores and servers differ in how they treat %, #, ? and blanks in a key.
        return f"{self._prefix}{file.uuid}.{file.version}"

    def _on_summed(self, count: int) -> None:
        self._check_stop()
        self._tally.add(summed=count)

    def _on_sent(self, count: int) -> None:
        self._check_stop()
        self._tally.add(sent=count)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise DSSAbortedError("the upload was stopped; a retry goes on from what is registered")


def _is_of_one_file(error: Exception) -> bool:
    """Return whether other files may fare better; what is wrong with the service would hit them all."""
    return isinstance(error, DSSConflictError | DSSCopyError | _FileChangedError | OSError)


def _read(file: PlannedFile) -> bytes:
    with file.path.open("rb") as opened:
        return opened.read(file.size + 1)  # one that has grown meanwhile may be of any size


def _check_unchanged(file: PlannedFile, content: bytes | None) -> None:
    status = os.stat(file.path)  # noqa: PTH116 - one system call; Path.stat is the same, slower
    same = (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns)
    if not same or (content is not None and len(content) != file.size):
        raise _FileChangedError("changed while it was being uploaded: let whatever writes it finish first")


def _directory(plan: Plan) -> str:
    path = str(plan.files[0].path)
    return path.removesuffix(plan.files[0].name).rstrip("/") or "/"
