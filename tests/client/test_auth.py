from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_provider_hca.client.auth import ServiceAccountKey, StaticToken, UserToken, read_key
from airflow_provider_hca.client.sansio import Call, Response
from airflow_provider_hca.exceptions import DSSConnectionError, DSSCredentialsError

from .feeding import Clock, broken, feed, ok, problem

EMAIL = "worker@project.iam.gserviceaccount.com"
CLAIM = "https://auth.data.humancellatlas.org/"
TOKEN_URI = "https://auth.example.org/oauth/token"


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def key(private: rsa.RSAPrivateKey) -> dict[str, Any]:
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return {"type": "service_account", "client_email": EMAIL, "private_key": pem, "private_key_id": "kid-1"}


def token_of(auth: Any) -> str:
    """Return the token of a source that needs no request."""
    return str(feed(auth.token()).value)


# A static token


def test_static_token_cannot_be_renewed() -> None:
    auth = StaticToken("t")
    assert token_of(auth) == "t"
    assert not auth.rejected("t")
    assert token_of(auth) == "t"


def test_static_token_is_stripped() -> None:
    """A token read from a file often ends with a line break, which a header cannot hold."""
    assert token_of(StaticToken(" t\r\n")) == "t"


@pytest.mark.parametrize("token", ["", " ", "s3cr3t s3cr3t", "s3cr3t\ns3cr3t", "s3cr3t\u201d", "s3cr3t\0"])
def test_static_token_invalid_in_header_is_value_error_without_quote(token: str) -> None:
    with pytest.raises(ValueError, match="check that it was copied completely") as caught:
        StaticToken(token)
    assert "s3cr3t" not in str(caught.value)


# A service account's key


