"""A state machine of calls with faults; each call is checked against what must be true."""

from __future__ import annotations

import io
import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.models import FQID, Change, PutBundle, PutFile
from airflow_provider_hca.client.waiters import BundleWaiter, FilesWaiter, wait_for
from airflow_provider_hca.exceptions import (
    DSSChangeError,
    DSSConflictError,
    DSSConnectionError,
    DSSCopyError,
    DSSError,
    DSSNotFoundError,
    DSSProtocolError,
)

from .checksums import sums
from .faults import FINAL, KILLS, LATE_PATCH, PATCH, TRANSIENT, UNUSUAL, Fault
from .server import HOME
from .truth import Bundle, File, Member, link_text
from .uploads import STAGING_FAULTS, Directory, Upload
from .world import Outcome, World

CORRECTIONS = 5  # of files that are only in caches, in one change
_UNIFORM = 2**24
BATCH = 3  # items of each list in a PATCH, instead of 1,000
OUTAGE = 50.0 + 40.0 + 25.0  # seconds that one exchange may take

_FILES = [f"f{number:07}-0000-4000-8000-000000000000" for number in range(4)]
_BUNDLES = [f"b{number:07}-0000-4000-8000-000000000000" for number in range(3)]
_COLLECTIONS = [f"c{number:07}-0000-4000-8000-000000000000" for number in range(4)]
_VERSIONS = [f"202{year}-01-01T000000.000000Z" for year in (5, 6, 9)]  # before and after those of a PATCH
_CONTENTS = [b"", b"a", b"b" * 30, b"{}", b"c" * 65, b"d" * 100]
_NAMES = [f"n{number}" for number in range(8)]


def step(**options: Sequence[Any]) -> Callable[[Any], Any]:
    """Return the decorator of a rule whose arguments are chosen from options, the simplest first.

    A number stands for several arguments, since hypothesis takes longer to draw one than the DSS to answer a request.
    Numbers are small enough for hypothesis to draw them uniformly.
    """
    groups: list[dict[str, Sequence[Any]]] = [{}]
    for name, choices in options.items():
        if math.prod(map(len, groups[-1].values())) * len(choices) >= _UNIFORM:
            groups.append({})
        groups[-1][name] = choices
    numbers: dict[str, Any] = {
        f"number{index}": st.integers(0, math.prod(map(len, group.values())) - 1) for index, group in enumerate(groups)
    }

    def decorate(function: Any) -> Any:
        def run(self: Model, **drawn: int) -> None:
            arguments: dict[str, Any] = {}
            for number, group in zip(drawn.values(), groups, strict=True):
                rest = number
                for name, choices in group.items():
                    rest, index = divmod(rest, len(choices))
                    arguments[name] = choices[index]
            Model.steps += 1
            try:
                function(self, **arguments)
            except AssertionError as error:
                error.add_note(f"{function.__name__}({arguments})")
                raise

        run.__name__ = function.__name__
        decorated: Any = rule(**numbers)
        return decorated(run)

    return decorate


_table = random.Random(0)  # noqa: S311 - a fixed table


def _member() -> Member:
    """Return a member of a bundle, whose file exists in most cases."""
    exists = _table.random() < 0.97
    uuid = _table.choice(_FILES[:3] if exists else _FILES)
    version = _table.choice(_VERSIONS[:2] if exists else _VERSIONS)
    return _table.choice(_NAMES), uuid, version, _table.random() < 0.5


def _members(limit: int) -> list[tuple[Member, ...]]:
    lists = (tuple(_member() for _ in range(_table.randrange(limit + 1))) for _ in range(500))
    return sorted(lists, key=len)


def _numbers(limit: int, highest: int) -> list[tuple[int, ...]]:
    lists = (tuple(_table.randrange(highest) for _ in range(_table.randrange(limit + 1))) for _ in range(300))
    return sorted(lists, key=len)


def _fault_lists() -> list[tuple[Fault, ...]]:
    lists: list[tuple[Fault, ...]] = [()] * 120
    lists += [(fault,) for fault in (*TRANSIENT, *FINAL, *KILLS)]
    lists += [tuple(_table.choices(TRANSIENT, k=_table.randrange(2, 5))) for _ in range(80)]
    lists += [(_table.choice(TRANSIENT), _table.choice([*FINAL, *KILLS])) for _ in range(40)]
    return lists


