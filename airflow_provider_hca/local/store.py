"""Records of files, bundles and tombstones, and of pending and failed copies."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from .checksums import Checksums
from .event_records import record_created, record_deleted
from .sync import record_change

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
CREATE TABLE IF NOT EXISTS copy_tasks (
    number INTEGER PRIMARY KEY, task_id TEXT, source TEXT, fail_status INTEGER, failed INTEGER,
    replica TEXT, uuid TEXT, version TEXT, sha256 TEXT, sha1 TEXT, crc32c TEXT, s3_etag TEXT, size INTEGER,
    content_type TEXT, creator_uid INTEGER);
CREATE INDEX IF NOT EXISTS copy_tasks_by_file ON copy_tasks (replica, uuid, version);
CREATE TABLE IF NOT EXISTS bundles (
    replica TEXT, uuid TEXT, version TEXT, manifest TEXT, PRIMARY KEY (replica, uuid, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tombstones (
    replica TEXT, uuid TEXT, version TEXT, reason TEXT, PRIMARY KEY (replica, uuid, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkouts (
    replica TEXT, sha256 TEXT, ready_at REAL, PRIMARY KEY (replica, sha256)) WITHOUT ROWID;
"""
_FILE = "replica, uuid, version, sha256, sha1, crc32c, s3_etag, size, content_type, creator_uid"
_COPY = "number, task_id, source, fail_status"
_NOT_DELETED = """NOT EXISTS (SELECT 1 FROM tombstones t
    WHERE t.replica = b.replica AND t.uuid = b.uuid AND t.version IN ('', b.version))"""


@dataclass(frozen=True)
class FileRecord:
    """A version of a file in a replica."""

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
        """Checksums of the content."""
        return Checksums(self.sha256, self.sha1, self.crc32c, self.s3_etag)


@dataclass(frozen=True)
class Copy:
    """A pending copy of a staged object.

    :ivar fail_status: status of an injected fault, which HEAD file returns from then on; 0 for none
    """

    file: FileRecord
    number: int
    task_id: str
    source: str
    fail_status: int


