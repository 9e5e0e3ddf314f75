"""Uploads of directories with a staging bucket in memory, which fails too."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.loop_thread import LoopThread
from airflow_provider_hca.client.sansio import Call, Request
from airflow_provider_hca.exceptions import DSSAbortedError
from airflow_provider_hca.upload.changes import compare
from airflow_provider_hca.upload.entries import PlannedFile
from airflow_provider_hca.upload.keys import key_of, prefix_of
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import Plan, plan_directory
from airflow_provider_hca.upload.report import UploadReport
from airflow_provider_hca.upload.uploader import Uploader

from .checksums import sums
from .choices import VERSIONS
from .faults import SURVIVED, Fault
from .outcomes import FaultQueue, Outcome
from .server import MemoryStore
from .staging import MemoryStaging, Stop
from .world import World

CREATOR = 7

_CURED = {"temporary", "throttled", "lost"}


class InProcessTransport:
    """Runs the calls of an upload on the world; synchronous and asynchronous.

    :ivar log: Outcomes of the calls
    """

    def __init__(self, world: World, stop: Stop, faults: FaultQueue, fail_copy: int) -> None:
        self._world, self.stop, self._faults, self._fail_copy = world, stop, faults, fail_copy
        self.rate_limiter = world.limiter
        self.log: list[Outcome] = []

    def run(self, call: Call[Any]) -> Any:
        """Run a call."""
        if self.stop.is_set():
            raise DSSAbortedError("stopped")
        outcome = self._world.run(call, self._faults, fail_copy=self._fail_copy)
        self.log.append(outcome)
        if outcome.killed:
            self.stop.set()
            raise DSSAbortedError("killed")
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def loop_thread(self) -> _Loop:
        """Return the asynchronous side."""
        return _Loop(self)


class _AsyncTransport:
    def __init__(self, transport: InProcessTransport) -> None:
        self._transport = transport

    async def run(self, call: Call[Any]) -> Any:
        return self._transport.run(call)


@cache
def _thread() -> LoopThread:
    nothing: Any = object()
    return LoopThread(lambda: nothing)


class _Loop:
    """The event loop that all transports share, with one of them."""

    def __init__(self, transport: InProcessTransport) -> None:
        self._transport = transport

    def submit(self, work: Callable[[Any], Coroutine[Any, Any, None]]) -> Future[None]:
        return _thread().submit(lambda _: work(_AsyncTransport(self._transport)))

    def call(self, function: Callable[[], object]) -> None:
        _thread().call(function)


class Directory:
    """A directory on this machine, whose files change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._changes = 0

    def write(self, files: Mapping[str, bytes]) -> None:
        """Replace the files."""
        for name in os.listdir(self.path):  # noqa: PTH208 - names only
            (self.path / name).unlink()
        for name, content in files.items():
            (self.path / name).write_bytes(content)

    def change(self, name: str) -> None:
        """Give a file another content of the same size, or of another if it is empty."""
        path = self.path / name
        self._changes += 1
        content = path.read_bytes()
        path.write_bytes(str(self._changes).encode().ljust(len(content), b"!")[: max(1, len(content))])
        os.utime(path, ns=(self._changes * 10**9, self._changes * 10**9))


