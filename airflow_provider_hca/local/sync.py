"""Copy records from one replica to the other, after a delay.

A change is recorded in the transaction that makes it, so that none is lost when the process ends. Changes are copied in
order, so that a bundle is never copied before its files. Replicas share the contents on disk: only records are copied.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from .event_records import record_created, record_deleted

if TYPE_CHECKING:
    import sqlite3

    from .database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS syncs (
    number INTEGER PRIMARY KEY, kind TEXT, replica TEXT, uuid TEXT, version TEXT, since REAL);
"""
_BATCH = 200  # records per transaction; other requests wait meanwhile
_OTHER = {"aws": "gcp", "gcp": "aws"}

Kind = Literal["file", "bundle", "tombstone", "collection", "collection tombstone"]

# Existing records are kept, as everywhere in a DSS, except collections, which can be overwritten.
_COPY: dict[Kind, tuple[str, ...]] = {
    "file": (
        "INSERT OR IGNORE INTO blobs SELECT :other, b.sha256, b.sha1, b.crc32c, b.s3_etag, b.size "
        "FROM blobs b JOIN files f ON f.replica = b.replica AND f.sha256 = b.sha256 "
        "WHERE f.replica = :replica AND f.uuid = :uuid AND f.version = :version",
        "INSERT OR IGNORE INTO files SELECT :other, uuid, version, sha256, sha1, crc32c, s3_etag, size, content_type, "
        "creator_uid FROM files WHERE replica = :replica AND uuid = :uuid AND version = :version",
    ),
    "bundle": (
        "INSERT OR IGNORE INTO bundles SELECT :other, uuid, version, manifest "
        "FROM bundles WHERE replica = :replica AND uuid = :uuid AND version = :version",
    ),
    "tombstone": (
        "INSERT OR IGNORE INTO tombstones SELECT :other, uuid, version, reason "
        "FROM tombstones WHERE replica = :replica AND uuid = :uuid AND version = :version",
    ),
    "collection": (
        "INSERT OR REPLACE INTO collections SELECT :other, uuid, version, owner, body "
        "FROM collections WHERE replica = :replica AND uuid = :uuid AND version = :version",
    ),
    "collection tombstone": (
        "INSERT OR IGNORE INTO collection_tombstones SELECT :other, uuid, owner "
        "FROM collection_tombstones WHERE replica = :replica AND uuid = :uuid",
    ),
}


def record_change(db: sqlite3.Connection, kind: Kind, replica: str, uuid: str, version: str) -> None:
    """Record a change, to copy it to the other replica later.

    :param db: transaction in which the change is made
    :param replica: replica that is changed
    :param version: version; empty for records without versions
    """
    db.execute(
        "INSERT INTO syncs (kind, replica, uuid, version, since) VALUES (?, ?, ?, ?, ?)",
        (kind, replica, uuid, version, time.time()),
    )


class Sync:
    """Copy changes that are due.

    :param delay: seconds from a change to its copy
    """

    def __init__(self, database: Database, delay: float) -> None:
        self._db = database
        self._delay = delay
        database.create(_SCHEMA)

    def step(self) -> bool:
        """Copy the oldest changes that are due; return whether there were any."""
        due = self._db.rows(
            "SELECT number, kind, replica, uuid, version FROM syncs WHERE since <= ? ORDER BY number LIMIT ?",
            time.time() - self._delay,
            _BATCH,
        )
        if not due:
            return False
        with self._db.transaction() as db:
            for number, kind, replica, uuid, version in due:
                _copy(db, kind, {"replica": replica, "other": _OTHER[replica], "uuid": uuid, "version": version})
                db.execute("DELETE FROM syncs WHERE number = ?", (number,))
        return True


def _copy(db: sqlite3.Connection, kind: Kind, key: dict[str, str]) -> None:
    """Copy one record; a bundle or tombstone that is new in the other replica is an event there too."""
    added = 0
    for statement in _COPY[kind]:
        added = db.execute(statement, key).rowcount
    if added and kind == "bundle":
        record_created(db, key["other"], key["uuid"], key["version"])
    if added and kind == "tombstone":
        (reason,) = db.execute(
            "SELECT reason FROM tombstones WHERE replica = :other AND uuid = :uuid AND version = :version", key
        ).fetchone()
        record_deleted(db, key["other"], key["uuid"], key["version"], reason)
