"""Send one request with a token, with retries and redirects. No I/O happens here.

Every call of the protocol goes through `Exchange.send`, so these rules are in one place:

- An idempotent request is repeated after a connection error, a read timeout, 429, 500, 502, 503 and 504, with growing
  delays and `Retry-After`, within a number of attempts *and* a total time. A permanent mistake that the server answers
  with 500 and `Retry-After: 10` therefore ends soon, with the server's own title.
- Any other request is sent again only if it was certainly not applied: no connection was made, or the DSS refused it
  unread (429, read-only). Only the caller can find out whether an unanswered PATCH was applied.
- A token is sent to the DSS's own origin only, and is renewed once after a 401.
- Only content is fetched from another origin, that of an object store, and no text of its answers enters an error. Else
  a DSS could use a client, such as Airflow's API server, to read what only the client reaches.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass, replace
from typing import Protocol

from airflow_provider_hca.client.sansio import (
    Call,
    Request,
    Response,
    decode_error,
    is_no_route,
    origin,
    resolve,
    retry_after,
)
from airflow_provider_hca.exceptions import DSSConnectionError, DSSError, DSSProtocolError, DSSResponseError

log = logging.getLogger(__name__)

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_REFUSALS = frozenset({"forbidden", "file_missing"})  # a DSS may answer them with status 500; see `decode_error`
_NOT_SENT = frozenset({"dns", "refused", "connect timeout"})
_MAX_REDIRECTS = 20
_WARNING_INTERVAL = 2.0  # seconds
_MIN_RETRY_AFTER = 0.1  # seconds; following a shorter one for ten minutes would be a hot loop


class Auth(Protocol):
    """A source of tokens; see `airflow_provider_hca.client.auth`."""

    def token(self) -> Call[str | None]:
        """Return a valid token, renewed if it expires soon; None to send none."""
        ...

    def rejected(self, token: str) -> bool:
        """Record that the DSS refused this token, and return whether another one is available."""
        ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits for repeating an idempotent request.

    :ivar attempts: Number of attempts
    :ivar seconds: Time for retries, in seconds, from the first attempt on: enough for a short outage of the service,
        while a permanent mistake is reported within a minute
    :ivar first_delay: Delay before the second attempt, in seconds; each further delay is doubled
    :ivar longest_delay: Longest delay, in seconds, unless the server asks for a longer one
    :ivar redirect_seconds: Time to follow `301` with `Retry-After` (a checkout in progress), in seconds
    """

    attempts: int = 10
    seconds: float = 50.0
    first_delay: float = 0.5
    longest_delay: float = 10.0
    redirect_seconds: float = 600.0

    def delay(self, attempt: int, elapsed: float, retry_after: float | None) -> float | None:
        """Return the delay after a failed attempt in seconds, or None to give up.

        :param attempt: Number of attempts so far
        :param elapsed: Time since the first attempt, in seconds
        :param retry_after: `Retry-After` of the response, in seconds
        """
        if attempt >= self.attempts:
            return None
        # Jitter: workers that failed together must not retry together.
        if retry_after is None:
            delay = min(self.longest_delay, self.first_delay * 2 ** (attempt - 1)) * random.uniform(0.5, 1)  # noqa: S311 - spreads load
        else:
            delay = retry_after * random.uniform(1, 1.1)  # noqa: S311 - spreads load
        return delay if elapsed + delay <= self.seconds else None


@dataclass(slots=True)
class _Progress:
    """Progress of one `Exchange.send`.

    :ivar began: Time of the first attempt
    :ivar started: Time from which retries count; a redirect restarts it
    :ivar maybe_done: Whether an attempt may have been applied
    """

    repeatable: bool
    began: float
    started: float
    attempt: int = 1
    redirects: int = 0
    renewed: bool = False
    maybe_done: bool = False


