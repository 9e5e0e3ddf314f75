"""Uploads of directories with a staging bucket in memory, which fails too."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.sansio import Call, Request
from airflow_provider_hca.exceptions import DSSAbortedError
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import Plan, plan_directory
from airflow_provider_hca.upload.report import UploadReport
from airflow_provider_hca.upload.stager import key_of, prefix_of
from airflow_provider_hca.upload.uploader import Uploader

from .checksums import sums
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

    def as_async(self, *, pool_size: int) -> _AsyncTransport:  # noqa: ARG002 - the signature of the real one
        """Return the asynchronous side."""
        return _AsyncTransport(self)


class _AsyncTransport:
    def __init__(self, transport: InProcessTransport) -> None:
        self._transport = transport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def run(self, call: Call[Any]) -> Any:
        return self._transport.run(call)


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
    """One bundle, uploaded in as many tries as it takes.

    :param files: Contents by name
    """

    def __init__(
        self, world: World, directory: Directory, auth: Any, replica: str, uuid: str, version: str, *, delete: bool
    ) -> None:
        self._world, self._directory, self._auth = world, directory, auth
        self.replica, self._uuid, self._version = replica, uuid, version
        self._options = UploadOptions(
            replica=replica, max_workers=1, delete_staged=delete, content_types={"*": "text/plain"}
        )
        self._parts: dict[str, dict[int, bytes]] = {}
        self._tries = 0
        self._conflicts = False

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
        staged = {
            key_of(file, prefix): self._store.objects.get(staging.url(key_of(file, prefix))) for file in plan.files
        }
        fails = fail_copy or any(copy.key in keys and copy.fail for copy in truth.copies)
        existed = (self.replica, self._uuid, self._version) in truth.bundles
        contents = {file.name: file.path.read_bytes() for file in plan.files}
        if change is not None:
            self._directory.change(change)
        uploader = Uploader(
            DSSAPI("http://dss.example.org/v1", auth=self._auth, creator_uid=CREATOR),
            transport,  # type: ignore[arg-type]  # as far as an upload uses it
            staging,  # type: ignore[arg-type]  # it copies no objects
            self._options,
            creator_uid=CREATOR,
            stop=stop,
        )

        def all_staged(request: Request) -> None:
            if request.method == "PUT" and "/files/" in request.url and "version=none" not in request.url:
                for file in plan.files:
                    key = (self.replica, file.uuid, file.version)
                    url = staging.url(key_of(file, prefix))
                    assert url in self._store.objects or key in registered, f"{request} before {file.name} was staged"

        world.before_request = all_staged
        error: Exception | None = None
        report: UploadReport | None = None
        try:
            report = uploader.upload(plan, resume=resume)
        except Exception as raised:  # noqa: BLE001 - looked at below
            error = raised
        world.settle()
        world.before_request = lambda _: None
        world.raise_violation()
        trace = f"{error!r} {report} faults={faults} staging={staging_faults} try {self._tries}\n" + "\n".join(
            map(str, transport.log)
        )
        calm = not staging.seen and not any(one.fault for out in transport.log for one in out.log) and not fails
        self._check_skipped(staging, staged, registered, contents, keys, plan, prefix, transport, resume, calm, trace)
        if change is not None and not resume and not registered:
            new = [key for key in keys if key in truth.files]
            assert error is not None, f"a changed file was uploaded: {trace}"
            assert not new, f"registered in spite of a changed file: {trace}"
        faults_seen = [one.fault for out in transport.log for one in out.log if one.fault]
        mild = staging.seen <= _CURED and not fails and len(faults_seen) <= 1 and {*faults_seen} <= {*SURVIVED}
        if error is None:
            assert report is not None
            assert "permanent" not in staging.seen - staging.tolerated, f"success after a refusal: {trace}"
            self._check_result(plan, contents, report, existed, trace)
            return True
        self._check_error(error, transport, staging, registered, contents, plan, change, mild, trace)
        return False

    def _check_skipped(
        self,
        staging: MemoryStaging,
        staged: Mapping[str, tuple[bytes, str, Mapping[str, str]] | None],
        registered: Mapping[tuple[str, str, str], Any],
        contents: Mapping[str, bytes],
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
        members = tuple((file.name, file.uuid, file.version, file.indexed) for file in plan.files)
        assert bundle.members == members, trace
        for file in plan.files:
            stored = truth.files[self.replica, file.uuid, file.version]
            expected = tuple(sums(contents[file.name]).values())
            assert (stored.sums, stored.content_type, stored.creator) == (expected, file.content_type, CREATOR), trace
        assert report.file_count == len(plan.files), trace
        assert report.staged_file_count + report.skipped_file_count == len(plan.files), trace
        assert not report.created or not existed, trace
        assert (report.uuid, report.version, report.copying) == (self._uuid, self._version, []), trace

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
