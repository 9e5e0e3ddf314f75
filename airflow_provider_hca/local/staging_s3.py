"""The S3 staging server: moto's, with every object kept on disk before its upload is acknowledged.

moto holds all objects in memory. A WSGI middleware looks, after each request that changed something, at what moto's
backend now has under that key and writes it out, so that an upload in progress rides out a restart of the local DSS.
The DSS itself reads staged objects from those files, not from moto.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

# moto takes the first label of the host name for a bucket otherwise; it reads this when it is imported
os.environ.setdefault("S3_IGNORE_SUBDOMAIN_BUCKETNAME", "true")

from moto.core import DEFAULT_ACCOUNT_ID  # type: ignore[attr-defined] # exported, though not by name
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import FakeKey, S3Backend, s3_backends
from werkzeug.serving import make_server

from .files_on_disk import write_atomically
from .staging import NoBucketError, Staged

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

REGION = "us-east-1"
_LOCKS = 64
_CHECKSUM_FIELDS = ("checksum_algorithm", "checksum_value", "checksum_type", "checksum_parts")


def _name(key: str) -> str:
    """Return a file name for a key, which may be longer than a file name and hold any character."""
    return hashlib.sha256(key.encode()).hexdigest()


class StagedFiles:
    """The staged objects on disk: `<bucket>/<name>.json` says all about one and names the file of its content."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def _record(self, bucket: str, key: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads((self._directory / bucket / f"{_name(key)}.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return record

    def find(self, bucket: str, key: str) -> Staged | None:
        """Return the object, or None."""
        record = self._record(bucket, key)
        if record is None:
            return None
        user = {name: value for name, value in record["metadata"].items() if name.startswith("x-amz-meta-")}
        labels = {name.removeprefix("x-amz-meta-"): value for name, value in user.items()} | record["tags"]
        content_type = record["metadata"].get("content-type", "binary/octet-stream")
        return Staged(f"s3://{bucket}/{key}", record["size"], content_type, labels, record["etag"])

    def open(self, bucket: str, key: str) -> BinaryIO | None:
        """Return the content, open for reading, or None."""
        for _ in range(100):  # the content may be replaced between reading the record and opening it
            record = self._record(bucket, key)
            if record is None:
                return None
            with suppress(FileNotFoundError):
                content: BinaryIO = (self._directory / bucket / record["data"]).open("rb")
                return content
        return None

    def write(self, bucket: str, record: dict[str, Any], content: bytes | None) -> None:
        """Keep an object.

        :param content: its content, None when only what is said about it changed
        """
        directory = self._directory / bucket
        old = self._record(bucket, record["key"])
        if content is None and old:
            record["data"] = old["data"]
        else:
            handle, path = tempfile.mkstemp(dir=directory, prefix=f"{_name(record['key'])}-", suffix=".data")
            with os.fdopen(handle, "wb") as file:
                file.write(content or b"")
            record["data"] = Path(path).name
        write_atomically(directory / f"{_name(record['key'])}.json", json.dumps(record).encode())
        if old and old["data"] != record["data"]:
            (directory / old["data"]).unlink(missing_ok=True)

    def remove(self, bucket: str, key: str) -> None:
        """Drop an object."""
        record = self._record(bucket, key)
        if record:
            (self._directory / bucket / f"{_name(key)}.json").unlink(missing_ok=True)
            (self._directory / bucket / record["data"]).unlink(missing_ok=True)

    def records(self, bucket: str) -> list[dict[str, Any]]:
        """Return what is known about all the objects of a bucket, dropping contents nobody names."""
        directory = self._directory / bucket
        records: list[dict[str, Any]] = [json.loads(path.read_bytes()) for path in directory.glob("*.json")]
        named = {record["data"] for record in records}
        for path in directory.iterdir():
            if path.suffix != ".json" and path.name not in named:
                path.unlink()
        return records

    def add_bucket(self, bucket: str) -> None:
        """Keep a bucket."""
        (self._directory / bucket).mkdir(exist_ok=True)

    def remove_bucket(self, bucket: str) -> None:
        """Drop a bucket, which S3 allows for an empty one only."""
        directory = self._directory / bucket
        if directory.is_dir():
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()

    def buckets(self) -> list[str]:
        """Return the names of all buckets."""
        return sorted(path.name for path in self._directory.iterdir())