class Store:
    """Files, bundles, tombstones and copies in the database."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.create(_SCHEMA)

    def file(self, replica: str, uuid: str, version: str | None) -> FileRecord | None:
        """Return a file, or None.

        :param version: version; the latest, which is the greatest string, if None
        """
        rows = self._db.rows(
            f"SELECT {_FILE} FROM files WHERE replica = ? AND uuid = ? AND (? IS NULL OR version = ?) "  # noqa: S608 - constant names
            "ORDER BY version DESC LIMIT 1",
            replica,
            uuid,
            version,
            version,
        )
        return FileRecord(*rows[0]) if rows else None

    def files(self, replica: str, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], FileRecord | None]:
        """Return files by (uuid, version); None for those that do not exist."""
        statement = f"SELECT {_FILE} FROM files WHERE replica = ? AND uuid = ? AND version = ?"  # noqa: S608 - constant names
        files: dict[tuple[str, str], FileRecord | None] = {}
        with self._db.reading() as db:
            for uuid, version in keys:
                row = db.execute(statement, (replica, uuid, version)).fetchone()
                files[uuid, version] = FileRecord(*row) if row else None
        return files

    def add_file(self, file: FileRecord, copy: Copy | None = None) -> tuple[FileRecord, bool]:
        """Record a file unless its uuid and version exist; return the stored file, and whether it is new.

        :param file: file whose content is in the store
        :param copy: copy to remove because it is complete
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
                record_change(db, "file", file.replica, file.uuid, file.version)
            if copy:
                db.execute("DELETE FROM copy_tasks WHERE number = ?", (copy.number,))
        stored = file if added else self.file(file.replica, file.uuid, file.version)
        if stored is None:
            raise RuntimeError("a recorded file does not exist")
        return stored, added

    def has_content(self, replica: str, sums: Checksums, size: int) -> bool:
        """Return whether the replica has a content with these checksums and this size."""
        rows = self._db.rows(
            "SELECT 1 FROM blobs WHERE replica = ? "
            "AND sha256 = ? AND sha1 = ? AND crc32c = ? AND s3_etag = ? AND size = ?",
            replica,
            *astuple(sums),
            size,
        )
        return bool(rows)

    def add_copy(self, task_id: str, source: str, file: FileRecord, fail_status: int) -> tuple[Copy, bool]:
        """Record a pending copy unless the same one exists; return the copy, and whether it is new."""
        columns = " AND ".join(f"{name.strip()} = ?" for name in _FILE.split(","))
        with self._db.transaction() as db:
            row = db.execute(
                f"SELECT {_COPY} FROM copy_tasks WHERE failed = 0 AND source = ? AND {columns}",  # noqa: S608 - constant names
                (source, *astuple(file)),
            ).fetchone()
            if row:
                return Copy(file, *row), False
            db.execute(
                "DELETE FROM copy_tasks WHERE failed != 0 AND replica = ? AND uuid = ? AND version = ?",
                (file.replica, file.uuid, file.version),
            )
            cursor = db.execute(
                f"INSERT INTO copy_tasks (task_id, source, fail_status, failed, {_FILE}) "  # noqa: S608 - constant names
                "VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (task_id, source, fail_status, *astuple(file)),
            )
            return Copy(file, cursor.lastrowid or 0, task_id, source, fail_status), True

    def fail_copy(self, copy: Copy, status: int) -> None:
        """Record the failure of a copy, and the status that HEAD file returns from then on."""
        with self._db.transaction() as db:
            db.execute("UPDATE copy_tasks SET failed = ? WHERE number = ?", (status, copy.number))

    def pending_copies(self) -> list[Copy]:
        """Return the pending copies, oldest first."""
        rows = self._db.rows(f"SELECT {_COPY}, {_FILE} FROM copy_tasks WHERE failed = 0 ORDER BY number")  # noqa: S608 - constant names
        return [Copy(FileRecord(*row[4:]), *row[:4]) for row in rows]

    def copy_failure(self, replica: str, uuid: str, version: str | None) -> int | None:
        """Return the status of the last failed copy of a file; None if none failed, or another one is pending."""
        rows = self._db.rows(
            "SELECT failed FROM copy_tasks WHERE replica = ? AND uuid = ? AND (? IS NULL OR version = ?) "
            "ORDER BY failed = 0 DESC, number DESC LIMIT 1",
            replica,
            uuid,
            version,
            version,
        )
        return rows[0][0] or None if rows else None

    def ensure_checkout(self, replica: str, sha256: str, now: float, delay: float) -> bool:
        """Return whether a content is ready for download; the first call starts a checkout, which takes `delay` s."""
        with self._db.transaction() as db:
            db.execute("INSERT OR IGNORE INTO checkouts VALUES (?, ?, ?)", (replica, sha256, now + delay))
            row = db.execute(
                "SELECT ready_at FROM checkouts WHERE replica = ? AND sha256 = ?", (replica, sha256)
            ).fetchone()
        return bool(row[0] <= now)

    def add_bundle(self, replica: str, uuid: str, version: str, manifest: dict[str, Any]) -> bool:
        """Record a bundle unless its uuid and version exist; return whether it was recorded."""
        with self._db.transaction() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO bundles VALUES (?, ?, ?, ?)",
                (replica, uuid, version, json.dumps(manifest)),
            )
            added = cursor.rowcount == 1
            if added:
                record_change(db, "bundle", replica, uuid, version)
                record_created(db, replica, uuid, version)
        return added

    def bundle(
        self, replica: str, uuid: str, version: str | None, *, include_deleted: bool = False
    ) -> dict[str, Any] | None:
        """Return the manifest of a bundle, or None.

        :param version: version; the latest that is not deleted if None
        """
        rows = self._db.rows(
            "SELECT manifest FROM bundles b WHERE replica = ? AND uuid = ? AND (? IS NULL OR version = ?) "  # noqa: S608 - constant names
            f"AND (? OR {_NOT_DELETED}) ORDER BY version DESC LIMIT 1",
            replica,
            uuid,
            version,
            version,
            include_deleted,
        )
        manifest: dict[str, Any] | None = json.loads(rows[0][0]) if rows else None
        return manifest

    def has_bundle(self, replica: str, uuid: str, version: str | None) -> bool:
        """Return whether a bundle version, or any version if None, exists, deleted or not."""
        rows = self._db.rows(
            "SELECT 1 FROM bundles WHERE replica = ? AND uuid = ? AND (? IS NULL OR version = ?) LIMIT 1",
            replica,
            uuid,
            version,
            version,
        )
        return bool(rows)

    def add_tombstone(self, replica: str, uuid: str, version: str, reason: str) -> str:
        """Record a tombstone unless it exists; return the reason of the stored one.

        :param version: deleted version; empty for all versions
        """
        with self._db.transaction() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?, ?)", (replica, uuid, version, reason)
            )
            if cursor.rowcount == 1:
                record_change(db, "tombstone", replica, uuid, version)
                record_deleted(db, replica, uuid, version, reason)
            row = db.execute(
                "SELECT reason FROM tombstones WHERE replica = ? AND uuid = ? AND version = ?",
                (replica, uuid, version),
            ).fetchone()
        return str(row[0])

    def bundles_after(self, replica: str, prefix: str, after: tuple[str, str], limit: int) -> list[tuple[str, str]]:
        """Return the (uuid, version) of bundles that are not deleted, in order."""
        rows = self._db.rows(
            "SELECT uuid, version FROM bundles b WHERE replica = ? AND substr(uuid, 1, length(?)) = ? "  # noqa: S608 - constant names
            f"AND (uuid, version) > (?, ?) AND {_NOT_DELETED} ORDER BY uuid, version LIMIT ?",
            replica,
            prefix,
            prefix,
            *after,
            limit,
        )
        return [(uuid, version) for uuid, version in rows]

    def bundles_and_reasons(self, replica: str) -> list[tuple[str, str, str | None]]:
        """Return (uuid, version, reason of deletion or None) of all bundles, the greatest uuid first."""
        rows = self._db.rows(
            "SELECT uuid, version, (SELECT reason FROM tombstones t WHERE t.replica = b.replica AND t.uuid = b.uuid "
            "AND t.version IN ('', b.version) ORDER BY t.version DESC LIMIT 1) FROM bundles b WHERE replica = ? "
            "ORDER BY uuid DESC, version DESC",
            replica,
        )
        return [(uuid, version, reason) for uuid, version, reason in rows]

    def dump(self) -> dict[str, Any]:
        """Return all records in a canonical order, so that two states can be compared."""
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