class Upload:
    """One version of a bundle, uploaded in as many tries as it takes.

    :param compared: Whether the bundle has a key: earlier versions, and files of them, may exist
    """

    def __init__(
        self,
        world: World,
        directory: Directory,
        auth: Any,
        replica: str,
        uuid: str,
        version: str,
        *,
        delete: bool,
        compared: bool = False,
    ) -> None:
        self._world, self._directory, self._auth = world, directory, auth
        self.replica, self._uuid, self._version = replica, uuid, version
        self._options = UploadOptions(
            replica=replica, max_workers=1, delete_staged=delete, content_types={"*": "text/plain"}
        )
        self._parts: dict[str, dict[int, bytes]] = {}
        self._compared = compared
        self._tries = 0
        self._conflicts = False

    @property
    def version(self) -> str:
        """Version of the bundle."""
        return self._version

    @property
    def uuid(self) -> str:
        """UUID of the bundle."""
        return self._uuid

    @property
    def _store(self) -> MemoryStore:
        return self._world.server.staging[self.replica]

    def plan(self) -> Plan:
        """Plan the directory."""
        return plan_directory(self._directory.path, self._options, bundle_uuid=self._uuid, bundle_version=self._version)

    def attempt(
        self, faults: Sequence[Fault | None], staging_faults: Sequence[str | None], fail_copy: int, change: str | None
    ) -> bool:
        """Try to upload; return whether there is a bundle now.

        :param change: File that changes before the files are registered, if any
        """
        world, truth = self._world, self._world.truth
        stop, plan, resume = Stop(world), self.plan(), self._tries > 0
        self._tries += 1
        transport = InProcessTransport(world, stop, FaultQueue(faults), fail_copy)
        staging = MemoryStaging(world, self._store, self.replica, self._parts, stop, staging_faults)
        prefix = prefix_of("", plan)
        keys = [(self.replica, file.uuid, file.version) for file in plan.files]
        registered = {key: truth.files[key] for key in keys if key in truth.files}
        copying = {copy.key: copy.file for copy in truth.copies if copy.key in keys}  # perhaps done before HEAD
        staged = {
            key_of(file, prefix): self._store.objects.get(staging.url(key_of(file, prefix))) for file in plan.files
        }
        fails = fail_copy or any(copy.key in keys and copy.fail for copy in truth.copies)
        existed = (self.replica, self._uuid, self._version) in truth.bundles
        contents = {file.name: file.path.read_bytes() for file in plan.files}
        known = self._known(plan, contents)
        if change is not None:
            self._directory.change(change)
        dss = DSSAPI("http://dss.example.org/v1", auth=self._auth, creator_uid=CREATOR)
        uploader = Uploader(
            dss,
            transport,  # type: ignore[arg-type]  # as far as an upload uses it
            staging,  # type: ignore[arg-type]  # it copies no objects
            self._options,
            creator_uid=CREATOR,
            stop=stop,
        )

        def all_staged(request: Request) -> None:
            if request.method == "PUT" and "/files/" in request.url and "version=none" not in request.url:
                for file in plan.files:
                    expected = sums(file.path.read_bytes())
                    urls = [staging.url(key) for key in self._keys_of(plan, file)]
                    staged_now = any(
                        url in self._store.objects and sums(self._store.objects[url][0]) == expected for url in urls
                    )
                    is_stored = any(
                        stored == file.uuid and found.sums == tuple(expected.values())
                        for (_, stored, _), found in truth.files.items()
                    )
                    conflict = (self.replica, file.uuid, file.version) in registered
                    assert staged_now or is_stored or conflict or change, f"{request} before {file.name} was staged"

        world.before_request = all_staged
        error: Exception | None = None
        report: UploadReport | None = None
        try:
            report = self._upload(uploader, dss, transport, plan, resume=resume)
        except Exception as raised:  # noqa: BLE001 - looked at below
            error = raised
        world.settle()
        world.before_request = lambda _: None
        world.raise_violation()
        trace = f"{error!r} {report} faults={faults} staging={staging_faults} try {self._tries}\n" + "\n".join(
            map(str, transport.log)
        )
        calm = not staging.seen and not any(one.fault for out in transport.log for one in out.log) and not fails
        self._check_skipped(
            staging, staged, registered, contents, known, keys, plan, prefix, transport, resume, calm, trace
        )
        if change is not None and not resume and not registered:
            new = [key for key in keys if key in truth.files]
            assert error is not None, f"a changed file was uploaded: {trace}"
            assert not new, f"registered in spite of a changed file: {trace}"
        faults_seen = [one.fault for out in transport.log for one in out.log if one.fault]
        # HEAD of a failed copy answers 500, which takes all retries but the last, whose response may be a fault.
        failing = any(one.seen.status == 500 and not one.fault for out in transport.log for one in out.log)
        survived = len(faults_seen) <= int(not failing) and {*faults_seen} <= {*SURVIVED}
        mild = staging.seen <= _CURED and not fails and survived
        if error is None:
            if report is None:
                latest = truth.bundle(self.replica, self._uuid, None)
                assert latest is not None, trace
                self._check_members(latest[1], plan, contents, trace)
                return True
            assert "permanent" not in staging.seen - staging.tolerated, f"success after a refusal: {trace}"
            self._check_result(plan, contents, report, existed, trace)
            self._check_end(staging, transport, trace)
            return True
        self._check_error(error, transport, staging, copying | registered, contents, plan, change, mild, trace)
        return False

    def _upload(
        self, uploader: Uploader, dss: DSSAPI, transport: InProcessTransport, plan: Plan, *, resume: bool
    ) -> UploadReport | None:
        """Upload as the operator does; None if nothing changed."""
        if not self._compared:
            return uploader.upload(plan, resume=resume)
        plan, changes = compare(plan, dss, transport, self._options)  # type: ignore[arg-type]  # see below
        if not changes.count and changes.version != plan.bundle_version:
            return None
        return uploader.upload(plan, resume=resume, changes=changes)

    def _known(self, plan: Plan, contents: Mapping[str, bytes]) -> set[str]:
        """Return the names of files that no calm try sends: those of the latest version, and what failed runs left."""
        truth = self._world.truth
        if not self._compared or self._world.is_stale:
            return set()
        version, members = "", set()
        if latest := truth.bundle(self.replica, self._uuid, None):
            version, members = latest[0], {(uuid, version) for _, uuid, version, _ in latest[1].members}
        known = set()
        for file in plan.files:
            expected = tuple(sums(contents[file.name]).values())
            newest = truth.file(self.replica, file.uuid, None)
            candidates = [(newest[0], newest[1])] if newest and newest[0] > version else []
            candidates += [
                (version, truth.files[self.replica, uuid, version]) for uuid, version in members if uuid == file.uuid
            ]
            if any(stored.sums == expected for _, stored in candidates):
                known.add(file.name)
        return known

    def _keys_of(self, plan: Plan, file: PlannedFile) -> list[str]:
        """Return the keys that a file can have for each version of the bundle."""
        return [key_of(file, prefix_of("", replace(plan, bundle_version=version))) for version in VERSIONS]

    def _check_members(self, bundle: Any, plan: Plan, contents: Mapping[str, bytes], trace: str) -> None:
        """Check that a bundle has the files of a plan, with their content and versions up to its own."""
        assert [(name, uuid, indexed) for name, uuid, _, indexed in bundle.members] == [
            (file.name, file.uuid, file.indexed) for file in plan.files
        ], trace
        for file, (_, uuid, version, _) in zip(plan.files, bundle.members, strict=True):
            stored = self._world.truth.files[self.replica, uuid, version]
            expected = tuple(sums(contents[file.name]).values())
            assert (stored.sums, stored.content_type, stored.creator) == (expected, file.content_type, CREATOR), trace
            assert version <= self._version, trace

    def _check_skipped(
        self,
        staging: MemoryStaging,
        staged: Mapping[str, tuple[bytes, str, Mapping[str, str]] | None],
        registered: Mapping[tuple[str, str, str], Any],
        contents: Mapping[str, bytes],
        known: set[str],
        keys: Sequence[tuple[str, str, str]],
        plan: Plan,
        prefix: str,
        transport: InProcessTransport,
        resume: bool,
        calm: bool,
        trace: str,
    ) -> None:
        """Check that a retry does nothing that an earlier try did."""
        puts = [one.request.path for out in transport.log for one in out.sent("PUT")]
        for file, key in zip(plan.files, keys, strict=True):
            place = key_of(file, prefix)
            before = staged[place]
            if resume and calm and before and sums(before[0]) == sums(contents[file.name]):
                assert place not in staging.puts, f"staged again: {trace}"
            if calm and file.name in known:
                assert place not in staging.puts, f"a file of an earlier version was staged again: {trace}"
                assert f"/v1/files/{file.uuid}" not in puts, f"a file was registered again: {trace}"
            if resume and calm and key in registered:
                assert f"/v1/files/{file.uuid}" not in puts, f"registered again: {trace}"
                assert place not in staging.puts, f"staged again: {trace}"
        if calm:
            assert len({*staging.puts}) == len(staging.puts), f"staged twice: {trace}"
        others = [url for url in self._store.objects if url == staging.url("sentinel/x")]
        assert others, f"an object of others was deleted: {trace}"

    def _check_result(
        self, plan: Plan, contents: Mapping[str, bytes], report: UploadReport, existed: bool, trace: str
    ) -> None:
        truth = self._world.truth
        bundle = truth.bundles[self.replica, self._uuid, self._version]
        assert bundle.creator == CREATOR, trace
        self._check_members(bundle, plan, contents, trace)
        if not self._compared:
            assert {version for _, _, version, _ in bundle.members} <= {self._version}, trace
            assert report.staged_file_count + report.skipped_file_count == len(plan.files), trace
        assert report.file_count == len(plan.files), trace
        assert not report.created or not existed, trace
        assert (report.uuid, report.version, report.copying) == (self._uuid, self._version, []), trace

    def _check_end(self, staging: MemoryStaging, transport: InProcessTransport, trace: str) -> None:
        """Check what an upload that created its bundle leaves in the bucket, and that it waited for its copies."""
        kept = {url for url in self._store.objects if url.startswith(staging.url(f"{self._uuid}."))}
        if not self._options.delete_staged:
            assert {*map(staging.url, staging.puts)} <= kept, f"deleted: {trace}"
        elif not staging.seen:
            assert not kept, f"not deleted: {kept} {trace}"
        codes = {one.seen.code for out in transport.log for one in out.log}
        assert "file_missing" not in codes, f"the bundle was put before its files were copied: {trace}"

    def _check_error(
        self,
        error: Exception,
        transport: InProcessTransport,
        staging: MemoryStaging,
        registered: Mapping[tuple[str, str, str], Any],
        contents: Mapping[str, bytes],
        plan: Plan,
        change: str | None,
        mild: bool,
        trace: str,
    ) -> None:
        from airflow_provider_hca.exceptions import DSSError

        assert isinstance(error, DSSError), trace
        conflict = any(
            registered.get((self.replica, file.uuid, file.version))
            and registered[self.replica, file.uuid, file.version].sums != tuple(sums(contents[file.name]).values())
            for file in plan.files
        )
        # A bundle of this version has other content, perhaps in an earlier version of a file.
        if own := self._world.truth.bundles.get((self.replica, self._uuid, self._version)):
            stored = {name: self._world.truth.files[self.replica, uuid, at].sums for name, uuid, at, _ in own.members}
            conflict |= stored != {name: tuple(sums(content).values()) for name, content in contents.items()}
        conflict = conflict or self._conflicts
        self._conflicts = conflict
        assert not mild or change or conflict, f"no reason to fail: {trace}"
        if isinstance(error, DSSAbortedError):
            assert transport.stop.is_set(), trace
            return
        seen = [one.seen for out in transport.log for one in out.log]
        reasons = {one.error()[1] for one in seen if one.status not in {200, 201, 202, 206}}
        reasons |= {fault == "permanent" for fault in staging.seen}
        reasons |= {True} if conflict else set()
        reasons |= {False} if change else set()
        assert error.permanent in reasons, f"permanent={error.permanent} without reason: {trace}"
