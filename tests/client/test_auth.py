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


def test_a_static_token_is_returned_and_cannot_be_renewed() -> None:
    """A token that somebody else made is used as it is, and there is no other one."""
    auth = StaticToken("t")
    assert token_of(auth) == "t"
    assert not auth.rejected("t")
    assert token_of(auth) == "t"


def test_a_static_token_may_end_in_a_line_break() -> None:
    """The white space around a token that was read from a file, which no header can hold, is left out."""
    assert token_of(StaticToken(" t\r\n")) == "t"


@pytest.mark.parametrize("token", ["", " ", "s3cr3t s3cr3t", "s3cr3t\ns3cr3t", "s3cr3t\u201d", "s3cr3t\0"])
def test_a_static_token_that_no_header_can_hold(token: str) -> None:
    """What cannot be sent is a ValueError when it is given, which does not quote it."""
    with pytest.raises(ValueError, match="was it copied whole") as caught:
        StaticToken(token)
    assert "s3cr3t" not in str(caught.value)


# A service account's key


def test_what_a_signed_token_says(clock: Clock, key: dict[str, Any], private: rsa.RSAPrivateKey) -> None:
    """The token has the claims a DSS needs, is signed with the key and names it."""
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


def test_what_a_signed_token_says_by_default(clock: Clock, key: dict[str, Any]) -> None:
    """Without settings a token is for the DSS's development deployment, its group `hca`, and an hour."""
    claims = jwt.decode(token_of(ServiceAccountKey(key)), options={"verify_signature": False})
    assert (claims["aud"], claims[f"{CLAIM}group"]) == ("https://dev.data.humancellatlas.org/", "hca")
    assert claims["exp"] - claims["iat"] == 3600


@pytest.mark.parametrize(("lifetime", "good_for"), [(3600, 3300), (400, 200), (60, 30)])
def test_a_signed_token_is_renewed_before_it_expires(
    clock: Clock, key: dict[str, Any], lifetime: float, good_for: float
) -> None:
    """One token serves until five minutes before its end, or half of a short life, and then another is signed."""
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


def test_a_refused_token_is_signed_anew(clock: Clock, key: dict[str, Any]) -> None:
    """A token that the DSS refused is not used again."""
    auth = ServiceAccountKey(key)
    first = token_of(auth)
    clock.now += 1
    assert auth.rejected(first)
    assert token_of(auth) != first


def test_a_late_refusal_does_not_drop_the_new_token(clock: Clock, key: dict[str, Any]) -> None:
    """A second thread whose old token is refused gets the one that the first thread has made."""
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
def test_a_key_that_lacks_something(key: dict[str, Any], missing: list[str]) -> None:
    """All that a key lacks is named when it is given."""
    with pytest.raises(ValueError, match=f"has no {', '.join(missing)}: "):
        ServiceAccountKey({name: value for name, value in key.items() if name not in missing})


@pytest.mark.parametrize("pem", ["not a key s3cr3t", "-----BEGIN PRIVATE KEY-----\ns3cr3t\n-----END PRIVATE KEY-----"])
def test_a_key_that_cannot_be_read(key: dict[str, Any], pem: str) -> None:
    """A broken key is an error that names the account and quotes nothing of the key, not in its causes either."""
    error = feed(ServiceAccountKey(key | {"private_key": pem}).token()).failed(DSSCredentialsError)
    assert error.permanent
    assert EMAIL in str(error)
    assert "s3cr3t" not in str(error)
    assert error.__suppress_context__
    assert error.__cause__ is None


def test_a_key_is_not_shown(key: dict[str, Any]) -> None:
    """The `repr` has the account and neither key nor token."""
    auth = ServiceAccountKey(key)
    token = token_of(auth)
    assert EMAIL in repr(auth)
    assert token not in repr(auth)
    assert "PRIVATE" not in repr(auth)


def test_a_key_file_is_read(key: dict[str, Any]) -> None:
    """The content of a key file becomes a key."""
    assert read_key(json.dumps(key)) == key


