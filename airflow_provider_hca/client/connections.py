"""Connections to servers, as the environment wants them: through its proxies, trusting its certificates.

`requests.Session` finds all that out again for every request, which takes three times the processor time of the request
itself. Here it is asked once for each origin, and then urllib3, on which `requests` stands, is used as it is.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

_ENCODINGS = "gzip, deflate"  # what urllib3 decodes without further libraries


@dataclass(frozen=True, slots=True)
class _Origin:
    """How a server is reached.

    :ivar prefix: what comes before the path in a request's first line: nothing, unless a proxy has to be told
    :ivar headers: for a proxy, which may want a password
    """

    pool: HTTPConnectionPool
    prefix: str
    headers: dict[str, str]


class Connections:
    """Open connections, kept for further requests; of use to many threads.

    Redirects are not followed, no cookies are kept, and `~/.netrc` is not read.

    :param pool_size: connections kept open to each server
    :param verify: whether to check the servers' certificates, or the path of a CA bundle; True trusts what
        `REQUESTS_CA_BUNDLE` names, if it does
    :param user_agent: what to call ourselves
    """

    def __init__(self, *, pool_size: int, verify: bool | str, user_agent: str) -> None:
        from requests.adapters import HTTPAdapter

        self._adapter = HTTPAdapter(pool_connections=4, pool_maxsize=pool_size)
        self._verify = verify
        self._headers = {"user-agent": user_agent, "accept-encoding": _ENCODINGS}
        self._origins: dict[tuple[str, str], _Origin] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._origins.clear()
        self._adapter.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: tuple[float, float],
        stream: bool,
    ) -> BaseHTTPResponse:
        """Send a request and return the answer.

        :param timeout: seconds to wait for a connection, and for each part of the answer
        :param stream: whether the body is to be read later
        :raises urllib3.exceptions.HTTPError: when there is no answer
        :raises requests.RequestException: when the URL or a proxy's is none
        :raises OSError: when a CA bundle cannot be read
        """
        from urllib3 import Timeout

        parts = urlsplit(url)
        origin = self._origins.get(parts[:2]) or self._reach(parts)
        return origin.pool.urlopen(
            method,
            f"{origin.prefix}{parts.path or '/'}{'?' if parts.query else ''}{parts.query}",
            body=body,
            headers={**self._headers, **origin.headers, **headers},
            timeout=Timeout(connect=timeout[0], read=timeout[1]),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=not stream,
        )

    def _reach(self, parts: SplitResult) -> _Origin:
        with self._lock:  # otherwise each thread would make a pool of its own
            found = self._origins.get(parts[:2])
            if found is None:
                found = self._origins[parts[:2]] = self._origin(parts)
            return found

    def _origin(self, parts: SplitResult) -> _Origin:
        from requests import Session
        from requests.exceptions import InvalidURL
        from requests.utils import prepend_scheme_if_needed, select_proxy

        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidURL
        with Session() as session:
            url = f"{parts.scheme}://{parts.netloc}"
            settings = session.merge_environment_settings(url, {}, False, self._verify, None)
        options = _tls_options(settings["verify"] or False) if parts.scheme == "https" else {}
        address = (parts.hostname, parts.port, parts.scheme, options)
        proxy = select_proxy(url, settings["proxies"])
        if not proxy:
            return _Origin(self._adapter.poolmanager.connection_from_host(*address), "", {})
        proxy = str(prepend_scheme_if_needed(proxy, "http"))  # type: ignore[no-untyped-call]  # requests'
        pool = self._adapter.proxy_manager_for(proxy).connection_from_host(*address)
        if parts.scheme == "https" or proxy.lower().startswith("socks"):
            return _Origin(pool, "", {})  # a tunnel
        return _Origin(pool, url, {"host": parts.netloc, **self._adapter.proxy_headers(proxy)})


def _tls_options(verify: bool | str) -> dict[str, Any]:
    """Return what makes urllib3 check a server's certificate, or not.

    One context serves all connections of a pool: each of its own would have to read the bundle, for 10 ms.
    """
    from requests.utils import DEFAULT_CA_BUNDLE_PATH
    from urllib3.util import create_urllib3_context

    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    if verify:
        bundle = DEFAULT_CA_BUNDLE_PATH if verify is True else verify
        if Path(bundle).is_dir():
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    return {"ssl_context": context, "cert_reqs": "CERT_REQUIRED" if verify else "CERT_NONE"}
