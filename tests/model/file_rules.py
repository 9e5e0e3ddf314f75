"""Rules of files."""

from __future__ import annotations

import io

from airflow_provider_hca.client.models import PutFile
from airflow_provider_hca.exceptions import (
    DSSConflictError,
    DSSCopyError,
    DSSProtocolError,
)

from .checksums import sums
from .choices import ANY_VERSION, CONTENTS, CREATORS, FAULTS, FILES, OUTAGE, REPLICAS, SLOTS, VERSIONS, Faults
from .outcomes import Outcome
from .rules import Base, step
from .truth import File


class FileRules(Base):
    """Calls about files, with faults."""

    @step(
        replica=REPLICAS,
        slot=SLOTS,
        content=CONTENTS,
        content_type=["text/plain", "text/plain", "text/csv"],
        quality=["good", "good", "good", "good", "wrong", "missing"],
    )
    def stage(self, replica: str, slot: int, content: bytes, content_type: str, quality: str) -> None:
        """Stage an object, well or badly."""
        self._stage(replica, slot, content, content_type, quality)

    @step(
        replica=REPLICAS,
        slot=SLOTS,
        uuid=FILES,
        version=VERSIONS,
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

    @step(replica=REPLICAS, uuid=FILES, version=ANY_VERSION, faults=FAULTS)
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
        uuid=FILES,
        version=VERSIONS,
        content=[None, *CONTENTS],
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

    @step(replica=REPLICAS, uuid=FILES, version=ANY_VERSION, faults=FAULTS)
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
