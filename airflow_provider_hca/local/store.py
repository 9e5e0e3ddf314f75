"""The records of files, bundles and tombstones, and of copies that are still to be made."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from .checksums import Checksums
from .event_records import note_created, note_deleted
from .sync import note

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    replica TEXT, uuid TEXT, version TEXT, sha256 TEXT, sha1 TEXT, crc32c TEXT, s3_etag TEXT, size INTEGER,
    content_type TEXT, creator_uid INTEGER, PRIMARY KEY (replica, uuid, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blobs (
    replica TEXT, sha256 TEXT, sha1 TEXT, crc32c TEXT, s3_etag TEXT, size INTEGER,
    PRIMARY KEY (replica, sha256)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS copies (
    number INTEGER PRIMARY KEY, task_id TEXT, source TEXT, doomed INTEGER, failed INTEGER,
    replica TEXT, uuid TEXT, version TEXT, sha256 TEXT, sha1 TEXT, crc32c TEXT, s3_etag TEXT, size INTEGER,
    content_type TEXT, creator_uid INTEGER);
CREATE INDEX IF NOT EXISTS copies_by_file ON copies (replica, uuid, version);
CREATE TABLE IF NOT EXISTS bundles (
    replica TEXT, uuid TEXT, version TEXT, manifest TEXT, PRIMARY KEY (replica, uuid, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tombstones (
    replica TEXT, uuid TEXT, version TEXT, reason TEXT, PRIMARY KEY (replica, uuid, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkouts (
    replica TEXT, sha256 TEXT, ready_at REAL, PRIMARY KEY (replica, sha256)) WITHOUT ROWID;
"""
_FILE = "replica, uuid, version, sha256, sha1, crc32c, s3_etag, size, content_type, creator_uid"
_ALIVE = """NOT EXISTS (SELECT 1 FROM tombstones t
    WHERE t.replica = b.replica AND t.uuid = b.uuid AND t.version IN ('', b.version))"""


@dataclass(frozen=True)
class FileRecord:
    """One version of one file in one replica."""

    replica: str
    uuid: str
    version: str
    sha256: str
    sha1: str
    crc32c: str
    s3_etag: str
    size: int
    content_type: str
    creator_uid: int

    @property
    def sums(self) -> Checksums:
        """The four checksums."""
        return Checksums(self.sha256, self.sha1, self.crc32c, self.s3_etag)


@dataclass(frozen=True)
class Copy:
    """A file whose content is still to be fetched from the staging bucket."""

    number: int
    task_id: str
    source: str
    doomed: int  # the status HEAD shall give for ever after: a fault was switched on for this copy; 0 for none
    file: FileRecord