REPLICAS = ["aws", "aws", "gcp"]
ANY_VERSION = [None, *_VERSIONS]
SLOTS = [0, 1, 2]
CREATORS = [7, 7, 8]
MEMBERS = _members(5)
FAULTS = _fault_lists()
PATCH_FAULTS = [*_fault_lists(), *((fault,) for fault in UNUSUAL * 3)]
# Later requests of a call have faults too.
CHANGE_FAULTS = (
    [()] * 60
    + [
        (*[None] * _table.randrange(9), *_table.choices([*TRANSIENT, *KILLS], k=_table.randrange(1, 4)))
        for _ in range(200)
    ]
    + [(*[None] * _table.randrange(9), fault) for fault in (*FINAL, *KILLS * 4)]
    + [(fault,) for fault in (*PATCH, *UNUSUAL * 3, *LATE_PATCH * 8)]
    + [tuple(_table.choices([*PATCH, *UNUSUAL], k=2)) for _ in range(80)]
)
UPLOAD_FAULTS = (
    [()] * 40
    + [(*[None] * _table.randrange(14), *_table.choices(TRANSIENT, k=_table.randrange(1, 3))) for _ in range(120)]
    + [(*[None] * _table.randrange(14), fault) for fault in (*FINAL, *KILLS * 6)]
)
STAGING = (
    [()] * 30
    + [(*[None] * number, fault) for number in range(14) for fault in ("killed", "permanent", "lost")]
    + [tuple(_table.choices(STAGING_FAULTS, k=_table.randrange(1, 8))) for _ in range(90)]
)
_TREES = [
    {"a.json": b"{}", "b": b"b" * 30},
    {f"n{number}": bytes([number]) * size for number, size in enumerate((0, 10, 100, 700))},
    {"large": b"0" * 1999 + b"1" * 2001, "small": b"s"},
    {"even": b"e" * 4000, "c.csv": b"1,2", "d": b"d" * 64},
]

Faults = Sequence[Fault | None]


def file_dict(member: Member) -> dict[str, Any]:
    """Return a member as the client takes it."""
    return dict(zip(("name", "uuid", "version", "indexed"), member, strict=True))


def unique(members: Sequence[Member]) -> Sequence[Member]:
    """Return members with different names."""
    return [*{member[0]: member for member in members}.values()]


