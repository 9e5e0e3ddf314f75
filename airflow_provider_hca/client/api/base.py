"""Common base of all calls: address, token, requests and pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from airflow_provider_hca.client.identifiers import check_version
from airflow_provider_hca.client.models import FQID, check_replica
from airflow_provider_hca.client.retry import Auth, Exchange, RetryPolicy
from airflow_provider_hca.client.sansio import (
    MAX_LOOP_VALUES,
    Call,
    Request,
    Response,
    count_values,
    json_object,
    next_page,
    origin,
)
from airflow_provider_hca.exceptions import DSSProtocolError

DONE = frozenset({200, 201})
PAGE = frozenset({200, 206})
MAX_PAGES = 2_000  # a million bundles
# Of all pages that one result is made of: a manifest of 100,000 files.
MAX_PAGES_SIZE = 64_000_000  # bytes
MAX_PAGES_VALUES = 1_250_000
MAX_TEXT = 1000  # characters of an id, a version or a status


class Calls:
    """Base class of the calls of one DSS; see `DSSAPI` for its parameters."""

    def __init__(
        self,
        url: str,
        *,
        auth: Auth | None = None,
        creator_uid: int = 0,
        retry: RetryPolicy | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float = 40.0,
    ) -> None:
        parts = urlsplit(url)
        user = "@" in parts.netloc
        if parts.scheme not in {"http", "https"} or not parts.hostname or user or parts.query or parts.fragment:
            raise ValueError(
                "the address of a DSS must be the full URL of its API, such as 'https://dss.example.org/v1' (no user, "
                f"no query), got {_without_secrets(url)}"
            )
        self.url = url.rstrip("/")
        self.auth = auth
        self.creator_uid = creator_uid
        self.retry = retry or RetryPolicy()
        self._exchange = Exchange(origin(url), auth, self.retry)
        self._connect_timeout, self._read_timeout = connect_timeout, read_timeout

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, auth={self.auth!r})"

    @property
    def retries(self) -> int:
        """Number of requests sent again after a failure."""
        return self._exchange.retries

    def _request(
        self, method: str, path: str, query: Mapping[str, str | None], body: Mapping[str, Any] | None = None
    ) -> Request:
        """Return a request, without the None values of its query.

        :raises ValueError: if JSON cannot represent the body
        """
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        encoded = urlencode({name: value for name, value in query.items() if value is not None})
        return Request(
            method,
            f"{self.url}{path}{'?' if encoded else ''}{encoded}",
            headers,
            None if body is None else _json(body),
            connect_timeout=self._connect_timeout,
            read_timeout=self._read_timeout,
        )

    def _pages(
        self,
        request: Request,
        *,
        authorize: bool = False,
        repeatable: bool | None = None,
        max_values: int = MAX_LOOP_VALUES,
        joined: bool = True,
    ) -> Iterator[Call[dict[str, Any]]]:
        """Yield a call for each page.

        :param max_values: Maximum number of values of a page
        :param joined: Whether the caller keeps all pages, which are therefore limited in size together
        :raises DSSProtocolError: if a page repeats, or there are more than MAX_PAGES, or they are too large together
        """
        following: str | None = request.url
        seen: set[str] = set()
        size = values = 0

        def page(request: Request) -> Call[dict[str, Any]]:
            nonlocal following, size, values
            response = yield from self._exchange.send(request, accept=PAGE, authorize=authorize, repeatable=repeatable)
            size, values = size + len(response.body), values + count_values(response.body)
            if joined and (size > MAX_PAGES_SIZE or values > MAX_PAGES_VALUES):
                raise DSSProtocolError(
                    f"{request.method} {request.path}: the pages have more than {MAX_PAGES_SIZE:,} bytes or "
                    f"{MAX_PAGES_VALUES:,} values together"
                )
            following = next_page(request, response)
            if following is not None and origin(following) != self._exchange.home:
                raise DSSProtocolError(
                    f"{request.method} {request.path}: the next page is at {origin(following)}; change the host of the "
                    "connection to that address"
                )
            return json_object(request, response, max_values)

        while following is not None:
            if following in seen:
                raise DSSProtocolError(f"{request.method} {request.path}: pagination loop: the next link repeats")
            if len(seen) == MAX_PAGES:
                raise DSSProtocolError(f"{request.method} {request.path}: more than {MAX_PAGES:,} pages")
            seen.add(following)
            yield page(replace(request, url=following))

    def _items(self, request: Request, key: str, **options: Any) -> Call[list[dict[str, Any]]]:
        """Return the items that all pages have under a key.

        :param options: Options of `_pages`
        """
        items: list[dict[str, Any]] = []
        for page in self._pages(request, **options):
            items += objects(request, (yield from page), key)
        return items


def _without_secrets(url: str) -> str:
    if "@" in url:
        return "one with a user in it"
    address, mark, _ = url.partition("?")
    return repr(f"{address}{mark and '?...'}")


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"the request cannot be encoded as JSON: {error}") from None


def objects(request: Request, answer: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the list of objects that a response has under a key.

    :raises DSSProtocolError: if there is no such list
    """
    items = answer.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DSSProtocolError(f"{request.method} {request.path}: the response has no list {key!r}")
    return items


def text(request: Request, answer: Mapping[str, Any], key: str, max_length: int = MAX_TEXT) -> str:
    """Return the text that a response has under a key.

    :raises DSSProtocolError: if there is no such text of at most that many characters
    """
    value = answer.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= max_length:
        raise DSSProtocolError(f"{request.method} {request.path}: the response has no {key}")
    return value


def new_version(request: Request, response: Response, uuid: str) -> FQID:
    """Return the version that a PATCH created.

    :raises DSSProtocolError: if the response does not have it, although the PATCH was applied
    """
    try:
        return FQID(uuid, text(request, json_object(request, response), "version"))
    except DSSProtocolError as error:
        error.maybe_done, error.permanent = True, False
        raise


def replica_and_version(replica: str, version: str | None, item: str) -> dict[str, str | None]:
    """Return a query with replica and version.

    :param item: Kind of item that has the version, for the error message
    :raises ValueError: if a value is invalid
    """
    checked = None if version is None else check_version(version, f"{item} version")
    return {"replica": check_replica(replica), "version": checked}
