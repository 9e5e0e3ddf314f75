"""Checking bundles out in the background: recorded first, so that a restart goes on with what was left undone."""

from __future__ import annotations

import time
import traceback
import uuid as uuids
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .staging import SCHEMES, NoBucketError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .blob_store import Blobs
    from .database import Database
    from .staging import Staging
    from .store import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checkout_jobs (
    id TEXT PRIMARY KEY, replica TEXT, uuid TEXT, version TEXT, bucket TEXT, doomed INTEGER, begun REAL,
    status TEXT, location TEXT, cause TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS checkout_jobs_running ON checkout_jobs (begun) WHERE status = 'RUNNING';
"""
_OWN_BUCKET = "dss-local-checkout"  # where a DSS puts what is checked out to no other bucket; here it is but a name


@dataclass(frozen=True)
class Job:
    """A bundle that is to be checked out."""

    id: str
    replica: str
    uuid: str
    version: str
    bucket: str | None
    doomed: int  # 1 when a fault was switched on for it

    @property
    def prefix(self) -> str:
        """The key under which the files are put."""
        return f"bundles/{self.uuid}.{self.version}"


class _CheckoutFailedError(Exception):
    """The bundle cannot be checked out; the message is the cause a client is told."""


class CheckoutJobs:
    """All jobs there ever were, and the step that does the next one."""

    def __init__(
        self, database: Database, store: Store, blobs: Blobs, stagings: Mapping[str, Staging], delay: float
    ) -> None:
        self._db = database
        self._store = store
        self._blobs = blobs
        self._stagings = stagings
        self._delay = delay  # seconds
        database.create(_SCHEMA)

    def add(self, replica: str, uuid: str, version: str, bucket: str | None, *, doomed: bool) -> str:
        """Record a job to be done in the background.

        :param replica: where the bundle is
        :param uuid: which bundle
        :param version: which version of it
        :param bucket: where it is to be put, None for the DSS's own bucket
        :param doomed: whether it shall fail
        :return: the id of the job
        """
        job = str(uuids.uuid4())
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO checkout_jobs VALUES (?, ?, ?, ?, ?, ?, ?, 'RUNNING', NULL, NULL)",
                (job, replica, uuid, version, bucket, int(doomed), time.time()),
            )
        return job

    def status(self, replica: str, job: str) -> dict[str, str]:
        """Return what is to be said of a job: its status, and its location or the cause of its failure.

        :param replica: where the bundle is
        :param job: the id of the job
        """
        rows = self._db.rows(
            "SELECT status, location, cause FROM checkout_jobs WHERE id = ? AND replica = ?", job, replica
        )
        found = zip(("status", "location", "cause"), rows[0] if rows else ("UNKNOWN_JOB_ID", None, None), strict=True)
        return {name: value for name, value in found if value is not None}

    def step(self) -> bool:
        """Do the oldest job that has waited long enough; tell whether there was one."""
        rows = self._db.rows(
            "SELECT id, replica, uuid, version, bucket, doomed FROM checkout_jobs "
            "WHERE status = 'RUNNING' AND begun <= ? ORDER BY begun LIMIT 1",
            time.time() - self._delay,
        )
        if not rows:
            return False
        job = Job(*rows[0])
        try:
            location = self._check_out(job)
        except _CheckoutFailedError as error:
            self._end(job, "FAILED", cause=str(error))
        except Exception as error:  # noqa: BLE001 - the job would be tried again and again, for ever
            traceback.print_exc()
            self._end(job, "FAILED", cause=f"The files cannot be copied: {type(error).__name__}")
        else:
            self._end(job, "SUCCEEDED", location=location)
        return True

    def _check_out(self, job: Job) -> str:
        if job.doomed:
            raise _CheckoutFailedError("A fault was switched on for this checkout")
        manifest = self._store.bundle(job.replica, job.uuid, job.version)
        if manifest is None:
            raise _CheckoutFailedError(f"Bundle {job.uuid}.{job.version} does not exist")
        if job.bucket is not None:
            self._copy(job, job.bucket, manifest["files"])
        for file in manifest["files"]:
            self._store.checked_out(job.replica, file["sha256"], time.time(), 0)
        return f"{SCHEMES[job.replica]}://{job.bucket or _OWN_BUCKET}/{job.prefix}"

    def _copy(self, job: Job, bucket: str, files: list[dict[str, str]]) -> None:
        staging = self._stagings.get(job.replica)
        try:
            if staging is None:
                raise NoBucketError(bucket)
            for file in files:
                content = self._blobs.path(file["sha256"])
                staging.write(bucket, f"{job.prefix}/{file['name']}", content, file["content-type"])
        except NoBucketError:
            raise _CheckoutFailedError(f"Bucket {bucket} doesn't exist") from None

    def _end(self, job: Job, status: str, location: str | None = None, cause: str | None = None) -> None:
        with self._db.transaction() as db:
            db.execute(
                "UPDATE checkout_jobs SET status = ?, location = ?, cause = ? WHERE id = ?",
                (status, location, cause, job.id),
            )
