"""Requests, responses and their interpretation, without I/O."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, quote_plus, urljoin, urlsplit

from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSConflictError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

T = TypeVar("T")

MAX_BODY_SIZE = 6_000_000  # bytes; AWS Lambda, which a DSS runs on, returns no more
_MAX_ERROR_SIZE = 64 * 1024  # bytes
MAX_VALUES = 150_000  # in a JSON object: 40,000 items of a collection; an empty one takes 72 bytes
# In one that an event loop with other users parses: a page of 500 files has 6,000, and these take at most 50 ms.
MAX_LOOP_VALUES = 25_000
_LONGEST_INTEGER = 20  # digits
_MAX_TEXT_SIZE = 4096  # bytes of HTML, XML or a header
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
# None of these looks at a character twice, whatever a server sends.
_REL_NEXT = re.compile(r""";\s*rel\s*=\s*["']?next\b""", re.IGNORECASE)
_XML_PART = re.compile(r"<(Code|Message)>([^<]*)</")
_HTML_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title>", re.IGNORECASE)
_HTML_TAG = re.compile(r"<[^<>]*>")
_TITLE_LENGTH = 500
_CONTENT_TYPES = frozenset({"application/json", "application/xml", "text/html", "text/plain", "text/xml"}) | {
    "no content type"
}
# A DSS validates its own responses against the interface definition, which lacks some codes. It therefore answers 500
# with this text instead of 403 for an item of another owner, instead of 400 for a missing file in a PATCH, and instead
# of 503 while it is read-only.
_REFUSAL = re.compile(r"'(forbidden|file_missing|read_only)' is not one of")


# Returns the receiver for the chunks of a response's body, from its status and headers; None to keep the body in the
# `Response`, for example that of an error.
Receive = Callable[[int, Mapping[str, str]], Callable[[bytes], None] | None]


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request that a call yields.

    :ivar method: HTTP method; empty for a pause
    :ivar url: Absolute URL with its query
    :ivar headers: All headers; hidden in `repr`, since one may hold a token
    :ivar body: Body; hidden in `repr` too
    :ivar delay: Time to wait before sending, in seconds
    :ivar connect_timeout: Time to wait for a connection, in seconds
    :ivar read_timeout: Time to wait for each part of the response, in seconds
    :ivar receive: Returns the receiver of a body that is too large for memory, once the headers have arrived
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    delay: float = 0.0
    connect_timeout: float = 10.0
    read_timeout: float = 40.0
    receive: Receive | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """The path, without the query."""
        return urlsplit(self.url).path

    @property
    def origin(self) -> str:
        """`scheme://host:port`, the unit to which a token may be sent."""
        return origin(self.url)


@dataclass(frozen=True, slots=True)
class Response:
    """The response to a request.

    :ivar status: HTTP status; 0 for a pause
    :ivar headers: Headers, with names in lower case; values of the same name are joined with `, `; hidden in `repr`
    :ivar body: Body, cut off after `body_limit` bytes and one more; hidden in `repr`, since that of a token refresh is
        a token
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


def body_limit(status: int) -> int:
    """Return the maximum size of a response's body in bytes; of a larger one, a transport reads one byte more.

    :param status: Status of the response; the end of a long stack trace is of no use
    """
    return MAX_BODY_SIZE if status < 400 else _MAX_ERROR_SIZE


def pause(seconds: float) -> Request:
    """Return a request for waiting only: a transport sends nothing and returns status 0."""
    return Request("", "", delay=seconds)


# A call yields requests, is sent the responses (or thrown a DSSConnectionError), and returns its result.
Call = Generator[Request, Response, T]


def authority(url: str) -> str:
    """Return the part of a URL before its path, as a key for caches: `urlsplit` for each request would be slow."""
    match = _AUTHORITY.match(url)
    return match[0] if match else url


def origin(url: str) -> str:
    """Return the `scheme://host:port` of a URL, in lower case and always with a port."""
    return _origin(authority(url))


@lru_cache(maxsize=256)
def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}".lower()


def lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with names in lower case; values of the same name are joined with `, `."""
    lowered: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        lowered[key] = f"{lowered[key]}, {value}" if key in lowered else value
    return lowered


