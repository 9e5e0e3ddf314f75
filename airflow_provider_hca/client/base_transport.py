"""Code that both transports share: time limits, connection errors, and answers that ask for fewer requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from airflow_provider_hca import __version__
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.sansio import Call, Request, Response, body_limit, retry_after
from airflow_provider_hca.client.tls import UnusableSettingError
from airflow_provider_hca.exceptions import ConnectionFailure, DSSConnectionError

T = TypeVar("T")

USER_AGENT = f"airflow-provider-hca/{__version__}"
CHUNK_SIZE = 128 * 1024  # a chunk in which the connection breaks is lost
_MIN_CONTENT_RATE = 1024  # bytes per second
_THROTTLED = frozenset({429, 503})


def seconds_allowed(request: Request, received: int = 0) -> float:
    """Return the time in which a request must end, in seconds.

    The read timeout starts again with each byte: a server that sends one now and then would hold a request forever.

    :param request: Request
    :param received: Bytes that its receiver has got
    """
    return request.connect_timeout + 2 * request.read_timeout + received / _MIN_CONTENT_RATE


class InterimResponseError(OSError):
    """A status below 200 in place of the answer, which is still to follow on that connection."""


class ReceiverError(Exception):
    """The receiver of a body failed, for example on a full disk.

    :param cause: Error of the receiver
    """

    def __init__(self, cause: OSError) -> None:
        super().__init__()
        self.cause = cause


class Body:
    """Body of a response, which goes to the receiver of the request or, up to a limit, into memory.

    :param request: Request
    :param status: Status of the response
    :param headers: Headers of the response, with names in lower case
    :ivar received: Bytes that the receiver has got
    :raises InterimResponseError: if the response is not the final one
    """

    def __init__(self, request: Request, status: int, headers: Mapping[str, str]) -> None:
        if status < 200:  # http.client skips a 100 only, aiohttp all but a 101
            raise InterimResponseError(status)
        self.received = 0
        self._status, self._headers, self._limit = status, headers, body_limit(status)
        self._receiver = request.receive(status, headers) if request.receive else None
        self._content = bytearray()

    def add(self, chunk: bytes) -> bool:
        """Add a chunk, and return whether to read another one.

        :raises ReceiverError: if the receiver raises an OSError
        """
        if self._receiver is None:
            self._content += chunk
            return len(self._content) <= self._limit
        try:
            self._receiver(chunk)
        except OSError as error:  # must not count as a broken connection
            raise ReceiverError(error) from None
        self.received += len(chunk)
        return True

    def response(self) -> Response:
        """Return the response."""
        return Response(self._status, self._headers, bytes(self._content[: self._limit + 1]))


def send_response(call: Call[T], response: Response, limiter: RateLimiter) -> Request:
    """Send a response into a call and return its next request; slow all callers down after a 429 or 503.

    They pause only as long as the call itself waits: a call that ends, or asks something else, must not hold up the
    others for the hour that `Retry-After` may ask for.
    """
    if response.status not in _THROTTLED:
        return call.send(response)
    limiter.slow_down(None)
    request = call.send(response)
    limiter.slow_down(min(request.delay, retry_after(response) or 0.0))
    return request


# Class names of the libraries' and Python's errors, the most specific first. Names, so that neither library is
# imported for the other's errors.
_KINDS: tuple[tuple[frozenset[str], ConnectionFailure], ...] = (
    (frozenset({"gaierror", "NameResolutionError", "ClientConnectorDNSError"}), "dns"),
    (frozenset({"InvalidURL", "LocationParseError", "UnicodeError"}), "dns"),  # an impossible host name, such as "a..b"
    (frozenset({"SSLError", "ClientSSLError"}), "tls"),
    # before the timeouts: urllib3's NewConnectionError is a subclass of ConnectTimeoutError
    (frozenset({"ConnectionRefusedError", "NewConnectionError"}), "refused"),
    (frozenset({"ConnectTimeout", "ConnectTimeoutError", "ConnectionTimeoutError"}), "connect timeout"),
    (frozenset({"ReadTimeout", "ReadTimeoutError", "SocketTimeoutError", "TimeoutError"}), "read timeout"),
)


def connection_error(request: Request, error: BaseException, handled: BaseException | None) -> DSSConnectionError:
    """Return the DSSConnectionError for an error of a library, whose own text may hold a presigned URL.

    :param request: Request that failed
    :param error: Error of the library
    :param handled: Exception that was being handled when the request was sent: Python links it to `error` as its
        context, although it is not the reason
    """
    where = (request.method, request.origin, request.path)
    if isinstance(error, UnusableSettingError):
        return DSSConnectionError(*where, error.kind, str(error))
    names = {cls.__name__ for inner in _chain(error, handled) for cls in type(inner).__mro__}
    kinds = (kind for classes, kind in _KINDS if classes & names)
    return DSSConnectionError(*where, next(kinds, "dropped"))


def _chain(error: BaseException, handled: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those inside it, which libraries keep in `args`, in `reason` or as the cause."""
    pending, seen = [error], {id(handled)}
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (*current.args, getattr(current, "reason", None), current.__cause__, current.__context__)
        pending.extend(one for one in inner if isinstance(one, BaseException))