@pytest.mark.parametrize("text", ["", "s3cr3t", '["s3cr3t"]', '{"private_key": "s3cr3t"', "null"])
def test_a_key_file_that_is_none(text: str) -> None:
    """Anything else is a ValueError that does not quote what may be half a key."""
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
def test_a_token_uri_with_secrets_in_it(uri: str) -> None:
    """What is no URL, or has a user, query or fragment, which errors would show, is a ValueError that quotes none."""
    with pytest.raises(ValueError, match="token_uri must be a full URL") as caught:
        user(token_uri=uri)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_refresh_is_as_oauth2_has_it(clock: Clock) -> None:
    """Without a token the first call refreshes with a form, encoded, at the token_uri, and what comes is used."""
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
def test_a_users_token_is_refreshed_before_it_expires(clock: Clock, lifetime: Any, good_for: float) -> None:
    """A token serves until five minutes before its end, or half of a short life; an hour when its life is not told."""
    auth = user()
    feed(auth.token(), granted("t1", expires_in=lifetime))
    clock.now += good_for - 1
    assert token_of(auth) == "t1"
    clock.now += 2
    assert feed(auth.token(), granted("t2")).value == "t2"


def test_a_token_to_begin_with(clock: Clock) -> None:
    """A token that is given is used until five minutes before its end."""
    auth = user(token="t0", expires_at=clock.now + 1000)
    assert token_of(auth) == "t0"
    clock.now += 701
    assert feed(auth.token(), granted("t1")).value == "t1"


def test_a_token_whose_end_is_not_known_is_used_until_refused(clock: Clock) -> None:
    """A token without a known end is used until the DSS refuses it, and then refreshed."""
    auth = user(token="t0")
    clock.now += 1_000_000
    assert token_of(auth) == "t0"
    assert auth.rejected("t0")
    assert feed(auth.token(), granted("t1")).value == "t1"


def test_a_late_refusal_does_not_drop_the_refreshed_token(clock: Clock) -> None:
    """A second thread whose old token is refused gets the one that the first thread has refreshed."""
    auth = user(token="t0")
    auth.rejected("t0")
    feed(auth.token(), granted("t1"))
    assert auth.rejected("t0")
    assert token_of(auth) == "t1"


def test_others_go_on_while_one_refreshes(clock: Clock) -> None:
    """While one caller refreshes a token about to expire, the others use it and do not refresh too."""
    auth = user(token="t0", expires_at=clock.now + 200)
    refreshing: Call[str | None] = auth.token()
    assert next(refreshing).url == TOKEN_URI
    assert token_of(auth) == "t0"
    with pytest.raises(StopIteration) as end:
        refreshing.send(granted("t1"))
    assert end.value.value == "t1"
    assert token_of(auth) == "t1"


def test_a_refresh_that_never_ends_is_taken_over(clock: Clock) -> None:
    """When the caller that refreshes hangs, another one does it after a while; no third one when the first gives up."""
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
def test_a_slow_refresh_is_the_only_one(clock: Clock, good: bool) -> None:
    """As long as a refresh may take, with a late second attempt that is held up and slow, none else begins one."""
    auth = user(token="t0", expires_at=clock.now + (250 if good else -1))
    refreshing = auth.token()
    request = next(refreshing)
    clock.now += request.connect_timeout + request.read_timeout - 0.6
    request = refreshing.throw(broken("read timeout"))
    clock.now += request.delay + 50  # that the transport makes all threads pause
    clock.now += request.connect_timeout + request.read_timeout
    assert _only_waits(auth)
    with pytest.raises(StopIteration):
        refreshing.send(granted("t1"))


def _only_waits(auth: UserToken) -> bool:
    """Return whether another caller has the token at hand, or waits."""
    other = auth.token()
    try:
        return next(other).method == ""
    except StopIteration as end:
        return bool(end.value == "t0")
    finally:
        other.close()


def test_others_wait_while_an_expired_token_is_refreshed(clock: Clock) -> None:
    """While one caller refreshes a token that is not good any more, the others wait, and then have the new one."""
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
def test_one_who_waits_takes_over(clock: Clock, end: str) -> None:
    """When the caller that refreshes fails, or is given up, one that waited tries itself."""
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


def test_a_rotated_refresh_token_is_used_next(clock: Clock) -> None:
    """A server that gives a new refresh token takes the old one no more, so the new one is sent the next time."""
    auth = user()
    feed(auth.token(), granted(refresh_token="s3cr3t-second"))
    clock.now += 3500
    [request] = feed(auth.token(), granted("t2")).requests
    assert b"refresh_token=s3cr3t-second&" in (request.body or b"")
    clock.now += 3500
    [request] = feed(auth.token(), granted("t3")).requests
    assert b"refresh_token=s3cr3t-second&" in (request.body or b"")


