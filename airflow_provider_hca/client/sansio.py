"""The two messages of the protocol, and how to read an answer: what a DSS means by its status, body and headers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSConflictError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

T = TypeVar("T")

_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_LINK_NEXT = re.compile(r"""<([^>]*)>\s*;[^,<]*?\brel\s*=\s*["']?next\b""", re.IGNORECASE)
_XML_ERROR = re.compile(r"<Error>(?:(?!</Error>).)*", re.DOTALL)
_XML_PART = re.compile(r"<(Code|Message)>([^<]*)</")
_HTML_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_HTML_TAG = re.compile(r"<[^>]*>")
_TITLE_LENGTH = 500
# Some refusals have codes that the interface definition lacks. A DSS checks its own answers by that, and sends a 500
# with this in the place of the 403 for what is another's, and of the 400 for a missing file in a PATCH.
_REFUSAL = re.compile(r"does not conform to specification: '(forbidden|file_missing)' is not one of")


# Takes the status and the headers of an answer, and returns what takes its body, chunk by chunk; None when the body is
# to come with the `Response`, as that of an error.
Receive = Callable[[int, Mapping[str, str]], Callable[[bytes], None] | None]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request that a call wants sent.

    :ivar method: HTTP method
    :ivar url: absolute, with its query
    :ivar headers: all of them; not shown in `repr`, since one may hold a token
    :ivar body: not shown in `repr` either
    :ivar delay: seconds to wait before sending
    :ivar connect_timeout: seconds to wait for a connection
    :ivar read_timeout: seconds to wait for the answer
    :ivar receive: for a body that is not to be held in memory: asked, once the headers are there, where it is to go
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
        """`scheme://host:port`: what a token may be sent to."""
        return origin(self.url)


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request.

    :ivar status: HTTP status
    :ivar headers: names in lower case; several of one name are joined by `, `; not shown in `repr`
    :ivar body: the whole body; not shown in `repr` either, since that of a refresh is a token
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


def pause(seconds: float) -> Request:
    """Return what a call yields when it only has to wait: a transport sends nothing, and answers with status 0."""
    return Request("", "", delay=seconds)


# A call yields what it wants sent, is sent the answer (or thrown a DSSConnectionError), and returns its result.
Call = Generator[Request, Response, T]


def authority(url: str) -> str:
    """Return how a URL begins, up to its path: what is not to be taken apart for every request anew."""
    found = _AUTHORITY.match(url)
    return found[0] if found else url


def origin(url: str) -> str:
    """Return the `scheme://host:port` of a URL, in lower case and with the port always there."""
    return _origin(authority(url))


@lru_cache(maxsize=256)
def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}".lower()


def lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with their names in lower case; several of one name are joined by `, `."""
    lowered: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        lowered[key] = f"{lowered[key]}, {value}" if key in lowered else value
    return lowered


def json_object(request: Request, response: Response) -> dict[str, Any]:
    """Return the body as a JSON object.

    :raises DSSProtocolError: when it is something else
    """
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        kind = response.headers.get("content-type", "no content type")
        raise DSSProtocolError(
            f"{request.method} {request.path}: {response.status} without a JSON object ({kind}): is "
            f"{request.origin} the address of a DSS's API, such as 'https://dss.example.org/v1'?"
        )
    return value


def retry_after(response: Response) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as seconds or as a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value, re.ASCII):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def target(request: Request, reference: str) -> str:
    """Return the absolute URL that a `Location` or `Link` of the answer to a request names.

    :raises DSSProtocolError: when it names none that HTTP can go to
    """
    try:
        url = urljoin(request.url, reference)
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        origin(url)
    except ValueError:
        usable = False
    if not usable:
        raise DSSProtocolError(f"{request.method} {request.path}: the answer refers to an invalid URL")
    return url


def next_page(request: Request, response: Response) -> str | None:
    """Return the URL of the next page from `Link`, whose `rel` a DSS writes in single quotes.

    :raises DSSProtocolError: when it is not a URL
    """
    match = _LINK_NEXT.search(response.headers.get("link", ""))
    return target(request, match[1]) if match else None


def decode_error(request: Request, response: Response, *secrets: str) -> DSSResponseError:
    """Return the error that an answer means, whichever of its shapes the body has.

    :param request: what was asked
    :param response: the answer
    :param secrets: what to keep out of the error, should the server echo it
    """
    code, title = _code_and_title(response.body)
    if not title:
        title = _phrase(response.status)
    refusal = _REFUSAL.search(title) if response.status == 500 else None
    if refusal:
        code = refusal[1]
    for secret in sorted(secrets, key=len, reverse=True):  # one may be in another
        code, title = code.replace(secret, "***"), title.replace(secret, "***")
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
        code,
        title[:_TITLE_LENGTH],
        response.headers.get("x-aws-request-id", ""),
        retry_after(response),
    )


def is_no_route(response: Response) -> bool:
    """Return whether it is the route that is missing, and not what was asked for.

    The gateway of a DSS answers 403 with a `message` then, another web server 404 or 405 in its own words.
    """
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError):
        value = None
    body = value if isinstance(value, dict) else {}
    if response.status == 403:
        return body.get("message") == "Missing Authentication Token"
    return response.status in {404, 405} and not {"status", "code", "title"} & set(body)


def _code_and_title(body: bytes) -> tuple[str, str]:
    text = body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        xml = _XML_ERROR.search(text)
        if xml:  # an object store's, which also repeats what was signed, and the signature
            parts = dict(_XML_PART.findall(xml[0]))
            return parts.get("Code", ""), parts.get("Message", "")
        found = _HTML_TITLE.search(text)
        return "", " ".join(_HTML_TAG.sub(" ", found[1] if found else text).split())
    if not isinstance(value, dict):
        return "", ""
    # {"status", "code", "title", "stacktrace"}, {"type", "title", "detail", "status"}, {"Code", "Message"} and
    # {"message"}: servers and the gateways before them each have their own.
    code = value.get("code") or value.get("Code") or ""
    title = value.get("title") or value.get("Message") or value.get("message") or ""
    detail = value.get("detail") or ""
    return str(code), ": ".join(str(part) for part in (title, detail) if part)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