class Model(RuleBasedStateMachine):
    """All calls, with faults.

    :cvar world: DSS of this process
    :cvar steps: Number of steps
    """

    world: ClassVar[World]
    auth: ClassVar[Any]
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.world.reset()
        self.truth = self.world.truth
        self.api = DSSAPI(f"{HOME}/v1", auth=self.auth, creator_uid=7)
        self.numbers = count()
        self.directory = Directory(self.world.directory)
        self.current: Upload | None = None

    @initialize(processes=st.sampled_from([0, 0, 0, 1, 3]), seed=st.integers(0, 99))
    def files(self, processes: int, seed: int) -> None:
        """Start processes with stale caches, or none, and register some files, so that there can be bundles."""
        self.world.start_processes(processes, seed)
        for number, (uuid, content) in enumerate(zip(_FILES[:3], _CONTENTS, strict=False)):
            for replica in ("aws", "gcp"):
                url = self._stage(replica, number, content, "text/plain", "good")
                for version in _VERSIONS[:2]:
                    self.world.run(self.api.put_file(uuid, version, source_url=url))

    def teardown(self) -> None:
        """Compare all records."""
        self.world.settle()
        self.world.check()

    def run(self, call: Any, faults: Faults = (), **options: Any) -> Outcome:
        """Run a call."""
        return self.world.run(call, faults, **options)

    def single(self, out: Outcome, accept: set[int], *, gone: bool = False) -> bool:
        """Check the end of a call of one exchange; return whether it succeeded."""
        if out.killed:
            return False
        seen, error = out.last.seen, out.error
        accept = set() if seen.unusual else accept
        unclear_before = any(one.seen.is_unclear for one in out.log[:-1])
        if seen.status in accept or (gone and seen.status == 404 and seen.known_form and unclear_before):
            assert error is None, f"an error in spite of success: {out}"
            return True
        self.failed(out, error, seen.error())
        assert isinstance(error, DSSError)
        assert error.maybe_done == out.unclear, f"maybe_done: {out}"
        assert error.maybe_done or not out.effects, f"done in spite of the error: {out}"
        return False

    def failed(self, out: Outcome, error: Exception | None, expected: tuple[type[DSSError], bool]) -> None:
        """Check class and permanence of an error."""
        assert type(error) is expected[0], f"expected {expected[0].__name__}: {out}"
        assert isinstance(error, DSSError)
        assert error.permanent == expected[1], f"expected permanent={expected[1]}: {out}"

    def justified(self, out: Outcome) -> None:
        """Check that the permanence of an error of several exchanges has a reason."""
        error = out.error
        assert isinstance(error, DSSError), out
        reasons = {one.seen.error()[1] for one in out.log if one.seen.status not in {200, 201, 206}}
        assert error.permanent in reasons, f"permanent={error.permanent} without reason: {out}"

    # World

    @step(seconds=[1.0, 5.0, 31.0], restart=[False, False, True])
    def wait(self, seconds: float, restart: bool) -> None:
        """Let time pass; the DSS may restart."""
        self.world.advance(seconds)
        if restart:
            self.world.restart()

    # Files

    def _stage(self, replica: str, slot: int, content: bytes, content_type: str, quality: str) -> str:
        scheme = {"aws": "s3", "gcp": "gs"}[replica]
        url, labels = f"{scheme}://staging/{slot}", dict(sums(content))
        if quality == "wrong":
            labels["hca-dss-crc32c"] = "00000001"
        elif quality == "missing":
            del labels["hca-dss-sha1"]
        self.world.server.staging[replica].objects[url] = content, content_type, labels
        return url

    @step(
        replica=REPLICAS,
        slot=SLOTS,
        content=_CONTENTS,
        content_type=["text/plain", "text/plain", "text/csv"],
        quality=["good", "good", "good", "good", "wrong", "missing"],
    )
    def stage(self, replica: str, slot: int, content: bytes, content_type: str, quality: str) -> None:
        """Stage an object, well or badly."""
        self._stage(replica, slot, content, content_type, quality)

    @step(
        replica=REPLICAS,
        slot=SLOTS,
        uuid=_FILES,
        version=_VERSIONS,
        creator=CREATORS,
        faults=FAULTS,
        fail=[0, 0, 0, 422, 500, 404],
    )
    def put_file(
        self, replica: str, slot: int, uuid: str, version: str, creator: int, faults: Faults, fail: int
    ) -> None:
        """Register a file."""
        url = f"{ {'aws': 's3', 'gcp': 'gs'}[replica] }://staging/{slot}"
        key, before = (replica, uuid, version), self.truth.files.get((replica, uuid, version))
        out = self.run(self.api.put_file(uuid, version, source_url=url, creator_uid=creator), faults, fail_copy=fail)
        if not self.single(out, {200, 201, 202}):
            return
        content, content_type, labels = self.world.server.staging[replica].objects[url]
        file = File(tuple(labels.values()), len(content), content_type, creator)
        outcome = {200: "identical", 201: "created", 202: "copying"}[out.last.seen.status]
        assert (type(out.value), out.value.uuid, out.value.version) == (PutFile, uuid, version), out
        assert out.value.outcome == outcome, out
        if outcome == "copying":
            known = [copy.file for copy in self.truth.copies if copy.key == key]
            assert file in known or key in self.truth.files or key in self.truth.failed, out
        else:
            assert self.truth.files[key] == file, out
            assert before in {None, file}, out
            assert outcome == "identical" or before is None, out

    @step(replica=REPLICAS, uuid=_FILES, version=ANY_VERSION, faults=FAULTS)
    def head_file(self, replica: str, uuid: str, version: str | None, faults: Faults) -> None:
        """Look up a file."""
        out = self.run(self.api.head_file(uuid, replica=replica, version=version), faults)
        if self.single(out, {200}):
            self.is_file(out, replica, uuid, version)
        elif out.error and out.last.fault is None and out.last.seen.status == 404:
            assert self.truth.file(replica, uuid, version) is None, out

    def is_file(self, out: Outcome, replica: str, uuid: str, version: str | None) -> None:
        """Check the metadata of a file."""
        stored, value = self.truth.file(replica, uuid, version), out.value
        assert stored is not None, out
        found = File((value.sha256, value.sha1, value.s3_etag, value.crc32c), value.size, value.content_type, 0)
        assert (value.uuid, value.version) == (uuid, stored[0]), out
        assert found == File(stored[1].sums, stored[1].size, stored[1].content_type, 0), out
        assert value.creator_uid == stored[1].creator, out

    @step(
        replica=REPLICAS,
        uuid=_FILES,
        version=_VERSIONS,
        content=[None, *_CONTENTS],
        seconds=[0.0, 2.0, 60.0],
        faults=FAULTS,
    )
    def wait_for_file(
        self, replica: str, uuid: str, version: str, content: bytes | None, seconds: float, faults: Faults
    ) -> None:
        """Wait for a copy."""
        stored = self.truth.files.get((replica, uuid, version))
        pending = [copy.file for copy in self.truth.copies if copy.key == (replica, uuid, version)]
        known = [stored, *pending] if stored else pending
        sha256 = known[0].sha256 if content is None and known else sums(content or b"")["hca-dss-sha256"]
        call = self.api.wait_for_file(uuid, version, replica=replica, sha256=sha256, seconds=seconds)
        out = self.run(call, faults)
        assert out.seconds <= seconds + OUTAGE, f"{out.seconds} s: {out}"
        if out.killed:
            return
        now, seen, error = self.truth.files.get((replica, uuid, version)), out.last.seen, out.error
        if error is None:
            assert now is not None, out
            assert now.sha256 == sha256, out
            self.is_file(out, replica, uuid, version)
        elif isinstance(error, DSSCopyError):
            reasons = {404: "deadline", 422: "failed", 500: "unclear"}
            assert error.reason == reasons[seen.status], out
            assert error.permanent == (seen.status == 422), out
            if seen.status == 404:
                assert out.seconds >= seconds, out
        elif seen.status == 200:
            self.failed(out, error, (DSSConflictError, True))
            assert now is not None, out
            assert now.sha256 != sha256, out
        else:
            self.failed(out, error, seen.error())
            assert seen.status not in {404, 422, 500}, out

    @step(replica=REPLICAS, uuid=_FILES, version=ANY_VERSION, faults=FAULTS)
    def get_file(self, replica: str, uuid: str, version: str | None, faults: Faults) -> None:
        """Download a file."""
        target = io.BytesIO()
        out = self.run(self.api.get_file(uuid, replica=replica, version=version, to=target), faults)
        if out.killed:
            return
        if out.error is None:
            self.is_file(out, replica, uuid, version)
            content = target.getvalue()
            assert sums(content)["hca-dss-sha256"] == out.value.sha256, out
            assert len(content) == out.value.size, out
        else:
            seen = out.last.seen
            expected = seen.error(content=not out.last.is_home)
            if seen.status in {200, 206, 300, 301, 302, 304}:
                expected = (DSSProtocolError, True)
            self.failed(out, out.error, expected)

    # Bundles

    @step(
        replica=REPLICAS,
        uuid=_BUNDLES,
        version=_VERSIONS,
        members=MEMBERS,
        size=[0, 0, 0, 25],
        again=[False, True],
        creator=CREATORS,
        seconds=[0.0, 0.0, 20.0],
        faults=FAULTS,
    )
    def put_bundle(
        self,
        replica: str,
        uuid: str,
        version: str,
        members: Sequence[Member],
        size: int,
        again: bool,
        creator: int,
        seconds: float,
        faults: Faults,
    ) -> None:
        """Create a bundle, perhaps of files that do not exist."""
        members = unique(members)
        if size:  # several pages
            members = [(f"p{number}", _FILES[number % 2], _VERSIONS[0], False) for number in range(size)]
        key = (replica, uuid, version)
        before = self.truth.bundles.get(key)
        if again and before:  # perhaps with another creator
            members = [*before.members]
        wanted = Bundle(creator, tuple(members))
        call = self.api.put_bundle(
            uuid,
            version,
            replica=replica,
            files=map(file_dict, members),
            creator_uid=creator,
            missing_seconds=seconds,
        )
        out = self.run(call, faults)
        assert out.seconds <= seconds + 5.0 + 3 * OUTAGE, f"{out.seconds} s: {out}"
        if out.killed:
            return
        now, last = self.truth.bundles.get(key), out.sent("PUT")[-1]
        if out.error is None:
            assert now == wanted, out
            identical = last.seen.status == 200
            assert out.value == PutBundle(uuid, version, "identical" if identical else "created"), out
            assert identical or before is None or out.unclear, out
            assert last.seen.status in {200, 201} or out.unclear, out
            return
        assert last.seen.status not in {200, 201}, out
        self.failed(out, out.error, last.seen.error())
        assert isinstance(out.error, DSSError)
        assert out.error.maybe_done or not out.effects, out
        assert last.seen.code != "file_missing" or out.seconds >= seconds, f"too early: {out}"
        reads = out.sent("GET")
        if out.effects and now == wanted and not self.truth.is_deleted(key):
            assert reads, f"not looked up: {out}"
            late = any(one.fault and one.fault.applied == "late" for one in out.log)
            assert late or any(one.fault for one in reads), f"it is stored: {out}"

    @step(replica=REPLICAS, uuid=_BUNDLES, version=ANY_VERSION, faults=FAULTS, rival=[0, 0, 0, 1, 2])
    def get_bundle(self, replica: str, uuid: str, version: str | None, faults: Faults, rival: int) -> None:
        """Read a bundle while another client may create a version."""
        before = self.truth.bundle(replica, uuid, version)
        call = self.api.get_bundle(uuid, replica=replica, version=version)
        if rival:
            call = self._with_rival(call, replica, uuid, rival)
        out = self.run(call, faults)
        if out.killed:
            return
        if out.error is not None:
            if out.last.seen.status in {200, 206}:  # one version after another
                self.failed(out, out.error, (DSSProtocolError, False))
                assert rival or self.world.is_stale, out
                return
            self.failed(out, out.error, out.last.seen.error())
            if self.world.is_stale:
                return
            if isinstance(out.error, DSSNotFoundError) and out.last.fault is None:
                assert before is None or self.truth.bundle(replica, uuid, version) is None, out
            return
        if self.world.is_stale:
            assert version in {None, out.value["version"]}, out
            return
        stored = self.truth.bundles[replica, uuid, out.value["version"]]
        members = tuple((file["name"], file["uuid"], file["version"], file["indexed"]) for file in out.value["files"])
        assert Bundle(out.value["creator_uid"], members) == stored, out
        oldest = before[0] if before and not self.truth.is_deleted((replica, uuid, before[0])) else ""
        assert out.value["version"] == version or (version is None and out.value["version"] >= oldest), out
        for file in out.value["files"]:
            assert file["size"] == self.truth.files[replica, file["uuid"], file["version"]].size, out

    def _with_rival(self, call: Any, replica: str, uuid: str, after: int) -> Any:
        """Run a call; after some requests another client creates a new version."""

        def rival() -> None:
            latest = self.truth.bundle(replica, uuid, None)
            if latest is None:
                return
            version = max(self.world.clock.version(), latest[0][:-1] + "Z")
            number = next(self.numbers)
            version = (
                f"2030-01-01T{number // 60 % 24:02}{number % 60:02}00.000000Z" if latest[0] >= version else version
            )
            members = (*latest[1].members, (f"r{number}", _FILES[0], _VERSIONS[0], False))
            put = self.api.put_bundle(uuid, version, replica=replica, files=map(file_dict, members))
            request = next(put)
            self.world.process(request)
            put.close()

        def wrapped() -> Any:
            requests = 0
            request = next(call)
            try:
                while True:
                    try:
                        response = yield request
                    except DSSConnectionError as error:
                        request = call.throw(error)
                    else:
                        requests += 1
                        if requests == after:
                            rival()
                        request = call.send(response)
            except StopIteration as end:
                return end.value

        return wrapped()

    @step(replica=REPLICAS, uuid=_BUNDLES, version=ANY_VERSION, faults=FAULTS)
    def find_bundle(self, replica: str, uuid: str, version: str | None, faults: Faults) -> None:
        """Look up a bundle."""
        out = self.run(self.api.find_bundle(uuid, replica=replica, version=version), faults)
        if out.killed or self._is_absent(out):
            return
        if self.single(out, {200, 206}):
            stored = self.truth.bundle(replica, uuid, version)
            if not self.world.is_stale:
                assert stored is not None, out
                assert out.value == stored[0], out

    def _is_absent(self, out: Outcome) -> bool:
        """Return whether a search reported that there is nothing."""
        if out.last.seen.error()[0] is not DSSNotFoundError:
            return False
        assert out.error is None, out
        assert out.value is None, out
        return True

    @step(replica=REPLICAS, uuid=["", *_BUNDLES], newer=["", *_VERSIONS], faults=FAULTS)
    def get_bundles_all(self, replica: str, uuid: str, newer: str, faults: Faults) -> None:
        """List bundles."""

        def expected() -> set[tuple[str, str]]:
            keys = (key for key in self.truth.bundles if key[0] == replica and not self.truth.is_deleted(key))
            return {(key[1], key[2]) for key in keys if key[1].startswith(uuid) and key[2] > newer}

        before = expected()
        call = self.api.get_bundles_all(replica=replica, prefix=uuid, newer_than=newer, per_page=10)
        out = self.run(call, faults)
        if self.single(out, {200, 206}):
            listed = [(bundle["uuid"], bundle["version"]) for bundle in out.value]
            assert listed == sorted(set(listed)), out
            # Bundles are replicated between two pages.
            assert before & expected() <= {*listed} <= before | expected(), f"{before} {expected()} {out}"

    @step(replica=REPLICAS, uuid=_BUNDLES, version=_VERSIONS, adds=MEMBERS, removes=MEMBERS, faults=PATCH_FAULTS)
    def patch_bundle(
        self, replica: str, uuid: str, version: str, adds: Sequence[Member], removes: Sequence[Member], faults: Faults
    ) -> None:
        """Send one PATCH."""
        adds, removes = adds[:BATCH], removes[:BATCH]
        out = self.run(
            self.api.patch_bundle(
                uuid,
                version,
                replica=replica,
                add_files=map(file_dict, adds),
                remove_files=map(file_dict, removes),
            ),
            faults,
        )
        assert out.effects <= 1, f"applied {out.effects} times: {out}"
        if self.single(out, {200}):
            assert out.effects == 1, out
            assert out.value == FQID(uuid, out.value.version), out
            assert (replica, uuid, out.value.version) in self.truth.bundles, out

    @step(
        replica=REPLICAS,
        uuid=_BUNDLES,
        version=[None, "latest", *_VERSIONS],
        adds=_members(8),
        removed=_numbers(8, 31),
        absent=MEMBERS,
        replaces=[True, True, False],
        faults=CHANGE_FAULTS,
    )
    def change_bundle(
        self,
        replica: str,
        uuid: str,
        version: str | None,
        adds: Sequence[Member],
        removed: Sequence[int],
        absent: Sequence[Member],
        replaces: bool,
        faults: Faults,
    ) -> None:
        """Change a bundle; if that fails, try again as Airflow does."""
        base = self.truth.bundle(replica, uuid, None if version == "latest" else version)
        if version == "latest":
            version = base[0] if base else None
        present = base[1].members if base else ()
        removes = [*absent[:2], *(present[number % len(present)] for number in removed if present)]
        adds = unique(adds)
        if replaces:
            names = {member[0] for member in adds}
            removes += [member for member in present if member[0] in names and member not in adds]

        def call() -> Any:
            return self.api.change_bundle(
                uuid,
                replica=replica,
                version=version,
                add_files=map(file_dict, adds),
                remove_files=map(file_dict, removes),
            )

        versions = self._versions(replica, uuid)
        out = self.run(call(), faults)
        effects = out.effects
        wanted = _changed(present, adds, removes)
        batches = _batches(present, adds, removes)
        for tries in (1, 2):
            if self._versions(replica, uuid) != versions + effects:
                return  # others were replicated meanwhile
            if out.error is None and not out.killed:
                self._is_changed(out, replica, uuid, base, wanted)
                corrections = 2 * CORRECTIONS if self.world.is_stale else 0
                # If the DSS cannot compare the version with its store, a PATCH is sent anyway.
                corrections += any(one.request.method == "PUT" and one.seen.status != 200 for one in out.log)
                if tries > 1 and base is not None and base[0] > self.world.clock.version():
                    corrections += batches  # a retry takes no version for a result that is older than the base
                assert effects <= batches + corrections, f"{effects} PATCHes instead of {batches}: {out}"
                return
            if out.error is not None:
                self._may_fail(out, replica, base, present, adds, removes)
                if effects == 0 and not self._is_disturbed(out):
                    return
            out = self.run(call())
            effects += out.effects
        self._may_fail(out, replica, base, present, adds, removes)

    def _versions(self, replica: str, uuid: str) -> int:
        return sum(key[:2] == (replica, uuid) for key in self.truth.bundles)

    def _is_changed(
        self,
        out: Outcome,
        replica: str,
        uuid: str,
        base: tuple[str, Bundle] | None,
        wanted: dict[tuple[str, str, str], bool],
    ) -> None:
        change = out.value
        assert isinstance(change, Change), out
        assert base is not None, out
        stored = self.truth.bundles[replica, uuid, change.version]
        assert {member[:3]: member[3] for member in stored.members} == wanted, f"{stored.members}, {wanted}: {out}"
        assert len(stored.members) == len(wanted) == change.count, out
        assert stored.creator == base[1].creator, out
        assert change.uuid == uuid, out

    def _may_fail(
        self,
        out: Outcome,
        replica: str,
        base: tuple[str, Bundle] | None,
        present: Sequence[Member],
        adds: Sequence[Member],
        removes: Sequence[Member],
    ) -> None:
        """Check that a change had a reason to fail."""
        error = out.error
        gone = {member[:3] for member in removes}
        staying = {member[0]: member for member in present if member[:3] not in gone}
        clash = any(member[0] in staying and staying[member[0]] != member for member in adds)
        missing = any((replica, *member[1:3]) not in self.truth.files for member in adds)
        if isinstance(error, ValueError) and not isinstance(error, DSSError):
            assert clash, out
            return
        assert isinstance(error, DSSError), out
        if isinstance(error, DSSChangeError):
            assert out.effects or error.done == 0 or base is None or error.version != base[0], out
        elif out.effects:
            assert error.maybe_done, f"a PATCH was applied, and maybe_done is False: {out}"
        if base is None or missing:
            return
        if self.world.is_stale and not self._is_disturbed(out):
            assert not error.permanent, f"permanent although only caches are wrong: {out}"
            return
        assert self.world.is_stale or not out.must_succeed, f"no reason to fail: {out}"
        self.justified(out)

    @staticmethod
    def _is_disturbed(out: Outcome) -> bool:
        return any(one.fault is not None for one in out.log)

    @step(
        replica=REPLICAS,
        uuid=_BUNDLES,
        version=ANY_VERSION,
        reason=["wrong", "wrong", "old"],
        faults=FAULTS,
        really=[False, False, True],
    )
    def delete_bundle(
        self, replica: str, uuid: str, version: str | None, reason: str, faults: Faults, really: bool
    ) -> None:
        """Delete a bundle; all versions not too often."""
        if version is None and not really:
            version = _VERSIONS[0]
        out = self.run(self.api.delete_bundle(uuid, replica=replica, reason=reason, version=version), faults)
        if self.single(out, {200}):
            assert self.truth.tombstones[replica, uuid, version or ""] == reason, out

    # Collections

    def _links(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        kinds: Mapping[str, Sequence[str]] = {"file": _FILES, "bundle": _BUNDLES, "collection": _COLLECTIONS}
        links = []
        for number in numbers:  # most of them exist
            kind = "file" if number < 36 else ("bundle", "collection", "file")[number % 3]
            uuids = _FILES[:3] if number < 36 else kinds[kind]
            links.append({"type": kind, "uuid": uuids[number // 2 % len(uuids)], "version": _VERSIONS[number % 2]})
        return links

    @step(
        replica=REPLICAS,
        uuid=_COLLECTIONS,
        version=_VERSIONS,
        name=["x", "y"],
        numbers=_numbers(4, 41),
        faults=FAULTS,
    )
    def put_collection(
        self, replica: str, uuid: str, version: str, name: str, numbers: Sequence[int], faults: Faults
    ) -> None:
        """Create or overwrite a collection."""
        links = self._links(numbers)
        out = self.run(
            self.api.put_collection(
                uuid, version, replica=replica, name=name, description="d", details={"n": len(links)}, contents=links
            ),
            faults,
        )
        if self.single(out, {200, 201}):
            assert out.value == FQID(uuid, version), out
            stored = self.truth.collections[replica, uuid, version]
            if stored == self.truth.collections.get(("gcp" if replica == "aws" else "aws", uuid, version)):
                return  # perhaps replaced by a replication
            assert set(stored.links) == {*map(link_text, links)}, out
            assert (stored.body["name"], stored.body["details"]) == (name, {"n": len(links)}), out

    @step(replica=REPLICAS, uuid=_COLLECTIONS, version=ANY_VERSION, faults=FAULTS)
    def get_collection(self, replica: str, uuid: str, version: str | None, faults: Faults) -> None:
        """Read a collection."""
        out = self.run(self.api.get_collection(uuid, replica=replica, version=version), faults)
        stored = self.truth.collection(replica, uuid, version)
        if self.single(out, {200}):
            assert stored is not None, out
            assert {key: out.value[key] for key in stored.body} == stored.body, out
        elif out.error and out.last.fault is None and out.last.seen.status == 404:
            assert stored is None, out

    @step(faults=FAULTS)
    def get_collections(self, faults: Faults) -> None:
        """List collections."""
        out = self.run(self.api.get_collections(per_page=10), faults)
        if out.log and out.killed is False and out.error is None:
            assert sorted((one["uuid"], one["version"]) for one in out.value) == sorted(self.truth.listed), out

    @step(
        replica=REPLICAS,
        uuid=_COLLECTIONS,
        version=["latest", "latest", *_VERSIONS],
        adds=_numbers(8, 41),
        removes=_numbers(8, 41),
        name=[None, None, "x", "z"],
        faults=CHANGE_FAULTS,
    )
    def change_collection(
        self,
        replica: str,
        uuid: str,
        version: str,
        adds: Sequence[int],
        removes: Sequence[int],
        name: str | None,
        faults: Faults,
    ) -> None:
        """Change a collection; if that fails, try again as Airflow does."""
        versions = [key[2] for key in self.truth.collections if key[:2] == (replica, uuid)]
        if version == "latest":
            version = max(versions, default=_VERSIONS[0])
        base = self.truth.collection(replica, uuid, version)
        present = base.links if base else []
        adding, removing = self._links(adds), self._links(removes)
        removing += base.body["contents"][:3] if base and removes else []
        reached: list[str] = []

        def call() -> Any:
            return self.api.change_collection(
                uuid,
                version,
                replica=replica,
                add_contents=adding,
                remove_contents=removing,
                name=name,
                resume_from=reached[-1] if reached else None,
                on_version=reached.append,
            )

        added = [*map(link_text, adding)]
        wanted = {*present} - {*map(link_text, removing)} | {*added}
        out = self.run(call(), faults)
        effects, tries = out.effects, 1
        while (out.error is not None or out.killed) and tries < 3:
            if out.error is not None:
                self._collection_may_fail(out, replica, base, adding)
                if effects == 0 and not self._is_disturbed(out):
                    return
            out = self.run(call())
            effects, tries = effects + out.effects, tries + 1
        if out.error is not None:
            self._collection_may_fail(out, replica, base, adding)
            return
        if base is None or self.truth.collection(replica, uuid, version) != base:  # replicated meanwhile
            return
        stored = self.truth.collections[replica, uuid, out.value.version]
        assert {*stored.links} == wanted, f"{stored.links}, {wanted}: {out}"
        assert len(stored.links) == len(wanted) == out.value.count, out
        assert stored.body["name"] == (name or base.body["name"]), out
        assert stored.body["details"] == base.body["details"], out
        new = [link for link in dict.fromkeys(added) if link not in present]
        old = [link for link in present if link in {*map(link_text, removing)} - {*added}]
        batches = max(-(-len(new) // BATCH), -(-len(old) // BATCH), int(name not in {None, base.body["name"]}))
        # A version that the DSS does not list can be created once more.
        assert effects <= 2 * batches, f"{effects} PATCHes instead of {batches}: {out}"
        if tries == 1 and not out.unclear:
            assert effects == batches == out.value.patches, f"{effects} PATCHes instead of {batches}: {out}"

    def _collection_may_fail(self, out: Outcome, replica: str, base: Any, adding: Sequence[Mapping[str, Any]]) -> None:
        known: Mapping[str, Mapping[Any, Any]] = {
            "file": self.truth.files,
            "bundle": self.truth.bundles,
            "collection": self.truth.collections,
        }
        missing = any((replica, link["uuid"], link["version"]) not in known[link["type"]] for link in adding)
        assert isinstance(out.error, DSSError), out
        if base is None or missing:
            return
        assert not out.must_succeed, f"no reason to fail: {out}"
        self.justified(out)

    @step(replica=REPLICAS, uuid=_COLLECTIONS, faults=FAULTS, really=[False, False, True])
    def delete_collection(self, replica: str, uuid: str, faults: Faults, really: bool) -> None:
        """Delete a collection; most of them not too often."""
        if not really:
            uuid = _COLLECTIONS[0]
        out = self.run(self.api.delete_collection(uuid, replica=replica), faults)
        if self.single(out, {200}, gone=True):
            assert self.truth.collection(replica, uuid, None) is None, out

    # Waits

    @step(
        bundle=[False, True],
        number=[0, 1, 2],
        version=ANY_VERSION,
        seconds=[0.0, 10.0, 70.0],
        every=[5.0, 20.0],
        faults=FAULTS,
    )
    def wait_for_replicas(
        self, bundle: bool, number: int, version: str | None, seconds: float, every: float, faults: Faults
    ) -> None:
        """Wait until both replicas have a bundle or file."""
        replicas = ["aws", "gcp"]
        uuid = (_BUNDLES if bundle else _FILES)[number]
        file = {"uuid": uuid, "version": version}
        waiter = BundleWaiter(uuid, version, replicas) if bundle else FilesWaiter([file], replicas)
        out = self.run(wait_for(self.api, waiter, seconds=seconds, every=every), faults)
        assert out.seconds <= seconds + 2 * OUTAGE, f"{out.seconds} s: {out}"
        if out.killed:
            return
        find: Callable[..., Any] = self.truth.bundle if bundle else self.truth.file
        stored = [find(replica, uuid, version) for replica in replicas]
        if out.error is not None:
            seen = out.last.seen
            if isinstance(out.error, DSSCopyError):
                assert seen.status in {422, 500}, out
            else:
                self.failed(out, out.error, seen.error())
        elif out.value is None:
            assert out.seconds >= seconds, out
            assert out.last.seen.status == 404, out
        elif not (bundle and self.world.is_stale):
            assert all(stored), out
            if bundle:
                assert out.value["versions"] == {
                    replica: one[0] for replica, one in zip(replicas, stored, strict=True) if one
                }, out

    # Uploads

    @step(
        number=[0, 1, 2, 3],
        fresh=[True, False, False],
        replica=REPLICAS,
        delete=[False, False, True],
        faults=UPLOAD_FAULTS,
        staging=STAGING,
        fail=[0, 0, 0, 0, 422, 500],
        change=[None, None, None, None, 0, 1],
        tries=[1, 2, 3],
        between=[False, False, True],
    )
    def upload(
        self,
        number: int,
        fresh: bool,
        replica: str,
        delete: bool,
        faults: Sequence[Fault | None],
        staging: Sequence[str | None],
        fail: int,
        change: int | None,
        tries: int,
        between: bool,
    ) -> None:
        """Upload a directory: tries with faults, perhaps with a change of a file, and one without."""
        if fresh or self.current is None:
            self.directory.write(_TREES[number])
            uuid = f"d{next(self.numbers):07}-0000-4000-8000-000000000000"
            self.current = Upload(self.world, self.directory, self.auth, replica, uuid, _VERSIONS[0], delete=delete)
        names = sorted(os.listdir(self.directory.path))  # noqa: PTH208 - names only
        changed = names[change % len(names)] if change is not None and names else None
        url = f"{'s3' if self.current.replica == 'aws' else 'gs'}://staging/sentinel/x"
        self.world.server.staging[self.current.replica].objects[url] = b"x", "text/plain", {}
        for attempt in range(tries):
            if attempt and between and names:
                self.directory.change(names[0])
            if self.current.attempt(faults[attempt * 3 :], staging[attempt * 2 :], fail, changed):
                self.current = None
                return

    @precondition(lambda self: self.current is not None)
    @step()
    def finish_upload(self) -> None:
        """Try once more, without a fault."""
        assert self.current is not None
        self.current.attempt((), (), 0, None)
        self.current = None


def _changed(
    present: Sequence[Member], adds: Sequence[Member], removes: Sequence[Member]
) -> dict[tuple[str, str, str], bool]:
    gone = {member[:3] for member in removes}
    kept = {member[:3]: member[3] for member in present if member[:3] not in gone}
    return kept | {member[:3]: member[3] for member in adds}


def _batches(present: Sequence[Member], adds: Sequence[Member], removes: Sequence[Member]) -> int:
    """Return the number of PATCHes that a change needs at most."""
    current, added = {member[:3]: member[3] for member in present}, {member[:3]: member[3] for member in adds}
    add = [member for member in adds if current.get(member[:3]) != member[3]]
    remove = {
        member[:3] for member in removes if member[:3] in current and current[member[:3]] != added.get(member[:3])
    }
    full = -(-len(add) // BATCH), -(-len(remove) // BATCH)
    return max(full) if not (add and remove) else sum(full)
