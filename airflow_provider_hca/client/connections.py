"""Connections to servers, as the environment wants them: through its proxies, trusting its certificates.

`requests.Session` finds all that out again for every request, which takes three times the processor time of the request
itself. Here it is asked once for each origin. Then a plain request goes out on a `Line`; one whose answer is to be read
bit by bit, or that goes through a proxy, goes through urllib3, on which `requests` stands.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_hca.client.sansio import Response, authority, lower_case
from airflow_provider_hca.client.tls import proxy_of, tls_context

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

    from airflow_provider_hca.client.wire import Line

# What a URL has to be rid of first; urllib3 does that.
_ODD = re.compile(r"[^!-~]")
_QUERY = re.compile(r"\?.+", re.DOTALL)
_ENCODINGS = "gzip, deflate"  # what urllib3 decodes without further libraries


@dataclass(frozen=True, slots=True)
class _Origin:
    """How a server is reached.

    :ivar prefix: what comes before the path in a request's first line: nothing, unless a proxy has to be told
    :ivar headers: for a proxy, which may want a password
    :ivar line: makes a line to it, if there is no proxy between
    :ivar lines: that are not in use
    """

    pool: HTTPConnectionPool
    prefix: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    line: Callable[[], Line] | None = None
    lines: deque[Line] = field(default_factory=deque)


class Connections:
    """Open connections, kept for further requests; of use to many threads.

    Redirects are not followed, no cookies are kept, and `~/.netrc` is not read.

    :param pool_size: connections kept open to each server
    :param verify: whether to check the servers' certificates, or the path of a CA bundle; see `tls_context`
    :param user_agent: what to call ourselves
    """

    def __init__(self, *, pool_size: int, verify: bool | str, user_agent: str) -> None:
        from requests.adapters import HTTPAdapter

        logging.getLogger("urllib3.connectionpool").addFilter(_without_queries)  # once, however often it is added
        self._adapter = HTTPAdapter(pool_connections=4, pool_maxsize=pool_size)
        self._pool_size, self._verify = pool_size, verify
        self._headers = {"user-agent": user_agent, "accept-encoding": _ENCODINGS}
        self._origins: dict[str, _Origin] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            origins, self._origins = self._origins, {}
        for origin in origins.values():
            for line in origin.lines:
                line.close()
        self._adapter.close()

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout: tuple[float, float]
    ) -> Response:
        """Send a request and return the answer.

        :param headers: names in lower case
        :param timeout: seconds to wait for a connection, and for each part of the answer
        :raises urllib3.exceptions.HTTPError: when there is no answer
        :raises requests.RequestException: when the URL or a proxy's is none
        :raises UnusableBundleError: when the CA bundle cannot be used
        :raises OSError: when there is no answer
        """
        origin = self._reach(url)
        if origin.line is None or _ODD.search(url):
            answer = self.stream(method, url, headers=headers, body=body, timeout=timeout)
            return Response(answer.status, lower_case(answer.headers), answer.data)
        try:
            line = origin.lines.pop()
        except IndexError:
            line = origin.line()
        target = url[len(authority(url)) :].partition("#")[0]
        answered = line.exchange(
            method,
            target if target.startswith("/") else f"/{target}",
            headers={**self._headers, **headers},
            body=body,
            timeout=timeout,
        )
        if len(origin.lines) < self._pool_size:
            origin.lines.append(line)
        else:
            line.close()
        return answered

    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout: tuple[float, float]
    ) -> BaseHTTPResponse:
        """Send a request and return the answer, whose body is to be read; with the parameters of `request`."""
        from urllib3 import Timeout

        parts, origin = urlsplit(url), self._reach(url)
        return origin.pool.urlopen(
            method,
            f"{origin.prefix}{parts.path or '/'}{'?' if parts.query else ''}{parts.query}",
            body=body,
            headers={**self._headers, **origin.headers, **headers},
            timeout=Timeout(connect=timeout[0], read=timeout[1]),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
        )

    def _reach(self, url: str) -> _Origin:
        where = authority(url)
        found = self._origins.get(where)
        if found is None:
            with self._lock:  # otherwise each thread would make a pool of its own
                found = self._origins.get(where)
                if found is None:
                    found = self._origins[where] = self._origin(urlsplit(where))
        return found

    def _origin(self, parts: SplitResult) -> _Origin:
        from requests.exceptions import InvalidURL

        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidURL
        url = f"{parts.scheme}://{parts.netloc}"
        options: dict[str, Any] = {}
        if parts.scheme == "https":
            # One context serves all connections of a pool: each of its own would have to read the bundle.
            required = "CERT_NONE" if self._verify is False else "CERT_REQUIRED"
            options = {"ssl_context": tls_context(self._verify), "cert_reqs": required}
        address = (parts.hostname, parts.port, parts.scheme, options)
        proxy = proxy_of(url)
        if not proxy:
            pool = self._adapter.poolmanager.connection_from_host(*address)
            return _Origin(pool, line=_line(parts, options))
        pool = self._adapter.proxy_manager_for(proxy).connection_from_host(*address)
        if parts.scheme == "https" or proxy.lower().startswith("socks"):
            return _Origin(pool)  # a tunnel
        return _Origin(pool, url, {"host": parts.netloc, **self._adapter.proxy_headers(proxy)})


def _without_queries(record: logging.LogRecord) -> bool:
    """Leave the queries of URLs out of what urllib3 logs of each request at DEBUG: those of signed URLs are secrets."""
    if isinstance(record.args, tuple):
        record.args = tuple(_QUERY.sub("?...", each) if isinstance(each, str) else each for each in record.args)
    return True


def _line(parts: SplitResult, options: Mapping[str, Any]) -> Callable[[], Line]:
    """Return what makes lines to a server.

    :param options: for TLS
    """
    from urllib3.connection import HTTPConnection, HTTPSConnection

    from airflow_provider_hca.client.wire import Line

    name = parts.hostname or ""
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    host = f"[{name}]" if ":" in name else name
    host = f"{host}:{port}" if parts.port else host
    if parts.scheme == "https":
        return lambda: Line(HTTPSConnection(name, port, **options), host)
    return lambda: Line(HTTPConnection(name, port), host)
