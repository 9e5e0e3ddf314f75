"""The GCS staging server: gcp-storage-emulator with durable writes and a lock for concurrent clients."""

from __future__ import annotations

import io
import json
import logging
import threading
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.settings import STORAGE_DIR
from gcp_storage_emulator.storage import Storage

from .blob_store import write_atomically
from .errors import retry_later
from .serving import REFUSAL, is_refused
from .staging import NoSuchBucketError, StagedObject

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

_LOCK = threading.RLock()


class _DurableStorage(Storage):  # type: ignore[misc] # no type information
    """The emulator's storage with an atomic index: the emulator rewrites it in place, and a kill would lose it."""

    def __init__(self, directory: Path) -> None:
        self._index = directory / STORAGE_DIR / ".meta"
        super().__init__(data_dir=str(directory))

    def _write_config_to_file(self) -> None:
        names = ("buckets", "objects", "resumable", "bucket_iam_policies", "soft_deleted")
        write_atomically(self._index, json.dumps({name: getattr(self, name) for name in names}).encode())


def _locked(method: Callable[[RequestHandler], None]) -> Callable[[RequestHandler], None]:
    def call(handler: RequestHandler) -> None:
        with _LOCK:
            method(handler)

    return call


class _Handler(RequestHandler):  # type: ignore[misc] # no type information
    """Serialize requests, because the emulator is not thread-safe; bodies are received in parallel before."""

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if is_refused(self.headers.get_all("Host", ()), self.headers.get_all("Origin", ())):
            self.send_error(HTTPStatus.FORBIDDEN, REFUSAL)
            return False
        if self.path.partition("?")[0] == "/wipe":  # deletes everything
            self.send_error(HTTPStatus.NOT_FOUND)
            return False
        length = self.headers.get("Content-Length")
        if length:
            self.rfile: BinaryIO = io.BytesIO(self.rfile.read(int(length)))
        return True

    do_GET, do_POST, do_PUT, do_PATCH, do_DELETE = map(  # noqa: N815 - names that http.server calls
        _locked,
        (
            RequestHandler.do_GET,
            RequestHandler.do_POST,
            RequestHandler.do_PUT,
            RequestHandler.do_PATCH,
            RequestHandler.do_DELETE,
        ),
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not log: the client sees the closed connection, and interrupted uploads are common in tests."""


class GCSServer:
    """The emulator on a bound socket, and the staging store of the replica `gcp`."""

    def __init__(self, directory: Path, bucket: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._storage = _DurableStorage(directory.resolve())
        buckets.create_bucket(bucket, self._storage)

    def start(self, listener: socket.socket) -> None:
        """Serve in a thread.

        :param listener: bound socket
        """
        logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # it logs every 404 as an error
        address = listener.getsockname()[:2]
        self._url = f"http://{address[0]}:{address[1]}"
        self._server = _Server(address, partial(_Handler, self._storage), bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._server.server_address = address
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def stop(self) -> None:
        """Accept no more requests; wait at most 1 s for the running one."""
        self._server.shutdown()
        if _LOCK.acquire(timeout=1.0):
            _LOCK.release()

    def find(self, bucket: str, key: str) -> StagedObject | None:
        """Return an object, or None."""
        with _LOCK:
            try:
                item = self._storage.get_file_obj(bucket, key)
            except NotFound:
                return None
        url = f"gs://{bucket}/{key}"
        metadata = item.get("metadata")
        if not metadata:
            raise retry_later(f"{url} has no metadata")
        content_type = item.get("contentType") or "application/octet-stream"
        return StagedObject(url, int(item["size"]), content_type, dict(metadata), None)

    def open(self, bucket: str, key: str) -> BinaryIO | None:
        """Open the content of an object for reading; return None if it does not exist."""
        with _LOCK:
            try:
                return io.BytesIO(self._storage.get_file(bucket, key))
            except NotFound:
                return None

    def write(self, bucket: str, key: str, content: Path, content_type: str) -> None:
        """Store a file as an object; raise `NoSuchBucketError` if the bucket does not exist."""
        request = SimpleNamespace(
            base_url=self._url,
            params={"bucket_name": bucket, "object_id": key},
            data=content.read_bytes(),
            get_header=lambda *_: content_type,
        )
        response = SimpleNamespace(status=HTTPStatus.OK)
        with _LOCK:
            objects.xml_upload(request, response, self._storage)
        if response.status == HTTPStatus.NOT_FOUND:
            raise NoSuchBucketError(bucket)
