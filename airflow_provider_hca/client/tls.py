"""What the environment says of the way to servers: through which proxy, and whose certificates are trusted.

Both transports ask here, so that a deferred task reaches what its worker reaches.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path


class UnusableBundleError(OSError):
    """A CA bundle cannot be used; the message names it."""


def proxy_of(url: str) -> str | None:
    """Return the proxy for a URL, with its scheme; None where there is none.

    :param url: with scheme and host
    """
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url))
    # HTTPS_PROXY=proxy.example.org:3128 is usual. requests' own function for it takes "localhost:" for a scheme.
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None


def tls_context(verify: bool | str) -> ssl.SSLContext:
    """Return what checks a server's certificate, or does not.

    :param verify: whether to check it, or the path of a CA bundle, a file or a directory; True trusts what
        `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE` names, and else what `requests` brings along
    :raises UnusableBundleError: when the bundle cannot be used
    """
    bundle = _bundle(verify)
    if bundle is None:
        return _context(None, ())
    try:
        found = Path(bundle).stat()
        return _context(bundle, (found.st_mtime_ns, found.st_ino, found.st_size))
    except ssl.SSLError:
        raise UnusableBundleError(f"the CA bundle {bundle!r} is no file of certificates in PEM") from None
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise UnusableBundleError(f"the CA bundle {bundle!r} cannot be read: {told}") from None


def _bundle(verify: bool | str) -> str | None:
    if verify is False:
        return None
    if verify is not True:
        return verify
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or str(DEFAULT_CA_BUNDLE_PATH)


@lru_cache(maxsize=8)
def _context(bundle: str | None, state: tuple[int, ...]) -> ssl.SSLContext:  # noqa: ARG001 - a renewed bundle is another
    """Return a context; each takes 10 ms and half a megabyte, and there may be thousands of transports.

    :param bundle: its path; None trusts all
    :param state: by which a renewed one is told apart
    """
    from urllib3.util import create_urllib3_context

    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if bundle else ssl.CERT_NONE)
    if bundle and Path(bundle).is_dir():
        context.load_verify_locations(capath=bundle)
    elif bundle:
        context.load_verify_locations(cafile=bundle)
    return context
