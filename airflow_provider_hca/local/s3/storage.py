"""Storage of the S3 server: records in SQLite, contents in files.

A content is written before the record that refers to it is committed, and the response is sent after the commit: a kill
loses nothing that was acknowledged. Contents without a record are removed at the next start.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from airflow_provider_hca.local.checksums import MIB
from airflow_provider_hca.local.database import Database
from airflow_provider_hca.local.staging import NoSuchBucketError, StagedObject

from .models import Part, Properties, S3Error, S3Object, Upload, no_such_key

if TYPE_CHECKING:
    import sqlite3
    from typing import BinaryIO

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT, key TEXT, etag TEXT, size INTEGER, modified REAL, properties TEXT, pieces TEXT,
    PRIMARY KEY (bucket, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, bucket TEXT, key TEXT, initiated REAL, properties TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    upload TEXT, number INTEGER, etag TEXT, size INTEGER, modified REAL, piece TEXT,
    PRIMARY KEY (upload, number)) WITHOUT ROWID;
"""
_OBJECT = "key, etag, size, modified, properties, pieces"
LAST = "\U0010ffff"  # greater than every character: prefix + LAST is greater than every key with the prefix


class S3Storage:
    """The storage of the S3 server, and the staging store of the replica `aws`.

    :param directory: directory of all data
    :param bucket: bucket to create if it does not exist
    """

    def __init__(self, directory: Path, bucket: str) -> None:
        self._contents = directory / "contents"
        self._contents.mkdir(parents=True, exist_ok=True)
        self._db = Database(directory / "objects.sqlite")
        self._db.create(_SCHEMA)
        self._remove_orphans()
        self.create_bucket(bucket)

    def _remove_orphans(self) -> None:
        used = {name for (pieces,) in self._db.rows("SELECT pieces FROM objects") for name in json.loads(pieces)}
        used.update(name for (name,) in self._db.rows("SELECT piece FROM parts"))
        self.remove_pieces(path.name for path in self._contents.iterdir() if path.name not in used)

    def new_piece(self) -> Path:
        """Return the path of a new content file, which is kept once a record refers to it."""
        return self._contents / secrets.token_hex(16)

    def remove_pieces(self, names: Iterable[str]) -> None:
        """Remove content files that no record refers to."""
        for name in names:
            (self._contents / name).unlink(missing_ok=True)

    def list_buckets(self) -> list[tuple[str, float]]:
        """Return name and creation time of each bucket, ordered by name."""
        return [(name, created) for name, created in self._db.rows("SELECT name, created FROM buckets ORDER BY name")]

    def create_bucket(self, bucket: str) -> None:
        """Create a bucket if it does not exist."""
        with self._db.transaction() as db:
            db.execute("INSERT OR IGNORE INTO buckets VALUES (?, ?)", (bucket, time.time()))

    def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket.

        :raises S3Error: `NoSuchBucket` or `BucketNotEmpty`
        """
        with self._db.transaction() as db:
            _require_bucket(db, bucket)
            if db.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (bucket,)).fetchone():
                raise S3Error(409, "BucketNotEmpty", f"The bucket {bucket} is not empty")
            db.execute("DELETE FROM buckets WHERE name = ?", (bucket,))

    def require_bucket(self, bucket: str) -> None:
        """Raise the `S3Error` `NoSuchBucket` if the bucket does not exist."""
        with self._db.reading() as db:
            _require_bucket(db, bucket)

    def get(self, bucket: str, key: str) -> S3Object | None:
        """Return an object, or None."""
        rows = self._db.rows(f"SELECT {_OBJECT} FROM objects WHERE bucket = ? AND key = ?", bucket, key)  # noqa: S608 - constant names
        return _object(rows[0]) if rows else None

    def put(self, bucket: str, item: S3Object, *, if_absent: bool = False) -> None:
        """Record an object whose content is on disk, and remove the content that it replaces.

        :param if_absent: fail if the key exists
        :raises S3Error: `NoSuchBucket` or `PreconditionFailed`
        """
        with self._db.transaction() as db:
            replaced = self._put(db, bucket, item, if_absent=if_absent)
        self.remove_pieces(replaced)

    def _put(self, db: sqlite3.Connection, bucket: str, item: S3Object, *, if_absent: bool) -> Sequence[str]:
        _require_bucket(db, bucket)
        row = db.execute("SELECT pieces FROM objects WHERE bucket = ? AND key = ?", (bucket, item.key)).fetchone()
        if row and if_absent:
            raise S3Error(412, "PreconditionFailed", f"The key {item.key} exists")
        values = (item.key, item.etag, item.size, item.modified, item.properties.dump(), json.dumps(item.pieces))
        db.execute(f"INSERT OR REPLACE INTO objects (bucket, {_OBJECT}) VALUES (?,?,?,?,?,?,?)", (bucket, *values))  # noqa: S608 - constant names
        return json.loads(row[0]) if row else ()

    def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace the tags of an object.

        :raises S3Error: `NoSuchBucket` or `NoSuchKey`
        """
        with self._db.transaction() as db:
            _require_bucket(db, bucket)
            where = (bucket, key)
            row = db.execute("SELECT properties FROM objects WHERE bucket = ? AND key = ?", where).fetchone()
            if row is None:
                raise no_such_key(key)
            properties = replace(Properties.load(row[0]), tags=tags)
            db.execute("UPDATE objects SET properties = ? WHERE bucket = ? AND key = ?", (properties.dump(), *where))

    def delete(self, bucket: str, keys: Iterable[str]) -> None:
        """Delete objects; missing keys are ignored.

        :raises S3Error: `NoSuchBucket`
        """
        removed: list[str] = []
        with self._db.transaction() as db:
            _require_bucket(db, bucket)
            for key in keys:
                row = db.execute(
                    "DELETE FROM objects WHERE bucket = ? AND key = ? RETURNING pieces", (bucket, key)
                ).fetchone()
                removed += json.loads(row[0]) if row else ()
        self.remove_pieces(removed)

    def list_objects(self, bucket: str, prefix: str, after: str, limit: int) -> list[S3Object]:
        """Return objects, ordered by key.

        :param after: return only keys greater than this
        :raises S3Error: `NoSuchBucket`
        """
        with self._db.reading() as db:
            _require_bucket(db, bucket)
            rows = db.execute(
                f"SELECT {_OBJECT} FROM objects WHERE bucket = ? AND key >= ? AND key > ? AND key < ? "  # noqa: S608 - constant names
                "ORDER BY key LIMIT ?",
                (bucket, prefix, after, prefix + LAST, limit),
            ).fetchall()
        return [_object(row) for row in rows]

    def create_upload(self, bucket: str, key: str, properties: Properties) -> str:
        """Create a multipart upload and return its id.

        :raises S3Error: `NoSuchBucket`
        """
        upload = secrets.token_urlsafe(32)
        with self._db.transaction() as db:
            _require_bucket(db, bucket)
            db.execute(
                "INSERT INTO uploads VALUES (?, ?, ?, ?, ?)", (upload, bucket, key, time.time(), properties.dump())
            )
        return upload

    def list_uploads(self, bucket: str, prefix: str) -> list[Upload]:
        """Return the open uploads of a bucket, ordered by key and id.

        :raises S3Error: `NoSuchBucket`
        """
        with self._db.reading() as db:
            _require_bucket(db, bucket)
            rows = db.execute(
                "SELECT * FROM uploads WHERE bucket = ? AND substr(key, 1, length(?)) = ? ORDER BY key, id",
                (bucket, prefix, prefix),
            ).fetchall()
        return [_open_upload(row) for row in rows]

    def upload(self, bucket: str, key: str, upload: str) -> Upload:
        """Return an open upload.

        :raises S3Error: `NoSuchUpload`
        """
        with self._db.reading() as db:
            return _upload(db, bucket, key, upload)

    def put_part(self, upload: Upload, part: Part) -> None:
        """Record a part whose content is on disk, and remove the content that it replaces.

        :raises S3Error: `NoSuchUpload`
        """
        with self._db.transaction() as db:
            _upload(db, upload.bucket, upload.key, upload.id)
            where = (upload.id, part.number)
            row = db.execute("SELECT piece FROM parts WHERE upload = ? AND number = ?", where).fetchone()
            values = (*where, part.etag, part.size, part.modified, part.piece)
            db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)", values)
        self.remove_pieces(row or ())

    def list_parts(self, upload: str) -> list[Part]:
        """Return the parts of an upload, ordered by number."""
        rows = self._db.rows(
            "SELECT number, etag, size, modified, piece FROM parts WHERE upload = ? ORDER BY number", upload
        )
        return [Part(*row) for row in rows]

    def complete(self, upload: Upload, parts: Sequence[Part], *, if_absent: bool) -> S3Object:
        """Create an object from parts of an upload, and end the upload.

        :param if_absent: fail if the key exists
        :raises S3Error: `NoSuchUpload` or `PreconditionFailed`
        """
        etags = b"".join(bytes.fromhex(part.etag) for part in parts)
        item = S3Object(
            upload.key,
            f"{hashlib.md5(etags, usedforsecurity=False).hexdigest()}-{len(parts)}",
            sum(part.size for part in parts),
            time.time(),
            upload.properties,
            tuple(part.piece for part in parts),
        )
        with self._db.transaction() as db:
            _upload(db, upload.bucket, upload.key, upload.id)
            removed = [*self._put(db, upload.bucket, item, if_absent=if_absent)]
            removed += _end_upload(db, upload.id)
        self.remove_pieces(set(removed) - set(item.pieces))
        return item

    def abort(self, bucket: str, key: str, upload: str) -> None:
        """Abort an upload and remove its parts.

        :raises S3Error: `NoSuchUpload`
        """
        with self._db.transaction() as db:
            _upload(db, bucket, key, upload)
            removed = _end_upload(db, upload)
        self.remove_pieces(removed)

    def read(self, item: S3Object, offset: int, size: int) -> Iterator[bytes]:
        """Yield a range of an object's content in chunks of at most 1 MiB.

        :param offset: start of the range in bytes
        :param size: size of the range in bytes
        :raises FileNotFoundError: when the object was replaced meanwhile
        """
        with self._open(item) as content:
            content.seek(offset)
            while size > 0 and (chunk := content.read(min(MIB, size))):
                size -= len(chunk)
                yield chunk

    def link(self, item: S3Object) -> tuple[str, ...]:
        """Return new names for the content of an object, so that it remains when the object is deleted.

        :raises FileNotFoundError: when the object was replaced meanwhile
        """
        names = []
        for piece in item.pieces:
            path = self.new_piece()
            os.link(self._contents / piece, path)
            names.append(path.name)
        return tuple(names)

    def _open(self, item: S3Object) -> BinaryIO:
        if len(item.pieces) == 1:
            return (self._contents / item.pieces[0]).open("rb")
        return cast("BinaryIO", io.BufferedReader(_Pieces([self._contents / name for name in item.pieces]), MIB))

    # The following methods implement `StagingStore`.

    def find(self, bucket: str, key: str) -> StagedObject | None:
        """Return an object, or None."""
        item = self.get(bucket, key)
        if item is None:
            return None
        properties = item.properties
        content_type = properties.headers["content-type"]
        return StagedObject(
            f"s3://{bucket}/{key}", item.size, content_type, properties.metadata | properties.tags, item.etag
        )

    def open(self, bucket: str, key: str) -> BinaryIO | None:
        """Open the content of an object for reading; return None if it does not exist."""
        while item := self.get(bucket, key):
            try:
                return self._open(item)
            except FileNotFoundError:  # replaced after `get`
                continue
        return None

    def write(self, bucket: str, key: str, content: Path, content_type: str) -> None:
        """Store a file as an object; raise `NoSuchBucketError` if the bucket does not exist."""
        path, md5, size = self.new_piece(), hashlib.md5(usedforsecurity=False), 0
        with content.open("rb") as source, path.open("wb") as target:
            while chunk := source.read(MIB):
                md5.update(chunk)
                size += target.write(chunk)
        properties = Properties({"content-type": content_type})
        try:
            self.put(bucket, S3Object(key, md5.hexdigest(), size, time.time(), properties, (path.name,)))
        except S3Error:
            path.unlink()
            raise NoSuchBucketError(bucket) from None


