"""Create a bundle from a plan: stage all files, register them, wait for the DSS's copies, put the bundle.

The phases run one after another: nothing is registered, which cannot be undone, before every file was read and staged.
There is no state file: UUIDs, versions and keys derive from the plan, so that a retry finds in the bucket and in the
DSS what the first try did.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TypeVar

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.bulk import run_bulk
from airflow_provider_hca.client.models import PutBundle, check_replica
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import (
    DSSAbortedError,
    DSSConflictError,
    DSSCopyError,
    DSSError,
    DSSNotFoundError,
    DSSResponseError,
    InvalidDirectoryError,
    StagingError,
    UploadError,
)
from airflow_provider_hca.parallel import run_parallel
from airflow_provider_hca.units import amount, size_text
from airflow_provider_hca.upload.changes import Changes, check_created, encode_kept
from airflow_provider_hca.upload.entries import EVERY_NAME, FileChangedError
from airflow_provider_hca.upload.keys import bundle_prefix_of, is_key, prefix_of
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.report import UploadReport
from airflow_provider_hca.upload.sources.base import check_source
from airflow_provider_hca.upload.stager import MEMORY, Item, Stager, cost
from airflow_provider_hca.upload.staging.base import Staging

log = logging.getLogger(__name__)

T = TypeVar("T")

_DELETED_AT_ONCE = 500
_MAX_FAILED_HEADS = 3
_RATE_MARKS = 4  # progress reports whose average is the rate: one object of a slow upload can take longer than one
_MISSING_SECONDS = 300.0  # all files were found by then: a missing one is not visible to all servers yet


class Uploader:
    """Uploads directories as bundles.

    :param dss: API of the DSS
    :param transport: transport of its calls, with the same `stop`
    :param staging: staging bucket of the replica
    :param options: options of the upload
    :param creator_uid: creator of files and bundle
    :param policy: retries of requests to the store; those of the API if None
    :param stop: event that ends the upload within seconds with a `DSSAbortedError`
    :param on_progress: called at the beginning of each phase and every few seconds, in the caller's thread
    """

    def __init__(
        self,
        dss: DSSAPI,
        transport: RequestsTransport,
        staging: Staging,
        options: UploadOptions,
        *,
        creator_uid: int,
        policy: RetryPolicy | None = None,
        stop: threading.Event | None = None,
        on_progress: Callable[[UploadReport], None] | None = None,
    ) -> None:
        self._dss, self._transport, self._staging, self._options = dss, transport, staging, options
        self._replica, self._creator_uid = check_replica(options.replica), creator_uid
        prefix = (options.staging_prefix or "").strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._bandwidth = RateLimiter(options.max_bytes_per_second)
        transport.rate_limiter.limit(options.max_requests_per_second)
        self._policy, self._stop = policy or dss.retry, stop or threading.Event()
        self._on_progress = on_progress or (lambda _: None)
        self._failed_heads = 0
        self._is_checked, self._check_lock = False, threading.Lock()

    def upload(self, plan: Plan, *, resume: bool = False, changes: Changes | None = None) -> UploadReport:
        """Create the bundle: `register`, `await_copies` and `finish`.

        :param plan: plan from `plan_directory`, or from `changes.compare`
        :param resume: whether an earlier try may have staged or registered files, which are then skipped
        :param changes: difference from `changes.compare`
        :raises DSSError: any error of the three methods
        """
        plan, report = self.register(plan, resume=resume, changes=changes)
        self.await_copies(plan, report)
        return self.finish(plan, report)

    def register(
        self, plan: Plan, *, resume: bool = False, changes: Changes | None = None
    ) -> tuple[Plan, UploadReport]:
        """Stage and register all files, except those that `changes.compare` found in the DSS.

        Skips what an earlier try staged or registered and, if the plan was compared, also what an earlier run did for
        another version of the bundle.

        :param plan: plan from `plan_directory`, or from `changes.compare`
        :param resume: whether an earlier try may have staged or registered files of this version
        :param changes: difference from `changes.compare`
        :return: the plan, in which files that the DSS had have their versions, and the report, whose `copying` are the
            files to wait for
        :raises ValueError: if the source is in another cloud, or would contain the staged objects
        :raises DSSConflictError: if an earlier try created this version of the bundle from files with other names
        :raises DSSError: if the DSS does not answer or refuses the token; nothing was staged
        :raises StagingError: if the bucket does not exist; nothing was staged
        :raises InvalidDirectoryError: if files changed or could not be read; this try registered nothing
        :raises UploadError: if files could not be staged or registered
        :raises DSSAbortedError: if stopped
        """
        if plan.source is not None and plan.files:
            staged = self._staging.url(prefix_of(self._prefix, plan))
            check_source(plan.files[0].directory, replica=self._replica, staged=staged)
        report, retries = UploadReport.of_plan(plan, self._replica, changes), self._dss.retries
        items = [Item(file) for file in plan.files if not file.registered]
        skipped = f"; {plan.skipped:,} left out by include, exclude, hidden, symlinks" if plan.skipped else ""
        log.info("uploading %s%s", amount(len(items), sum(item.file.size for item in items)), skipped)
        self._stage(plan, items, report, resume=resume)
        found = {item.file.name: item.file.version for item in items if item.file.registered}
        if found:
            compared, plan = plan, plan.with_registered(found)
            report.digest, report.kept = plan.digest, encode_kept(compared.files, plan.files)
        self._register_staged(items, report)
        report.add(retry_count=self._dss.retries - retries)
        return plan, report

    def await_copies(self, plan: Plan, report: UploadReport) -> None:
        """Wait until the DSS has copied all files.

        :param plan: plan from `register`
        :param report: report from `register`
        :raises UploadError: if copies failed, or took too long
        :raises DSSAbortedError: if stopped
        """
        sums = {uuid: sha256 for uuid, _, sha256 in report.copying}
        items = [
            Item(file, sums.get(file.uuid, ""), registered=file.uuid not in sums)
            for file in plan.files
            if not file.registered
        ]
        deadline = time.monotonic() + self._options.copy_timeout
        copying = [item for item in items if not item.registered]
        failures = self._bulk("copy", copying, lambda item: self._await_copy(item, deadline), report)
        self._raise(failures, items)
        report.copying = []

    def finish(self, plan: Plan, report: UploadReport) -> UploadReport:
        """Put the bundle, whose files the DSS has.

        :param plan: plan from `register`
        :param report: report from `register`, after the copies
        :raises InvalidDirectoryError: if it is another plan
        """
        self.check_plan(plan, report)
        started = time.monotonic()
        self._show(report, "bundle", 0, len(plan.files))
        report.created = self._put_bundle(plan).outcome == "created"
        report.seconds["bundle"] = round(time.monotonic() - started, 3)
        log.info("%s", report)
        if self._options.delete_staged:
            self._delete_staged(plan, report)
        return report

    @staticmethod
    def check_plan(plan: Plan, report: UploadReport) -> None:
        """Check that a plan is the one that was registered.

        :param plan: plan of the directory after the copies
        :param report: report from `register`
        :raises InvalidDirectoryError: if it is another plan
        """
        if plan.digest != report.digest:
            reason = "files were added or removed while the DSS was copying; a retry uploads its current files"
            raise InvalidDirectoryError(plan.files[0].directory, [("", reason)], permanent=False)

    def abort_multipart_uploads(self, plan: Plan) -> None:
        """Abort multipart uploads that tries of shards left unfinished.

        :param plan: plan of the whole directory, after all shards have ended
        """
        prefix = prefix_of(self._prefix, plan)
        try:
            self._staging.find(prefix)
            self._staging.abort_multipart_uploads(prefix)
        except StagingError as error:
            log.warning("%s; parts of large files may remain there", error)

    def _stage(self, plan: Plan, items: list[Item], report: UploadReport, *, resume: bool) -> None:
        stager = Stager(
            self._staging,
            plan,
            prefix=self._prefix,
            creator_uid=self._creator_uid,
            policy=self._policy,
            bandwidth=self._bandwidth,
            workers=self._options.max_workers,
            report=report,
            stop=self._stop,
        )
        self._check(plan, stager)
        self._find(plan, items, stager, report, resume=resume)

        def continue_after(error: Exception) -> bool:
            if not _is_of_one_file(error):
                stager.halt()
                return False
            return True

        with closing(stager):
            failures = self._threads("stage", items, stager.stage, report, continue_after, cost=cost)
        changed = [(item.file.name, str(e)) for item, e in failures if isinstance(e, FileChangedError | OSError)]
        if changed and len(changed) == len(failures):
            raise InvalidDirectoryError(plan.files[0].directory, changed, permanent=False)
        self._raise(failures, items)
        if plan.names == EVERY_NAME:  # unfinished uploads may be those of another shard in progress otherwise
            self._staging.abort_multipart_uploads(prefix_of(self._prefix, plan))

    def _find(self, plan: Plan, items: list[Item], stager: Stager, report: UploadReport, *, resume: bool) -> None:
        """Find what earlier tries and runs staged and registered."""
        if resume and plan.base is None:
            self._check_created(plan)
        found = (resume or plan.base is not None) and stager.find(plan.base or None)
        # Files are registered after they were staged; what was staged is deleted after the bundle is created.
        if found or (resume and self._transport.run(self._dss.find_bundle(plan.bundle_uuid, replica=self._replica))):
            self._raise(self._bulk("look_up", items, self._look_up, report), items)

    def _check(self, plan: Plan, stager: Stager) -> None:
        """Check once, before hours of staging, that the DSS answers and accepts the token and the bucket exists."""
        with self._check_lock:
            if not self._is_checked:
                self._transport.run(self._dss.find_bundle(plan.bundle_uuid, replica=self._replica))
                self._transport.run(self._dss.check_token())
                stager.check()
                self._is_checked = True

    def _check_created(self, plan: Plan) -> None:
        version = plan.bundle_version
        with suppress(DSSNotFoundError):
            get_bundle = self._dss.get_bundle(plan.bundle_uuid, replica=self._replica, version=version)
            check_created(plan, self._transport.run(get_bundle))

    def _look_up(self, item: Item) -> Call[None]:
        try:
            stored = yield from self._dss.head_file(item.file.uuid, replica=self._replica)
            if stored.version == item.file.version or stored.size == item.file.size:
                item.stored = stored
        except DSSResponseError as error:
            # After a failed copy of an earlier try, a DSS answers 422 or 500 forever: the file is registered again.
            # 500 for many files means that the DSS is in trouble.
            self._failed_heads += error.status == 500
            if error.status not in {404, 422, 500} or self._failed_heads > _MAX_FAILED_HEADS:
                raise

    def _register_staged(self, items: list[Item], report: UploadReport) -> None:
        to_register = [item for item in items if not item.registered]
        if to_register:
            # Staging may outlast a token, which is renewed here once, and not by all threads together.
            self._transport.run(self._dss.authenticate())
        failures = self._bulk("register", to_register, lambda item: self._register(item, report), report)
        self._raise(failures, items)
        report.copying = [[item.file.uuid, item.file.version, item.sha256] for item in items if item.copying]
        report.copied_file_count = len(report.copying)

    def _register(self, item: Item, report: UploadReport) -> Call[None]:
        file, url = item.file, self._staging.url(item.key)
        put = yield from self._dss.put_file(file.uuid, file.version, source_url=url, creator_uid=self._creator_uid)
        item.copying = put.outcome == "copying"
        item.registered = not item.copying
        report.add(registered_file_count=int(put.outcome != "identical"))

    def _await_copy(self, item: Item, deadline: float) -> Call[None]:
        yield from self._dss.wait_for_file(
            item.file.uuid,
            item.file.version,
            replica=self._replica,
            sha256=item.sha256,
            seconds=max(0.0, deadline - time.monotonic()),
        )
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
                missing_seconds=min(self._options.copy_timeout, _MISSING_SECONDS),
            )
        )

    def _delete_staged(self, plan: Plan, report: UploadReport) -> None:
        """Delete what was staged for this version and earlier ones; the bundle exists, so a failure is only logged."""
        try:
            found = self._staging.find(bundle_prefix_of(self._prefix, plan))
        except StagingError as error:
            log.warning("staged objects remain in the bucket: %s", error)
            return
        keys = [key for key in found if is_key(key, self._prefix, plan)]
        batches = [keys[first : first + _DELETED_AT_ONCE] for first in range(0, len(keys), _DELETED_AT_ONCE)]
        failures = self._threads("delete", batches, self._staging.delete, report, _is_of_one_file)
        report.seconds.pop("delete", None)
        if failures:
            log.warning("staged objects remain in the bucket: %s", failures[0][1])

    def _bulk(
        self, name: str, items: list[Item], make_call: Callable[[Item], Call[None]], report: UploadReport
    ) -> list[tuple[Item, Exception]]:
        """Run a call to the DSS for each item, and return the items that failed, with their errors."""
        with self._phase(name, len(items), report) as progress:
            return run_bulk(
                items,
                make_call,
                transport=self._transport,
                concurrency=self._options.max_workers,
                continue_after=_is_of_one_file,
                on_progress=progress,
            )

    def _threads(
        self,
        name: str,
        items: list[T],
        work: Callable[[T], None],
        report: UploadReport,
        continue_after: Callable[[Exception], bool],
        *,
        cost: Callable[[T], int] = lambda _: 0,
    ) -> list[tuple[T, Exception]]:
        """Work on items in threads, and return those that failed, with their errors."""
        with self._phase(name, len(items), report) as progress:
            return run_parallel(
                items,
                work,
                name=name,
                workers=self._options.max_workers,
                cost=cost,
                budget=MEMORY,
                stop=self._stop,
                continue_after=continue_after,
                on_progress=progress,
            )

    @contextmanager
    def _phase(self, name: str, count: int, report: UploadReport) -> Iterator[Callable[[int], None]]:
        """Measure a phase, and report its progress."""
        if not count:
            yield lambda _: None
            return
        started = time.monotonic()
        marks = deque([(started, 0)], maxlen=_RATE_MARKS)
        shown = "compare" if name == "look_up" else name  # one step on the page in the Airflow UI
        self._show(report, shown, 0, count)

        def progress(done: int) -> None:
            now, text = time.monotonic(), f"{done:,} of {count:,} done"
            if name == "stage":
                since, sent = marks[0]
                report.rate = (report.sent_byte_count - sent) / (now - since)
                marks.append((now, report.sent_byte_count))
                text += f", {_flow(report)}"
            self._show(report, shown, done, count)
            log.info("%s: after %.0f s %s", name, now - started, text)

        yield progress
        self._check_stop()
        report.rate = 0.0
        report.seconds[name] = round(time.monotonic() - started, 3)

    def _show(self, report: UploadReport, phase: str, done: int, items: int) -> None:
        report.phase, report.phase_done, report.phase_files = phase, done, items
        self._on_progress(report)

    def _raise(self, failures: Iterable[tuple[Item, Exception]], items: list[Item]) -> None:
        if not failures:
            return
        raise UploadError(
            sorted((item.file.name, str(error)) for item, error in failures),
            done=sum(item.registered for item in items),
            total=len(items),
            permanent=any(isinstance(error, DSSError) and error.permanent for _, error in failures),
        )

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise DSSAbortedError("the upload was stopped; a retry resumes it")


def _is_of_one_file(error: Exception) -> bool:
    """Return whether other files may succeed; an error of the service would hit all of them."""
    return isinstance(error, DSSConflictError | DSSCopyError | FileChangedError | OSError)


def _flow(report: UploadReport) -> str:
    rest = max(0, report.byte_count - report.sent_byte_count - report.skipped_byte_count)
    summed = f"{size_text(report.summed_byte_count)} of large files hashed, " if report.summed_byte_count else ""
    sent = f"{size_text(report.sent_byte_count)} sent, {size_text(report.rate)}/s"
    return f"{summed}{sent}, {size_text(rest)} remaining"
