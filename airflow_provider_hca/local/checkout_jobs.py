"""Checkouts of bundles in the background; they are recorded first, so that a restart resumes them."""

from __future__ import annotations

import time
import traceback
import uuid as uuids
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .staging import SCHEMES, NoSuchBucketError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .blob_store import BlobStore
    from .database import Database
    from .staging import StagingStore
    from .store import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checkouts_requested (
    id TEXT PRIMARY KEY, replica TEXT, uuid TEXT, version TEXT, bucket TEXT, must_fail INTEGER, created REAL,
    status TEXT, location TEXT, cause TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS checkouts_running ON checkouts_requested (created) WHERE status = 'RUNNING';
"""
_DEFAULT_BUCKET = "dss-local-checkout"  # a DSS has its own bucket for checkouts without a destination; here only a name


@dataclass(frozen=True)
class Job:
    """A requested checkout of a bundle."""

    id: str
    replica: str
    uuid: str
    version: str
    bucket: str | None
    must_fail: int  # 1 if a fault was injected

    @property
    def prefix(self) -> str:
        """Prefix of the files' keys."""
        return f"bundles/{self.uuid}.{self.version}"


class _CheckoutFailedError(Exception):
    """The bundle cannot be checked out; the message is returned to the client as `cause`."""


class CheckoutJobs:
    """Record and execute checkouts.

    :param delay: seconds before a checkout starts
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        blobs: BlobStore,
        staging_stores: Mapping[str, StagingStore],
        delay: float,
    ) -> None:
        self._db = database
        self._store = store
        self._blobs = blobs
        self._staging_stores = staging_stores
        self._delay = delay
        database.create(_SCHEMA)

    def add(self, replica: str, uuid: str, version: str, bucket: str | None, *, must_fail: bool) -> str:
        """Record a checkout and return its job id.

        :param bucket: destination; the DSS's own bucket if None
        :param must_fail: whether a fault was injected
        """
        job = str(uuids.uuid4())
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO checkouts_requested VALUES (?, ?, ?, ?, ?, ?, ?, 'RUNNING', NULL, NULL)",
                (job, replica, uuid, version, bucket, int(must_fail), time.time()),
            )
        return job

    def status(self, replica: str, job: str) -> dict[str, str] | None:
        """Return status, location and cause of failure of a job, those that it has; None for an unknown job."""
        rows = self._db.rows(
            "SELECT status, location, cause FROM checkouts_requested WHERE id = ? AND replica = ?", job, replica
        )
        if not rows:
            return None
        fields = zip(("status", "location", "cause"), rows[0], strict=True)
        return {name: value for name, value in fields if value is not None}

    def step(self) -> bool:
        """Execute the oldest checkout that is due; return whether there was one."""
        rows = self._db.rows(
            "SELECT id, replica, uuid, version, bucket, must_fail FROM checkouts_requested "
            "WHERE status = 'RUNNING' AND created <= ? ORDER BY created LIMIT 1",
            time.time() - self._delay,
        )
        if not rows:
            return False
        job = Job(*rows[0])
        try:
            location = self._check_out(job)
        except _CheckoutFailedError as error:
            self._end(job, "FAILED", cause=str(error))
        except Exception as error:  # noqa: BLE001 - otherwise the job would be repeated forever
            traceback.print_exc()
            self._end(job, "FAILED", cause=f"The files cannot be copied: {type(error).__name__}")
        else:
            self._end(job, "SUCCEEDED", location=location)
        return True

    def _check_out(self, job: Job) -> str:
        if job.must_fail:
            raise _CheckoutFailedError("Injected fault: the checkout fails")
        manifest = self._store.bundle(job.replica, job.uuid, job.version)
        if manifest is None:
            raise _CheckoutFailedError(f"Bundle {job.uuid}.{job.version} does not exist")
        if job.bucket is not None:
            self._copy(job, job.bucket, manifest["files"])
        for file in manifest["files"]:
            self._store.ensure_checkout(job.replica, file["sha256"], time.time(), 0)
        return f"{SCHEMES[job.replica]}://{job.bucket or _DEFAULT_BUCKET}/{job.prefix}"

    def _copy(self, job: Job, bucket: str, files: list[dict[str, str]]) -> None:
        staging = self._staging_stores.get(job.replica)
        try:
            if staging is None:
                raise NoSuchBucketError(bucket)
            for file in files:
                content = self._blobs.path(file["sha256"])
                staging.write(bucket, f"{job.prefix}/{file['name']}", content, file["content-type"])
        except NoSuchBucketError:
            raise _CheckoutFailedError(f"Bucket {bucket} doesn't exist") from None

    def _end(self, job: Job, status: str, location: str | None = None, cause: str | None = None) -> None:
        with self._db.transaction() as db:
            db.execute(
                "UPDATE checkouts_requested SET status = ?, location = ?, cause = ? WHERE id = ?",
                (status, location, cause, job.id),
            )
