"""Proxies and CA bundles of the environment, the same for both transports and for the cloud SDKs.

A deferred task therefore reaches the servers that its worker reaches.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_hca.exceptions import ConnectionFailure


class UnusableSettingError(OSError):
    """A proxy or CA bundle cannot be used.

    :param kind: Kind of the connection error that it causes
    :param message: Description of the setting, without secrets
    """

    def __init__(self, kind: ConnectionFailure, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def proxy_of(url: str) -> str | None:
    """Return the proxy for a URL, with its scheme; None without a proxy.

    :param url: URL with scheme and host
    :raises UnusableSettingError: if it is not a valid address
    """
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return None
    # HTTPS_PROXY=proxy.example.org:3128 is usual, but requests' own function takes "localhost:" for a scheme.
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        is_valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:  # not quoted: it may have a password
        scheme = urlsplit(url).scheme
        raise UnusableSettingError(
            "dns", f"the address of the proxy is invalid: check {scheme.upper()}_PROXY, {scheme}_proxy and ALL_PROXY"
        )
    return proxy


def tls_context(verify: bool | str) -> ssl.SSLContext:
    """Return a TLS context that checks a server's certificate, or does not.

    :param verify: Whether to check it, or the path of a CA bundle, a file or a directory; True trusts the bundle that
        `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE` names, or else that of `requests`
    :raises UnusableSettingError: if the bundle cannot be used
    """
    bundle = _bundle(verify)
    if bundle is None:
        return _context(None, ())
    try:
        state = Path(bundle).stat()
        return _context(bundle, (state.st_mtime_ns, state.st_ino, state.st_size))
    except ssl.SSLError:
        raise UnusableSettingError(
            "tls", f"the CA bundle {bundle!r} is not a file of certificates in PEM format"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnusableSettingError("tls", f"the CA bundle {bundle!r} cannot be read: {reason}") from None


def _bundle(verify: bool | str) -> str | None:
    if verify is False:
        return None
    if verify is not True:
        return verify
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or str(DEFAULT_CA_BUNDLE_PATH)


@lru_cache(maxsize=8)
def _context(bundle: str | None, state: tuple[int, ...]) -> ssl.SSLContext:  # noqa: ARG001 - identifies a renewed bundle
    """Return a context; each takes 10 ms and half a megabyte, and there may be thousands of transports.

    :param bundle: Path of the CA bundle; None trusts all certificates
    :param state: Modification time, inode and size of the bundle
    """
    from urllib3.util import create_urllib3_context

    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if bundle else ssl.CERT_NONE)
    if bundle and Path(bundle).is_dir():
        context.load_verify_locations(capath=bundle)
    elif bundle:
        context.load_verify_locations(cafile=bundle)
    return context
