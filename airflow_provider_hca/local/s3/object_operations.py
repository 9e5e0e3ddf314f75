"""Operations on objects: put, copy, get, delete, and their tags."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.sax.saxutils import escape

from .bodies import receive_content
from .messages import Response, check_tags, iso_time, parse_range, xml_response
from .models import Properties, S3Error, S3Object, no_such_key

if TYPE_CHECKING:
    from .messages import Request
    from .storage import S3Storage


async def put_object(storage: S3Storage, request: Request) -> Response:
    """Store an object: PutObject, or CopyObject if a copy source is given."""
    if "x-amz-copy-source" in request.headers:
        return await _copy_object(storage, request)
    storage.require_bucket(request.bucket)
    path = storage.new_piece()
    received = await receive_content(request.receive, request.headers, path)
    properties = request.properties(received.checksums)
    item = S3Object(request.key, received.etag, received.size, time.time(), properties, (path.name,))
    _put(storage, request, item)
    return Response(headers={"etag": f'"{item.etag}"', **checksum_headers(received.checksums)})


def _put(storage: S3Storage, request: Request, item: S3Object) -> None:
    """Record an object under the conditions of the request; remove its content if that fails."""
    try:
        if "if-match" in request.headers:
            _require_match(request.headers["if-match"], _existing(storage, request.bucket, request.key))
        storage.put(request.bucket, item, if_absent=request.headers.get("if-none-match") == "*")
    except BaseException:
        storage.remove_pieces(item.pieces)
        raise


def _existing(storage: S3Storage, bucket: str, key: str) -> S3Object:
    item = storage.get(bucket, key)
    if item is None:
        raise no_such_key(key)
    return item


async def _copy_object(storage: S3Storage, request: Request) -> Response:
    source = copy_source(storage, request)
    given, kept = request.properties(), source.properties
    replaces_metadata = request.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    replaces_tags = request.headers.get("x-amz-tagging-directive", "COPY").upper() == "REPLACE"
    properties = Properties(
        given.headers if replaces_metadata else kept.headers,
        given.metadata if replaces_metadata else kept.metadata,
        given.tags if replaces_tags else kept.tags,
    )
    etag = source.etag
    try:
        if "-" in etag:  # S3 stores a copy in one part, even if the source has several
            etag = await asyncio.to_thread(md5_of, storage.read(source, 0, source.size))
        pieces = storage.link(source)
    except FileNotFoundError:
        raise no_such_key(source.key) from None
    item = S3Object(request.key, etag, source.size, time.time(), properties, pieces)
    _put(storage, request, item)
    return copy_result("CopyObjectResult", item.etag, item.modified)


def copy_source(storage: S3Storage, request: Request) -> S3Object:
    """Return the object that a request copies."""
    path = unquote(request.headers["x-amz-copy-source"].partition("?")[0]).removeprefix("/")
    bucket, _, key = path.partition("/")
    storage.require_bucket(bucket)
    storage.require_bucket(request.bucket)
    item = _existing(storage, bucket, key)
    _require_match(request.headers.get("x-amz-copy-source-if-match", "*"), item)
    return item


def copy_result(name: str, etag: str, modified: float) -> Response:
    """Return the response to a copy.

    :param name: name of the root element
    """
    return xml_response(name, {"LastModified": iso_time(modified), "ETag": f"&quot;{etag}&quot;"})


async def get_object(storage: S3Storage, request: Request) -> Response:
    """Return an object, or a range of it, or with HEAD its headers."""
    storage.require_bucket(request.bucket)
    item = _existing(storage, request.bucket, request.key)
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
    if _etags(request.headers.get("if-none-match", "")) & {item.etag, "*"}:
        return Response(304, headers=headers)
    offset, size = parse_range(request.headers.get("range", ""), item.size)
    headers["content-length"] = str(size)
    status = 200
    if size != item.size or "range" in request.headers:
        status = 206
        headers["content-range"] = f"bytes {offset}-{offset + size - 1}/{item.size}"
    elif request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers |= checksum_headers(properties.checksums)
    if request.method == "HEAD":
        return Response(status, headers=headers)
    content = storage.read(item, offset, size)
    try:
        first = next(content, b"")
    except FileNotFoundError:  # replaced meanwhile
        return await get_object(storage, request)
    return Response(status, first if len(first) == size else _chain(first, content), headers)


async def delete_object(storage: S3Storage, request: Request) -> Response:
    """Delete an object."""
    storage.delete(request.bucket, [request.key])
    return Response(204)


async def get_tags(storage: S3Storage, request: Request) -> Response:
    """Return the tags of an object."""
    storage.require_bucket(request.bucket)
    tags = _existing(storage, request.bucket, request.key).properties.tags
    rows = "".join(
        f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in tags.items()
    )
    return xml_response("Tagging", {"TagSet": rows})


async def put_tags(storage: S3Storage, request: Request) -> Response:
    """Replace the tags of an object."""
    root = await request.xml()
    tags = {tag.findtext("Key", ""): tag.findtext("Value", "") for tag in root.iter("Tag")}
    storage.set_tags(request.bucket, request.key, check_tags(tags))
    return Response()


async def delete_tags(storage: S3Storage, request: Request) -> Response:
    """Remove the tags of an object."""
    storage.set_tags(request.bucket, request.key, {})
    return Response(204)


def checksum_headers(checksums: Mapping[str, str]) -> dict[str, str]:
    """Return the response headers for checksums by algorithm."""
    return {f"x-amz-checksum-{name}": value for name, value in checksums.items()}


def _etags(header: str) -> set[str]:
    return {etag.strip().strip('"') for etag in header.split(",")}


def _require_match(header: str, item: S3Object) -> None:
    if header.strip() != "*" and item.etag not in _etags(header):
        raise S3Error(412, "PreconditionFailed", f"The ETag of {item.key} is {item.etag}")


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def md5_of(chunks: Iterable[bytes], write: Callable[[bytes], object] = len) -> str:
    """Return the MD5 of chunks.

    :param write: called with each chunk
    """
    md5 = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        md5.update(chunk)
        write(chunk)
    return md5.hexdigest()
