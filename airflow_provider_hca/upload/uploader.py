"""A plan becomes a bundle: stage all its files, register them, wait for the DSS's copies, put the bundle.

The phases follow one another, and in each some threads take file after file: nothing is registered, which is for ever,
before every file has been read and staged. Nothing is written down here: uuids, versions and keys come with the plan,
so that a second try finds in the bucket and at the DSS what the first one did.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import TypeVar

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.models import FileMetadata, PutBundle, Replica
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.transport import RequestsTransport
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
from airflow_provider_hca.upload.checksums import MIB
from airflow_provider_hca.upload.entries import EVERY_NAME, FileChangedError, PlannedFile
from airflow_provider_hca.upload.items import Item
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.report import Progress, Registered, UploadReport, UploadStats, amount
from airflow_provider_hca.upload.sources.base import check_source
from airflow_provider_hca.upload.stager import MEMORY, Part, Stager, cost, key_of, prefix_of
from airflow_provider_hca.upload.staging.base import Staging

log = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_WORKERS = 64  # at most: as many are used as make it faster
_AT_FIRST = 4  # more would slow one another down where nothing has to be waited for
_DELETED_AT_ONCE = 500
_HEADS_FAIL_AT_MOST = 3
_MISSING_SECONDS = 300.0  # every file was seen to be there: one that is missing is only not yet seen by all servers


class Uploader:
    """Uploads directories as bundles.

    :param dss: the DSS
    :param transport: runs the calls; give it the same `stop`
    :param staging: where to stage; decides the replica
    :param replica: where the bundle is made
    :param creator_uid: who creates files and bundle
    :param staging_prefix: of the staged objects' keys
    :param workers: files under way at once, at most; as many are as make it faster, and together they take 64 MiB of
        memory
    :param bytes_per_second: how much is sent at most, by all workers together; without limit if None
    :param delete_staged: whether to remove what was staged once the bundle is there
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
        staging_prefix: str | None = None,
        workers: int = DEFAULT_WORKERS,
        bytes_per_second: float | None = None,
        delete_staged: bool = False,
        copy_seconds: float = 3600.0,
        policy: RetryPolicy | None = None,
        stop: threading.Event | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"max_workers must be at least 1, not {workers}")
        self._dss, self._transport, self._staging = dss, transport, staging
        self._replica, self._creator_uid = replica, creator_uid
        prefix = (staging_prefix or "").strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._workers, self._copy_seconds = workers, copy_seconds
        self._bandwidth, self._delete_staged = RateLimiter(bytes_per_second), delete_staged
        self._policy = policy or dss.retry
        self._stop = stop or threading.Event()
        self._on_progress = on_progress
        self._tally = UploadStats()

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
        :raises ValueError: when a source is in another cloud, or what is staged would be in it; nothing was staged
        :raises DSSError: when the DSS does not answer or does not take the token; nothing was staged
        :raises StagingError: when the bucket is not there; nothing was staged
        :raises InvalidDirectoryError: when files changed or could not be read; nothing was registered by this try
        :raises UploadError: when files could not be staged or registered
        :raises DSSAbortedError: when told to stop
        """
        self._tally = UploadStats()
        if plan.source is not None and plan.files:
            staged = self._staging.url(prefix_of(self._prefix, plan))
            check_source(plan.files[0].directory, replica=self._replica, staged=staged)
        items = [Item(file) for file in plan.files]
        seconds: dict[str, float] = {}
        retries = self._dss.retries
        skipped = f"; {plan.skipped:,} were left out (include, exclude, hidden, symlinks)" if plan.skipped else ""
        log.info("uploading %s%s", amount(len(items), plan.size), skipped)
        # Before hours of staging: does the DSS answer, does it take the token, is the bucket there?
        self._transport.run(self._dss.find_bundle(plan.bundle_uuid, replica=self._replica))
        self._transport.run(self._dss.check_token())
        stager = self._stager(plan, resume=resume)
        stager.look()

        with closing(stager):
            failed = self._phase("stage", stager.work(items), stager.stage, seconds, cost=cost, size=plan.size)
        failures = [((work.large.item if isinstance(work, Part) else work).file.name, error) for work, error in failed]
        changed = [(name, str(error)) for name, error in failures if isinstance(error, FileChangedError | OSError)]
        if changed and len(changed) == len(failures):
            raise InvalidDirectoryError(plan.files[0].directory, changed, permanent=False)
        self._raise(failures, items)
        if plan.names == EVERY_NAME:  # else what is begun may be another shard's, and it may be at it now
            self._staging.abort_multipart_uploads()

        to_register = [item for item in items if not item.registered]
        if to_register:
            # Staging may outlast a token: it is renewed here, once, and not by all threads together.
            self._transport.run(self._dss.authenticate())
        prefix = prefix_of(self._prefix, plan)
        self._raise_for(self._phase("register", to_register, lambda item: self._register(item, prefix), seconds), items)
        copying = tuple((item.file.uuid, item.file.version, item.sha256) for item in items if item.copying)
        return Registered(
            copying=copying,
            digest=plan.digest,
            staged_files=self._tally.staged_files,
            staged_size=self._tally.staged_size,
            skipped_files=self._tally.skipped_files,
            registered_files=self._tally.registered_files,
            copied_files=len(copying),
            retries=self._tally.retries + self._dss.retries - retries,
            slowest=[(name, round(spent, 3)) for spent, name in sorted(self._tally.slowest, reverse=True)],
            seconds=seconds,
        )

    def await_copies(self, plan: Plan, registered: Registered) -> Registered:
        """Wait until the DSS has copied what it copies asynchronously; return the same without copies to wait for.

        :param plan: the same as registered
        :param registered: from `register`
        :raises UploadError: when copies failed, or took too long
        :raises DSSAbortedError: when told to stop
        """
        sums = {uuid: sha256 for uuid, _, sha256 in registered.copying}
        items = [Item(file, sums.get(file.uuid, ""), registered=file.uuid not in sums) for file in plan.files]
        copying = [item for item in items if not item.registered]
        seconds = dict(registered.seconds)
        deadline = time.monotonic() + self._copy_seconds
        self._raise_for(
            self._phase("copy", copying, lambda item: self._await_copy(item, deadline), seconds, at_first=len(copying)),
            items,
        )
        return replace(registered, copying=(), seconds=seconds)

    def finish(self, plan: Plan, registered: Registered) -> UploadReport:
        """Put the bundle of files that are all there.

        :param plan: the same as registered
        :param registered: from `register`, its copies waited for
        :raises InvalidDirectoryError: when it is another plan
        """
        if plan.digest != registered.digest:
            told = "files came or went while the DSS was copying: a retry takes the directory as it is then"
            raise InvalidDirectoryError(plan.files[0].directory, [("", told)], permanent=False)
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
            skipped_files=registered.skipped_files,
            registered_files=registered.registered_files,
            copied_files=registered.copied_files,
            created=result.outcome == "created",
            retries=registered.retries,
            slowest=registered.slowest,
            seconds={**registered.seconds, "bundle": round(time.monotonic() - started, 3)},
        )
        log.info("%s", report)
        if self._delete_staged:
            self._remove_staged(plan)
        return report

    def abort_multipart_uploads(self, plan: Plan) -> None:
        """Have the store forget the parts of large files that tries of shards left and no other went on with.

        :param plan: of the whole directory, of which no shard is under way any more
        """
        try:
            self._staging.find(prefix_of(self._prefix, plan))
            self._staging.abort_multipart_uploads()
        except StagingError as error:
            log.warning("%s; parts of large files may be left there", error)

    def _stager(self, plan: Plan, *, resume: bool) -> Stager:
        return Stager(
            self._staging,
            plan,
            prefix=self._prefix,
            creator_uid=self._creator_uid,
            look_up=self._stored if resume else None,
            policy=self._policy,
            bandwidth=self._bandwidth,
            tally=self._tally,
            stop=self._stop,
        )

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

    def _register(self, item: Item, prefix: str) -> None:
        file = item.file
        url = self._staging.url(key_of(file, prefix))
        call = self._dss.put_file(file.uuid, file.version, source_url=url, creator_uid=self._creator_uid)
        outcome = self._transport.run(call).outcome
        item.copying = outcome == "copying"
        item.registered = not item.copying
        self._tally.add(registered_files=int(outcome != "identical"))

    def _await_copy(self, item: Item, deadline: float) -> None:
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
                files=(file.as_member() for file in plan.files),
                missing_seconds=min(self._copy_seconds, _MISSING_SECONDS),
            )
        )

    def _remove_staged(self, plan: Plan) -> None:
        """Remove the objects of this upload's keys, and no other; the bundle is made, so a failure does no harm."""
        prefix = prefix_of(self._prefix, plan)
        keys = [key_of(file, prefix) for file in plan.files]
        batches = [keys[first : first + _DELETED_AT_ONCE] for first in range(0, len(keys), _DELETED_AT_ONCE)]
        failures = self._phase("remove", batches, self._staging.delete, {})
        if failures:
            log.warning("staged objects were left in the bucket: %s", failures[0][1])

    def _phase(
        self,
        name: str,
        works: list[T],
        work: Callable[[T], None],
        seconds: dict[str, float],
        *,
        at_first: int = _AT_FIRST,
        cost: Callable[[T], int] = lambda _: 0,
        size: int = 0,
    ) -> list[tuple[T, Exception]]:
        """Do something for many in threads, and return those for which it failed, and why."""
        if not works:
            return []
        started = time.monotonic()
        last = [started, 0]

        self._tell(name, 0, len(works))

        def progress(done: int) -> None:
            now, tally = time.monotonic(), self._tally
            told, rate = f"{done:,} of {len(works):,} done", 0.0
            if size:
                rate, left = (tally.sent - last[1]) / (now - last[0]), size - tally.sent - tally.skipped_size
                last[:] = now, tally.sent
                summed = f"{tally.summed / MIB:,.1f} MiB of large files summed, " if tally.summed else ""
                flow = f"{tally.sent / MIB:,.1f} MiB sent, {rate / MIB:,.1f} MiB/s, {max(0, left) / MIB:,.1f} MiB left"
                told += f", {summed}{flow}"
            self._tell(name, done, len(works), rate)
            log.info("%s: after %.0f s %s", name, now - started, told)

        failures = run_parallel(
            works,
            work,
            name=name,
            workers=self._workers,
            at_first=at_first,
            cost=cost,
            budget=MEMORY,
            stop=self._stop,
            goes_on=_is_of_one_file,
            progress=progress,
        )
        self._check_stop()
        seconds[name] = round(time.monotonic() - started, 3)
        return failures

    def _tell(self, phase: str, done: int, works: int, rate: float = 0.0) -> None:
        self._on_progress(Progress(phase, done, works, self._tally.sent + self._tally.skipped_size, rate))

    def _raise_for(self, failures: list[tuple[Item, Exception]], items: list[Item]) -> None:
        self._raise([(item.file.name, error) for item, error in failures], items)

    def _raise(self, failures: list[tuple[str, Exception]], items: list[Item]) -> None:
        if not failures:
            return
        raise UploadError(
            sorted((name, str(error)) for name, error in failures),
            done=sum(item.registered for item in items),
            total=len(items),
            permanent=any(isinstance(error, DSSError) and error.permanent for _, error in failures),
        )

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise DSSAbortedError("the upload was stopped; a retry goes on from what is registered")


def _is_of_one_file(error: Exception) -> bool:
    """Return whether other files may fare better; what is wrong with the service would hit them all."""
    return isinstance(error, DSSConflictError | DSSCopyError | FileChangedError | OSError)
