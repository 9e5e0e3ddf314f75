"""Parts of large objects in stores that verify their crc32c, do not support it, or return wrong ETags."""

from __future__ import annotations

import base64
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.parse import urlsplit

import google_crc32c
import pytest

from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.checksums import MIB, Checksums, checksum_stream
from airflow_provider_hca.upload.local_files import OpenFile, ignore_bytes
from airflow_provider_hca.upload.staging import stage_file
from airflow_provider_hca.upload.staging.s3 import S3Staging
from airflow_provider_hca.upload.staging.s3_parts import S3Upload
from tests.local.server import LocalDSS, new_uuid
from tests.upload.support import write_sparse

SIZE = 65 * MIB  # two parts
_WRONG = '"d41d8cd98f00b204e9800998ecf8427e"'


class _Store:
    """Stands before a store that takes no notice of a crc32c, and answers for it.

    :ivar knows: whether it verifies a crc32c, or refuses a request that has to do with one
    :ivar other_etags: numbers of parts whose ETag is not their MD5
    :ivar damaged: numbers of parts that arrive damaged, once
    :ivar completed: the body that ended an upload
    """

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self.knows = True
        self.other_etags: set[str] = set()
        self.damaged: set[str] = set()
        self.completed = b""

    def answer(self, asked: BaseHTTPRequestHandler) -> tuple[int, bytes, dict[str, str]]:
        """Answer a request."""
        with TemporaryFile() as body:
            size = int(asked.headers.get("content-length", 0))
            value = 0
            while chunk := asked.rfile.read(min(MIB, size - body.tell())):
                body.write(chunk)
                value = google_crc32c.extend(value, chunk)
            body.seek(0)
            return self._answer(asked, body, base64.b64encode(value.to_bytes(4, "big")).decode())

    def _answer(self, asked: BaseHTTPRequestHandler, body: IO[bytes], right: str) -> tuple[int, bytes, dict[str, str]]:
        number = asked.path.partition("partNumber=")[2].partition("&")[0]
        crc32c = asked.headers.get("x-amz-checksum-crc32c")
        if not self.knows and (crc32c or "x-amz-checksum-algorithm" in asked.headers):
            return 501, b"<Error><Code>NotImplemented</Code><Message>no such header</Message></Error>", {}
        if asked.command == "POST" and "uploadId" in asked.path:
            self.completed = body.read()
            body.seek(0)
        if crc32c and (crc32c != right or number in self.damaged):
            self.damaged -= {number}
            return 400, b"<Error><Code>BadDigest</Code><Message>damaged</Message></Error>", {}
        connection = http.client.HTTPConnection(self._address)
        connection.request(asked.command, asked.path, body, {name: asked.headers[name] for name in asked.headers})
        answer = connection.getresponse()
        content, headers = answer.read(), {"x-amz-checksum-crc32c": crc32c} if crc32c else {}
        headers["etag"] = _WRONG if number in self.other_etags else answer.headers.get("etag", "")
        return answer.status, content, headers


@pytest.fixture
def store(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Store]:
    """Put such a store before that of the tests."""
    made = _Store(dss.s3.meta.endpoint_url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            status, content, headers = made.answer(self)
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_POST = do_GET = do_HEAD = do_DELETE = answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_address[1]}")
        yield made
        server.shutdown()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a file of two parts."""
    return write_sparse(tmp_path / "file", SIZE)


def _stage(dss: LocalDSS, path: Path) -> tuple[str, Checksums]:
    key = f"crc32c/{new_uuid()}"
    return key, stage_file(S3Staging(dss.bucket), key, path, "text/plain")


def _assert_stored(dss: LocalDSS, key: str, path: Path, sums: Checksums) -> None:
    with OpenFile(path) as file:
        assert sums == checksum_stream(file.read(0, SIZE), SIZE)
    stored: dict[str, Any] = dss.s3.head_object(Bucket=dss.bucket, Key=key)
    assert (stored["ETag"].strip('"'), stored["ContentLength"]) == (sums.s3_etag, SIZE)


def test_a_store_that_verifies(dss: LocalDSS, store: _Store, path: Path) -> None:
    """If the store verifies each part's crc32c, the MD5s are its ETags, and the object is the same."""
    key, sums = _stage(dss, path)
    _assert_stored(dss, key, path, sums)
    assert store.completed.count(b"<ChecksumCRC32C>") == 2


def test_only_the_first_md5_is_computed(dss: LocalDSS, store: _Store, path: Path) -> None:
    """The ETags of later parts are taken for their MD5s; if one is not, the ETag of the whole object differs."""
    store.other_etags = {"2"}
    with pytest.raises(StagingError, match=r"InvalidPart|ETag"):
        _stage(dss, path)


def test_etags_that_are_no_md5s(dss: LocalDSS, store: _Store, path: Path) -> None:
    """A bucket whose ETags are no MD5s, as with KMS, is noticed at the first part."""
    store.other_etags = {"1", "2"}
    with pytest.raises(StagingError, match="encrypts with KMS"):
        _stage(dss, path)


def test_a_store_that_knows_no_crc32c(dss: LocalDSS, store: _Store, path: Path) -> None:
    """A store that refuses every request with a crc32c is given none, and its ETags are compared with the MD5s."""
    store.knows = False
    key, sums = _stage(dss, path)
    _assert_stored(dss, key, path, sums)
    assert b"ChecksumCRC32C" not in store.completed
    store.other_etags = {"2"}
    with pytest.raises(StagingError, match="ETag"):
        _stage(dss, path)


@pytest.mark.parametrize("knows", [True, False])
def test_unfinished_upload_is_resumed(dss: LocalDSS, store: _Store, path: Path, *, knows: bool) -> None:
    """An upload that another process left unfinished is resumed, whether or not the store supports crc32c."""
    store.knows = knows
    key = f"crc32c/{new_uuid()}"

    with OpenFile(path) as file:

        def send(*numbers: int) -> S3Upload:
            staging = S3Staging(dss.bucket)
            staging.find(key)
            transfer = staging.begin(key, "text/plain", file, SIZE)
            for number in numbers:
                transfer.send(number, ignore_bytes)
            return transfer

        send(1)
        sums = checksum_stream(file.read(0, SIZE), SIZE)
        send(0, 1).finish(sums)
    _assert_stored(dss, key, path, sums)
    assert store.completed.count(b"<ChecksumCRC32C>") == (2 if knows else 0)


def test_a_damaged_part(dss: LocalDSS, store: _Store, path: Path) -> None:
    """A part that arrives damaged is refused by the store, and may succeed in another attempt."""
    store.damaged = {"2"}
    with pytest.raises(StagingError, match="the file changed meanwhile") as caught:
        _stage(dss, path)
    assert not caught.value.permanent
    key, sums = _stage(dss, path)
    _assert_stored(dss, key, path, sums)