class LargeJSONError(ValueError):
    """A JSON text has more values than `parse_json` accepts."""


def count_values(content: bytes) -> int:
    """Return an upper bound of the number of values in a JSON text, many times faster than parsing it."""
    return 1 + len(content) - len(content.translate(None, b",[{"))


def parse_json(content: bytes, max_values: int = MAX_VALUES) -> Any:
    """Return the value of a JSON text.

    `json` holds the GIL, and with it the event loop of a triggerer or an API server: for a second per 6 MB of `[],[]`,
    and for 0.1 ms per integer of 4,300 digits. Integers of more than 20 digits are therefore parsed as floats.

    :param content: JSON text
    :param max_values: Maximum number of values
    :raises LargeJSONError: if it has more values
    :raises ValueError: if it is not JSON, or nested too deeply
    """
    if count_values(content) > max_values:
        raise LargeJSONError(f"more than {max_values:,} values")
    try:
        return json.loads(content, parse_int=_integer, parse_float=_float)
    except RecursionError:
        raise ValueError("nested too deeply") from None


# Functions in Python: between them, other threads can get the GIL.
def _integer(text: str) -> float:
    return int(text) if len(text) <= _LONGEST_INTEGER else float(text)


def _float(text: str) -> float:
    return float(text)


def json_object(request: Request, response: Response, max_values: int = MAX_VALUES) -> dict[str, Any]:
    """Return the body as a JSON object.

    :param request: Request
    :param response: Its response
    :param max_values: Maximum number of values
    :raises DSSProtocolError: if it is not a JSON object, or a larger one than a DSS sends
    """
    where = f"{request.method} {request.path}: {response.status}"
    body = _unencoded_body(response)
    if len(body) > MAX_BODY_SIZE:
        raise DSSProtocolError(f"{where} with more than {MAX_BODY_SIZE:,} bytes")
    try:
        value = parse_json(body, max_values)
    except LargeJSONError as error:
        raise DSSProtocolError(f"{where} with {error}") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        kind = response.headers.get("content-type", "no content type").partition(";")[0]
        kind = kind if kind in _CONTENT_TYPES else "another content type"  # a server might send the token back
        raise DSSProtocolError(
            f"{where} without a JSON object ({kind}); the address must be that of a DSS's API, such as "
            f"'https://dss.example.org/v1', got {request.origin}"
        )
    return value


def _unencoded_body(response: Response) -> bytes:
    """Return the body; empty if it is compressed although no request allows it, since a few bytes can become many."""
    encoding = response.headers.get("content-encoding", "identity")
    return response.body if encoding.strip().lower() in {"", "identity"} else b""


def retry_after(response: Response) -> float | None:
    """Return the seconds of `Retry-After`, given in seconds or as a date (RFC 9110, 10.2.3); None without it."""
    value = response.headers.get("retry-after", "")[:_MAX_TEXT_SIZE].strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value, re.ASCII):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def resolve(request: Request, reference: str) -> str:
    """Return the absolute URL of a `Location` or `Link` in the response to a request.

    :raises DSSProtocolError: if it is not a valid HTTP URL, or has a user in it
    """
    try:
        url = urljoin(request.url, reference)
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        origin(url)
    except ValueError:
        usable = False
    if not usable:
        raise DSSProtocolError(f"{request.method} {request.path}: the response refers to an invalid URL")
    return url


def next_page(request: Request, response: Response) -> str | None:
    """Return the URL of the next page from `Link`, whose `rel` a DSS writes in single quotes; None on the last page.

    :raises DSSProtocolError: if it is not a valid URL
    """
    for link in response.headers.get("link", "")[:_MAX_TEXT_SIZE].split("<")[1:]:
        reference, _, parameters = link.partition(">")
        if _REL_NEXT.search(parameters):
            return resolve(request, reference)
    return None


