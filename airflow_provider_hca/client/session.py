"""A `requests` session for a DSS.

Imports `requests` at module level, so import this module inside functions only.
"""

from __future__ import annotations

import logging
import re
import ssl
import threading
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from airflow_provider_hca.client.tls import tls_context

_QUERY = re.compile(r"\?.+", re.DOTALL)


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
        {"User-Agent": user_agent, "Accept-Encoding": "gzip, deflate"}  # what urllib3 decodes without other libraries
    )
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(verify, pool_connections=4, pool_maxsize=pool_size)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _Session(requests.Session):
    """A session that ignores redirects: `requests` would parse `Location` even if it is not to follow it."""

    def get_redirect_target(self, resp: Any) -> None:  # noqa: ARG002 - the signature of requests
        return None


class _Adapter(HTTPAdapter):
    """An adapter that gives all connections one TLS context, since reading the CA bundle takes 10 ms."""

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

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: the TLS context has the CA bundle, and `requests` would add its own."""

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        with self._lock:
            if proxy.lower().startswith("https:"):
                options["proxy_ssl_context"] = self._tls_context()
            return super().proxy_manager_for(proxy, **options)

    def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = tls_context(self._verify)
        return self._context


def _hide_queries(record: logging.LogRecord) -> bool:
    """Remove the queries of URLs from what urllib3 logs: that of a presigned URL is a secret."""
    if isinstance(record.args, tuple):
        record.args = tuple(_QUERY.sub("?...", value) if isinstance(value, str) else value for value in record.args)
    return True
