"""Requests and responses of the S3 server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from .bodies import receive_document
from .models import Properties, S3Error

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope

_STORED_HEADERS = (
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# Query parameters that select another operation; all others are ignored, as in S3.
_OPERATIONS = {"uploads", "uploadId", "partNumber", "tagging", "delete", "location"}
_UNSUPPORTED = {
    "accelerate", "acl", "analytics", "attributes", "cors", "encryption", "inventory", "legal-hold", "lifecycle",
    "logging", "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus",
    "publicAccessBlock", "replication", "requestPayment", "restore", "retention", "select", "torrent", "versioning",
    "versions", "website",
}  # fmt: skip
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Request:
    """A parsed request.

    :ivar awaits_continue: whether the client waits for "100 Continue", which the first `receive` sends, before the body
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.awaits_continue = "expect" in self.headers
        self.query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        try:
            path = unquote(scope["raw_path"].decode("latin-1"), errors="strict")
        except UnicodeDecodeError:
            raise S3Error(400, "InvalidURI", "The path is not UTF-8") from None
        self.bucket, _, self.key = path[1:].partition("/")
        self._receive = receive

    async def receive(self) -> Message:
        """Return the next message of the body."""
        self.awaits_continue = False
        return await self._receive()

    @property
    def operation(self) -> frozenset[str]:
        """Query parameters that select the operation."""
        unsupported = self.query.keys() & _UNSUPPORTED
        if unsupported:
            raise S3Error(501, "NotImplemented", f"The local DSS does not support {min(unsupported)}")
        return frozenset(self.query.keys() & _OPERATIONS)

    @property
    def name_encoder(self) -> Callable[[str], str]:
        """Function that encodes keys for a listing."""
        return _url_encode if self.query.get("encoding-type") == "url" else escape

    def number(self, name: str, default: int, maximum: int) -> int:
        """Return a numeric query parameter, limited to `maximum`."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or int(text) > max(maximum, 2**31):
            raise S3Error(400, "InvalidArgument", f"{name} must be a number, got {text!r}")
        return min(int(text), maximum)

    async def xml(self) -> ElementTree.Element:
        """Return the XML body without namespaces."""
        try:
            root = ElementTree.fromstring(await receive_document(self.receive))  # noqa: S314 - bounded; expat limits entities
        except ElementTree.ParseError:
            raise S3Error(400, "MalformedXML", "The body is not well-formed XML") from None
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root

    def properties(self, checksums: dict[str, str] | None = None) -> Properties:
        """Return the properties of the object in the headers."""
        standard = {name: self.headers[name] for name in _STORED_HEADERS if name in self.headers}
        encodings = [name.strip() for name in standard.pop("content-encoding", "").split(",")]
        encoding = ",".join(name for name in encodings if name not in {"", "aws-chunked"})
        if encoding:
            standard["content-encoding"] = encoding
        standard.setdefault("content-type", "binary/octet-stream")
        prefix = "x-amz-meta-"
        metadata = {name.removeprefix(prefix): value for name, value in self.headers.items() if name.startswith(prefix)}
        tags = dict(parse_qsl(self.headers.get("x-amz-tagging", ""), keep_blank_values=True))
        return Properties(standard, metadata, check_tags(tags), checksums or {})


class Response:
    """A response.

    :param content: body; an iterator yields chunks of at most 1 MiB
    """

    def __init__(
        self, status: int = 200, content: bytes | Iterator[bytes] = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.content = status, content
        self.headers = dict(headers or {})
        if isinstance(content, bytes):
            self.headers.setdefault("content-length", str(len(content)))


def xml_response(
    name: str, fields: Mapping[str, str], rows: str = "", *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with an XML document.

    :param name: name of the root element
    :param fields: escaped values of elements by name
    :param rows: further elements as XML
    """
    return _xml(f"<{name} {_NAMESPACE}>{_elements(fields)}{rows}</{name}>", 200, headers)


def error_response(error: S3Error) -> Response:
    """Return the response for an error."""
    fields = {"Code": error.code, "Message": escape(str(error))}
    return _xml(f"<Error>{_elements(fields)}</Error>", error.status, None)


def _xml(text: str, status: int, headers: Mapping[str, str] | None) -> Response:
    content = (_XML + text).encode("utf-8", "xmlcharrefreplace")
    return Response(status, content, {"content-type": "application/xml", **(headers or {})})


def _elements(fields: Mapping[str, str]) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())


def iso_time(seconds: float) -> str:
    """Return a time in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _url_encode(text: str) -> str:
    return quote(text, safe="/~")


def check_tags(tags: dict[str, str]) -> dict[str, str]:
    """Return valid tags, or raise `S3Error`."""
    if len(tags) > 10:
        raise S3Error(400, "BadRequest", "Object tags cannot be greater than 10")
    if any(not 1 <= len(name) <= 128 or len(value) > 256 for name, value in tags.items()):
        raise S3Error(400, "InvalidTag", "A tag must have a key of 1 to 128 and a value of at most 256 characters")
    return tags


def parse_range(text: str, size: int) -> tuple[int, int]:
    """Return offset and size of a Range header; those of the whole object if the header is not a range."""
    match = _RANGE.fullmatch(text.strip())
    if not match or not (match[1] or match[2]):
        return 0, size
    first = int(match[1]) if match[1] else max(0, size - int(match[2]))
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if first > last:
        raise S3Error(416, "InvalidRange", f"The range {text} is outside of the object, which has {size} bytes")
    return first, last - first + 1
