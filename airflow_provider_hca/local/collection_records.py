"""Records of collections and their owners."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .sync import record_change

if TYPE_CHECKING:
    from .database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS collections (
    replica TEXT, uuid TEXT, version TEXT, owner TEXT, body TEXT,
    PRIMARY KEY (replica, uuid, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS collection_tombstones (
    replica TEXT, uuid TEXT, owner TEXT, PRIMARY KEY (replica, uuid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS collection_lists (
    owner TEXT, uuid TEXT, version TEXT, PRIMARY KEY (owner, uuid, version)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class CollectionRecord:
    """A version of a collection in a replica."""

    replica: str
    uuid: str
    version: str
    owner: str  # e-mail address
    body: dict[str, Any]


class CollectionRecords:
    """Collections, and the lists of their owners, which are the same for both replicas."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.create(_SCHEMA)

    def find(self, replica: str, uuid: str, version: str | None) -> CollectionRecord | None:
        """Return a collection that is not deleted, or None.

        :param version: version; the latest if None
        """
        rows = self._db.rows(
            "SELECT version, owner, body FROM collections c WHERE replica = ? AND uuid = ? "
            "AND (? IS NULL OR version = ?) AND NOT EXISTS (SELECT 1 FROM collection_tombstones t "
            "WHERE t.replica = c.replica AND t.uuid = c.uuid) ORDER BY version DESC LIMIT 1",
            replica,
            uuid,
            version,
            version,
        )
        if not rows:
            return None
        latest, owner, body = rows[0]
        return CollectionRecord(replica, uuid, latest, owner, json.loads(body))

    def exists(self, replica: str, uuid: str, version: str) -> bool:
        """Return whether a version exists, deleted or not."""
        return bool(
            self._db.rows(
                "SELECT 1 FROM collections WHERE replica = ? AND uuid = ? AND version = ?", replica, uuid, version
            )
        )

    def overwrite(self, record: CollectionRecord) -> None:
        """Record and list a collection; one with the same uuid and version is replaced, even of another owner."""
        with self._db.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO collections VALUES (?, ?, ?, ?, ?)",
                (record.replica, record.uuid, record.version, record.owner, json.dumps(record.body)),
            )
            record_change(db, "collection", record.replica, record.uuid, record.version)
            db.execute(
                "INSERT OR IGNORE INTO collection_lists VALUES (?, ?, ?)", (record.owner, record.uuid, record.version)
            )

    def add(self, record: CollectionRecord) -> bool:
        """Record a collection, without listing it, unless uuid and version exist; return whether it was recorded."""
        with self._db.transaction() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO collections VALUES (?, ?, ?, ?, ?)",
                (record.replica, record.uuid, record.version, record.owner, json.dumps(record.body)),
            )
            added = cursor.rowcount == 1
            if added:
                record_change(db, "collection", record.replica, record.uuid, record.version)
        return added

    def add_tombstone(self, replica: str, uuid: str, owner: str) -> None:
        """Delete all versions of a collection, and remove it from its owner's list."""
        with self._db.transaction() as db:
            db.execute("INSERT OR IGNORE INTO collection_tombstones VALUES (?, ?, ?)", (replica, uuid, owner))
            record_change(db, "collection tombstone", replica, uuid, "")
            db.execute("DELETE FROM collection_lists WHERE owner = ? AND uuid = ?", (owner, uuid))

    def listed(self, owner: str) -> list[tuple[str, str]]:
        """Return the (uuid, version) of an owner's listed collections, in order."""
        rows = self._db.rows("SELECT uuid, version FROM collection_lists WHERE owner = ? ORDER BY uuid, version", owner)
        return [(uuid, version) for uuid, version in rows]

    def dump(self) -> list[dict[str, Any]]:
        """Return all collections, deleted or not, in a canonical order, so that two states can be compared."""
        rows = self._db.rows("SELECT replica, uuid, version, owner, body FROM collections ORDER BY 1, 2, 3")
        names = ("replica", "uuid", "version", "owner")
        return [dict(zip(names, row[:4], strict=True)) | {"body": json.loads(row[4])} for row in rows]