class _Pieces(io.RawIOBase):
    """Several files that are read as one. All are opened first, so that none can be removed meanwhile."""

    def __init__(self, paths: list[Path]) -> None:
        self._files: list[BinaryIO] = []
        try:
            for path in paths:
                self._files.append(path.open("rb"))
        except BaseException:
            self.close()
            raise
        self._sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: sum(self._sizes)}[whence]
        self._offset = base + offset
        return self._offset

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # narrower than any buffer
        start = 0
        for file, size in zip(self._files, self._sizes, strict=True):
            if start <= self._offset < start + size:
                file.seek(self._offset - start)
                count = file.readinto(buffer)  # type: ignore[attr-defined] # a method of BufferedReader
                self._offset += count
                return int(count)
            start += size
        return 0

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


def _object(row: tuple[str, str, int, float, str, str]) -> S3Object:
    return S3Object(*row[:4], Properties.load(row[4]), tuple(json.loads(row[5])))


def _require_bucket(db: sqlite3.Connection, bucket: str) -> None:
    if not db.execute("SELECT 1 FROM buckets WHERE name = ?", (bucket,)).fetchone():
        raise S3Error(404, "NoSuchBucket", f"There is no bucket {bucket}")


def _upload(db: sqlite3.Connection, bucket: str, key: str, upload: str) -> Upload:
    where = (upload, bucket, key)
    row = db.execute("SELECT * FROM uploads WHERE id = ? AND bucket = ? AND key = ?", where).fetchone()
    if row is None:
        raise S3Error(404, "NoSuchUpload", "The upload does not exist: it was completed or aborted")
    return _open_upload(row)


def _open_upload(row: tuple[str, str, str, float, str]) -> Upload:
    upload, bucket, key, initiated, properties = row
    return Upload(upload, bucket, key, initiated, Properties.load(properties))


def _end_upload(db: sqlite3.Connection, upload: str) -> list[str]:
    """Delete the records of an upload; return the pieces of its parts."""
    db.execute("DELETE FROM uploads WHERE id = ?", (upload,))
    return [piece for (piece,) in db.execute("DELETE FROM parts WHERE upload = ? RETURNING piece", (upload,))]
