"""Responses of S3 to uploads, with correct ETags and without the contents.

The ETag of a piece of content is its MD5. It is not computed here, since that would take a core from the client: the
benchmark records the MD5 of every possible piece when it writes its files. Other content, such as a part of another
size, is refused. The crc32c of a part is not verified.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.sax.saxutils import escape

from scripts.benchmarks.null_http import FIRST_BYTES, Answer, Request

_EMPTY = hashlib.md5(usedforsecurity=False).hexdigest()
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_WHEN = "2024-01-31T23:59:59.000Z"
_WHEN_HEADER = "Last-Modified: Wed, 31 Jan 2024 23:59:59 GMT\r\n"
_INDEXED = 36  # characters: keys of staged objects begin with the UUID of their bundle
_PART_NUMBER = re.compile(rb"<PartNumber>\s*(\d+)\s*</PartNumber>")


def piece_key(first: bytes, size: int) -> str:
    """Return the key of a piece of content.

    :param first: first bytes, or all of it
    :param size: size in bytes
    """
    return f"{first[:FIRST_BYTES].hex()}-{size}"


@dataclass
class _Upload:
    """Unfinished multipart upload; MD5 and size of its parts by number."""

    key: str
    parts: dict[int, tuple[str, int]] = field(default_factory=dict)


class Staged(NamedTuple):
    """A staged object, without its content."""

    etag: str
    size: int
    content_type: str = ""
    sha256: str = ""


class NullS3:
    """Store with one bucket of any name.

    :param pieces: MD5s of the accepted pieces, by `piece_key`
    :ivar objects: staged objects by key
    """

    def __init__(self, pieces: dict[str, str]) -> None:
        self.objects: dict[str, Staged] = {}
        self._pieces = pieces
        self._keys: defaultdict[str, set[str]] = defaultdict(set)  # by their start
        self._uploads: dict[str, _Upload] = {}
        self._opened = 0

    def __call__(self, request: Request) -> Answer:
        """Answer a request."""
        _, _, key = request.path.removeprefix("/").partition("/")
        if not key:
            return self._answer_for_bucket(request)
        if "uploads" in request.query or "uploadId" in request.query:
            return self._answer_for_upload(request, key)
        return self._answer_for_object(request, key)

    def _answer_for_bucket(self, request: Request) -> Answer:
        if request.method == "GET" and "uploads" in request.query:
            listed = "".join(
                f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{name}</UploadId><Initiated>{_WHEN}</Initiated>"
                "</Upload>"
                for name, upload in self._uploads.items()
                if upload.key.startswith(request.query.get("prefix", ""))
            )
            return _xml("ListMultipartUploadsResult", f"<IsTruncated>false</IsTruncated>{listed}")
        if request.method == "GET" and "list-type" in request.query:
            return self._list_objects(request.query)
        if request.method == "POST" and "delete" in request.query:
            return _xml("DeleteResult", "")
        return Answer(200 if request.method == "HEAD" else 501)

    def _list_objects(self, query: dict[str, str]) -> Answer:
        after = query.get("continuation-token") or query.get("start-after", "")
        prefix = query.get("prefix", "")
        keys = self._keys[prefix[:_INDEXED]] if len(prefix) >= _INDEXED else self.objects
        names = sorted(key for key in keys if key.startswith(prefix) and key > after)
        page, left = names[:1000], names[1000:]
        listed = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_WHEN}</LastModified>"
            f"<ETag>&quot;{self.objects[key].etag}&quot;</ETag><Size>{self.objects[key].size}</Size></Contents>"
            for key in page
        )
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if left else ""
        count = f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{'true' if left else 'false'}</IsTruncated>{more}"
        return _xml("ListBucketResult", count + listed)

    def _answer_for_object(self, request: Request, key: str) -> Answer:
        if "tagging" in request.query:
            return Answer(200) if request.method == "PUT" else Answer(501)
        if request.method == "PUT":
            md5 = self._md5(request)
            if md5 is None:
                return _unknown(request)
            headers = request.headers
            sha256 = headers.get("x-amz-meta-hca-dss-sha256", "")
            self._add(key, Staged(md5, request.size, headers.get("content-type", ""), sha256))
            return Answer(200, headers=f'ETag: "{md5}"\r\n')
        if request.method == "DELETE":
            self.objects.pop(key, None)
            self._keys[key[:_INDEXED]].discard(key)
            return Answer(204)
        if request.method == "HEAD" and key in self.objects:
            return Answer(200, headers=f'ETag: "{self.objects[key].etag}"\r\n{_WHEN_HEADER}')
        return Answer(404 if request.method == "HEAD" else 501)

    def _answer_for_upload(self, request: Request, key: str) -> Answer:
        if request.method == "POST" and "uploads" in request.query:
            self._opened += 1
            name = f"upload-{self._opened}"
            self._uploads[name] = _Upload(key)
            return _xml("InitiateMultipartUploadResult", f"<Key>{escape(key)}</Key><UploadId>{name}</UploadId>")
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None:
            return _error(404, "NoSuchUpload", "no such upload")
        if request.method == "PUT":
            md5 = self._md5(request)
            if md5 is None:
                return _unknown(request)
            upload.parts[int(request.query["partNumber"])] = md5, request.size
            crc32c = request.headers.get("x-amz-checksum-crc32c")
            checked = f"x-amz-checksum-crc32c: {crc32c}\r\n" if crc32c else ""
            return Answer(200, headers=f'ETag: "{md5}"\r\n{checked}')
        if request.method == "GET":
            return _list_parts(upload)
        del self._uploads[request.query["uploadId"]]
        return self._complete(upload, request.body) if request.method == "POST" else Answer(204)

    def _complete(self, upload: _Upload, body: bytes) -> Answer:
        parts = [upload.parts[int(number)] for number in _PART_NUMBER.findall(body)]
        digests = b"".join(bytes.fromhex(md5) for md5, _ in parts)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        self._add(upload.key, Staged(etag, sum(size for _, size in parts)))
        names = f"<Key>{escape(upload.key)}</Key><ETag>&quot;{etag}&quot;</ETag>"
        return _xml("CompleteMultipartUploadResult", names)

    def _add(self, key: str, staged: Staged) -> None:
        self.objects[key] = staged
        self._keys[key[:_INDEXED]].add(key)

    def _md5(self, request: Request) -> str | None:
        return self._pieces.get(piece_key(request.body, request.size)) if request.size else _EMPTY


def _list_parts(upload: _Upload) -> Answer:
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><LastModified>{_WHEN}</LastModified>"
        f"<ETag>&quot;{md5}&quot;</ETag><Size>{size}</Size></Part>"
        for number, (md5, size) in sorted(upload.parts.items())
    )
    return _xml("ListPartsResult", f"<IsTruncated>false</IsTruncated>{listed}")


def _unknown(request: Request) -> Answer:
    return _error(400, "InvalidRequest", f"{request.size} bytes that are not a piece of the benchmark's files")


def _error(status: int, code: str, message: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())


def _xml(root: str, content: str) -> Answer:
    return Answer(200, f"<{root} {_NAMESPACE}>{content}</{root}>".encode(), "Content-Type: application/xml\r\n")