class Store:
    """Everything that was acknowledged."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.create(_SCHEMA)

    def file(self, replica: str, uuid: str, version: str | None) -> FileRecord | None:
        """Return a file; the latest version, which is the greatest string, when none is asked for."""
        rows = self._db.rows(
            f"SELECT {_FILE} FROM files WHERE replica = ? AND uuid = ? AND (? IS NULL OR version = ?) "  # noqa: S608 - constant names
            "ORDER BY version DESC LIMIT 1",
            replica,
            uuid,
            version,
            version,
        )
        return FileRecord(*rows[0]) if rows else None

    def files(self, replica: str, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], FileRecord | None]:
        """Return the files by (uuid, version), None for those there are not."""
        statement = f"SELECT {_FILE} FROM files WHERE replica = ? AND uuid = ? AND version = ?"  # noqa: S608 - constant names
        found: dict[tuple[str, str], FileRecord | None] = {}
        with self._db.reading() as db:
            for uuid, version in wanted:
                row = db.execute(statement, (replica, uuid, version)).fetchone()
                found[uuid, version] = FileRecord(*row) if row else None
        return found

    def add_file(self, file: FileRecord, copy: Copy | None = None) -> tuple[FileRecord, bool]:
        """Record `file` unless its uuid and version are taken; return what is recorded, and whether that is new.

        :param file: the file, whose content is in place
        :param copy: the copy that is hereby done
        """
        with self._db.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?, ?)",
                (file.replica, *astuple(file.sums), file.size),
            )
            cursor = db.execute(
                f"INSERT OR IGNORE INTO files ({_FILE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant names
                astuple(file),
            )
            added = cursor.rowcount == 1
            if added:
                note(db, "file", file.replica, file.uuid, file.version)
            if copy:
                db.execute("DELETE FROM copies WHERE number = ?", (copy.number,))
        stored = file if added else self.file(file.replica, file.uuid, file.version)
        if stored is None:
            raise RuntimeError("a file vanished right after it was recorded")
        return stored, added

    def has_content(self, replica: str, sums: Checksums, size: int) -> bool:
        """Tell whether exactly this content is in the replica already."""
        rows = self._db.rows(
            "SELECT 1 FROM blobs WHERE replica = ? "
            "AND sha256 = ? AND sha1 = ? AND crc32c = ? AND s3_etag = ? AND size = ?",
            replica,
            *astuple(sums),
            size,
        )
        return bool(rows)

    def add_copy(self, task_id: str, source: str, file: FileRecord, doomed: int) -> tuple[Copy, bool]:
        """Record that `file` is to be copied, unless the same copy waits already; return it, and whether it is new."""
        columns = " AND ".join(f"{name.strip()} = ?" for name in _FILE.split(","))
        with self._db.transaction() as db:
            row = db.execute(
                f"SELECT number, task_id, source, doomed FROM copies WHERE failed = 0 AND source = ? AND {columns}",  # noqa: S608 - constant names
                (source, *astuple(file)),
            ).fetchone()
            if row:
                return Copy(row[0], row[1], row[2], row[3], file), False
            db.execute(
                "DELETE FROM copies WHERE failed != 0 AND replica = ? AND uuid = ? AND version = ?",
                (file.replica, file.uuid, file.version),
            )
            cursor = db.execute(
                f"INSERT INTO copies (task_id, source, doomed, failed, {_FILE}) "  # noqa: S608 - constant names
                "VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (task_id, source, doomed, *astuple(file)),
            )
            return Copy(cursor.lastrowid or 0, task_id, source, doomed, file), True

    def fail_copy(self, copy: Copy, status: int) -> None:
        """Record that `copy` will never be done, and what HEAD answers from now on."""
        with self._db.transaction() as db:
            db.execute("UPDATE copies SET failed = ? WHERE number = ?", (status, copy.number))

    def pending_copies(self) -> list[Copy]:
        """Return the copies a process that ended left undone, oldest first."""
        rows = self._db.rows(
            f"SELECT number, task_id, source, doomed, {_FILE} FROM copies WHERE failed = 0 ORDER BY number"  # noqa: S608 - constant names
        )
        return [Copy(row[0], row[1], row[2], row[3], FileRecord(*row[4:])) for row in rows]

    def failure(self, replica: str, uuid: str, version: str | None) -> int | None:
        """Return the status of the failed copy of this file, None when none failed or another one is under way."""
        rows = self._db.rows(
            "SELECT failed FROM copies WHERE replica = ? AND uuid = ? AND (? IS NULL OR version = ?) "
            "ORDER BY failed = 0 DESC, number DESC LIMIT 1",
            replica,
            uuid,
            version,
            version,
        )
        return rows[0][0] or None if rows else None

    def checked_out(self, replica: str, sha256: str, now: float, delay: float) -> bool:
        """Tell whether a copy for downloading exists; the first to ask has one made, which takes `delay` seconds."""
        with self._db.transaction() as db:
            db.execute("INSERT OR IGNORE INTO checkouts VALUES (?, ?, ?)", (replica, sha256, now + delay))
            row = db.execute(
                "SELECT ready_at FROM checkouts WHERE replica = ? AND sha256 = ?", (replica, sha256)
            ).fetchone()
        return bool(row[0] <= now)

    def add_bundle(self, replica: str, uuid: str, version: str, manifest: dict[str, Any]) -> bool:
        """Record a bundle unless its uuid and version are taken; tell whether that was done."""
        with self._db.transaction() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO bundles VALUES (?, ?, ?, ?)",
                (replica, uuid, version, json.dumps(manifest)),
            )
            added = cursor.rowcount == 1
            if added:
                note(db, "bundle", replica, uuid, version)
                note_created(db, replica, uuid, version)
        return added

    def bundle(self, replica: str, uuid: str, version: str | None, *, dead_too: bool = False) -> dict[str, Any] | None:
        """Return the manifest of a bundle, by default of the latest version that is not deleted."""
        rows = self._db.rows(
            "SELECT manifest FROM bundles b WHERE replica = ? AND uuid = ? AND (? IS NULL OR version = ?) "  # noqa: S608 - constant names
            f"AND (? OR {_ALIVE}) ORDER BY version DESC LIMIT 1",
            replica,
            uuid,
            version,
            version,
            dead_too,
        )
        manifest: dict[str, Any] | None = json.loads(rows[0][0]) if rows else None
        return manifest

    def has_bundle(self, replica: str, uuid: str, version: str | None) -> bool:
        """Tell whether there is a bundle, or any version of it, deleted or not."""
        rows = self._db.rows(
            "SELECT 1 FROM bundles WHERE replica = ? AND uuid = ? AND (? IS NULL OR version = ?) LIMIT 1",
            replica,
            uuid,
            version,
            version,
        )
        return bool(rows)

    def bury(self, replica: str, uuid: str, version: str, reason: str) -> str:
        """Put up a tombstone unless there is one; return the reason on it.

        :param version: the version deleted, empty for the whole uuid
        """
        with self._db.transaction() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?, ?)", (replica, uuid, version, reason)
            )
            if cursor.rowcount == 1:
                note(db, "tombstone", replica, uuid, version)
                note_deleted(db, replica, uuid, version, reason)
            row = db.execute(
                "SELECT reason FROM tombstones WHERE replica = ? AND uuid = ? AND version = ?",
                (replica, uuid, version),
            ).fetchone()
        return str(row[0])

    def bundles_after(self, replica: str, prefix: str, after: tuple[str, str], limit: int) -> list[tuple[str, str]]:
        """Return the (uuid, version) of bundles that are not deleted, in order."""
        rows = self._db.rows(
            "SELECT uuid, version FROM bundles b WHERE replica = ? AND substr(uuid, 1, length(?)) = ? "  # noqa: S608 - constant names
            f"AND (uuid, version) > (?, ?) AND {_ALIVE} ORDER BY uuid, version LIMIT ?",
            replica,
            prefix,
            prefix,
            *after,
            limit,
        )
        return [(uuid, version) for uuid, version in rows]

    def bundles_and_reasons(self, replica: str) -> list[tuple[str, str, str | None]]:
        """Return (uuid, version, reason of deletion) of all bundles, the greatest uuid first."""
        rows = self._db.rows(
            "SELECT uuid, version, (SELECT reason FROM tombstones t WHERE t.replica = b.replica AND t.uuid = b.uuid "
            "AND t.version IN ('', b.version) ORDER BY t.version DESC LIMIT 1) FROM bundles b WHERE replica = ? "
            "ORDER BY uuid DESC, version DESC",
            replica,
        )
        return [(uuid, version, reason) for uuid, version, reason in rows]

    def everything(self) -> dict[str, Any]:
        """Return all there is, in one canonical order, so that two states can be compared."""
        names = [name.strip() for name in _FILE.split(",")]
        files = self._db.rows(f"SELECT {_FILE} FROM files ORDER BY 1, 2, 3")  # noqa: S608 - constant names
        bundles = self._db.rows("SELECT replica, uuid, version, manifest FROM bundles ORDER BY 1, 2, 3")
        tombstones = self._db.rows("SELECT replica, uuid, version, reason FROM tombstones ORDER BY 1, 2, 3")
        return {
            "files": [dict(zip(names, row, strict=True)) for row in files],
            "bundles": [
                {"replica": row[0], "uuid": row[1], "version": row[2], "manifest": json.loads(row[3])}
                for row in bundles
            ],
            "tombstones": [
                {"replica": row[0], "uuid": row[1], "version": row[2] or None, "reason": row[3]} for row in tombstones
            ],
        }
