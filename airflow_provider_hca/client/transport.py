"""The synchronous driver: run calls on `requests`.

A transport sends the requests that a call yields and sends each response back into it. It does not follow redirects (a
token must not reach another host), returns header names in lower case, and turns every error of its library into a
`DSSConnectionError`. The body of a request with a receiver is passed on undecoded: content that is stored compressed
stays compressed.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import TYPE_CHECKING, Self, TypeVar

from airflow_provider_hca.client.base_transport import (
    CHUNK_SIZE,
    USER_AGENT,
    Body,
    ReceiverError,
    connection_error,
    seconds_allowed,
    send_response,
)
from airflow_provider_hca.client.forks import call_after_fork
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.sansio import Call, Request, Response, authority
from airflow_provider_hca.client.tls import proxy_of
from airflow_provider_hca.exceptions import DSSAbortedError, DSSConnectionError

if TYPE_CHECKING:
    from airflow_provider_hca.client.async_transport import AiohttpTransport
    from airflow_provider_hca.client.loop_thread import LoopThread

T = TypeVar("T")


class RequestsTransport:
    """Runs calls on `requests`. One transport may serve several threads, and processes that are forked.

    :param pool_size: Connections kept open; as many as there are threads
    :param verify: Whether to check the server's certificate, or the path of a CA bundle
    :param stop: Event that ends calls with a `DSSAbortedError`; the next part of a response is waited for
    :ivar rate_limiter: Limits the requests per second of all threads; slows all down after a 429 or 503
    """

    def __init__(self, *, pool_size: int = 10, verify: bool | str = True, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()
        self.rate_limiter = RateLimiter()
        self.verify = verify
        self._pool_size = pool_size
        self._loop_thread: LoopThread | None
        self.after_fork()
        call_after_fork(self)
        self._proxies: dict[str, dict[str, str]] = {}  # by origin: the environment is read once for each

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def after_fork(self) -> None:
        """Open connections of its own."""
        from airflow_provider_hca.client.session import create_session

        self._loop_lock, self._loop_thread = threading.Lock(), None
        self._session = create_session(pool_size=self._pool_size, verify=self.verify, user_agent=USER_AGENT)

    def close(self) -> None:
        """Close the idle connections and the event loop."""
        self._session.close()
        with self._loop_lock:
            if self._loop_thread is not None:
                self._loop_thread.close()
                self._loop_thread = None

    def loop_thread(self) -> LoopThread:
        """Return an event loop in a thread of its own, with an asynchronous transport of the same settings."""
        from airflow_provider_hca.client.loop_thread import LoopThread

        with self._loop_lock:
            if self._loop_thread is None:
                self._loop_thread = LoopThread(self.as_async)
                # The thread would outlive a transport that is not closed.
                weakref.finalize(self, self._loop_thread.stop).atexit = False
            return self._loop_thread

    def as_async(self) -> AiohttpTransport:
        """Return an asynchronous transport with the same settings, stop event and rate limiter.

        Call it inside the event loop. It has no limit of connections: those who use it limit their calls.
        """
        from airflow_provider_hca.client.async_transport import AiohttpTransport

        return AiohttpTransport(pool_size=0, verify=self.verify, stop=self.stop, rate_limiter=self.rate_limiter)

    def run(self, call: Call[T]) -> T:
        """Run a call and return its result.

        :raises DSSError: if the call raises it
        :raises DSSAbortedError: if the stop event is set
        """
        try:
            request = next(call)
            while True:
                try:
                    response = self._send(request)
                except DSSConnectionError as error:
                    request = call.throw(error)
                else:
                    request = send_response(call, response, self.rate_limiter)
        except StopIteration as result:
            value: T = result.value
            return value
        finally:
            call.close()

    def _send(self, request: Request) -> Response:
        import requests
        import urllib3

        self._wait(request.delay)
        if not request.method:
            return Response(0)
        self._wait(self.rate_limiter.reserve())
        handled = sys.exception()
        try:
            return self._exchange(request)
        except ReceiverError as error:
            raise error.cause from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            raise connection_error(request, error, handled) from None

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(seconds) if seconds > 0 else self.stop.is_set():
            raise DSSAbortedError("stopped")

    def _exchange(self, request: Request) -> Response:
        from airflow_provider_hca.client.session import limits

        with (
            limits(seconds_allowed(request), self.stop) as limit,
            self._session.request(
                request.method,
                request.url,
                headers=request.headers,
                data=request.body,
                timeout=(request.connect_timeout, request.read_timeout),
                allow_redirects=False,
                proxies=self._proxies_for(request.url),
                stream=True,
            ) as answer,
        ):
            status, headers = answer.status_code, {name.lower(): value for name, value in answer.headers.items()}
            body = Body(request, status, headers)
            while (chunk := answer.raw.read1(CHUNK_SIZE, decode_content=False)) and body.add(chunk):
                limit.extend(seconds_allowed(request, body.received), body.received)
            return body.response()

    def _proxies_for(self, url: str) -> dict[str, str]:
        origin = authority(url)
        if origin not in self._proxies:
            proxy = proxy_of(url)
            self._proxies[origin] = {"http": proxy, "https": proxy} if proxy else {}
        return self._proxies[origin]
