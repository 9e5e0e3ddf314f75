"""Running a call: the only code of the client that touches the network.

A transport sends what a call yields and gives it the answer. It never follows a redirect (a token must not follow to
another host), gives header names in lower case, and turns every error of its library into one `DSSConnectionError`
that names method, path and kind: the library's own text may hold a URL with a signature. A body that a request wants
to `receive` is handed over as it comes, as the bytes that were sent: content that is stored compressed stays so.

The libraries are imported when a transport is made: together they take 0.4 s, which parsing a DAG must not pay.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_provider_hca import __version__
from airflow_provider_hca.client.connections import Connections
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.sansio import Call, Request, Response, lower_case, retry_after
from airflow_provider_hca.client.tls import UnusableBundleError, proxy_of, tls_context
from airflow_provider_hca.exceptions import ConnectionFailure, DSSAbortedError, DSSConnectionError

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

_CHUNK = 128 * 1024  # of a chunk that a connection breaks in, all is lost
_THROTTLED = frozenset({429, 503})

USER_AGENT = f"airflow-provider-hca/{__version__}"


class RequestsTransport:
    """Runs calls on the connections of `requests`. One may serve many threads.

    :param pool_size: connections kept open; as many as there are threads
    :param verify: whether to check the server's certificate, or the path of a CA bundle
    :param stop: when set, waits end at once with a `DSSAbortedError`, and nothing more is sent
    :ivar pace: how many requests a second there are at most; after an answer of 429 or 503 to one thread all go slower
    """

    def __init__(self, *, pool_size: int = 10, verify: bool | str = True, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()
        self.pace = RateLimiter()
        self._connections = Connections(pool_size=pool_size, verify=verify, user_agent=USER_AGENT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._connections.close()

    def run(self, call: Call[T]) -> T:
        """Return the result of a call.

        :raises DSSError: what the call raises
        :raises DSSAbortedError: when told to stop
        """
        try:
            request = next(call)
            while True:
                try:
                    response = self._send(request)
                except DSSConnectionError as error:
                    request = call.throw(error)
                else:
                    request = self._go_on(call, response)
        except StopIteration as result:
            value: T = result.value
            return value
        finally:
            call.close()

    def _go_on(self, call: Call[T], response: Response) -> Request:
        """Return what the call wants sent next; an answer that asks for fewer requests asks that of all threads.

        They pause only as long as the call itself does: one that gives up, or has something else to ask, knows better
        than to wait for an hour.
        """
        if response.status not in _THROTTLED:
            return call.send(response)
        self.pace.slow_down(None)
        request = call.send(response)
        self.pace.slow_down(min(request.delay, retry_after(response) or 0.0))
        return request

    def _send(self, request: Request) -> Response:
        import requests
        import urllib3

        if self._stop.wait(request.delay) if request.delay else self._stop.is_set():
            raise DSSAbortedError("stopped")
        if not request.method:
            return Response(0)
        self.pace.wait(self._stop)
        if self._stop.is_set():
            raise DSSAbortedError("stopped")
        outer = sys.exception()
        try:
            return self._ask(request)
        except _TakingError as failed:
            raise failed.error from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            raise _failure(request, error, outer) from None

    def _ask(self, request: Request) -> Response:
        what, timeout = (request.method, request.url), (request.connect_timeout, request.read_timeout)
        if request.receive is None:
            return self._connections.request(*what, headers=request.headers, body=request.body, timeout=timeout)
        answer = self._connections.stream(*what, headers=request.headers, body=request.body, timeout=timeout)
        headers = lower_case(answer.headers)
        take = request.receive(answer.status, headers)
        if take is None:
            return Response(answer.status, headers, answer.data)
        try:
            for chunk in answer.stream(_CHUNK, decode_content=False):
                if self._stop.is_set():
                    raise DSSAbortedError("stopped")
                try:
                    take(chunk)
                except OSError as error:  # a disk that is full is no broken connection
                    raise _TakingError(error) from None
            answer.release_conn()
        finally:
            answer.close()  # unless it was released: what is left of the body would be taken for the next answer
        return Response(answer.status, headers)


class AiohttpTransport:
    """Runs calls on `aiohttp`. One serves all tasks of an event loop; make it inside that loop.

    :param verify: whether to check the server's certificate, or the path of a CA bundle
    :param keep_alive: whether connections are kept open between requests; not worth a socket for those who ask once a
        minute
    """

    def __init__(self, *, verify: bool | str = True, keep_alive: bool = True) -> None:
        import aiohttp

        self._verify = verify
        self._options: dict[str, Any] = {
            "connector": aiohttp.TCPConnector(force_close=not keep_alive),
            "cookie_jar": aiohttp.DummyCookieJar(),
            "headers": {"user-agent": USER_AGENT},
        }
        self._session = _session(self._options)
        self._raw_session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._raw_session is not None:
            await self._raw_session.close()
        await self._session.close()

    def _raw(self) -> aiohttp.ClientSession:
        """Return a session that hands over bodies as they were sent, on the same connections."""
        if self._raw_session is None:
            self._raw_session = _session({**self._options, "connector_owner": False, "auto_decompress": False})
        return self._raw_session

    async def run(self, call: Call[T]) -> T:
        """Return the result of a call.

        :raises DSSError: what the call raises
        """
        try:
            request = next(call)
            while True:
                try:
                    response = await self._send(request)
                except DSSConnectionError as error:
                    request = call.throw(error)
                else:
                    request = call.send(response)
        except StopIteration as result:
            value: T = result.value
            return value
        finally:
            call.close()

    async def _send(self, request: Request) -> Response:
        import aiohttp
        import yarl

        if request.delay:
            await asyncio.sleep(request.delay)
        if not request.method:
            return Response(0)
        timeout = aiohttp.ClientTimeout(sock_connect=request.connect_timeout, sock_read=request.read_timeout)
        outer = sys.exception()
        session = self._raw() if request.receive else self._session
        try:
            async with session.request(
                request.method,
                yarl.URL(request.url, encoded=True),
                headers=request.headers,
                data=request.body,
                timeout=timeout,
                allow_redirects=False,
                **self._way_to(request.url),
            ) as answer:
                headers = lower_case(answer.headers)
                take = request.receive(answer.status, headers) if request.receive else None
                if take is None:
                    return Response(answer.status, headers, await answer.read())
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    try:
                        take(chunk)
                    except OSError as error:  # a disk that is full is no broken connection
                        raise _TakingError(error) from None
                return Response(answer.status, headers)
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise _failure(request, error, outer) from None
        except _TakingError as failed:
            raise failed.error from None

    def _way_to(self, url: str) -> dict[str, Any]:
        """Return what aiohttp has to know of the environment."""
        proxy = proxy_of(url)  # its own `trust_env` would let ~/.netrc take the place of the token
        if any(each.lower().startswith("https:") for each in (url, proxy or "")):
            return {"proxy": proxy, "ssl": tls_context(self._verify)}
        return {"proxy": proxy}


def _session(options: Mapping[str, Any]) -> aiohttp.ClientSession:
    import aiohttp

    session = aiohttp.ClientSession(**options)
    # It would send a PUT or DELETE again by itself after a dropped connection, and not tell.
    session._retry_connection = False  # noqa: SLF001 - aiohttp has no other switch; its own test client uses this one
    return session


class _TakingError(Exception):
    """What takes a body failed."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


