"""Rules of bundles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_hca.client.models import FQID, Change, PutBundle
from airflow_provider_hca.exceptions import (
    DSSChangeError,
    DSSConnectionError,
    DSSError,
    DSSNotFoundError,
    DSSProtocolError,
)

from .choices import (
    ANY_VERSION,
    BATCH,
    BUNDLES,
    CHANGE_FAULTS,
    CORRECTIONS,
    CREATORS,
    FAULTS,
    FILES,
    MEMBERS,
    OUTAGE,
    PATCH_FAULTS,
    REPLICAS,
    VERSIONS,
    Faults,
    file_dict,
    members_of,
    numbers_of,
    unique,
)
from .outcomes import Outcome
from .rules import Base, step
from .truth import Bundle, Member


class BundleRules(Base):
    """Calls about bundles, with faults."""

    @step(
        replica=REPLICAS,
        uuid=BUNDLES,
        version=VERSIONS,
        members=MEMBERS,
        size=[0, 0, 0, 25],
        absent=[False] * 7 + [True],
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
        absent: bool,
        again: bool,
        creator: int,
        seconds: float,
        faults: Faults,
    ) -> None:
        """Create a bundle, perhaps of files that do not exist."""
        members = unique(members)
        if size:  # several pages
            members = [(f"p{number}", FILES[number % 2], VERSIONS[0], False) for number in range(size)]
        if absent:
            members = [*members, ("absent", FILES[3], VERSIONS[2], False)]
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

    @step(replica=REPLICAS, uuid=BUNDLES, version=ANY_VERSION, faults=FAULTS, rival=[0, 0, 0, 1, 2])
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
            members = (*latest[1].members, (f"r{number}", FILES[0], VERSIONS[0], False))
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

    @step(replica=REPLICAS, uuid=BUNDLES, version=ANY_VERSION, faults=FAULTS)
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

    @step(replica=REPLICAS, uuid=["", *BUNDLES], newer=["", *VERSIONS], faults=FAULTS)
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

    @step(replica=REPLICAS, uuid=BUNDLES, version=VERSIONS, adds=MEMBERS, removes=MEMBERS, faults=PATCH_FAULTS)
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
        uuid=BUNDLES,
        version=[None, "latest", "latest", "latest", *VERSIONS],
        adds=members_of(8),
        removed=numbers_of(8, 31),
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
        missing = any((replica, *member[1:3]) not in self.truth.files for member in adds)
        wanted = _changed(present, adds, removes)
        batches = _batches(present, adds, removes)
        effects = 0
        for tries in (1, 2, 3):
            out = self.run(call(), faults if tries == 1 else ())
            effects += out.effects
            now = self._versions(replica, uuid)
            if not versions <= now or len(now - versions) != effects:
                return  # versions or tombstones were replicated meanwhile
            if out.error is None and not out.killed:
                self._is_changed(out, replica, uuid, base, wanted)
                corrections = tries * 2 * CORRECTIONS if self.world.is_stale else 0
                # If the DSS cannot compare the version with its store, a PATCH is sent anyway.
                corrections += any(one.request.method == "PUT" and one.seen.status != 200 for one in out.log)
                if tries > 1 and base is not None and base[0] > self.world.clock.version():
                    corrections += batches  # a retry takes no version for a result that is older than the base
                assert effects <= batches + corrections, f"{effects} PATCHes instead of {batches}: {out}"
                return
            if out.error is not None:
                self._may_fail(out, base, present, adds, removes, missing)
                if effects == 0 and not out.is_disturbed:
                    return

    def _versions(self, replica: str, uuid: str) -> set[str]:
        keys = (key for key in self.truth.bundles if not self.truth.is_deleted(key))
        return {key[2] for key in keys if key[:2] == (replica, uuid)}

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
        base: tuple[str, Bundle] | None,
        present: Sequence[Member],
        adds: Sequence[Member],
        removes: Sequence[Member],
        missing: bool,
    ) -> None:
        """Check that a change had a reason to fail."""
        error = out.error
        gone = {member[:3] for member in removes}
        staying = {member[0]: member for member in present if member[:3] not in gone}
        clash = any(member[0] in staying and staying[member[0]] != member for member in adds)
        if isinstance(error, ValueError) and not isinstance(error, DSSError):
            assert clash, out
            return
        assert isinstance(error, DSSError), out
        if isinstance(error, DSSChangeError):
            assert error.done <= out.effects, f"done={error.done}, {out.effects} PATCHes applied: {out}"
        elif out.effects:
            assert error.maybe_done, f"a PATCH was applied, and maybe_done is False: {out}"
        if base is None or missing:
            return
        if self.world.is_stale and not out.is_disturbed:
            assert not error.permanent, f"permanent although only caches are wrong: {out}"
            return
        assert self.world.is_stale or not out.must_succeed, f"no reason to fail: {out}"
        self.justified(out)

    @step(
        replica=REPLICAS,
        uuid=BUNDLES,
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
            version = VERSIONS[0]
        out = self.run(self.api.delete_bundle(uuid, replica=replica, reason=reason, version=version), faults)
        if self.single(out, {200}):
            assert self.truth.tombstones[replica, uuid, version or ""] == reason, out


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
