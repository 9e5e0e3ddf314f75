"""Read and check an Airflow connection of type `hca_dss`, and name it in errors."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, mask_secret

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.async_transport import AiohttpTransport
from airflow_provider_hca.client.auth import (
    DEFAULT_AUDIENCE,
    DEFAULT_GROUP,
    ServiceAccountKey,
    StaticToken,
    UserToken,
    read_key,
)
from airflow_provider_hca.client.retry import Auth, RetryPolicy
from airflow_provider_hca.client.sansio import Call, origin
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSConnectionError,
    DSSCredentialsError,
    DSSError,
    DSSProtocolError,
    DSSResponseError,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

_OAUTH = ("refresh_token", "token_uri", "client_id", "client_secret")
_SERVICE_ACCOUNT = ("key_path", "keyfile_dict")
_TEXT = (*_OAUTH, "key_path", "audience", "group")
KNOWN_EXTRAS = {
    *_OAUTH,
    *_SERVICE_ACCOUNT,
    *("audience", "group", "creator_uid"),
    *("connect_timeout", "read_timeout", "retry_attempts", "retry_seconds", "verify"),
}


def _is_unencrypted(url: str) -> bool:
    """Return whether requests to a URL can be read on their way to another machine."""
    parts = urlsplit(url)
    try:
        is_loopback = ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_loopback = parts.hostname == "localhost"
    return parts.scheme == "http" and not is_loopback


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a connection.

    :ivar url: URL of the API
    :ivar auth: Token source; None without credentials
    """

    url: str
    auth: Auth | None = field(repr=False)
    retry: RetryPolicy
    connect_timeout: float
    read_timeout: float
    verify: bool | str
    creator_uid: int

    @classmethod
    def from_connection(cls, connection: Any, conn_id: str, *, credentials: bool = True) -> Settings:
        """Return the settings of a connection.

        :param connection: Airflow `Connection`
        :param conn_id: ID of the connection, for error messages
        :param credentials: Whether to read the credentials; False if nothing needs them
        :raises ValueError: if a setting is missing or wrong; secrets are not quoted
        """
        try:
            settings = cls._read(connection, credentials=credentials)
        except ValueError as error:
            raise ValueError(f"connection {conn_id!r}: {error}") from None
        if settings.auth is not None and _is_unencrypted(settings.url):
            log.warning(
                "connection %r: tokens are sent to %s without encryption; use an https:// address",
                conn_id,
                origin(settings.url),
            )
        return settings

    @classmethod
    def _read(cls, connection: Any, *, credentials: bool) -> Settings:
        extra = _extra(connection)
        url = connection.host or ""
        if not url.startswith(("https://", "http://")):
            raise ValueError(
                "its host must be the full URL of the DSS's API, such as 'https://dss.example.org/v1', "
                f"got {'one with a user in it' if '@' in url else repr(url.partition('?')[0])}"
            )
        policy = RetryPolicy()
        verify = extra.get("verify", True)
        verify = {"true": True, "false": False}.get(str(verify).lower(), str(verify))
        if isinstance(verify, str) and not Path(verify).exists():
            raise ValueError(f"extra 'verify' must be true, false or the path of a CA bundle, got {verify!r}")
        return cls(
            url=url,
            auth=_auth((connection.password or "").strip(), extra) if credentials else None,
            retry=RetryPolicy(
                attempts=int(_number(extra, "retry_attempts", policy.attempts)),
                seconds=_number(extra, "retry_seconds", policy.seconds),
            ),
            connect_timeout=_number(extra, "connect_timeout", 10.0),
            read_timeout=_number(extra, "read_timeout", 40.0),
            verify=verify,
            creator_uid=int(_number(extra, "creator_uid", 0)),
        )

    def api(self, *, patient: bool = True) -> DSSAPI:
        """Return the calls of the DSS.

        :param patient: Whether to retry with the policy of the connection; else once, for a user who is waiting
        """
        return DSSAPI(
            self.url,
            auth=self.auth,
            creator_uid=self.creator_uid,
            retry=self.retry if patient else RetryPolicy(attempts=2, seconds=2),
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
        )


