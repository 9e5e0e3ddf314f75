"""Buckets, objects and multipart uploads of the S3 server: records in SQLite, contents in files.

A content is written before the record that names it is committed, and the answer follows the commit: a kill at any
moment loses nothing that was acknowledged. Contents that no record names are removed at the next start.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .checksums import MIB
from .database import Database
from .staging import NoBucketError, Staged

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
LAST = "\U0010ffff"  # behind a prefix, greater than every key with that prefix
_MIN_PART_SIZE = 5 * MIB  # of every part but the last


class S3Error(Exception):
    """An error of the S3 protocol.

    :param status: HTTP status
    :param code: S3's name of the error
    :param message: the sentence for people
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Properties:
    """Everything about an object that a client sets.

    :ivar headers: standard headers by lower-case name: `content-type`, `cache-control`, ...
    :ivar metadata: user metadata, without `x-amz-meta-`
    :ivar tags: by key
    :ivar checksums: base64 values by lower-case algorithm, as the client sent them and the server verified them
    """

    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)

    def dump(self) -> str:
        """Return the properties as JSON."""
        return json.dumps([self.headers, self.metadata, self.tags, self.checksums])

    @classmethod
    def load(cls, text: str) -> Properties:
        """Return the properties that `dump` wrote."""
        return cls(*json.loads(text))


