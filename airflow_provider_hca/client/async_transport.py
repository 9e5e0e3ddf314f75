"""The asynchronous driver: run calls on `aiohttp`, with the contract of `transport`."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_provider_hca.client.base_transport import (
    CHUNK_SIZE,
    USER_AGENT,
    Body,
    ReceiverError,
    connection_error,
    seconds_allowed,
    send_response,
)
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.sansio import Call, Request, Response, authority, lower_case
from airflow_provider_hca.client.tls import proxy_of, tls_context
from airflow_provider_hca.exceptions import DSSAbortedError, DSSConnectionError

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

_STOP_INTERVAL = 0.25  # seconds between two looks at the stop event while waiting


class AiohttpTransport:
    """Runs calls on `aiohttp`. One transport serves all tasks of an event loop; create it inside that loop.

    :param pool_size: Connections at once; 0 for no limit
    :param verify: Whether to check the server's certificate, or the path of a CA bundle
    :param keep_alive: Whether to keep connections open between requests; not worth a socket for one request a minute
    :param stop: Event that ends calls with a `DSSAbortedError`; the next part of a response is waited for
    :param rate_limiter: Limits the requests per second of all tasks; a new one without limit if None
    """

    def __init__(
        self,
        *,
        pool_size: int = 100,
        verify: bool | str = True,
        keep_alive: bool = True,
        stop: threading.Event | None = None,
        rate_limiter: RateLimiter | None = None,
    ) -> None:
        import aiohttp

        self.rate_limiter = rate_limiter or RateLimiter()
        self._stop, self._verify = stop, verify
        self._proxies: dict[str, str | None] = {}  # by origin: reading the environment takes longer than a request
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=pool_size, force_close=not keep_alive),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            auto_decompress=False,  # a few bytes can become many
            middlewares=[_send_once],
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def run(self, call: Call[T]) -> T:
        """Run a call and return its result.

        :raises DSSError: if the call raises it
        :raises DSSAbortedError: if the stop event is set
        """
        try:
            request = next(call)
            while True:
                try:
                    response = await self._send(request)
                except DSSConnectionError as error:
                    request = call.throw(error)
                else:
                    request = send_response(call, response, self.rate_limiter)
        except StopIteration as result:
            value: T = result.value
            return value
        finally:
            call.close()

    async def _send(self, request: Request) -> Response:
        import aiohttp

        await self._wait(request.delay)
        if not request.method:
            return Response(0)
        await self._wait(self.rate_limiter.reserve())
        handled = sys.exception()
        try:
            return await self._exchange(request)
        except ReceiverError as error:
            raise error.cause from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise connection_error(request, error, handled) from None

    async def _wait(self, seconds: float) -> None:
        if self._stop is None:
            if seconds > 0:
                await asyncio.sleep(seconds)
            return
        while not self._stop.is_set():
            if seconds <= 0:
                return
            await asyncio.sleep(min(seconds, _STOP_INTERVAL))
            seconds -= _STOP_INTERVAL
        raise DSSAbortedError("stopped")

    async def _exchange(self, request: Request) -> Response:
        import aiohttp
        import yarl

        started = asyncio.get_running_loop().time()
        async with (
            asyncio.timeout_at(started + seconds_allowed(request)) as timeout,
            self._session.request(
                request.method,
                yarl.URL(request.url, encoded=True),
                headers=request.headers,
                data=request.body,
                timeout=aiohttp.ClientTimeout(sock_connect=request.connect_timeout, sock_read=request.read_timeout),
                allow_redirects=False,
                **self._route(request.url),
            ) as answer,
        ):
            status, headers = answer.status, lower_case(answer.headers)
            body = Body(request, status, headers)
            async for chunk in answer.content.iter_chunked(CHUNK_SIZE):
                if self._stop is not None and self._stop.is_set():
                    raise DSSAbortedError("stopped")
                if not body.add(chunk):
                    break
                timeout.reschedule(started + seconds_allowed(request, body.received))
            return body.response()

    def _route(self, url: str) -> dict[str, Any]:
        """Return the options of aiohttp for the way to a server."""
        origin = authority(url)
        if origin not in self._proxies:
            # not by aiohttp's `trust_env`, with which ~/.netrc would replace the token
            self._proxies[origin] = proxy_of(url)
        proxy = self._proxies[origin]
        if any(address.lower().startswith("https:") for address in (url, proxy or "")):
            return {"proxy": proxy, "ssl": tls_context(self._verify)}
        return {"proxy": proxy}


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request once: aiohttp repeats an idempotent one when the connection breaks, but only on these errors."""
    import aiohttp

    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError from error
