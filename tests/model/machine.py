"""A state machine of calls with faults; each call is checked against what must be true."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis.stateful import precondition

from airflow_provider_hca.client.waiters import BundleWaiter, FilesWaiter, wait_for
from airflow_provider_hca.exceptions import (
    DSSCopyError,
)

from .bundle_rules import BundleRules
from .choices import (
    ANY_VERSION,
    BUNDLES,
    FAULTS,
    FILES,
    OUTAGE,
    REPLICAS,
    STAGING,
    TREES,
    UPLOAD_FAULTS,
    VERSIONS,
    Faults,
)
from .collection_rules import CollectionRules
from .faults import Fault
from .file_rules import FileRules
from .rules import step
from .uploads import Upload


class Model(FileRules, BundleRules, CollectionRules):
    """All calls, with faults."""

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
        uuid = (BUNDLES if bundle else FILES)[number]
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
        next_version=[False, True],
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
        next_version: bool,
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
            self.directory.write(TREES[number])
            uuid, version = f"d{next(self.numbers):07}-0000-4000-8000-000000000000", VERSIONS[0]
            last = self.last
            if next_version and last is not None and last.version != VERSIONS[-1]:
                replica, uuid, version = last.replica, last.uuid, VERSIONS[VERSIONS.index(last.version) + 1]
            self.current = self.last = Upload(
                self.world, self.directory, self.auth, replica, uuid, version, delete=delete, compared=next_version
            )
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