@dataclass(slots=True)
class Exchange:
    """Sends requests to one origin, with its token.

    :ivar home: Origin (`scheme://host:port`) that the token is for; the text of errors from elsewhere is not shown
    :ivar auth: Token source; None sends no token
    :ivar policy: Limits for retries
    :ivar retries: Number of requests sent again after a failure
    """

    home: str
    auth: Auth | None
    policy: RetryPolicy
    retries: int = 0
    _warned: float = float("-inf")

    def send(
        self,
        request: Request,
        *,
        accept: frozenset[int] = frozenset({200}),
        authorize: bool = False,
        repeatable: bool | None = None,
        deletes: bool = False,
    ) -> Call[Response]:
        """Return the first response whose status is accepted.

        :param request: Request to send
        :param accept: Accepted statuses; others are errors
        :param authorize: Whether the operation needs a token
        :param repeatable: Whether to send it again after a failure; by default GET, HEAD, PUT and DELETE are
        :param deletes: Whether a successful request makes a repeat fail: `404` to a repeat is then accepted
        :raises DSSError: the last failure, if no attempt remains or none would help
        """
        now = time.monotonic() + request.delay  # the delay of a poll is not time spent on retries
        repeatable = request.method in _IDEMPOTENT if repeatable is None else repeatable
        progress = _Progress(repeatable, began=now, started=now)
        while True:
            token = (yield from self._token()) if authorize and request.origin == self.home else None
            try:
                response = yield _with_token(request, token)
            except DSSConnectionError as error:
                request = self._repeat(request, error, progress)
                continue
            if response.status in accept or (deletes and progress.maybe_done and _is_gone(response)):
                return response
            following = self._follow(request, response, token, progress)
            if following is None:
                failure = self._failure(request, response, token)
                following = self._repeat(request, failure, progress, response)
            request = following

    def _token(self) -> Call[str | None]:
        return (yield from self.auth.token()) if self.auth else None

    def _follow(self, request: Request, response: Response, token: str | None, progress: _Progress) -> Request | None:
        """Return the request that a 401 or a redirect asks for; None for another response."""
        if response.status == 401 and token and not progress.renewed and self.auth and self.auth.rejected(token):
            progress.renewed = True
            return replace(request, delay=0.0)
        if response.status not in _REDIRECTS:
            return None
        progress.redirects += 1
        request = self._redirected(request, response, progress)
        # The time that the server asks to wait is not time spent on retries.
        progress.started, progress.attempt = time.monotonic() + request.delay, 1
        return request

    def _redirected(self, request: Request, response: Response, progress: _Progress) -> Request:
        url = resolve(request, response.headers.get("location", ""))
        where = f"{request.method} {request.path}: redirected to {origin(url)}"
        # Some redirects turn a PUT into a GET, which would look like a success.
        if request.method not in {"GET", "HEAD"} or (request.receive is None and origin(url) != self.home):
            raise DSSProtocolError(f"{where}; change the host of the connection to that address")
        delay = retry_after(response) or 0.0
        elapsed = time.monotonic() - progress.began
        # A server that asks to wait may be done at the next attempt; a loop does not end.
        if delay < _MIN_RETRY_AFTER and progress.redirects > _MAX_REDIRECTS:
            raise DSSProtocolError(f"{where}: redirect loop, {progress.redirects} redirects", permanent=not delay)
        if elapsed + delay > self.policy.redirect_seconds:
            raise DSSProtocolError(f"{where}: still redirected after {elapsed:.0f} s", permanent=not delay)
        return replace(request, url=url, delay=delay)

    def _repeat(
        self, request: Request, failure: DSSError, progress: _Progress, response: Response | None = None
    ) -> Request:
        """Return the request to send after a failure, or raise the failure if a repeat is not allowed or useless."""
        unclear = is_unclear(failure)
        progress.maybe_done = failure.maybe_done = progress.maybe_done or unclear
        delay = None
        if _may_pass(failure) and (progress.repeatable or not unclear):
            asked = retry_after(response) if response else None
            delay = self.policy.delay(progress.attempt, time.monotonic() - progress.started, asked)
        if delay is None:
            raise failure
        progress.attempt += 1
        self.retries += 1
        self._log_retry(failure, progress.attempt, delay)
        return replace(request, delay=delay)

    def _log_retry(self, failure: DSSError, attempt: int, delay: float) -> None:
        """Log a retry as a warning, but only one of those that many threads cause at once."""
        now = time.monotonic()
        level = logging.WARNING if now >= self._warned + _WARNING_INTERVAL else logging.DEBUG
        if level == logging.WARNING:
            self._warned = now
        log.log(level, "%s. Attempt %d of %d in %.1f s", failure, attempt, self.policy.attempts, delay)

    def _failure(self, request: Request, response: Response, token: str | None) -> DSSError:
        if request.receive is not None or request.origin != self.home:  # may echo a presigned URL, or client secrets
            kept = {name: value for name, value in response.headers.items() if name == "retry-after"}
            response = Response(response.status, kept)
        error = decode_error(request, response, token)
        where = f"{request.method} {request.path}"
        if response.status < 400:
            unexpected = DSSProtocolError(
                f"{where}: unexpected status {response.status}", permanent=response.status >= 300
            )
            unexpected.maybe_done = response.status < 300
            return unexpected
        if request.receive is None and request.method != "HEAD" and is_no_route(response):
            # Otherwise a mistake in the address would look like a bundle that does not exist yet.
            reference = f" (request id {error.request_id})" if error.request_id else ""
            return DSSProtocolError(
                f"{where}: {response.status}: {error.title}: {request.origin} has no such route; the address must "
                f"include the base path of the DSS's API, such as '/v1'{reference}"
            )
        return error


def is_unclear(failure: DSSError) -> bool:
    """Return whether the DSS may have applied a request, or may still apply it, despite the failure."""
    if isinstance(failure, DSSConnectionError):
        return failure.kind not in _NOT_SENT
    if isinstance(failure, DSSResponseError):
        return failure.status >= 500 and failure.code not in {"read_only", *_REFUSALS}
    return failure.maybe_done


def _may_pass(failure: DSSError) -> bool:
    if isinstance(failure, DSSResponseError):
        return failure.status in RETRIED_STATUSES and failure.code not in _REFUSALS
    return isinstance(failure, DSSConnectionError)


def _is_gone(response: Response) -> bool:
    return response.status == 404 and not is_no_route(response)


def _with_token(request: Request, token: str | None) -> Request:
    if token is None:
        return request
    return replace(request, headers={**request.headers, "authorization": f"Bearer {token}"})