class Keeper:
    """Carries what moto has in memory to disk, and back at the start."""

    def __init__(self, files: StagedFiles) -> None:
        self._files = files
        self._backend: S3Backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._kept: dict[tuple[str, str], FakeKey] = {}
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def load(self, bucket: str) -> None:
        """Give moto everything that is on disk, and make sure of one bucket.

        :param bucket: the bucket to have in any case
        """
        self._files.add_bucket(bucket)
        for name in self._files.buckets():
            self._backend.create_bucket(name, REGION)
            for record in self._files.records(name):
                self._load_object(name, record)

    def _load_object(self, bucket: str, record: dict[str, Any]) -> None:
        source = self._files.open(bucket, record["key"])
        if source is None:
            return
        with source:
            key = self._backend.put_object(
                bucket, record["key"], source.read(), etag=record["etag"], disable_notification=True
            )
        key.set_metadata(dict(record["metadata"]))
        key.last_modified = datetime.fromisoformat(record["last_modified"])
        for field in _CHECKSUM_FIELDS:
            setattr(key, field, record[field])
        if record["tags"]:
            self._backend.put_object_tagging(key, record["tags"])
        self._kept[bucket, record["key"]] = key

    def write(self, bucket: str, key: str, content: bytes, content_type: str) -> None:
        """Make an object, in moto and on disk.

        :param bucket: its bucket
        :param key: its key
        :param content: its content
        :param content_type: its content type
        :raises NoBucketError: when there is no such bucket
        """
        if bucket not in self._backend.buckets:
            raise NoBucketError(bucket)
        made = self._backend.put_object(bucket, key, content, disable_notification=True)
        made.set_metadata({"content-type": content_type}, replace=True)
        self.keep(bucket, key)

    def keep(self, bucket: str, key: str) -> None:
        """Bring the disk up to what moto has under this path, be it a bucket or a key.

        :param bucket: the bucket of the request
        :param key: its key, empty for a request on the bucket
        """
        if bucket not in self._backend.buckets:
            self._files.remove_bucket(bucket)
            for place in [place for place in list(self._kept) if place[0] == bucket]:
                self._kept.pop(place, None)
            return
        self._files.add_bucket(bucket)
        if key and ((bucket, key) in self._kept or key in self._backend.buckets[bucket].keys):
            self._keep_object(bucket, key)
            return
        # a deletion of many, a form, or a key that moto spells in another way than the path does
        known = {name for place, name in list(self._kept) if place == bucket}
        for name in known.union(list(self._backend.buckets[bucket].keys)):
            if self._kept.get((bucket, name)) is not self._backend.get_object(bucket, name):
                self._keep_object(bucket, name)

    def _keep_object(self, bucket: str, name: str) -> None:
        place = (bucket, name)
        with self._locks[hash(place) % _LOCKS]:
            key = self._backend.get_object(bucket, name)
            if key is None:
                self._files.remove(bucket, name)
                self._kept.pop(place, None)
                return
            changed = self._kept.get(place) is not key
            self._files.write(bucket, self._describe(key), key.value if changed else None)
            self._kept[place] = key

    def _describe(self, key: FakeKey) -> dict[str, Any]:
        modified = key.last_modified
        return {
            "key": key.name,
            "size": key.size,
            "etag": key.etag.strip('"'),
            "metadata": {str(name).lower(): value for name, value in key.metadata.items()},
            "tags": self._backend.tagger.get_tag_dict_for_resource(key.arn),
            "last_modified": (modified if modified.tzinfo else modified.replace(tzinfo=UTC)).isoformat(),
            **{field: getattr(key, field, None) for field in _CHECKSUM_FIELDS},
        }


class _KeepBeforeAnswering:
    """The middleware: an answer that says something changed goes out only once that is on disk."""

    def __init__(self, application: Callable[..., Iterable[bytes]], keeper: Keeper) -> None:
        self._application = application
        self._keeper = keeper
        self.running = 0
        self._count = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with ExitStack() as stack:
            self._add(1)
            stack.callback(self._add, -1)
            return self._answer(environ, start_response)

    def _add(self, number: int) -> None:
        with self._count:
            self.running += number

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer: list[Any] = []
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")  # WSGI spells paths in latin-1

        def remember(*arguments: Any) -> None:
            answer[:] = arguments

        body = self._application(environ, remember)
        if _changes(environ) and str(answer[0]).startswith("2"):
            bucket, _, key = path[1:].partition("/")
            self._keeper.keep(bucket, key)
        start_response(*answer)
        return body


def _changes(environ: dict[str, Any]) -> bool:
    """Tell whether a request may change what is to be kept. A part of an open multipart upload is not."""
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    method = environ["REQUEST_METHOD"]
    if method == "POST":
        return "uploads" not in query
    return method == "DELETE" or (method == "PUT" and "partNumber" not in query)


class S3Server:
    """moto's S3 on a socket that is already bound; also where the DSS finds staged objects."""

    def __init__(self, directory: Path, bucket: str) -> None:
        files = StagedFiles(directory)
        self.find, self.open = files.find, files.open
        self._keeper = Keeper(files)
        self._keeper.load(bucket)
        self._application = _KeepBeforeAnswering(DomainDispatcherApplication(create_backend_app), self._keeper)

    def start(self, listener: socket.socket) -> None:
        """Serve in a thread.

        :param listener: the bound socket
        """
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        host, port = listener.getsockname()[:2]
        self._server = make_server(
            host,
            port,
            self._application,
            threaded=True,
            request_handler=MotoRequestHandler,
            fd=listener.fileno(),
        )
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def stop(self, patience: float = 1.0) -> None:
        """Take no more requests and let the running ones finish.

        :param patience: how many seconds they are given
        """
        self._server.shutdown()
        end = time.monotonic() + patience
        while self._application.running and time.monotonic() < end:
            time.sleep(0.02)

    def write(self, bucket: str, key: str, content: Path, content_type: str) -> None:
        """Make an object of a file; `NoBucketError` where there is no such bucket."""
        self._keeper.write(bucket, key, content.read_bytes(), content_type)
