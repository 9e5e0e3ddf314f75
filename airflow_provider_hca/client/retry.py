"""Sending one request the way a DSS wants it: with a token, retried, redirected. No I/O happens here.

Every call of the protocol goes through `Exchange.send`, so the rules are in one place:

- An idempotent request is repeated after a connection error, a read timeout, 429, 500, 502, 503 and 504, with
  growing waits and `Retry-After`, within a number of attempts *and* a total time. A permanent mistake that the
  server dresses as `500` with `Retry-After: 10` therefore ends soon, with the server's own title.
- Anything else is sent again only when it certainly was not done: no connection came about, or the DSS refused it
  unread (429, read-only). Only the caller can know whether a PATCH that was not answered was done.
- A token goes to the DSS's own origin only, wherever a redirect points, and is renewed once after a 401.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import unquote, unquote_plus, urlsplit

from airflow_provider_hca.client.sansio import (
    Call,
    Request,
    Response,
    decode_error,
    is_no_route,
    origin,
    retry_after,
    target,
)
from airflow_provider_hca.exceptions import DSSConnectionError, DSSError, DSSProtocolError, DSSResponseError

log = logging.getLogger(__name__)

RETRIED = frozenset({429, 500, 502, 503, 504})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REFUSALS = frozenset({"forbidden", "file_missing"})  # which a DSS may send as a 500; see `decode_error`
_NOT_SENT = frozenset({"dns", "refused", "connect timeout"})
_HOPS = 20
_TELL_EVERY = 2.0  # seconds
_SHORTEST_SECRET = 6  # characters
_NO_WAIT = 0.1  # seconds; following a shorter `Retry-After` for ten minutes would be a hot loop


class Auth(Protocol):
    """Where a token comes from (see `airflow_provider_hca.client.auth`)."""

    def token(self) -> Call[str | None]:
        """Return the token to send, renewing it first when it is about to expire; None to send none."""
        ...

    def rejected(self, token: str) -> bool:
        """Take note that the DSS refused this token; return whether another one can be had."""
        ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to go on with an idempotent request.

    :ivar attempts: how often it is sent at most
    :ivar seconds: how long after the first sending it may be sent again at most; a minute's trouble of the service
        is ridden out, a permanent mistake is told within the minute
    :ivar first_delay: the wait before the second attempt in seconds; each further one doubles it
    :ivar longest_delay: the longest wait in seconds that is not asked for by the server
    :ivar redirect_seconds: how long to follow `301`s that say `Retry-After` (a checkout under way)
    """

    attempts: int = 10
    seconds: float = 50.0
    first_delay: float = 0.5
    longest_delay: float = 10.0
    redirect_seconds: float = 600.0

    def delay(self, attempt: int, elapsed: float, asked: float | None) -> float | None:
        """Return the seconds to wait after this failed attempt, or None to give up.

        :param attempt: how often the request was sent
        :param elapsed: seconds since it was first sent
        :param asked: what `Retry-After` said
        """
        if attempt >= self.attempts:
            return None
        # Jitter: many workers that failed together must not come back together.
        if asked is None:
            wait = min(self.longest_delay, self.first_delay * 2 ** (attempt - 1)) * random.uniform(0.5, 1)  # noqa: S311 - spreads load
        else:
            wait = asked * random.uniform(1, 1.1)  # noqa: S311 - spreads load
        return wait if elapsed + wait <= self.seconds else None


