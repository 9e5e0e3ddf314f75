"""The S3 protocol over `S3Objects`, as an ASGI application: what clients need to stage, copy, list and read objects.

Requests are path style. Signatures are not verified, so any credentials do; every checksum that a client sends is.

No S3 server on PyPI does this at the cost that `scripts/bench local` measures: moto takes 4 ms of processor time and
12 KB of memory for each object, SeaweedFS starts in 3 s and grows by 500 MB in 48,000
objects, the others keep no tags or lose them.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from .s3_bodies import ClientGoneError, receive_content, receive_document
from .s3_objects import LAST, Part, Properties, S3Error, S3Object, S3Objects, no_such_key

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Message, Receive, Scope, Send

REGION = "us-east-1"
_STORED_HEADERS = (
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
)
_MAX_KEYS = 1000
_MAX_KEY_BYTES = 1024
_MAX_PARTS = 10_000
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# Query parameters that select another operation; every other one is ignored, as S3 does.
_OPERATIONS = {"uploads", "uploadId", "partNumber", "tagging", "delete", "location"}
_UNSUPPORTED = {
    "accelerate", "acl", "analytics", "attributes", "cors", "encryption", "inventory", "legal-hold", "lifecycle",
    "logging", "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus",
    "publicAccessBlock", "replication", "requestPayment", "restore", "retention", "select", "torrent", "versioning",
    "versions", "website",
}  # fmt: skip
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class _Response:
    """An answer; its content is sent a mebibyte at a time if it is an iterator."""

    def __init__(
        self, status: int = 200, content: bytes | Iterator[bytes] = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.content = status, content
        self.headers = dict(headers or {})
        if isinstance(content, bytes):
            self.headers.setdefault("content-length", str(len(content)))


class _Request:
    """A request: what an operation needs to know of it."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        # A client that waits for "100 Continue", which the first `receive` has sent, does not send the body otherwise.
        self.body_is_expected = "expect" in self.headers
        self.query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        try:
            path = unquote(scope["raw_path"].decode("latin-1"), errors="strict")
        except UnicodeDecodeError:
            raise S3Error(400, "InvalidURI", "The path is not UTF-8") from None
        self.bucket, _, self.key = path[1:].partition("/")
        self._receive = receive

    async def receive(self) -> Message:
        """Return the next message of the body."""
        self.body_is_expected = False
        return await self._receive()

    @property
    def operation(self) -> frozenset[str]:
        """The query parameters that select the operation."""
        unsupported = self.query.keys() & _UNSUPPORTED
        if unsupported:
            raise S3Error(501, "NotImplemented", f"The local DSS has no {min(unsupported)}")
        return frozenset(self.query.keys() & _OPERATIONS)

    def number(self, name: str, default: int, greatest: int) -> int:
        """Return a query parameter that is a number."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or int(text) > max(greatest, 2**31):
            raise S3Error(400, "InvalidArgument", f"{name} must be a number, got {text!r}")
        return min(int(text), greatest)

    async def xml(self) -> ElementTree.Element:
        """Return the body, which is XML, without namespaces."""
        try:
            root = ElementTree.fromstring(await receive_document(self.receive))  # noqa: S314 - bounded; expat limits entities
        except ElementTree.ParseError:
            raise S3Error(400, "MalformedXML", "The body is not well-formed XML") from None
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root

    def properties(self, checksums: dict[str, str] | None = None) -> Properties:
        """Return what the headers say about the object."""
        standard = {name: self.headers[name] for name in _STORED_HEADERS if name in self.headers}
        encodings = [each.strip() for each in standard.pop("content-encoding", "").split(",")]
        encoding = ",".join(each for each in encodings if each not in {"", "aws-chunked"})
        if encoding:
            standard["content-encoding"] = encoding
        standard.setdefault("content-type", "binary/octet-stream")
        prefix = "x-amz-meta-"
        metadata = {name.removeprefix(prefix): value for name, value in self.headers.items() if name.startswith(prefix)}
        tags = dict(parse_qsl(self.headers.get("x-amz-tagging", ""), keep_blank_values=True))
        return Properties(standard, metadata, _checked_tags(tags), checksums or {})


class S3Server:
    """The ASGI application.

    :param objects: what it serves
    """

    def __init__(self, objects: S3Objects) -> None:
        self._objects = objects
        self._operations: dict[tuple[str, str, frozenset[str]], Callable[[_Request], Any]] = {
            (method, target, frozenset(query.split())): operation
            for method, target, query, operation in (
                ("GET", "service", "", self._list_buckets),
                ("PUT", "bucket", "", self._create_bucket),
                ("HEAD", "bucket", "", self._head_bucket),
                ("DELETE", "bucket", "", self._delete_bucket),
                ("GET", "bucket", "", self._list_objects),
                ("GET", "bucket", "location", self._get_location),
                ("GET", "bucket", "uploads", self._list_uploads),
                ("POST", "bucket", "delete", self._delete_objects),
                ("PUT", "object", "", self._put_object),
                ("GET", "object", "", self._get_object),
                ("HEAD", "object", "", self._get_object),
                ("DELETE", "object", "", self._delete_object),
                ("GET", "object", "tagging", self._get_tags),
                ("PUT", "object", "tagging", self._put_tags),
                ("DELETE", "object", "tagging", self._delete_tags),
                ("POST", "object", "uploads", self._create_upload),
                ("PUT", "object", "uploadId partNumber", self._upload_part),
                ("GET", "object", "uploadId", self._list_parts),
                ("POST", "object", "uploadId", self._complete_upload),
                ("DELETE", "object", "uploadId", self._abort_upload),
            )
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = None
        try:
            request = _Request(scope, receive)
            response = await self._answer(request)
        except S3Error as error:
            body = f"{_XML}<Error><Code>{error.code}</Code><Message>{escape(str(error))}</Message></Error>"
            response = _xml(body, error.status)
        except ClientGoneError:
            return
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
        headers.append((b"x-amz-request-id", f"{time.time_ns():X}".encode()))
        if request is None or request.body_is_expected:
            headers.append((b"connection", b"close"))  # else the next request would be taken for this one's body
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
        elif isinstance(response.content, bytes):
            await send({"type": "http.response.body", "body": response.content})
        else:
            while chunk := await asyncio.to_thread(next, response.content, b""):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})

    async def _answer(self, request: _Request) -> _Response:
        target = "object" if request.key else "bucket" if request.bucket else "service"
        operation = self._operations.get((request.method, target, request.operation))
        if operation is None:
            raise S3Error(405, "MethodNotAllowed", f"{request.method} is not allowed against this resource")
        if len(request.key.encode()) > _MAX_KEY_BYTES:
            raise S3Error(400, "KeyTooLongError", f"The key has more than {_MAX_KEY_BYTES} bytes")
        result: _Response = await operation(request)
        return result

    async def _list_buckets(self, _: _Request) -> _Response:
        buckets = "".join(
            f"<Bucket><Name>{name}</Name><CreationDate>{_iso(created)}</CreationDate></Bucket>"
            for name, created in self._objects.list_buckets()
        )
        return _xml(f"{_XML}<ListAllMyBucketsResult {_NAMESPACE}><Buckets>{buckets}</Buckets></ListAllMyBucketsResult>")

    async def _create_bucket(self, request: _Request) -> _Response:
        if not _BUCKET.fullmatch(request.bucket):
            raise S3Error(400, "InvalidBucketName", "A bucket name has 3 to 63 of a-z, 0-9, '.' and '-'")
        await receive_document(request.receive)  # the region, of which there is one
        self._objects.create_bucket(request.bucket)  # in us-east-1 creating it again succeeds
        return _Response(headers={"location": f"/{request.bucket}"})

    async def _head_bucket(self, request: _Request) -> _Response:
        self._objects.require_bucket(request.bucket)
        return _Response(headers={"x-amz-bucket-region": REGION})

    async def _delete_bucket(self, request: _Request) -> _Response:
        self._objects.delete_bucket(request.bucket)
        return _Response(204)

    async def _get_location(self, request: _Request) -> _Response:
        self._objects.require_bucket(request.bucket)
        return _xml(f"{_XML}<LocationConstraint {_NAMESPACE}/>")  # empty: us-east-1

    async def _list_objects(self, request: _Request) -> _Response:
        """ListObjectsV2, and ListObjects where `list-type` is missing."""
        query = request.query
        v2 = query.get("list-type") == "2"
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        limit = request.number("max-keys", _MAX_KEYS, _MAX_KEYS)
        after = query.get("continuation-token") or query.get("start-after" if v2 else "marker", "")
        items, prefixes, last, truncated = self._page(request.bucket, prefix, delimiter, after, limit)
        name = _url_encoded if query.get("encoding-type") == "url" else escape
        rows = [
            f"<Contents><Key>{name(item.key)}</Key><LastModified>{_iso(item.modified)}</LastModified>"
            f"<ETag>&quot;{item.etag}&quot;</ETag><Size>{item.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for item in items
        ]
        rows += [f"<CommonPrefixes><Prefix>{name(each)}</Prefix></CommonPrefixes>" for each in prefixes]
        fields = {"Name": request.bucket, "Prefix": name(prefix), "MaxKeys": str(limit)}
        if delimiter:
            fields["Delimiter"] = name(delimiter)
        if "encoding-type" in query:
            fields["EncodingType"] = "url"
        fields["IsTruncated"] = "true" if truncated else "false"
        if v2:
            fields["KeyCount"] = str(len(rows))
        if truncated:
            fields["NextContinuationToken" if v2 else "NextMarker"] = escape(last) if v2 else name(last)
        return _xml(f"{_XML}<ListBucketResult {_NAMESPACE}>{_fields(fields)}{''.join(rows)}</ListBucketResult>")

    def _page(
        self, bucket: str, prefix: str, delimiter: str, after: str, limit: int
    ) -> tuple[list[S3Object], list[str], str, bool]:
        """Return the objects and common prefixes of a page, where the next one starts, and whether there is one."""
        items: list[S3Object] = []
        prefixes: list[str] = []
        while True:
            found = self._objects.list_objects(bucket, prefix, after, limit - len(items) - len(prefixes) + 1)
            if not found:
                return items, prefixes, after, False
            for item in found:
                if len(items) + len(prefixes) == limit:
                    return items, prefixes, after, True
                head, separator, _ = item.key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
                if separator:
                    prefixes.append(f"{prefix}{head}{separator}")
                    after = prefixes[-1] + LAST
                    break
                items.append(item)
                after = item.key

    async def _list_uploads(self, request: _Request) -> _Response:
        name = _url_encoded if request.query.get("encoding-type") == "url" else escape
        uploads = self._objects.list_uploads(request.bucket, request.query.get("prefix", ""))
        marker = (request.query.get("key-marker", ""), request.query.get("upload-id-marker", ""))
        left = [upload for upload in uploads if (upload.key, upload.id) > marker] if any(marker) else uploads
        limit = request.number("max-uploads", _MAX_KEYS, _MAX_KEYS)
        left = sorted(left, key=lambda upload: (upload.key, upload.id))
        rows = "".join(
            f"<Upload><Key>{name(upload.key)}</Key><UploadId>{upload.id}</UploadId>"
            f"<Initiated>{_iso(upload.initiated)}</Initiated></Upload>"
            for upload in left[:limit]
        )
        fields = {"Bucket": request.bucket, "IsTruncated": "true" if len(left) > limit else "false"}
        if len(left) > limit:
            fields |= {"NextKeyMarker": name(left[limit - 1].key), "NextUploadIdMarker": left[limit - 1].id}
        if "encoding-type" in request.query:
            fields["EncodingType"] = "url"
        return _xml(
            f"{_XML}<ListMultipartUploadsResult {_NAMESPACE}>{_fields(fields)}{rows}</ListMultipartUploadsResult>"
        )

    async def _delete_objects(self, request: _Request) -> _Response:
        root = await request.xml()
        keys = [element.findtext("Key", "") for element in root.iter("Object")]
        if len(keys) > _MAX_KEYS:
            raise S3Error(400, "MalformedXML", f"More than {_MAX_KEYS} keys")
        self._objects.delete(request.bucket, keys)
        quiet = root.findtext("Quiet", "").lower() == "true"
        rows = "" if quiet else "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return _xml(f"{_XML}<DeleteResult {_NAMESPACE}>{rows}</DeleteResult>")

    async def _put_object(self, request: _Request) -> _Response:
        if "x-amz-copy-source" in request.headers:
            return await self._copy_object(request)
        self._objects.require_bucket(request.bucket)
        path = self._objects.new_piece()
        received = await receive_content(request.receive, request.headers, path)
        properties = request.properties(received.checksums)
        item = S3Object(request.key, received.etag, received.size, time.time(), properties, (path.name,))
        self._put(request, item)
        return _Response(headers={"etag": f'"{item.etag}"', **_checksum_headers(received.checksums)})

    def _put(self, request: _Request, item: S3Object) -> None:
        """Record an object under the conditions of a request; its content is removed if that fails."""
        try:
            wanted = request.headers.get("if-match")
            if wanted is not None:
                found = self._objects.get(request.bucket, request.key)
                if found is None:
                    raise no_such_key(request.key)
                _require_match(wanted, found)
            self._objects.put(request.bucket, item, if_absent=request.headers.get("if-none-match") == "*")
        except BaseException:
            self._objects.remove_pieces(item.pieces)
            raise

    async def _copy_object(self, request: _Request) -> _Response:
        source = self._copy_source(request)
        given = request.properties()
        kept = source.properties
        replaced = request.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
        retagged = request.headers.get("x-amz-tagging-directive", "COPY").upper() == "REPLACE"
        properties = Properties(
            given.headers if replaced else kept.headers,
            given.metadata if replaced else kept.metadata,
            given.tags if retagged else kept.tags,
        )
        etag = source.etag
        try:
            if "-" in etag:  # S3 stores a copy in one part, whatever the parts of the source
                etag = await asyncio.to_thread(_md5, self._objects.read(source, 0, source.size))
            pieces = self._objects.link(source)
        except FileNotFoundError:
            raise no_such_key(source.key) from None
        item = S3Object(request.key, etag, source.size, time.time(), properties, pieces)
        self._put(request, item)
        return _xml(_copied("CopyObjectResult", item.etag, item.modified))

    def _copy_source(self, request: _Request) -> S3Object:
        path = unquote(request.headers["x-amz-copy-source"].partition("?")[0]).removeprefix("/")
        bucket, _, key = path.partition("/")
        self._objects.require_bucket(bucket)
        self._objects.require_bucket(request.bucket)
        item = self._objects.get(bucket, key)
        if item is None:
            raise no_such_key(key)
        _require_match(request.headers.get("x-amz-copy-source-if-match", "*"), item)
        return item

    async def _get_object(self, request: _Request) -> _Response:
        self._objects.require_bucket(request.bucket)
        item = self._objects.get(request.bucket, request.key)
        if item is None:
            raise no_such_key(request.key)
        _require_match(request.headers.get("if-match", "*"), item)
        properties = item.properties
        headers = {
            **properties.headers,
            **{f"x-amz-meta-{name}": value for name, value in properties.metadata.items()},
            "etag": f'"{item.etag}"',
            "last-modified": formatdate(item.modified, usegmt=True),
            "accept-ranges": "bytes",
        }
        if properties.tags:
            headers["x-amz-tagging-count"] = str(len(properties.tags))
        wanted = {each.strip().strip('"') for each in request.headers.get("if-none-match", "").split(",")}
        if wanted & {item.etag, "*"}:
            return _Response(304, headers=headers)
        offset, size = _range(request.headers.get("range", ""), item.size)
        headers["content-length"] = str(size)
        status = 200
        if size != item.size or "range" in request.headers:
            status = 206
            headers["content-range"] = f"bytes {offset}-{offset + size - 1}/{item.size}"
        elif request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            headers |= _checksum_headers(properties.checksums)
        if request.method == "HEAD":
            return _Response(status, headers=headers)
        content = self._objects.read(item, offset, size)
        try:
            first = next(content, b"")
        except FileNotFoundError:  # replaced after `get`
            return await self._get_object(request)
        return _Response(status, first if len(first) == size else _chain(first, content), headers)

    async def _delete_object(self, request: _Request) -> _Response:
        self._objects.delete(request.bucket, [request.key])
        return _Response(204)

    async def _get_tags(self, request: _Request) -> _Response:
        self._objects.require_bucket(request.bucket)
        item = self._objects.get(request.bucket, request.key)
        if item is None:
            raise no_such_key(request.key)
        tags = "".join(
            f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>"
            for name, value in item.properties.tags.items()
        )
        return _xml(f"{_XML}<Tagging {_NAMESPACE}><TagSet>{tags}</TagSet></Tagging>")

    async def _put_tags(self, request: _Request) -> _Response:
        root = await request.xml()
        tags = {tag.findtext("Key", ""): tag.findtext("Value", "") for tag in root.iter("Tag")}
        self._objects.set_tags(request.bucket, request.key, _checked_tags(tags))
        return _Response()

    async def _delete_tags(self, request: _Request) -> _Response:
        self._objects.set_tags(request.bucket, request.key, {})
        return _Response(204)

    async def _create_upload(self, request: _Request) -> _Response:
        upload = self._objects.create_upload(request.bucket, request.key, request.properties())
        fields = {"Bucket": request.bucket, "Key": escape(request.key), "UploadId": upload}
        algorithm = request.headers.get("x-amz-checksum-algorithm")
        return _xml(
            f"{_XML}<InitiateMultipartUploadResult {_NAMESPACE}>{_fields(fields)}</InitiateMultipartUploadResult>",
            headers={"x-amz-checksum-algorithm": algorithm} if algorithm else None,
        )

    async def _upload_part(self, request: _Request) -> _Response:
        number = request.number("partNumber", 0, _MAX_PARTS + 1)
        if not 1 <= number <= _MAX_PARTS:
            raise S3Error(400, "InvalidArgument", f"partNumber must be 1 to {_MAX_PARTS}")
        upload = self._objects.upload(request.bucket, request.key, request.query["uploadId"])
        path = self._objects.new_piece()
        try:
            part, response = await self._receive_part(request, number, path)
            self._objects.put_part(upload, part)
        except BaseException:
            self._objects.remove_pieces([path.name])
            raise
        return response

    async def _receive_part(self, request: _Request, number: int, path: Path) -> tuple[Part, _Response]:
        """Write the content of a part to a file: the body of the request, or a section of another object."""
        if "x-amz-copy-source" not in request.headers:
            received = await receive_content(request.receive, request.headers, path)
            part = Part(number, received.etag, received.size, time.time(), path.name)
            return part, _Response(headers={"etag": f'"{part.etag}"', **_checksum_headers(received.checksums)})
        source = self._copy_source(request)
        offset, size = _range(request.headers.get("x-amz-copy-source-range", ""), source.size)
        try:
            with path.open("wb") as file:
                etag = await asyncio.to_thread(_md5, self._objects.read(source, offset, size), file.write)
        except FileNotFoundError:
            raise no_such_key(source.key) from None
        part = Part(number, etag, size, time.time(), path.name)
        return part, _xml(_copied("CopyPartResult", part.etag, part.modified))

    async def _list_parts(self, request: _Request) -> _Response:
        upload = self._objects.upload(request.bucket, request.key, request.query["uploadId"])
        limit = request.number("max-parts", _MAX_KEYS, _MAX_KEYS)
        marker = request.number("part-number-marker", 0, _MAX_PARTS)
        left = [part for part in self._objects.list_parts(upload.id) if part.number > marker]
        rows = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{_iso(part.modified)}</LastModified>"
            f"<ETag>&quot;{part.etag}&quot;</ETag><Size>{part.size}</Size></Part>"
            for part in left[:limit]
        )
        fields = {"Bucket": request.bucket, "Key": escape(request.key), "UploadId": upload.id}
        fields["IsTruncated"] = "true" if len(left) > limit else "false"
        if left:
            fields["NextPartNumberMarker"] = str(left[:limit][-1].number)
        return _xml(f"{_XML}<ListPartsResult {_NAMESPACE}>{_fields(fields)}{rows}</ListPartsResult>")

    async def _complete_upload(self, request: _Request) -> _Response:
        root = await request.xml()
        try:
            wanted = [
                (int(part.findtext("PartNumber", "")), part.findtext("ETag", "").strip('"'))
                for part in root.iter("Part")
            ]
        except ValueError:
            raise S3Error(400, "MalformedXML", "A part has no number") from None
        upload = self._objects.upload(request.bucket, request.key, request.query["uploadId"])
        item = self._objects.complete(upload, wanted, if_absent=request.headers.get("if-none-match") == "*")
        fields = {"Bucket": request.bucket, "Key": escape(request.key), "ETag": f"&quot;{item.etag}&quot;"}
        return _xml(
            f"{_XML}<CompleteMultipartUploadResult {_NAMESPACE}>{_fields(fields)}</CompleteMultipartUploadResult>"
        )

    async def _abort_upload(self, request: _Request) -> _Response:
        self._objects.abort(request.bucket, request.key, request.query["uploadId"])
        return _Response(204)


def _xml(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> _Response:
    return _Response(
        status, text.encode("utf-8", "xmlcharrefreplace"), {"content-type": "application/xml", **(headers or {})}
    )


def _fields(fields: Mapping[str, str]) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())


def _copied(name: str, etag: str, modified: float) -> str:
    fields = {"LastModified": _iso(modified), "ETag": f"&quot;{etag}&quot;"}
    return f"{_XML}<{name} {_NAMESPACE}>{_fields(fields)}</{name}>"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _url_encoded(text: str) -> str:
    return quote(text, safe="/~")


def _checksum_headers(checksums: Mapping[str, str]) -> dict[str, str]:
    return {f"x-amz-checksum-{name}": value for name, value in checksums.items()}


def _checked_tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > 10:
        raise S3Error(400, "BadRequest", "Object tags cannot be greater than 10")
    if any(not 1 <= len(name) <= 128 or len(value) > 256 for name, value in tags.items()):
        raise S3Error(400, "InvalidTag", "A tag has a key of 1 to 128 characters and a value of at most 256")
    return tags


def _require_match(wanted: str, item: S3Object) -> None:
    if wanted.strip() != "*" and item.etag not in {each.strip().strip('"') for each in wanted.split(",")}:
        raise S3Error(412, "PreconditionFailed", f"The ETag of {item.key} is {item.etag}")


def _range(text: str, size: int) -> tuple[int, int]:
    """Return offset and size of the section that a Range header selects; of everything if it selects none."""
    match = _RANGE.fullmatch(text.strip())
    if not match or not (match[1] or match[2]):
        return 0, size
    first = int(match[1]) if match[1] else max(0, size - int(match[2]))
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if first > last:
        raise S3Error(416, "InvalidRange", f"The range {text} is not in the {size} bytes of the object")
    return first, last - first + 1


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _md5(chunks: Iterable[bytes], write: Callable[[bytes], object] = len) -> str:
    """Return the MD5 of chunks, each of which is also written."""
    md5 = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        md5.update(chunk)
        write(chunk)
    return md5.hexdigest()