def test_every_token_is_told(clock: Clock) -> None:
    """Each secret that comes in is passed on to be masked, before anything is logged of it."""
    told: list[str] = []
    feed(user(on_token=told.append).token(), granted(refresh_token="s3cr3t-second"))
    assert told == ["s3cr3t-new", "s3cr3t-second"]


@pytest.mark.parametrize(("status", "permanent"), [(400, True), (401, True), (403, True)])
def test_a_refresh_that_is_refused(clock: Clock, status: int, permanent: bool) -> None:
    """A refusal says whose it is and which settings to renew, and quotes no secret, even one that is echoed."""
    echo = ok({"error": "invalid_grant", "message": "s3cr3t-refresh s3cr3t-client"}, status)
    error = feed(user().token(), echo).failed(DSSCredentialsError)
    assert error.permanent is permanent
    assert f"auth.example.org answered {status}" in str(error)
    assert "s3cr3t" not in str(error)


def test_a_refresh_is_tried_again(clock: Clock) -> None:
    """Troubles of the OAuth2 server that pass are ridden out."""
    fed = feed(user().token(), problem(503), broken("read timeout"), granted(), clock=clock)
    assert fed.value == "s3cr3t-new"


def test_a_refresh_without_answer(clock: Clock) -> None:
    """An OAuth2 server that cannot be reached is a failure of the credentials that a later try may turn."""
    error = feed(user().token(), *[broken("refused")] * 10).failed(DSSCredentialsError)
    assert not error.permanent
    assert "nothing listens at this address" in str(error)


def test_an_oauth2_server_in_trouble(clock: Clock) -> None:
    """A 5xx that stays is not permanent."""
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
def test_a_refresh_that_is_no_oauth2(clock: Clock, answer: Response) -> None:
    """An answer without a token is a failure of the credentials that points at token_uri."""
    error = feed(user().token(), answer).failed(DSSCredentialsError)
    assert error.permanent
    assert "is token_uri right?" in str(error)
    assert "s3cr3t" not in str(error)


def test_a_refresh_does_not_follow_to_elsewhere(clock: Clock) -> None:
    """A redirect of a refresh, which carries the secrets in its body, is not followed."""
    moved = Response(307, {"location": "https://evil.example/token"})
    fed = feed(user().token(), moved)
    fed.failed(DSSCredentialsError)
    assert len(fed.requests) == 1


def test_a_good_token_outlives_a_failed_refresh(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """When the OAuth2 server is down early, calls go on with the token that is still good, and say so."""
    auth = user(token="first", expires_at=clock.now + 200)
    assert feed(auth.token(), problem(400), clock=clock).value == "first"
    assert "still good" in caplog.text
    clock.now += 201
    feed(auth.token(), problem(400), clock=clock).failed(DSSCredentialsError)


def test_after_a_failed_refresh_the_next_call_tries_again(clock: Clock) -> None:
    """A refresh that failed without a token to go on with is tried again by the next call."""
    auth = user()
    feed(auth.token(), ok({}, 400)).failed(DSSCredentialsError)
    assert feed(auth.token(), granted("t1")).value == "t1"


@pytest.mark.parametrize("secret", ["s3cr3t"])
def test_a_users_secrets_are_not_shown(clock: Clock, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the `repr` nor the log of a refresh holds a secret."""
    caplog.set_level("DEBUG")
    auth = user(token="s3cr3t-old", expires_at=clock.now)
    feed(auth.token(), problem(503), granted())
    assert "client-1" in repr(auth)
    assert secret not in repr(auth)
    assert "refreshed the DSS token" in caplog.text
    assert secret not in caplog.text


def test_errors_of_a_connection_hold_no_secret(clock: Clock) -> None:
    """The error of a connection to the OAuth2 server is told without what was sent."""
    error = feed(user().token(), *[broken("tls")] * 10).failed(DSSCredentialsError)
    assert isinstance(error.__context__, DSSConnectionError)
    assert "s3cr3t" not in repr(error) + repr(error.__context__)
