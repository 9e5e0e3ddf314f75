"""Sources of tokens: a static token, a service account's key, or a user's refresh token.

Each source is an `Auth` (see `retry`), whose `token` is a generator that may yield requests: refreshing a user's token
is written once for both transports. No source shows a secret in its `repr`.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from airflow_provider_hca.client.forks import call_after_fork
from airflow_provider_hca.client.retry import Exchange, RetryPolicy
from airflow_provider_hca.client.sansio import Call, Request, json_object, origin, pause
from airflow_provider_hca.exceptions import DSSCredentialsError, DSSError, DSSProtocolError, DSSResponseError

log = logging.getLogger(__name__)

DEFAULT_AUDIENCE = "https://dev.data.humancellatlas.org/"
DEFAULT_GROUP = "hca"
_CLAIM = "https://auth.data.humancellatlas.org/"
_RENEW_BEFORE = 300.0  # seconds; longer than any call uses its token, with retries
_SENDABLE = re.compile("[!-~]+")
_POLL_INTERVAL = 0.2  # seconds
_REFRESH = RetryPolicy()
_CONNECT_TIMEOUT, _READ_TIMEOUT = 10.0, 40.0  # seconds
_THROTTLED = RetryPolicy().seconds  # time for which a rate limiter may delay a refresh
# Seconds after which another refresh may start although one has not ended: at least the time that it may take.
_REFRESH_TIMEOUT = _REFRESH.seconds + _CONNECT_TIMEOUT + _READ_TIMEOUT + _THROTTLED

OnToken = Callable[[str], None]


class StaticToken:
    """A token that cannot be renewed.

    :param token: JWT
    :raises ValueError: if a header cannot hold it; the token is not quoted
    """

    def __init__(self, token: str) -> None:
        if not _SENDABLE.fullmatch(token.strip()):
            raise ValueError(
                "the token contains whitespace or non-ASCII characters; check that it was copied completely"
            )
        self._token = token.strip()  # a secret read from a file often ends with a line break

    def token(self) -> Call[str | None]:
        """Return the token."""
        return self._token
        yield  # makes it a generator, as all calls are

    def rejected(self, token: str) -> bool:  # noqa: ARG002 - part of Auth
        """Return False: there is no other token."""
        return False


class ServiceAccountKey:
    """Tokens signed with the key of a Google service account, without network.

    :param key: Content of the key file, with at least `client_email`, `private_key`, `private_key_id`
    :param audience: Claim `aud` that the DSS expects; a trailing slash matters
    :param group: Group claim
    :param lifetime: Lifetime of a token in seconds, at most 3,600
    :param on_token: Called with each new token, to mask it in logs
    :raises ValueError: if the key lacks a field
    """

    def __init__(
        self,
        key: Mapping[str, Any],
        *,
        audience: str = DEFAULT_AUDIENCE,
        group: str = DEFAULT_GROUP,
        lifetime: float = 3600.0,
        on_token: OnToken | None = None,
    ) -> None:
        missing = [name for name in ("client_email", "private_key", "private_key_id") if not key.get(name)]
        if missing:
            raise ValueError(f"the service account key has no {', '.join(missing)}; it must be a key file in JSON")
        self.email, self.audience, self.group, self.lifetime = key["client_email"], audience, group, lifetime
        self._key, self._on_token = key, on_token
        self._signer: Any = None
        self._token, self._expires = "", 0.0
        self.after_fork()
        call_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock; see `forks`."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ServiceAccountKey({self.email!r}, audience={self.audience!r})"

    def token(self) -> Call[str | None]:
        """Return a token that is valid for five more minutes, or for half its lifetime if that is shorter."""
        with self._lock:
            if time.time() > self._expires - min(_RENEW_BEFORE, self.lifetime / 2):
                self._token, self._expires = self._sign()
            return self._token
        yield  # makes it a generator, as all calls are

    def rejected(self, token: str) -> bool:
        """Drop the token, so that the next call signs another."""
        with self._lock:
            if token == self._token:
                self._expires = 0.0
        return True

    def _sign(self) -> tuple[str, float]:
        from google.auth import crypt, jwt  # takes 0.2 s, too much for parsing a DAG

        if self._signer is None:
            try:
                self._signer = crypt.RSASigner.from_service_account_info(self._key)  # type: ignore[no-untyped-call]  # google's
            except Exception:  # noqa: BLE001 - each crypto backend has its own errors, and some quote the key
                raise DSSCredentialsError(
                    f"the private key of {self.email} cannot be read; check that the key file is complete"
                ) from None
        now = time.time()
        expires = now + self.lifetime
        claims = {
            "iss": self.email,
            "sub": self.email,
            "aud": self.audience,
            "iat": int(now),
            "exp": int(expires),
            "email": self.email,
            "scope": ["email", "openid", "offline_access"],  # a DSS answers 500 to a token without scope
            f"{_CLAIM}group": self.group,
            f"{_CLAIM}email": self.email,
        }
        token = str(jwt.encode(self._signer, claims), "ascii")  # type: ignore[no-untyped-call]  # google's
        if self._on_token:
            self._on_token(token)
        return token, expires


class UserToken:
    """Tokens of a person, refreshed at an OAuth2 server (RFC 6749, section 6).

    :param refresh_token: Refresh token
    :param token_uri: URL of the server's token endpoint
    :param client_id: ID of the OAuth2 client
    :param client_secret: Secret of the OAuth2 client
    :param token: First access token; the first call refreshes if it is empty
    :param expires_at: Expiry of `token` in seconds since the epoch; used until it is refused if None
    :param on_token: Called with each new token, to mask it in logs
    :raises ValueError: if `token_uri` is not a URL, or has a user or a query; it is not quoted
    """

    def __init__(
        self,
        *,
        refresh_token: str,
        token_uri: str,
        client_id: str,
        client_secret: str,
        token: str = "",
        expires_at: float | None = None,
        on_token: OnToken | None = None,
    ) -> None:
        if not _is_address(token_uri):
            raise ValueError(
                "token_uri must be a full URL without user and query, such as "
                "'https://login.example.org/oauth/token'; secrets belong in client_id and client_secret"
            )
        self.token_uri, self.client_id, self._on_token = token_uri, client_id, on_token
        self._refresh_token, self._client_secret = refresh_token, client_secret
        self._token = token.strip()
        self._expires = expires_at if expires_at is not None else float("inf")
        self._margin = _RENEW_BEFORE
        self._refresh_until = float("-inf")  # in time.monotonic()
        self.after_fork()
        call_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock; see `forks`."""
        self._lock = threading.Lock()  # never held during a request

    def __repr__(self) -> str:
        return f"UserToken(client_id={self.client_id!r}, token_uri={self.token_uri!r})"

    def token(self) -> Call[str | None]:
        """Return the token, refreshed if it expires soon.

        While one caller refreshes it, the others use the present token, or wait if it has expired.

        :raises DSSCredentialsError: if the OAuth2 server refuses
        """
        while True:
            now, moment = time.time(), time.monotonic()
            with self._lock:
                current, refreshing = self._token, moment < self._refresh_until
                valid = bool(current) and now < self._expires
                if valid and (refreshing or now < self._expires - self._margin):
                    return current
                if not refreshing:
                    until = self._refresh_until = moment + _REFRESH_TIMEOUT
                    break
            # Not a second refresh: some servers accept a refresh token once, and revoke it on its second use.
            yield pause(_POLL_INTERVAL)
        try:
            return (yield from self._refresh())
        except DSSCredentialsError as error:
            if not valid:
                raise
            log.warning("%s; the present token is still valid", error)
            return current
        finally:
            # Also after a failure or if this call was abandoned: another may try, unless one does already.
            with self._lock:
                if self._refresh_until == until:
                    self._refresh_until = float("-inf")

    def rejected(self, token: str) -> bool:
        """Drop the token, so that the next call refreshes it."""
        with self._lock:
            if token == self._token:
                self._token = ""
        return True

    def _refresh(self) -> Call[str]:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._refresh_token,
            "client_id": self.client_id,
            "client_secret": self._client_secret,
        }
        request = Request(
            "POST",
            self.token_uri,
            {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"},
            urlencode(form).encode(),
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=_READ_TIMEOUT,
        )
        exchange = Exchange("", None, _REFRESH)
        host = urlsplit(self.token_uri).netloc
        try:
            response = yield from exchange.send(request, repeatable=True)
            answer = json_object(request, response)
        except DSSProtocolError:
            raise DSSCredentialsError(f"{host} answered the token refresh without JSON; check token_uri") from None
        except DSSResponseError as error:
            raise DSSCredentialsError(
                f"{host} answered {error.status} to the refresh of the DSS token: log in again and update "
                "refresh_token, client_id and client_secret of the connection",
                permanent=error.permanent,
            ) from None
        except DSSError as error:
            raise DSSCredentialsError(f"the DSS token could not be refreshed: {error}", permanent=False) from None
        token, lifetime = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token:
            raise DSSCredentialsError(f"{host} answered the token refresh without an access_token; check token_uri")
        # A server that rotates refresh tokens accepts each only once (RFC 6749, section 6).
        following = answer.get("refresh_token")
        following = following if isinstance(following, str) and following else self._refresh_token
        if self._on_token:
            self._on_token(token)
            self._on_token(following)
        lifetime = float(lifetime) if isinstance(lifetime, int | float) and lifetime > 0 else 3600.0
        with self._lock:
            self._token, self._expires, self._refresh_token = token, time.time() + lifetime, following
            self._margin = min(_RENEW_BEFORE, lifetime / 2)
        log.info("refreshed the DSS token at %s; it is valid for %.0f s", host, lifetime)
        return token


def _is_address(url: str) -> bool:
    """Return whether a URL may be shown: it has no user, query or fragment."""
    try:
        parts = urlsplit(url)
        origin(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not set("@?#") & set(url)


def read_key(value: str) -> dict[str, Any]:
    """Return a service account key from the text of its file.

    :param value: JSON
    :raises ValueError: if it is not a JSON object; the text, a secret, is not quoted
    """
    try:
        key = json.loads(value)
    except ValueError:
        key = None
    if not isinstance(key, dict):
        raise ValueError("the service account key is not JSON; pass the whole content of the key file")
    return key
