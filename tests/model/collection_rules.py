"""Rules of collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_hca.client.models import FQID
from airflow_provider_hca.exceptions import (
    DSSError,
)

from .choices import (
    ANY_VERSION,
    BATCH,
    BUNDLES,
    CHANGE_FAULTS,
    COLLECTIONS,
    FAULTS,
    FILES,
    REPLICAS,
    VERSIONS,
    Faults,
    numbers_of,
)
from .outcomes import Outcome
from .rules import Base, step
from .truth import link_text


class CollectionRules(Base):
    """Calls about collections, with faults."""

    def _links(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        kinds: Mapping[str, Sequence[str]] = {"file": FILES, "bundle": BUNDLES, "collection": COLLECTIONS}
        links = []
        for number in numbers:  # most of them exist
            kind = "file" if number < 36 else ("bundle", "collection", "file")[number % 3]
            uuids = FILES[:3] if number < 36 else kinds[kind]
            links.append({"type": kind, "uuid": uuids[number // 2 % len(uuids)], "version": VERSIONS[number % 2]})
        return links

    @step(
        replica=REPLICAS,
        uuid=COLLECTIONS,
        version=VERSIONS,
        name=["x", "y"],
        numbers=numbers_of(4, 41),
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

    @step(replica=REPLICAS, uuid=COLLECTIONS, version=ANY_VERSION, faults=FAULTS)
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
        uuid=COLLECTIONS,
        version=["latest", "latest", *VERSIONS],
        adds=numbers_of(8, 41),
        removes=numbers_of(8, 41),
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
            version = max(versions, default=VERSIONS[0])
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
        new = [link for link in dict.fromkeys(added) if link not in present]
        old = [link for link in present if link in {*map(link_text, removing)} - {*added}]
        renames = base is not None and name not in {None, base.body["name"]}
        batches = max(-(-len(new) // BATCH), -(-len(old) // BATCH), int(renames))
        missing = base is None or self._is_missing(replica, adding)
        effects = confirmed = 0
        for tries in (1, 2, 3):
            out = self.run(call(), faults if tries == 1 else ())
            if self.truth.collection(replica, uuid, version) != base:
                return  # overwritten or deleted by a replication meanwhile
            # A version that the DSS does not list can be created once more, in each run without luck.
            assert out.effects <= 2 * batches, f"{out.effects} PATCHes instead of {batches}: {out}"
            effects += out.effects
            confirmed += sum(one.seen.status == 200 and not one.seen.unusual for one in out.sent("PATCH"))
            if out.error is None and not out.killed:
                break
            if out.error is not None:
                self._has_reason(out, missing)
                if tries == 3 or (effects == 0 and not out.is_disturbed):
                    return
        assert base is not None, out
        stored = self.truth.collections[replica, uuid, out.value.version]
        assert {*stored.links} == wanted, f"{stored.links}, {wanted}: {out}"
        assert len(stored.links) == len(wanted) == out.value.count, out
        assert stored.body["name"] == (name or base.body["name"]), out
        assert stored.body["details"] == base.body["details"], out
        # A PATCH whose version was returned is never sent again, by no later run either.
        assert confirmed == batches, f"{confirmed} confirmed PATCHes instead of {batches}: {out}"
        if tries == 1 and not out.unclear:
            assert effects == batches == out.value.patches, f"{effects} PATCHes instead of {batches}: {out}"

    def _has_reason(self, out: Outcome, missing: bool) -> None:
        """Check that a change had a reason to fail."""
        assert isinstance(out.error, DSSError), out
        if not missing:
            assert not out.must_succeed, f"no reason to fail: {out}"
            self.justified(out)

    def _is_missing(self, replica: str, links: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether an item does not exist."""
        known: Mapping[str, Mapping[Any, Any]] = {
            "file": self.truth.files,
            "bundle": self.truth.bundles,
            "collection": self.truth.collections,
        }
        return any((replica, link["uuid"], link["version"]) not in known[link["type"]] for link in links)

    @step(replica=REPLICAS, uuid=COLLECTIONS, faults=FAULTS, really=[False, False, True])
    def delete_collection(self, replica: str, uuid: str, faults: Faults, really: bool) -> None:
        """Delete a collection; most of them not too often."""
        if not really:
            uuid = COLLECTIONS[0]
        existed = self.truth.collection(replica, uuid, None) is not None
        out = self.run(self.api.delete_collection(uuid, replica=replica), faults)
        if self.single(out, {200}, gone=True) and existed:  # otherwise the other replica's may arrive meanwhile
            assert self.truth.collection(replica, uuid, None) is None, out
