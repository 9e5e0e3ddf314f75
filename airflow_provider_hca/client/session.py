"""A `requests` session for a DSS.

Imports `requests` at module level, so import this module inside functions only.
"""

from __future__ import annotations

import http.client
import io
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from airflow_provider_hca.client.sansio import MAX_BODY_SIZE
from airflow_provider_hca.client.tls import tls_context
from airflow_provider_hca.exceptions import DSSAbortedError

_QUERY = re.compile(r"\?.+", re.DOTALL)
_MAX_READ = 2 * MAX_BODY_SIZE  # bytes for a body in memory, with headers
_MAX_FRAMING = 8  # bytes for one byte of content: in chunks of one byte it takes six


def create_session(*, pool_size: int, verify: bool | str, user_agent: str) -> requests.Session:
    """Return a session that several threads may use: nothing in it changes after this.

    :param pool_size: Connections kept open to each server
    :param verify: Whether to check the servers' certificates, or the path of a CA bundle; see `tls_context`
    :param user_agent: `User-Agent` header
    """
    for name in ("urllib3.connectionpool", "urllib3.connection"):
        logging.getLogger(name).addFilter(_hide_queries)  # logging ignores a filter that is added twice
    session = _Session()
    # Reading the environment for each request costs 0.6 ms, and ~/.netrc would replace the token.
    session.trust_env = False
    session.verify = verify
    session.headers = requests.structures.CaseInsensitiveDict(
        {"User-Agent": user_agent, "Accept-Encoding": "identity"}  # compressed, a few bytes can become many
    )
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(verify, pool_connections=4, pool_maxsize=pool_size)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class Limits:
    """Limits of a request in its thread, checked whenever its response is read from the socket.

    :param seconds: Time in which it must end, in seconds
    :param stop: Event that ends it
    """

    def __init__(self, seconds: float, stop: threading.Event) -> None:
        self._started, self._seconds, self._stop = time.monotonic(), seconds, stop
        self._bytes = _MAX_READ

    def extend(self, seconds: float, received: int) -> None:
        """Allow more, since content has been received.

        :param seconds: Time in which the request must end, in seconds
        :param received: Size of the content in bytes
        """
        self._seconds, self._bytes = seconds, _MAX_READ + received * _MAX_FRAMING

    def remaining(self, count: int) -> float:
        """Return the remaining time in seconds.

        :param count: Bytes that have been read
        :raises DSSAbortedError: if the stop event is set
        :raises OSError: if a limit is reached
        """
        if self._stop.is_set():
            raise DSSAbortedError("stopped")
        if count > self._bytes:
            raise OSError("too many bytes")
        remaining = self._started + self._seconds - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining


class _Current(threading.local):
    limits: Limits | None = None


_current = _Current()


@contextmanager
def limits(seconds: float, stop: threading.Event) -> Iterator[Limits]:
    """Limit the request that this thread sends; see `Limits`."""
    _current.limits = Limits(seconds, stop)
    try:
        yield _current.limits
    finally:
        _current.limits = None


class _LimitedReader(io.RawIOBase):
    """Reads a response from a socket within the limits of its request."""

    def __init__(self, sock: socket.socket, file: io.BufferedReader) -> None:
        self._sock, self._file, self._count = sock, file, 0
        self._timeout = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if _current.limits is not None:
            remaining = _current.limits.remaining(self._count)
            self._sock.settimeout(remaining if self._timeout is None else min(self._timeout, remaining))
        count = self._file.raw.readinto(buffer)
        self._count += count or 0
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_LimitedReader(sock, self.fp))


class _Connection(HTTPConnection):
    response_class = _Response


class _TLSConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS = {"http": _Pool, "https": _TLSPool}


class _Session(requests.Session):
    """A session that ignores redirects: `requests` would parse `Location` even if it is not to follow it."""

    def get_redirect_target(self, resp: Any) -> None:  # noqa: ARG002 - the signature of requests
        return None


class _Adapter(HTTPAdapter):
    """An adapter whose responses keep to the limits of their requests.

    It gives all connections one TLS context, since reading the CA bundle takes 10 ms.
    """

    def __init__(self, verify: bool | str, **options: Any) -> None:
        self._verify = verify
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        super().__init__(**options)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> tuple[Any, Any]:
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] == "https":
            return host, {"ssl_context": self._tls_context(), "cert_reqs": tls["cert_reqs"]}
        return host, tls

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: the TLS context has the CA bundle, and `requests` would add its own."""

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        with self._lock:
            if proxy.lower().startswith("https:"):
                options["proxy_ssl_context"] = self._tls_context()
            manager = super().proxy_manager_for(proxy, **options)
            manager.pool_classes_by_scheme = _POOLS
            return manager

    def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = tls_context(self._verify)
        return self._context


def _hide_queries(record: logging.LogRecord) -> bool:
    """Remove the queries of URLs from what urllib3 logs: that of a presigned URL is a secret."""
    if isinstance(record.args, tuple):
        record.args = tuple(_QUERY.sub("?...", value) if isinstance(value, str) else value for value in record.args)
    return True
