"""Where a token comes from: nowhere, a static one, a service account's key, or a user's refresh token.

Each source is an `Auth` (see `exchange.py`): a generator that may yield requests of its own, so refreshing a user's
token is written once for the synchronous and the asynchronous world. No source shows a secret in its `repr`.
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

from airflow_provider_hca.client.retry import Exchange, RetryPolicy
from airflow_provider_hca.client.sansio import Call, Request, json_object, origin, pause
from airflow_provider_hca.exceptions import DSSCredentialsError, DSSError, DSSProtocolError, DSSResponseError

log = logging.getLogger(__name__)

DEFAULT_AUDIENCE = "https://dev.data.humancellatlas.org/"
DEFAULT_GROUP = "hca"
_CLAIM = "https://auth.data.humancellatlas.org/"
_RENEW_BEFORE = 300.0  # seconds; longer than any one call, retries included, goes on with its token
_SENDABLE = re.compile("[!-~]+")
_LOOK_AGAIN = 0.2  # seconds
_REFRESH = RetryPolicy()
_CONNECT, _READ = 10.0, 40.0  # seconds that one attempt at a refresh takes at most
_TURN = RetryPolicy().seconds  # for which a transport may hold it up, since a DSS asked for fewer requests
# Seconds for which a refresh under way keeps others from starting one: no less than it may take.
_REFRESH_TAKES = _REFRESH.seconds + _CONNECT + _READ + _TURN

OnToken = Callable[[str], None]


class StaticToken:
    """A token that somebody else made, and that cannot be renewed.

    :param token: the JWT
    :raises ValueError: when it holds what no header can; it is not quoted
    """

    def __init__(self, token: str) -> None:
        if not _SENDABLE.fullmatch(token.strip()):
            raise ValueError("the token holds spaces, line breaks or letters that no token has: was it copied whole?")
        self._token = token.strip()  # the line break at the end of a secret's file cannot be sent in a header

    def token(self) -> Call[str | None]:
        """Return the token."""
        return self._token
        yield  # a call is a generator, even one that needs no request

    def rejected(self, token: str) -> bool:  # noqa: ARG002 - part of Auth
        """Return that there is no other one."""
        return False


class ServiceAccountKey:
    """Tokens signed here, with the key file of a Google service account; no network is needed.

    :param key: the content of the key file: at least `client_email`, `private_key`, `private_key_id`
    :param audience: the `aud` claim that the DSS expects; its trailing slash counts
    :param group: the group claim
    :param lifetime: seconds a token is good for, at most 3,600
    :param on_token: called with each token made, to have it masked
    :raises ValueError: when the key lacks a field
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
            raise ValueError(f"the service account key has no {', '.join(missing)}: is it a key file in JSON?")
        self.email, self.audience, self.group, self.lifetime = key["client_email"], audience, group, lifetime
        self._key, self._on_token = key, on_token
        self._signer: Any = None
        self._token, self._expires = "", 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ServiceAccountKey({self.email!r}, audience={self.audience!r})"

    def token(self) -> Call[str | None]:
        """Return a token that is good for another five minutes at least (less if it never was)."""
        with self._lock:
            if time.time() > self._expires - min(_RENEW_BEFORE, self.lifetime / 2):
                self._token, self._expires = self._sign()
            return self._token
        yield  # a call is a generator, even one that needs no request

    def rejected(self, token: str) -> bool:
        """Drop the token, so that the next one is signed anew."""
        with self._lock:
            if token == self._token:
                self._expires = 0.0
        return True

    def _sign(self) -> tuple[str, float]:
        from google.auth import crypt, jwt  # takes 0.2 s, which parsing a DAG must not pay

        if self._signer is None:
            try:
                self._signer = crypt.RSASigner.from_service_account_info(self._key)  # type: ignore[no-untyped-call]  # google's
            except Exception:  # noqa: BLE001 - each crypto backend has its own errors, and some quote the key
                raise DSSCredentialsError(
                    f"the private key of {self.email} cannot be read: is the key file whole?"
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
    """A person's tokens, refreshed at an OAuth2 server (RFC 6749, section 6).

    :param refresh_token: what new tokens are asked for with
    :param token_uri: where
    :param client_id: of the OAuth2 client
    :param client_secret: of the OAuth2 client
    :param token: an access token to begin with; without one the first call refreshes
    :param expires_at: when that one expires, in seconds since the epoch; unknown if None, then it is used until refused
    :param on_token: called with each token received, to have it masked
    :raises ValueError: when `token_uri` is no URL, or has more in it than an address; it is not quoted
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
                "token_uri must be a full URL, such as 'https://login.example.org/oauth/token', with no user and no "
                "query in it: secrets belong into client_id and client_secret"
            )
        self.token_uri, self.client_id, self._on_token = token_uri, client_id, on_token
        self._refresh_token, self._client_secret = refresh_token, client_secret
        self._token = token.strip()
        self._expires = expires_at if expires_at is not None else float("inf")
        self._margin = _RENEW_BEFORE
        self._refresh_until = float("-inf")  # by the monotonic clock
        self._lock = threading.Lock()  # held for a comparison only, never across a request

    def __repr__(self) -> str:
        return f"UserToken(client_id={self.client_id!r}, token_uri={self.token_uri!r})"

    def token(self) -> Call[str | None]:
        """Return the token, refreshed when it is about to expire.

        While one caller refreshes, the others go on with the token they have, or wait if it is not good any more.

        :raises DSSCredentialsError: when the OAuth2 server refuses
        """
        while True:
            now, moment = time.time(), time.monotonic()
            with self._lock:
                current, refreshing = self._token, moment < self._refresh_until
                good = bool(current) and now < self._expires
                if good and (refreshing or now < self._expires - self._margin):
                    return current
                if not refreshing:
                    until = self._refresh_until = moment + _REFRESH_TAKES
                    break
            # Not a second refresh: some servers take a refresh token but once, and revoke it when it comes again.
            yield pause(_LOOK_AGAIN)
        try:
            return (yield from self._refreshed())
        except DSSCredentialsError as error:
            if not good:
                raise
            log.warning("%s; the token at hand is still good", error)
            return current
        finally:
            # Also when it failed, or this call was given up: another may try. Not when another does so already.
            with self._lock:
                if self._refresh_until == until:
                    self._refresh_until = float("-inf")

    def rejected(self, token: str) -> bool:
        """Drop the token, so that the next call refreshes it."""
        with self._lock:
            if token == self._token:
                self._token = ""
        return True

    def _refreshed(self) -> Call[str]:
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
            connect_timeout=_CONNECT,
            read_timeout=_READ,
        )
        exchange = Exchange(request.origin, None, _REFRESH)
        host = urlsplit(self.token_uri).netloc
        try:
            response = yield from exchange.send(request, repeatable=True)
            answer = json_object(request, response)
        except DSSProtocolError:
            raise DSSCredentialsError(f"{host} answered a refresh without JSON: is token_uri right?") from None
        except DSSResponseError as error:
            raise DSSCredentialsError(
                f"{host} answered {error.status} when the DSS token was to be refreshed: log in again and update "
                "refresh_token, client_id and client_secret of the connection",
                permanent=error.permanent,
            ) from None
        except DSSError as error:
            raise DSSCredentialsError(f"the DSS token could not be refreshed: {error}", permanent=False) from None
        token, lifetime = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token:
            raise DSSCredentialsError(f"{host} answered a refresh without an access_token: is token_uri right?")
        # A server that rotates refresh tokens takes each but once (RFC 6749, section 6).
        following = answer.get("refresh_token")
        following = following if isinstance(following, str) and following else self._refresh_token
        if self._on_token:
            self._on_token(token)
            self._on_token(following)
        lifetime = float(lifetime) if isinstance(lifetime, int | float) and lifetime > 0 else 3600.0
        with self._lock:
            self._token, self._expires, self._refresh_token = token, time.time() + lifetime, following
            self._margin = min(_RENEW_BEFORE, lifetime / 2)
        log.info("refreshed the DSS token at %s; it is good for %.0f s", host, lifetime)
        return token


def _is_address(url: str) -> bool:
    """Return whether it is a URL that may be shown: one without a user, a query or a fragment."""
    try:
        parts = urlsplit(url)
        origin(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not set("@?#") & set(url)


def read_key(value: str) -> dict[str, Any]:
    """Return a service account key from the text of its file.

    :param value: JSON
    :raises ValueError: when it is not a JSON object; the text itself, which is secret, is not quoted
    """
    try:
        key = json.loads(value)
    except ValueError:
        key = None
    if not isinstance(key, dict):
        raise ValueError("the service account key is not JSON: give the whole content of the key file")
    return key