# What the libraries and Python call their errors, the most telling first. By name, so that neither library need be
# imported for the other.
_KINDS: tuple[tuple[frozenset[str], ConnectionFailure], ...] = (
    (frozenset({"gaierror", "NameResolutionError", "ClientConnectorDNSError"}), "dns"),
    (frozenset({"InvalidURL", "LocationParseError", "UnicodeError"}), "dns"),  # a name that none can be: "a..b"
    (frozenset({"SSLError", "ClientSSLError"}), "tls"),
    # before the timeouts: urllib3's NewConnectionError is one of those by inheritance
    (frozenset({"ConnectionRefusedError", "NewConnectionError"}), "refused"),
    (frozenset({"ConnectTimeout", "ConnectTimeoutError", "ConnectionTimeoutError"}), "connect timeout"),
    (frozenset({"ReadTimeout", "ReadTimeoutError", "SocketTimeoutError", "TimeoutError"}), "read timeout"),
)


def _failure(request: Request, error: BaseException, outer: BaseException | None) -> DSSConnectionError:
    what = (request.method, request.origin, request.path)
    if isinstance(error, UnusableBundleError):
        return DSSConnectionError(*what, "tls", str(error))
    return DSSConnectionError(*what, _kind(error, outer))


def _kind(error: BaseException, outer: BaseException | None) -> ConnectionFailure:
    names = {cls.__name__ for each in _wrapped(error, outer) for cls in type(each).__mro__}
    return next((kind for telling, kind in _KINDS if telling & names), "dropped")


def _wrapped(error: BaseException, outer: BaseException | None) -> Iterator[BaseException]:
    """Return an error and those inside it; each library has its own place for them.

    :param outer: what was being handled when the request was made: Python links it, but it tells nothing of this error
    """
    waiting, seen = [error], {id(outer)}
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = (*each.args, getattr(each, "reason", None), each.__cause__, each.__context__)
        waiting.extend(one for one in inner if isinstance(one, BaseException))