@dataclass(slots=True)
class Exchange:
    """Sends requests to one origin, with its token.

    :ivar home: the origin (`scheme://host:port`) that the token is for
    :ivar auth: where the token comes from
    :ivar policy: how long to go on
    :ivar retries: how many requests were sent again after a failure
    """

    home: str
    auth: Auth | None
    policy: RetryPolicy
    retries: int = 0
    _told: float = float("-inf")

    def send(
        self,
        request: Request,
        *,
        accept: frozenset[int] = frozenset({200}),
        authorize: bool = False,
        repeatable: bool | None = None,
        deletes: bool = False,
    ) -> Call[Response]:
        """Return the first answer whose status is in `accept`.

        :param request: what to send
        :param accept: the statuses that are answers; the others are errors
        :param authorize: whether the operation wants a token
        :param repeatable: whether it may be sent again after a failure; by default GET, HEAD, PUT and DELETE are
        :param deletes: whether a DSS knows nothing of it once it is done: `404` then answers a repeat of what was done
        :raises DSSError: the last failure, when no attempt is left or none would help
        """
        if repeatable is None:
            repeatable = request.method in {"GET", "HEAD", "PUT", "DELETE"}
        # The first sending: what a poll waits before it is not time spent on retries.
        began = started = time.monotonic() + request.delay
        attempt, hops, renewed, maybe_done = 1, 0, False, False
        while True:
            token = (yield from self._token()) if authorize and request.origin == self.home else None
            failure: DSSError
            again, asked = True, None
            try:
                response = yield _with_token(request, token)
            except DSSConnectionError as error:
                failure = error
            else:
                if response.status in accept or (deletes and maybe_done and _is_gone(response)):
                    return response
                if response.status == 401 and token and not renewed and self.auth and self.auth.rejected(token):
                    renewed, request = True, replace(request, delay=0.0)
                    continue
                if response.status in REDIRECTS:
                    hops += 1
                    request = self._redirected(request, response, hops, time.monotonic() - began)
                    # What the server asks to wait for is not spent on retries.
                    started, attempt = time.monotonic() + request.delay, 1
                    continue
                failure = self._failure(request, response, token)
                again = response.status in RETRIED and _code(failure) not in _REFUSALS
                asked = retry_after(response)
            unclear = is_unclear(failure)
            maybe_done = failure.maybe_done = maybe_done or unclear
            again = again and (repeatable or not unclear)
            delay = self.policy.delay(attempt, time.monotonic() - started, asked) if again else None
            if delay is None:
                raise failure
            attempt += 1
            self.retries += 1
            self._tell("%s. Attempt %d of %d in %.1f s", failure, attempt, self.policy.attempts, delay)
            request = replace(request, delay=delay)

    def _tell(self, message: str, *arguments: object) -> None:
        """Log a retry; of what many threads meet at once, one is enough."""
        now = time.monotonic()
        level = logging.WARNING if now >= self._told + _TELL_EVERY else logging.DEBUG
        if level == logging.WARNING:
            self._told = now
        log.log(level, message, *arguments)

    def _token(self) -> Call[str | None]:
        return (yield from self.auth.token()) if self.auth else None

    def _redirected(self, request: Request, response: Response, hops: int, elapsed: float) -> Request:
        url = target(request, response.headers.get("location", ""))
        where = f"{request.method} {request.path}: redirected to {origin(url)}"
        if request.method not in {"GET", "HEAD"}:
            # Some redirects turn a PUT into a GET, which would pass for success.
            raise DSSProtocolError(f"{where}; write to that address instead: change the host of the connection")
        wait = retry_after(response)
        if elapsed + (wait or 0) > self.policy.redirect_seconds or ((wait or 0) < _NO_WAIT and hops > _HOPS):
            # Whoever asks to wait may be done by the next time; a circle will not.
            raise DSSProtocolError(f"{where} again and again, for {elapsed:.0f} s", permanent=not wait)
        return replace(request, url=url, delay=wait or 0.0)

    def _failure(self, request: Request, response: Response, token: str | None) -> DSSError:
        # Content is an object store's, even where that is at the same address.
        at_home = request.origin == self.home and request.receive is None
        secrets = [token] if token else []
        error = decode_error(request, response, *secrets, *(() if at_home else _signed(request.url)))
        where = f"{request.method} {request.path}"
        if response.status < 400:
            return DSSProtocolError(f"{where}: no DSS answers {response.status} to this")
        if at_home and request.method != "HEAD" and is_no_route(response):
            # Otherwise a mistake in the address would pass for a bundle that is not there yet.
            asked = f" (request id {error.request_id})" if error.request_id else ""
            return DSSProtocolError(
                f"{where}: {response.status}: {error.title}: there is no such route at {request.origin}; does the "
                f"address have the base path of a DSS's API, such as '/v1'?{asked}"
            )
        return error


def _is_gone(response: Response) -> bool:
    return response.status == 404 and not is_no_route(response)


def is_unclear(failure: DSSError) -> bool:
    """Return whether the DSS may have done what it was asked to, or may do it yet, although it did not say so."""
    if isinstance(failure, DSSConnectionError):
        return failure.kind not in _NOT_SENT
    clear = {"read_only", *_REFUSALS}
    return isinstance(failure, DSSResponseError) and failure.status >= 500 and failure.code not in clear


def _code(failure: DSSError) -> str:
    return failure.code if isinstance(failure, DSSResponseError) else ""


def _signed(url: str) -> Iterator[str]:
    """Yield what the query of a URL says, as it stands there and decoded: of a signed one it is the permission."""
    for part in urlsplit(url).query.split("&"):
        value = part.partition("=")[2]
        if len(value) >= _SHORTEST_SECRET:
            yield from {value, unquote(value), unquote_plus(value)}


def _with_token(request: Request, token: str | None) -> Request:
    if token is None:
        return request
    return replace(request, headers={**request.headers, "authorization": f"Bearer {token}"})