def decode_error(request: Request, response: Response, token: str | None = None) -> DSSResponseError:
    """Return the error for a response, whose body may have several forms.

    :param request: Request
    :param response: Its response
    :param token: Token to hide in the error, since a server may echo it
    """
    code, title = _code_and_title(_unencoded_body(response))
    if not title:
        title = _phrase(response.status)
    refusal = _REFUSAL.search(title) if response.status == 500 else None
    if refusal:
        code = refusal[1]
    request_id = response.headers.get("x-aws-request-id", "")[:_TITLE_LENGTH]
    for secret in {token, quote(token, safe=""), quote_plus(token)} if token else ():
        code, title, request_id = (text.replace(secret, "***") for text in (code, title, request_id))
    title = title[:_TITLE_LENGTH]
    if response.status == 401 and token:
        title += _expiry(token)
    elif response.status == 404:
        title += _where(request)
    kinds: dict[int, type[DSSResponseError]] = {
        401: DSSAuthError,
        403: DSSAuthError,
        404: DSSNotFoundError,
        409: DSSConflictError,
    }
    return kinds.get(403 if code == "forbidden" else response.status, DSSResponseError)(
        request.method,
        request.path,
        response.status,
        code[:_TITLE_LENGTH],
        title,
        request_id,
        retry_after(response),
    )


def _expiry(token: str) -> str:
    """Return when a JWT expired, for an error; empty if it has not, or is no JWT."""
    try:
        payload = token.split(".")[1]
        expires = float(parse_json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
        expired = datetime.fromtimestamp(expires, UTC)
    except (ValueError, LookupError, TypeError, OverflowError, OSError):
        return ""
    return f" (the token expired at {expired:%Y-%m-%d %H:%M:%S} UTC)" if expired < datetime.now(UTC) else ""


def _where(request: Request) -> str:
    """Return the version and the replica that were asked for, for an error."""
    query = parse_qs(urlsplit(request.url).query)
    asked = [f"{name} {query[name][0]}" for name in ("version", "replica") if name in query]
    return f" ({', '.join(asked)})" if asked else ""


def is_no_route(response: Response) -> bool:
    """Return whether the route does not exist, rather than the requested item.

    The gateway of a DSS then answers 403 with a `message`, another web server 404 or 405 with a body of its own.
    """
    try:
        value = parse_json(_unencoded_body(response))
    except ValueError:
        value = None
    body = value if isinstance(value, dict) else {}
    if response.status == 403:
        return body.get("message") == "Missing Authentication Token"
    return response.status in {404, 405} and not {"status", "code", "title"} & set(body)


def _code_and_title(body: bytes) -> tuple[str, str]:
    try:
        value = parse_json(body)
    except ValueError:
        return _code_and_title_of_markup(body[:_MAX_TEXT_SIZE].decode("utf-8", "replace"))
    if not isinstance(value, dict):
        return "", ""
    # Forms of servers and their gateways: {"status", "code", "title", "stacktrace"}, {"type", "title", "detail",
    # "status"}, {"Code", "Message"} and {"message"}.
    code = value.get("code") or value.get("Code") or ""
    title = value.get("title") or value.get("Message") or value.get("message")
    return str(code), ": ".join(str(part) for part in (title, value.get("detail")) if part)


def _code_and_title_of_markup(text: str) -> tuple[str, str]:
    if "<Error>" in text:  # from an object store; its other elements repeat the signature
        parts = dict(_XML_PART.findall(text))
        return parts.get("Code", ""), parts.get("Message", "")
    html = _HTML_TITLE.search(text)
    return "", " ".join(_HTML_TAG.sub(" ", html[1] if html else text).split())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