def test_signed_token_has_claims_and_key_id(clock: Clock, key: dict[str, Any], private: rsa.RSAPrivateKey) -> None:
    token = token_of(ServiceAccountKey(key, audience="https://dss.example.org/", group="g", lifetime=1800))
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "kid": "kid-1"}
    claims = jwt.decode(
        token,
        private.public_key(),
        algorithms=["RS256"],
        audience="https://dss.example.org/",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims.pop("scope")
    assert claims == {
        "iss": EMAIL,
        "sub": EMAIL,
        "aud": "https://dss.example.org/",
        "iat": int(clock.now),
        "exp": int(clock.now) + 1800,
        "email": EMAIL,
        f"{CLAIM}email": EMAIL,
        f"{CLAIM}group": "g",
    }


def test_signed_token_defaults_are_for_the_development_deployment(clock: Clock, key: dict[str, Any]) -> None:
    claims = jwt.decode(token_of(ServiceAccountKey(key)), options={"verify_signature": False})
    assert (claims["aud"], claims[f"{CLAIM}group"]) == ("https://dev.data.humancellatlas.org/", "hca")
    assert claims["exp"] - claims["iat"] == 3600


@pytest.mark.parametrize(("lifetime", "good_for"), [(3600, 3300), (400, 200), (60, 30)])
def test_signed_token_is_renewed_before_expiry(
    clock: Clock, key: dict[str, Any], lifetime: float, good_for: float
) -> None:
    made: list[str] = []
    auth = ServiceAccountKey(key, lifetime=lifetime, on_token=made.append)
    first = token_of(auth)
    clock.now += good_for
    assert token_of(auth) == first
    clock.now += 1
    second = token_of(auth)
    assert second != first
    assert token_of(auth) == second
    assert made == [first, second]


def test_refused_signed_token_is_replaced(clock: Clock, key: dict[str, Any]) -> None:
    auth = ServiceAccountKey(key)
    first = token_of(auth)
    clock.now += 1
    assert auth.rejected(first)
    assert token_of(auth) != first


def test_late_refusal_keeps_the_new_signed_token(clock: Clock, key: dict[str, Any]) -> None:
    made: list[str] = []
    auth = ServiceAccountKey(key, on_token=made.append)
    first = token_of(auth)
    clock.now += 1
    auth.rejected(first)
    second = token_of(auth)
    assert auth.rejected(first)
    assert token_of(auth) == second
    assert len(made) == 2


@pytest.mark.parametrize("missing", [["private_key"], ["client_email", "private_key_id"]])
def test_key_without_fields_names_all_of_them(key: dict[str, Any], missing: list[str]) -> None:
    with pytest.raises(ValueError, match=f"has no {', '.join(missing)}; "):
        ServiceAccountKey({name: value for name, value in key.items() if name not in missing})


@pytest.mark.parametrize("pem", ["not a key s3cr3t", "-----BEGIN PRIVATE KEY-----\ns3cr3t\n-----END PRIVATE KEY-----"])
def test_unreadable_key_names_account_and_quotes_nothing(key: dict[str, Any], pem: str) -> None:
    error = feed(ServiceAccountKey(key | {"private_key": pem}).token()).failed(DSSCredentialsError)
    assert error.permanent
    assert EMAIL in str(error)
    assert "s3cr3t" not in str(error)
    assert error.__suppress_context__
    assert error.__cause__ is None


def test_repr_of_key_shows_account_only(key: dict[str, Any]) -> None:
    auth = ServiceAccountKey(key)
    token = token_of(auth)
    assert EMAIL in repr(auth)
    assert token not in repr(auth)
    assert "PRIVATE" not in repr(auth)


def test_read_key_returns_json_object(key: dict[str, Any]) -> None:
    assert read_key(json.dumps(key)) == key


@pytest.mark.parametrize("text", ["", "s3cr3t", '["s3cr3t"]', '{"private_key": "s3cr3t"', "null"])
def test_read_key_of_other_text_is_value_error_without_quote(text: str) -> None:
    with pytest.raises(ValueError, match="not JSON") as caught:
        read_key(text)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


# A user's token


def user(**changes: Any) -> UserToken:
    settings = {
        "refresh_token": "s3cr3t-refresh",
        "token_uri": TOKEN_URI,
        "client_id": "client-1",
        "client_secret": "s3cr3t-client&x=y",
    }
    return UserToken(**settings | changes)


def granted(token: str = "s3cr3t-new", **more: Any) -> Response:
    return ok({"access_token": token, "expires_in": 3600, "token_type": "Bearer"} | more)


@pytest.mark.parametrize(
    "uri",
    [
        "https://user:s3cr3t@login.example/token",
        "https://s3cr3t@login.example/token",
        "https://login.example/token?client_key=s3cr3t",
        "https://login.example/token#s3cr3t",
        "https://login.example/s3cr3t@token",
        "https://login.example:s3cr3t/token",
        "https://[s3cr3t/token",
        "login.example/s3cr3t",
        "https:///s3cr3t",
        "ftp://login.example/s3cr3t",
        "",
    ],
)
def test_token_uri_with_user_or_query_is_value_error_without_quote(uri: str) -> None:
    with pytest.raises(ValueError, match="token_uri must be a full URL") as caught:
        user(token_uri=uri)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__context__ is None


def test_refresh_sends_oauth2_form_and_uses_the_token(clock: Clock) -> None:
    auth = user()
    fed = feed(auth.token(), granted())
    assert fed.value == "s3cr3t-new"
    [request] = fed.requests
    assert (request.method, request.url) == ("POST", TOKEN_URI)
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in request.headers
    assert parse_qs((request.body or b"").decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["s3cr3t-refresh"],
        "client_id": ["client-1"],
        "client_secret": ["s3cr3t-client&x=y"],
    }
    assert token_of(auth) == "s3cr3t-new"


@pytest.mark.parametrize(("lifetime", "good_for"), [(3600, 3300), (100, 50), (None, 3300), (-5, 3300), ("9", 3300)])
def test_user_token_is_refreshed_before_expiry(clock: Clock, lifetime: Any, good_for: float) -> None:
    """Five minutes before, or half of a shorter lifetime; one hour if the lifetime is unknown."""
    auth = user()
    feed(auth.token(), granted("t1", expires_in=lifetime))
    clock.now += good_for - 1
    assert token_of(auth) == "t1"
    clock.now += 2
    assert feed(auth.token(), granted("t2")).value == "t2"


def test_first_user_token_is_used_until_five_minutes_before_expiry(clock: Clock) -> None:
    auth = user(token="t0", expires_at=clock.now + 1000)
    assert token_of(auth) == "t0"
    clock.now += 701
    assert feed(auth.token(), granted("t1")).value == "t1"


def test_user_token_without_expiry_is_used_until_refused(clock: Clock) -> None:
    auth = user(token="t0")
    clock.now += 1_000_000
    assert token_of(auth) == "t0"
    assert auth.rejected("t0")
    assert feed(auth.token(), granted("t1")).value == "t1"


def test_late_refusal_keeps_the_refreshed_token(clock: Clock) -> None:
    auth = user(token="t0")
    auth.rejected("t0")
    feed(auth.token(), granted("t1"))
    assert auth.rejected("t0")
    assert token_of(auth) == "t1"


def test_valid_token_is_used_while_another_caller_refreshes(clock: Clock) -> None:
    auth = user(token="t0", expires_at=clock.now + 200)
    refreshing: Call[str | None] = auth.token()
    assert next(refreshing).url == TOKEN_URI
    assert token_of(auth) == "t0"
    with pytest.raises(StopIteration) as end:
        refreshing.send(granted("t1"))
    assert end.value.value == "t1"
    assert token_of(auth) == "t1"


def test_hanging_refresh_is_taken_over_once(clock: Clock) -> None:
    auth = user(token="t0", expires_at=clock.now + 200)
    hanging, second = auth.token(), auth.token()
    next(hanging)
    clock.now += 151
    assert next(second).url == TOKEN_URI
    hanging.close()
    assert token_of(auth) == "t0"
    with pytest.raises(StopIteration) as end:
        second.send(granted("t1"))
    assert end.value.value == "t1"


@pytest.mark.parametrize("good", [True, False])
def test_slow_refresh_is_not_taken_over(clock: Clock, good: bool) -> None:
    """A late second attempt, held up by a rate limiter, is within the time of a refresh."""
    auth = user(token="t0", expires_at=clock.now + (250 if good else -1))
    refreshing = auth.token()
    request = next(refreshing)
    clock.now += request.connect_timeout + request.read_timeout - 0.6
    request = refreshing.throw(broken("read timeout"))
    clock.now += request.delay + 50  # for which a rate limiter pauses all threads
    clock.now += request.connect_timeout + request.read_timeout
    assert _only_waits(auth)
    with pytest.raises(StopIteration):
        refreshing.send(granted("t1"))


def _only_waits(auth: UserToken) -> bool:
    """Return whether another caller uses the present token, or waits."""
    other = auth.token()
    try:
        return next(other).method == ""
    except StopIteration as end:
        return bool(end.value == "t0")
    finally:
        other.close()


def test_callers_wait_while_an_expired_token_is_refreshed(clock: Clock) -> None:
    auth = user(token="t0", expires_at=clock.now - 1)
    refreshing, waiting = auth.token(), auth.token()
    assert next(refreshing).url == TOKEN_URI
    for request in (next(waiting), waiting.send(Response(0))):
        assert (request.method, request.delay) == ("", 0.2)  # nothing is sent
    with pytest.raises(StopIteration) as first:
        refreshing.send(granted("t1"))
    with pytest.raises(StopIteration) as second:
        waiting.send(Response(0))
    assert (first.value.value, second.value.value) == ("t1", "t1")


@pytest.mark.parametrize("end", ["refused", "given up"])
def test_waiting_caller_refreshes_after_a_failure(clock: Clock, end: str) -> None:
    auth = user(token="t0", expires_at=clock.now - 1)
    refreshing, waiting = auth.token(), auth.token()
    next(refreshing)
    next(waiting)
    if end == "refused":
        with pytest.raises(DSSCredentialsError):
            refreshing.send(ok({}, 400))
    else:
        refreshing.close()
    assert waiting.send(Response(0)).url == TOKEN_URI


def test_rotated_refresh_token_is_used_next(clock: Clock) -> None:
    auth = user()
    feed(auth.token(), granted(refresh_token="s3cr3t-second"))
    clock.now += 3500
    [request] = feed(auth.token(), granted("t2")).requests
    assert b"refresh_token=s3cr3t-second&" in (request.body or b"")
    clock.now += 3500
    [request] = feed(auth.token(), granted("t3")).requests
    assert b"refresh_token=s3cr3t-second&" in (request.body or b"")


def test_every_received_secret_is_passed_on_for_masking(clock: Clock) -> None:
    masked: list[str] = []
    feed(user(on_token=masked.append).token(), granted(refresh_token="s3cr3t-second"))
    assert masked == ["s3cr3t-new", "s3cr3t-second"]


@pytest.mark.parametrize(("status", "permanent"), [(400, True), (401, True), (403, True)])
def test_refused_refresh_names_settings_and_quotes_no_secret(clock: Clock, status: int, permanent: bool) -> None:
    echo = ok({"error": "invalid_grant", "message": "s3cr3t-refresh s3cr3t-client"}, status)
    error = feed(user().token(), echo).failed(DSSCredentialsError)
    assert error.permanent is permanent
    assert f"auth.example.org answered {status}" in str(error)
    assert "s3cr3t" not in str(error)


@pytest.mark.parametrize("secret", ["s3cr3t/refresh+1", "s3cr3t%2Frefresh%2B1", "s3cr3t/refresh 1"])
def test_secret_in_temporary_error_of_token_server_is_not_logged(
    clock: Clock, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    echoes = [
        problem(503, title=f"cannot handle {secret}", code=secret),
        Response(500, {"x-aws-request-id": secret, "content-type": secret}, f"<title>{secret}</title>".encode()),
    ]
    feed(user(refresh_token="s3cr3t/refresh+1").token(), *echoes, granted(), clock=clock)
    assert "503" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_refresh_retries_temporary_errors(clock: Clock) -> None:
    fed = feed(user().token(), problem(503), broken("read timeout"), granted(), clock=clock)
    assert fed.value == "s3cr3t-new"


def test_refresh_without_connection_is_temporary_credentials_error(clock: Clock) -> None:
    error = feed(user().token(), *[broken("refused")] * 10).failed(DSSCredentialsError)
    assert not error.permanent
    assert "nothing listens at this address" in str(error)


def test_refresh_with_lasting_5xx_is_temporary_credentials_error(clock: Clock) -> None:
    assert not feed(user().token(), *[problem(500)] * 10).failed(DSSCredentialsError).permanent


@pytest.mark.parametrize(
    "answer",
    [
        ok({}),
        ok({"access_token": ""}),
        ok({"access_token": 7}),
        ok([]),
        Response(200, {"content-type": "text/html"}, b"<html>s3cr3t</html>"),
        Response(200),
    ],
)
def test_refresh_response_without_token_points_at_token_uri(clock: Clock, answer: Response) -> None:
    error = feed(user().token(), answer).failed(DSSCredentialsError)
    assert error.permanent
    assert "check token_uri" in str(error)
    assert "s3cr3t" not in str(error)


def test_refresh_does_not_follow_redirects(clock: Clock) -> None:
    """The body holds the secrets."""
    moved = Response(307, {"location": "https://evil.example/token"})
    fed = feed(user().token(), moved)
    fed.failed(DSSCredentialsError)
    assert len(fed.requests) == 1


def test_valid_token_is_used_after_a_failed_refresh(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    auth = user(token="first", expires_at=clock.now + 200)
    assert feed(auth.token(), problem(400), clock=clock).value == "first"
    assert "still valid" in caplog.text
    clock.now += 201
    feed(auth.token(), problem(400), clock=clock).failed(DSSCredentialsError)


def test_next_call_refreshes_again_after_a_failure(clock: Clock) -> None:
    auth = user()
    feed(auth.token(), ok({}, 400)).failed(DSSCredentialsError)
    assert feed(auth.token(), granted("t1")).value == "t1"


@pytest.mark.parametrize("secret", ["s3cr3t"])
def test_repr_and_log_of_refresh_hold_no_secret(clock: Clock, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    auth = user(token="s3cr3t-old", expires_at=clock.now)
    feed(auth.token(), problem(503), granted())
    assert "client-1" in repr(auth)
    assert secret not in repr(auth)
    assert "refreshed the DSS token" in caplog.text
    assert secret not in caplog.text


def test_connection_error_of_refresh_holds_no_secret(clock: Clock) -> None:
    error = feed(user().token(), *[broken("tls")] * 10).failed(DSSCredentialsError)
    assert isinstance(error.__context__, DSSConnectionError)
    assert "s3cr3t" not in repr(error) + repr(error.__context__)
