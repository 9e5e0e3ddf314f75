"""Receive request bodies of the S3 server: decode, verify and write them to disk."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from typing import TYPE_CHECKING, Any, Protocol

import google_crc32c

from airflow_provider_hca.local.checksums import MIB

from .models import S3Error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from starlette.types import Receive

_MAX_DOCUMENT = 8 * MIB  # the deletion of 1,000 keys of 1,024 bytes, escaped
_MAX_PUT = 5 * 1024 * MIB
_MAX_LINE = 4096  # bytes of a line between the chunks of an aws-chunked body
_CHECKSUM_PREFIX = "x-amz-checksum-"
_NOT_CHECKSUMS = {"x-amz-checksum-type", "x-amz-checksum-algorithm"}


class ClientDisconnectedError(Exception):
    """The client closed the connection during a request."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _CRC32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _digest(algorithm: str) -> _Digest:
    match algorithm:
        case "crc32":
            return _CRC32()
        case "crc32c":
            crc32c: _Digest = google_crc32c.Checksum()  # type: ignore[no-untyped-call] # no type information
            return crc32c
        case "sha1" | "sha256" | "sha512" | "md5":
            return hashlib.new(algorithm, usedforsecurity=False)
    raise S3Error(
        501, "NotImplemented", f"The local DSS does not support {algorithm}; use crc32, crc32c, sha1, sha256 or sha512"
    )


class Received:
    """The verified content of a PUT on disk.

    :ivar etag: MD5 in hexadecimal
    :ivar size: size in bytes
    :ivar checksums: checksums that the client sent, in base64, by lower-case algorithm
    """

    def __init__(self, etag: str, size: int, checksums: dict[str, str]) -> None:
        self.etag, self.size, self.checksums = etag, size, checksums


async def receive_content(receive: Receive, headers: Mapping[str, str], path: Path) -> Received:
    """Write the body of a PUT to a file, and verify every checksum in the request.

    :param receive: ASGI callable
    :param headers: headers of the request with lower-case names
    :param path: path of the file, which is removed on an error
    :raises S3Error: `EntityTooLarge`, `BadDigest`, `XAmzContentSHA256Mismatch`, `IncompleteBody` or `InvalidArgument`
    :raises ClientDisconnectedError: when the body ends early
    """
    if int(headers.get("content-length", "0")) > _MAX_PUT:
        raise S3Error(400, "EntityTooLarge", f"The body has more than {_MAX_PUT} bytes")
    try:
        return await _receive(receive, headers, path)
    except BaseException:
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - takes microseconds
        raise


async def _receive(receive: Receive, headers: Mapping[str, str], path: Path) -> Received:
    body = _body(receive)
    fields = {**headers}
    content_sha256 = headers.get("x-amz-content-sha256", "")
    if content_sha256.startswith("STREAMING-"):
        fields |= dict.fromkeys(headers.get("x-amz-trailer", "").split(","), "")  # their values follow the body
        body = _decode_aws_chunked(body, fields)
    digests = {name: _digest(name) for name in {"md5", *_checksums(fields)}}
    if _is_sha256(content_sha256):
        digests.setdefault("sha256", _digest("sha256"))
    size = await _write(body, path, list(digests.values()))
    computed = {name: digest.digest() for name, digest in digests.items()}
    checksums = _checksums(fields)
    _verify(computed, checksums, headers)
    return Received(computed["md5"].hex(), size, checksums)


def _checksums(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the values of `x-amz-checksum-ALGORITHM` by algorithm."""
    return {
        name.removeprefix(_CHECKSUM_PREFIX): value
        for name, value in fields.items()
        if name.startswith(_CHECKSUM_PREFIX) and name not in _NOT_CHECKSUMS
    }


def _is_sha256(content_sha256: str) -> bool:
    return len(content_sha256) == 64  # the other values are keywords such as `UNSIGNED-PAYLOAD`


def _verify(computed: Mapping[str, bytes], checksums: Mapping[str, str], headers: Mapping[str, str]) -> None:
    expected = {**checksums, "md5": headers["content-md5"]} if "content-md5" in headers else checksums
    for name, value in expected.items():
        if base64.b64encode(computed[name]).decode() != value:
            raise S3Error(400, "BadDigest", f"The {name} of the body differs from that in the request")
    content_sha256 = headers.get("x-amz-content-sha256", "")
    if _is_sha256(content_sha256) and computed["sha256"].hex() != content_sha256:
        raise S3Error(400, "XAmzContentSHA256Mismatch", "The SHA-256 of the body differs from x-amz-content-sha256")


async def _write(body: AsyncIterator[bytes], path: Path, digests: list[_Digest]) -> int:
    """Write a body in chunks of 1 MiB; large bodies are hashed and written outside of the event loop."""
    size = 0
    pending = bytearray()
    with path.open("wb", buffering=0) as file:

        def flush(data: bytes) -> None:
            for digest in digests:
                digest.update(data)
            file.write(data)

        async for chunk in body:
            pending += chunk
            size += len(chunk)
            if len(pending) >= MIB:
                await asyncio.to_thread(flush, bytes(pending))
                pending.clear()
        flush(bytes(pending))
    return size


async def receive_document(receive: Receive) -> bytes:
    """Return a small body, such as XML.

    :param receive: ASGI callable
    :raises S3Error: `MaxMessageLengthExceeded`
    :raises ClientDisconnectedError: when the body ends early
    """
    document = b""
    async for chunk in _body(receive):
        document += chunk
        if len(document) > _MAX_DOCUMENT:
            raise S3Error(400, "MaxMessageLengthExceeded", f"The body has more than {_MAX_DOCUMENT} bytes")
    return document


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


async def _decode_aws_chunked(body: AsyncIterator[bytes], fields: dict[str, str]) -> AsyncIterator[bytes]:
    """Yield the content of an `aws-chunked` body: `SIZE[;chunk-signature=...]`, data, ..., `0`, trailers.

    :param fields: headers by lower-case name, to which the trailers are added
    """
    reader, length = _Reader(body), 0
    while size := _chunk_size(await reader.line()):
        length += size
        async for content in reader.content(size):
            yield content
        await reader.line()
    if fields.get("x-amz-decoded-content-length", str(length)) != str(length):
        raise S3Error(400, "IncompleteBody", "The length of the body differs from x-amz-decoded-content-length")
    while line := await reader.line():
        name, _, value = line.decode("latin-1").partition(":")
        fields[name.strip().lower()] = value.strip()


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise S3Error(400, "IncompleteBody", "The body is not in the aws-chunked format, or ends early") from None


class _Reader:
    """Read lines and chunks of a body."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._buffer = b""

    async def _more(self) -> bool:
        received = await anext(self._body, b"")
        self._buffer += received
        return bool(received)

    async def line(self) -> bytes:
        """Return the next line without its end, or the rest of the body."""
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > _MAX_LINE:
                raise S3Error(400, "InvalidArgument", "A line of the aws-chunked body is too long")
            if not await self._more():
                break
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def content(self, size: int) -> AsyncIterator[bytes]:
        """Yield the next `size` bytes."""
        while size:
            if not self._buffer and not await self._more():
                raise S3Error(400, "IncompleteBody", "The aws-chunked body ends early")
            content, self._buffer = self._buffer[:size], self._buffer[size:]
            size -= len(content)
            yield content
