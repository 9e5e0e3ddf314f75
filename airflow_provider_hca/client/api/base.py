"""What the calls of the interface have in common: one DSS, its address, its token, pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from airflow_provider_hca.client.identifiers import check_version
from airflow_provider_hca.client.models import FQID, check_replica
from airflow_provider_hca.client.retry import Auth, Exchange, RetryPolicy
from airflow_provider_hca.client.sansio import Call, Request, Response, json_object, next_page, origin
from airflow_provider_hca.exceptions import DSSProtocolError

DONE = frozenset({200, 201})
PAGE = frozenset({200, 206})


class Calls:
    """The calls to one DSS.

    :param url: of its API, with scheme and base path, such as `https://dss.example.org/v1`
    :param auth: where tokens come from (`airflow_provider_hca.client.auth`); None sends none
    :param creator_uid: who creates files and bundles, unless a call says otherwise
    :param retry: how long to go on with an idempotent request
    :param connect_timeout: seconds to wait for a connection
    :param read_timeout: seconds to wait for an answer; a DSS's gateway gives up after 25 to 30
    :raises ValueError: when the URL is not one
    """

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
                "the address of a DSS is its API's full URL, such as 'https://dss.example.org/v1' (no user, no "
                f"query), not {'(one with a user in it)' if '@' in url else repr(url)}"
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
        """How many requests were sent again after a failure, since this was made."""
        return self._exchange.retries

    def _request(
        self, method: str, path: str, query: Mapping[str, str | None], body: Mapping[str, Any] | None = None
    ) -> Request:
        """Return a request; what is None in its query is left out.

        :raises ValueError: when JSON cannot hold the body
        """
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        asked = urlencode({name: value for name, value in query.items() if value is not None})
        return Request(
            method,
            f"{self.url}{path}{'?' if asked else ''}{asked}",
            headers,
            None if body is None else _json(body),
            connect_timeout=self._connect_timeout,
            read_timeout=self._read_timeout,
        )

    def _pages(
        self, request: Request, *, authorize: bool = False, repeatable: bool | None = None
    ) -> Iterator[Call[dict[str, Any]]]:
        """Return a call for each page, as long as there are more."""
        following: str | None = request.url
        seen: set[str] = set()

        def page(request: Request) -> Call[dict[str, Any]]:
            nonlocal following
            response = yield from self._exchange.send(request, accept=PAGE, authorize=authorize, repeatable=repeatable)
            following = next_page(request, response)
            return json_object(request, response)

        while following is not None:
            if following in seen:
                raise DSSProtocolError(f"{request.method} {request.path}: its pages go round in a circle")
            seen.add(following)
            yield page(replace(request, url=following))

    def _items(
        self, request: Request, key: str, *, authorize: bool = False, repeatable: bool | None = None
    ) -> Call[list[dict[str, Any]]]:
        """Return what all pages list under a key."""
        items: list[dict[str, Any]] = []
        for page in self._pages(request, authorize=authorize, repeatable=repeatable):
            items += objects(request, (yield from page), key)
        return items


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"the request cannot be encoded as JSON: {error}") from None


def objects(request: Request, answer: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the list of objects that an answer has under a key.

    :raises DSSProtocolError: when there is none
    """
    listed = answer.get(key)
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise DSSProtocolError(f"{request.method} {request.path}: the answer lists no {key}")
    return listed


def text(request: Request, answer: Mapping[str, Any], key: str) -> str:
    """Return the text that an answer has under a key.

    :raises DSSProtocolError: when there is none
    """
    value = answer.get(key)
    if not isinstance(value, str) or not value:
        raise DSSProtocolError(f"{request.method} {request.path}: the answer has no {key}")
    return value


def new_version(request: Request, response: Response, uuid: str) -> FQID:
    """Return what a PATCH made.

    :raises DSSProtocolError: when the answer does not say
    """
    return FQID(uuid, text(request, json_object(request, response), "version"))


def replica_and_version(replica: str, version: str | None, what: str) -> dict[str, str | None]:
    """Return the two as a query.

    :param what: what the version is of, for the error message
    :raises ValueError: when one is not well-formed
    """
    checked = None if version is None else check_version(version, f"{what} version")
    return {"replica": check_replica(replica), "version": checked}