@dataclass(frozen=True)
class S3Object:
    """An object.

    :ivar etag: without quotes
    :ivar size: in bytes
    :ivar modified: seconds since 1970
    :ivar pieces: names of the files that make up the content, in order
    """

    key: str
    etag: str
    size: int
    modified: float
    properties: Properties
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A part of a multipart upload; see `S3Object` for the units."""

    number: int
    etag: str
    size: int
    modified: float
    piece: str


@dataclass(frozen=True)
class Upload:
    """A multipart upload that is neither complete nor aborted; see `S3Object` for the units."""

    id: str
    bucket: str
    key: str
    initiated: float
    properties: Properties


class S3Objects:
    """The store behind the S3 server, and the staging store of the replica `aws`.

    :param directory: keeps everything
    :param bucket: a bucket to create if it does not exist
    """

    def __init__(self, directory: Path, bucket: str) -> None:
        self._contents = directory / "contents"
        self._contents.mkdir(parents=True, exist_ok=True)
        self._db = Database(directory / "objects.sqlite")
        self._db.create(_SCHEMA)
        self._remove_orphans()
        self.create_bucket(bucket)

    def _remove_orphans(self) -> None:
        named = {name for (pieces,) in self._db.rows("SELECT pieces FROM objects") for name in json.loads(pieces)}
        named.update(name for (name,) in self._db.rows("SELECT piece FROM parts"))
        self.remove_pieces(path.name for path in self._contents.iterdir() if path.name not in named)

    def new_piece(self) -> Path:
        """Return the path of a new file for content; it is kept once a record names it."""
        return self._contents / secrets.token_hex(16)

    def remove_pieces(self, names: Iterable[str]) -> None:
        """Remove contents that no record names any more."""
        for name in names:
            (self._contents / name).unlink(missing_ok=True)

    def list_buckets(self) -> list[tuple[str, float]]:
        """Return name and time of creation of each bucket, in order."""
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
        """Raise `S3Error` `NoSuchBucket` if there is no such bucket."""
        with self._db.reading() as db:
            _require_bucket(db, bucket)

    def get(self, bucket: str, key: str) -> S3Object | None:
        """Return an object, or None."""
        rows = self._db.rows(f"SELECT {_OBJECT} FROM objects WHERE bucket = ? AND key = ?", bucket, key)  # noqa: S608 - constant names
        return _object(rows[0]) if rows else None

    def put(self, bucket: str, item: S3Object, *, if_absent: bool = False) -> None:
        """Record an object whose content is on disk, and remove the content that it replaces.

        :param if_absent: refuse if the key exists
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
        """Delete objects; keys that do not exist are skipped.

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
        """Return objects in the order of their keys.

        :param after: return only keys greater than this one
        :param limit: how many at most
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
        """Return the open uploads of a bucket, ordered by key and by time of creation.

        :raises S3Error: `NoSuchBucket`
        """
        with self._db.reading() as db:
            _require_bucket(db, bucket)
            rows = db.execute(
                "SELECT * FROM uploads WHERE bucket = ? AND substr(key, 1, length(?)) = ? ORDER BY key, initiated",
                (bucket, prefix, prefix),
            ).fetchall()
        return [_open_upload(row) for row in rows]

    def upload(self, bucket: str, key: str, upload: str) -> Upload:
        """Return an open upload.

        :raises S3Error: `NoSuchUpload`
        """
        with self._db.reading() as db:
            return _upload(db, bucket, key, upload)

    def put_part(self, found: Upload, part: Part) -> None:
        """Record a part whose content is on disk, and remove the content that it replaces.

        :raises S3Error: `NoSuchUpload`
        """
        with self._db.transaction() as db:
            _upload(db, found.bucket, found.key, found.id)
            where = (found.id, part.number)
            row = db.execute("SELECT piece FROM parts WHERE upload = ? AND number = ?", where).fetchone()
            values = (*where, part.etag, part.size, part.modified, part.piece)
            db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)", values)
        self.remove_pieces(row or ())

    def list_parts(self, upload: str) -> list[Part]:
        """Return the parts of an upload, in order."""
        rows = self._db.rows(
            "SELECT number, etag, size, modified, piece FROM parts WHERE upload = ? ORDER BY number", upload
        )
        return [Part(*row) for row in rows]

    def complete(self, found: Upload, wanted: list[tuple[int, str]], *, if_absent: bool) -> S3Object:
        """Make an object of the parts of an upload, and end the upload.

        :param wanted: number and ETag of each part
        :param if_absent: refuse if the key exists
        :raises S3Error: `NoSuchUpload`, `InvalidPart`, `InvalidPartOrder`, `EntityTooSmall` or `PreconditionFailed`
        """
        numbers = [number for number, _ in wanted]
        if not wanted or numbers != sorted(set(numbers)):
            raise S3Error(400, "InvalidPartOrder", "The parts are not in ascending order")
        present = {part.number: part for part in self.list_parts(found.id)}
        used = [present[number] for number, etag in wanted if number in present and present[number].etag == etag]
        if len(used) != len(wanted):
            raise S3Error(400, "InvalidPart", "A part was not uploaded, or has another ETag")
        if any(part.size < _MIN_PART_SIZE for part in used[:-1]):
            raise S3Error(400, "EntityTooSmall", f"A part other than the last has less than {_MIN_PART_SIZE} bytes")
        digest = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in used), usedforsecurity=False).hexdigest()
        item = S3Object(
            found.key,
            f"{digest}-{len(used)}",
            sum(part.size for part in used),
            time.time(),
            found.properties,
            tuple(part.piece for part in used),
        )
        with self._db.transaction() as db:
            _upload(db, found.bucket, found.key, found.id)
            removed = [*self._put(db, found.bucket, item, if_absent=if_absent)]
            removed += _end_upload(db, found.id)
        self.remove_pieces(set(removed) - set(item.pieces))
        return item

    def abort(self, bucket: str, key: str, upload: str) -> None:
        """End an upload and remove its parts.

        :raises S3Error: `NoSuchUpload`
        """
        with self._db.transaction() as db:
            _upload(db, bucket, key, upload)
            removed = _end_upload(db, upload)
        self.remove_pieces(removed)

    def read(self, item: S3Object, offset: int, size: int) -> Iterator[bytes]:
        """Yield a section of the content of an object, a mebibyte at a time.

        :param offset: in bytes
        :param size: in bytes
        :raises FileNotFoundError: when the object was replaced meanwhile
        """
        with self._open(item) as content:
            content.seek(offset)
            while size > 0 and (chunk := content.read(min(MIB, size))):
                size -= len(chunk)
                yield chunk

    def link(self, item: S3Object) -> tuple[str, ...]:
        """Return new names for the content of an object, so that it outlives the object.

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

    # What the DSS uses: see `staging.Staging`.

    def find(self, bucket: str, key: str) -> Staged | None:
        """Return an object as the DSS sees it, or None."""
        item = self.get(bucket, key)
        if item is None:
            return None
        properties = item.properties
        content_type = properties.headers["content-type"]
        return Staged(f"s3://{bucket}/{key}", item.size, content_type, properties.metadata | properties.tags, item.etag)

    def open(self, bucket: str, key: str) -> BinaryIO | None:
        """Return the content of an object, open for reading, or None."""
        while item := self.get(bucket, key):
            try:
                return self._open(item)
            except FileNotFoundError:  # replaced after `get`
                continue
        return None

    def write(self, bucket: str, key: str, content: Path, content_type: str) -> None:
        """Store a file as an object.

        :raises NoBucketError: when there is no such bucket
        """
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
            raise NoBucketError(bucket) from None


class _Pieces(io.RawIOBase):
    """Several files, read as one. All of them are open from the start, so that none can be removed meanwhile."""

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
                count = file.readinto(buffer)  # type: ignore[attr-defined] # a BufferedReader has it
                self._offset += count
                return int(count)
            start += size
        return 0

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


def no_such_key(key: str) -> S3Error:
    """Return the error for a key that does not exist."""
    return S3Error(404, "NoSuchKey", f"There is no object with the key {key}")


def _object(row: tuple[str, str, int, float, str, str]) -> S3Object:
    return S3Object(*row[:4], Properties.load(row[4]), tuple(json.loads(row[5])))


def _require_bucket(db: sqlite3.Connection, bucket: str) -> None:
    if not db.execute("SELECT 1 FROM buckets WHERE name = ?", (bucket,)).fetchone():
        raise S3Error(404, "NoSuchBucket", f"There is no bucket {bucket}")


def _upload(db: sqlite3.Connection, bucket: str, key: str, upload: str) -> Upload:
    where = (upload, bucket, key)
    row = db.execute("SELECT * FROM uploads WHERE id = ? AND bucket = ? AND key = ?", where).fetchone()
    if row is None:
        raise S3Error(404, "NoSuchUpload", "There is no such upload: it was completed or aborted")
    return _open_upload(row)


def _open_upload(row: tuple[str, str, str, float, str]) -> Upload:
    upload, bucket, key, initiated, properties = row
    return Upload(upload, bucket, key, initiated, Properties.load(properties))


def _end_upload(db: sqlite3.Connection, upload: str) -> list[str]:
    """Remove the records of an upload; return the contents of its parts."""
    db.execute("DELETE FROM uploads WHERE id = ?", (upload,))
    return [piece for (piece,) in db.execute("DELETE FROM parts WHERE upload = ? RETURNING piece", (upload,))]