class AdvisingTransport(RequestsTransport):
    """Runs calls and names the connection to check in their errors.

    :param conn_id: Airflow connection
    :param has_credentials: Whether the connection has credentials
    """

    def __init__(self, conn_id: str, *, has_credentials: bool, **options: Any) -> None:
        super().__init__(**options)
        self._conn_id, self._has_credentials = conn_id, has_credentials

    def run(self, call: Call[T]) -> T:
        """Run a call and return its result; see `RequestsTransport.run`."""
        with _advising(self._conn_id, has_credentials=self._has_credentials):
            return super().run(call)

    def as_async(self) -> AsyncAdvisingTransport:
        """Return an asynchronous transport with the same settings; see `RequestsTransport.as_async`."""
        return AsyncAdvisingTransport(
            self._conn_id,
            has_credentials=self._has_credentials,
            pool_size=0,
            verify=self.verify,
            stop=self.stop,
            rate_limiter=self.rate_limiter,
        )


class AsyncAdvisingTransport(AiohttpTransport):
    """Runs calls in an event loop and names the connection to check in their errors.

    :param conn_id: Airflow connection
    :param has_credentials: Whether the connection has credentials; None if the calls carry no token in any case
    """

    def __init__(self, conn_id: str, *, has_credentials: bool | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._conn_id, self._has_credentials = conn_id, has_credentials

    async def run(self, call: Call[T]) -> T:
        """Run a call and return its result; see `AiohttpTransport.run`."""
        with _advising(self._conn_id, has_credentials=self._has_credentials):
            return await super().run(call)


@asynccontextmanager
async def connected(conn_id: str, *, keep_alive: bool = False) -> AsyncIterator[tuple[DSSAPI, AsyncAdvisingTransport]]:
    """Open the calls of a connection and a transport, for a trigger.

    The calls carry no token, since those of triggers need none: no key has to be on the triggerer's machine, and no
    secret passes through its event loop.

    :param conn_id: Airflow connection
    :param keep_alive: Whether to keep connections to the DSS open between requests
    :raises ValueError: if the connection is not defined or not valid
    """
    try:
        connection = await get_async_connection(conn_id)
    except AirflowNotFoundException:
        raise undefined_connection(conn_id) from None
    settings = Settings.from_connection(connection, conn_id, credentials=False)
    async with AsyncAdvisingTransport(conn_id, verify=settings.verify, keep_alive=keep_alive) as transport:
        yield settings.api(), transport


def undefined_connection(conn_id: str) -> ValueError:
    """Return the error for an undefined connection: a ValueError, which ends retries."""
    return ValueError(
        f"connection {conn_id!r} is not defined. Create a connection of type hca_dss with this ID: in the UI, with "
        f"`airflow connections add {conn_id} --conn-type hca_dss --conn-host https://dss.example.org/v1`, or as "
        f"environment variable AIRFLOW_CONN_{conn_id.upper()}"
    )


@contextmanager
def _advising(conn_id: str, *, has_credentials: bool | None) -> Iterator[None]:
    try:
        yield
    except DSSError as error:
        advice = _advice(error, f"connection {conn_id!r}", has_credentials=has_credentials)
        if advice:
            error.args = (f"{error}{'' if str(error).endswith('?') else '.'} {advice}",)
        raise


def _advice(error: DSSError, conn: str, *, has_credentials: bool | None) -> str | None:
    match error:
        case DSSConnectionError(kind="tls"):
            return f"Check the host of {conn}, or give the path of a CA bundle as its extra 'verify'"
        case DSSConnectionError() | DSSProtocolError(permanent=True):
            return f"Check the host of {conn}, and whether the DSS is up"
        case DSSAuthError(method="HEAD"):  # a request without token
            return f"Check the base path, such as '/v1', in the host of {conn}"
        case DSSAuthError() if has_credentials is None:
            return f"Polling requests carry no token. Check the base path, such as '/v1', in the host of {conn}"
        case DSSAuthError() if not has_credentials:
            return f"There are no credentials in {conn}: give it a password (a token), or a key_path or keyfile_dict"
        case DSSAuthError(status=401):
            return f"Check the credentials of {conn}, and the 'audience' in its extra"
        case DSSAuthError():
            return f"Check whether the account of {conn} may do this, and the 'group' in its extra"
        case DSSCredentialsError():
            return f"Check the credentials of {conn}"
        case DSSResponseError(method="PUT"):
            return _advice_on_put(error)
    return None


def _advice_on_put(error: DSSResponseError) -> str | None:
    if error.status == 409 and ("/files/" in error.path or "/bundles/" in error.path):
        return "That version exists with other content: clear the DAG run, or use another version"
    if error.status in {500, 422} and "/files/" in error.path:
        return "Check that the staged object exists and has its four checksums, and that the DSS may read it"
    return None


def _extra(connection: Any) -> dict[str, Any]:
    # Not connection.extra_dejson: it logs the content of a malformed extra.
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise ValueError("extra must be a JSON object")
    unknown = sorted(set(extra) - KNOWN_EXTRAS)
    if unknown:
        log.warning("the DSS connection's extra has unknown keys, which are ignored: %s", ", ".join(unknown))
    given = {key: value for key, value in extra.items() if value not in (None, "")}
    wrong = sorted(name for name in _TEXT if not isinstance(given.get(name, ""), str))
    if wrong:
        raise ValueError(f"extra {', '.join(map(repr, wrong))} must be text")
    return given


def _auth(password: str, extra: Mapping[str, Any]) -> Auth | None:
    if any(name in extra for name in _OAUTH):
        return _user_token(password, extra)
    if "key_path" in extra or "keyfile_dict" in extra:
        if password:
            raise ValueError("it has a password and a service account key: keep one of them")
        return ServiceAccountKey(
            _key(extra),
            audience=extra.get("audience", DEFAULT_AUDIENCE),
            group=extra.get("group", DEFAULT_GROUP),
            on_token=mask_secret,
        )
    if password:
        mask_secret(password)
        return StaticToken(password)
    return None


def _user_token(password: str, extra: Mapping[str, Any]) -> UserToken:
    _check_exclusive("the OAuth2 fields", extra, _SERVICE_ACCOUNT)
    missing = [name for name in _OAUTH if name not in extra]
    if missing:
        raise ValueError(f"extra must have all OAuth2 fields ({', '.join(_OAUTH)}), lacks {', '.join(missing)}")
    for secret in (extra["refresh_token"], extra["client_secret"], password):
        if secret:
            mask_secret(secret)
    if password:
        StaticToken(password)  # raises if a header cannot hold it
    return UserToken(**{name: extra[name] for name in _OAUTH}, token=password, on_token=mask_secret)


def _key(extra: Mapping[str, Any]) -> dict[str, Any]:
    given = extra.get("keyfile_dict")
    if given is None:
        path = Path(extra["key_path"])
        try:
            given = path.read_text()
        except OSError as error:
            raise ValueError(f"key_path {str(path)!r} cannot be read on this machine: {error.strerror}") from None
    else:
        _check_exclusive("keyfile_dict", extra, ("key_path",))
    key = dict(given) if isinstance(given, Mapping) else read_key(str(given))
    if "private_key" in key:
        mask_secret(key["private_key"])
    return key


def _check_exclusive(used: str, extra: Mapping[str, Any], others: tuple[str, ...]) -> None:
    both = [name for name in others if name in extra]
    if both:
        raise ValueError(f"extra has {used} and {', '.join(both)}: keep one of them")


def _number(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number < float("inf") or isinstance(value, bool):
        raise ValueError(f"extra {name!r} must be a number, 0 or more, got {value!r}")
    return number
