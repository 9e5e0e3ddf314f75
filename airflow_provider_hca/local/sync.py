"""What is written in one replica comes to the other, some time later.

Whoever writes notes it in the same transaction, so that nothing is forgotten whenever the process ends; and because all
is copied in the order in which it was written, a bundle never comes before its files. Both replicas share the contents
on disk, so that only records are copied.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from .event_records import note_created, note_deleted

if TYPE_CHECKING:
    import sqlite3

    from .database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS syncs (
    number INTEGER PRIMARY KEY, kind TEXT, replica TEXT, uuid TEXT, version TEXT, since REAL);
"""
_BATCH = 200  # how many records are copied in one transaction: other requests wait as long
_OTHER = {"aws": "gcp", "gcp": "aws"}

Kind = Literal["file", "bundle", "tombstone", "collection", "collection tombstone"]

# What is there is left alone, as everywhere in a DSS; but a collection can be overwritten.
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


def note(db: sqlite3.Connection, kind: Kind, replica: str, uuid: str, version: str) -> None:
    """Note that something was written, to be copied to the other replica.

    :param db: the transaction in which it was written
    :param kind: what
    :param replica: where
    :param uuid: its uuid
    :param version: its version, empty where it has none
    """
    db.execute(
        "INSERT INTO syncs (kind, replica, uuid, version, since) VALUES (?, ?, ?, ?, ?)",
        (kind, replica, uuid, version, time.time()),
    )


class Sync:
    """The step that copies what has waited long enough."""

    def __init__(self, database: Database, delay: float) -> None:
        self._db = database
        self._delay = delay  # seconds
        database.create(_SCHEMA)

    def step(self) -> bool:
        """Copy the oldest records that are due; tell whether there were any."""
        due = self._db.rows(
            "SELECT number, kind, replica, uuid, version FROM syncs WHERE since <= ? ORDER BY number LIMIT ?",
            time.time() - self._delay,
            _BATCH,
        )
        if not due:
            return False
        with self._db.transaction() as db:
            for number, kind, replica, uuid, version in due:
                _copy(db, kind, {"other": _OTHER[replica], "replica": replica, "uuid": uuid, "version": version})
                db.execute("DELETE FROM syncs WHERE number = ?", (number,))
        return True


def _copy(db: sqlite3.Connection, kind: Kind, place: dict[str, str]) -> None:
    """Copy one record; what happens to a bundle by that is an event of the other replica too."""
    added = 0
    for statement in _COPY[kind]:
        added = db.execute(statement, place).rowcount
    if added and kind == "bundle":
        note_created(db, place["other"], place["uuid"], place["version"])
    if added and kind == "tombstone":
        (reason,) = db.execute(
            "SELECT reason FROM tombstones WHERE replica = :other AND uuid = :uuid AND version = :version", place
        ).fetchone()
        note_deleted(db, place["other"], place["uuid"], place["version"], reason)
