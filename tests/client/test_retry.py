from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.retry import RETRIED_STATUSES, Auth, Exchange, RetryPolicy
from airflow_provider_hca.client.sansio import Call, Request, Response
from airflow_provider_hca.exceptions import (
    ConnectionFailure,
    DSSAuthError,
    DSSConflictError,
    DSSConnectionError,
    DSSCredentialsError,
    DSSError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

from .feeding import URL, Clock, Fed, broken, feed, ok, problem, refusal

HOME = "https://dss.example.org:443"
ELSEWHERE = "https://objects.example.net/x?X-Amz-Signature=s"


class Renewing:
    """Tokens t1, t2, ...; a refused one is renewed without a request."""

    def __init__(self) -> None:
        self.number = 1
        self.refused: list[str] = []

    def token(self) -> Call[str | None]:
        """Return the current token."""
        return f"t{self.number}"
        yield

    def rejected(self, token: str) -> bool:
        """Renew the token."""
        self.refused.append(token)
        self.number += 1
        return True


def get(method: str = "GET", path: str = "/bundles/all", delay: float = 0.0) -> Request:
    return Request(method, URL + path, {"accept": "application/json"}, delay=delay)


def send(
    *answers: Response | DSSConnectionError,
    clock: Clock | None = None,
    request: Request | None = None,
    auth: Auth | None = None,
    policy: RetryPolicy | None = None,
    authorize: bool = False,
    repeatable: bool | None = None,
) -> Fed[Response]:
    exchange = Exchange(HOME, auth, policy or RetryPolicy())
    return feed(
        exchange.send(request or get(), authorize=authorize, repeatable=repeatable),
        *answers,
        clock=clock,
    )


# Retries


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_idempotent_request_is_retried_after_temporary_status(clock: Clock, status: int, method: str) -> None:
    good = ok({"a": 1})
    fed = send(problem(status), problem(status), good, clock=clock, request=get(method))
    assert fed.value is good
    assert len({request.url for request in fed.requests}) == 1


@pytest.mark.parametrize("kind", ["dns", "refused", "tls", "connect timeout", "read timeout", "dropped"])
def test_idempotent_request_is_retried_after_connection_error(clock: Clock, kind: ConnectionFailure) -> None:
    assert send(broken(kind), broken(kind), ok(), clock=clock).value.status == 200


def test_delays_double_with_jitter(clock: Clock) -> None:
    policy = RetryPolicy(attempts=9, seconds=1000)
    seen: set[float] = set()
    for _ in range(20):
        fed = send(*[problem(503)] * 8, ok(), clock=clock, policy=policy)
        assert fed.value.status == 200
        assert fed.delays[0] == 0
        for delay, full in zip(fed.delays[1:], [0.5, 1, 2, 4, 8, 10, 10, 10], strict=True):
            assert full / 2 <= delay <= full
            seen.add(delay)
    assert len(seen) > 100


def test_last_failure_is_raised_after_the_last_attempt(clock: Clock) -> None:
    fed = send(
        *[broken()] * 2,
        problem(503, "read_only", "Closed today", x_aws_request_id="r-3", retry_after="2"),
        clock=clock,
        policy=RetryPolicy(attempts=3),
    )
    error = fed.failed(DSSResponseError)
    assert (error.status, error.code, error.title) == (503, "read_only", "Closed today")
    assert (error.request_id, error.retry_after, error.permanent) == ("r-3", 2.0, False)


def test_total_time_ends_slow_attempts(clock: Clock) -> None:
    exchange = Exchange(HOME, None, RetryPolicy(attempts=100, seconds=50))
    call = exchange.send(get())
    request, sent = next(call), 1
    with pytest.raises(DSSConnectionError, match="timed out while waiting for the response"):  # noqa: PT012 - the last of the loop raises
        while True:
            clock.now += request.delay + 20
            request, sent = call.throw(broken("read timeout")), sent + 1
    assert sent == 3  # at 0, 20 and 41 s; the next would be sent at 62 s


def test_500_with_retry_after_ends_within_a_minute(clock: Clock) -> None:
    """A DSS answers it to a missing staged object."""
    gone = problem(500, title="Could not find s3://b/k", retry_after="10")
    started = clock.now
    error = send(*[gone] * 5, clock=clock).failed(DSSResponseError)
    assert error.title == "Could not find s3://b/k"
    assert clock.now - started <= 50


@pytest.mark.parametrize("asked", [0, 3, 20])
def test_retry_after_is_waited_with_a_tenth_of_jitter(clock: Clock, asked: int) -> None:
    fed = send(problem(503, retry_after=str(asked)), ok(), clock=clock)
    assert asked <= fed.delays[1] <= asked * 1.1


def test_retry_after_beyond_the_total_time_ends_retries(clock: Clock) -> None:
    error = send(problem(503, retry_after="3600"), clock=clock).failed(DSSResponseError)
    assert error.retry_after == 3600


def test_delay_of_a_poll_is_not_time_spent_on_retries(clock: Clock) -> None:
    fed = send(problem(503), ok(), clock=clock, request=get(delay=30), policy=RetryPolicy(seconds=5))
    assert fed.value.status == 200
    assert fed.delays[0] == 30


@pytest.mark.parametrize("method", ["PATCH", "POST"])
@pytest.mark.parametrize("trouble", [problem(500), problem(503), problem(504), broken("read timeout"), broken()])
def test_patch_and_post_are_not_repeated_after_unclear_failure(
    clock: Clock, method: str, trouble: Response | DSSConnectionError
) -> None:
    fed = send(trouble, clock=clock, request=get(method))
    assert isinstance(fed.error, DSSError)


@pytest.mark.parametrize("method", ["PATCH", "POST"])
@pytest.mark.parametrize(
    "trouble",
    [problem(429), problem(503, "read_only"), broken("dns"), broken("refused"), broken("connect timeout")],
)
def test_patch_and_post_are_repeated_if_certainly_not_applied(
    clock: Clock, method: str, trouble: Response | DSSConnectionError
) -> None:
    assert send(trouble, ok(), clock=clock, request=get(method)).value.status == 200


def test_repeatable_overrides_the_method(clock: Clock) -> None:
    assert send(problem(503), ok(), clock=clock, request=get("POST"), repeatable=True).value.status == 200
    assert send(problem(503), clock=clock, repeatable=False).failed(DSSResponseError).status == 503


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, DSSResponseError) for status in (400, 405, 408, 410, 412, 415, 418, 422, 501, 505)),
        (401, DSSAuthError),
        (403, DSSAuthError),
        (404, DSSNotFoundError),
        (409, DSSConflictError),
    ],
)
def test_other_status_is_raised_after_one_request(clock: Clock, status: int, kind: type[DSSResponseError]) -> None:
    assert status not in RETRIED_STATUSES
    error = send(problem(status, "some_code", retry_after="1"), clock=clock).failed(kind)
    assert (error.status, error.code) == (status, "some_code")


@pytest.mark.parametrize("code", ["forbidden", "file_missing"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_refusal_with_status_500_is_not_retried(clock: Clock, code: str, method: str) -> None:
    fed = send(refusal(code), clock=clock, request=get(method))
    assert isinstance(fed.error, DSSResponseError)
    assert fed.error.code == code


def test_unexpected_2xx_is_protocol_error(clock: Clock) -> None:
    assert "204" in str(send(ok(status=204), clock=clock).failed(DSSProtocolError))


@pytest.mark.parametrize("attempts", [1, 0])
def test_policy_of_one_attempt_does_not_retry(clock: Clock, attempts: int) -> None:
    send(problem(503), clock=clock, policy=RetryPolicy(attempts=attempts)).failed(DSSResponseError)


# Tokens


def test_token_is_sent_only_if_authorized(clock: Clock) -> None:
    assert send(ok(), clock=clock, auth=StaticToken("t"), authorize=True).tokens == ["t"]
    assert send(ok(), clock=clock, auth=StaticToken("t")).tokens == [None]
    assert send(ok(), clock=clock, authorize=True).tokens == [None]


def test_401_resends_with_another_token_at_once(clock: Clock) -> None:
    auth = Renewing()
    fed = send(problem(401), ok(), clock=clock, auth=auth, authorize=True)
    assert fed.value.status == 200
    assert (fed.tokens, fed.delays, auth.refused) == (["t1", "t2"], [0, 0], ["t1"])


def test_second_401_is_raised(clock: Clock) -> None:
    auth = Renewing()
    fed = send(problem(401), problem(503), problem(401, title="No"), clock=clock, auth=auth, authorize=True)
    assert fed.failed(DSSAuthError).title == "No"
    assert fed.tokens == ["t1", "t2", "t2"]


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_401_resends_patch_and_post_too(clock: Clock, method: str) -> None:
    fed = send(problem(401), ok(), clock=clock, request=get(method), auth=Renewing(), authorize=True)
    assert fed.tokens == ["t1", "t2"]


def test_renewal_does_not_repeat_the_delay(clock: Clock) -> None:
    fed = send(problem(401), ok(), clock=clock, request=get(delay=30), auth=Renewing(), authorize=True)
    assert fed.delays == [30, 0]


def test_renewal_is_not_an_attempt(clock: Clock) -> None:
    policy = RetryPolicy(attempts=2)
    fed = send(problem(401), problem(503), ok(), clock=clock, auth=Renewing(), authorize=True, policy=policy)
    assert fed.value.status == 200


@pytest.mark.parametrize("auth", [None, StaticToken("t")])
def test_401_without_another_token_is_raised(clock: Clock, auth: Auth | None) -> None:
    assert send(problem(401), clock=clock, auth=auth, authorize=True).failed(DSSAuthError).permanent


def test_403_does_not_renew_the_token(clock: Clock) -> None:
    auth = Renewing()
    send(problem(403), clock=clock, auth=auth, authorize=True).failed(DSSAuthError)
    assert auth.refused == []


def test_401_to_request_without_token_does_not_renew(clock: Clock) -> None:
    auth = Renewing()
    send(problem(401), clock=clock, auth=auth).failed(DSSAuthError)
    assert auth.refused == []


def test_credentials_error_sends_nothing(clock: Clock) -> None:

    class Failing(Renewing):
        def token(self) -> Call[str | None]:
            raise DSSCredentialsError("no key")
            yield

    send(clock=clock, auth=Failing(), authorize=True).failed(DSSCredentialsError)


def test_echoed_token_is_not_in_the_error(clock: Clock) -> None:
    echo = problem(403, title="bad token s3cr3t")
    assert "s3cr3t" not in str(send(echo, clock=clock, auth=StaticToken("s3cr3t"), authorize=True).error)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_get_and_head_follow_redirects(clock: Clock, status: int, method: str) -> None:
    moved = f"{URL}/elsewhere"
    fed = send(Response(status, {"location": moved}), ok(), clock=clock, request=get(method))
    assert [(request.method, request.url) for request in fed.requests] == [
        (method, f"{URL}/bundles/all"),
        (method, moved),
    ]


def test_relative_redirect_is_resolved_and_gets_the_token(clock: Clock) -> None:
    fed = send(Response(302, {"location": "/v2/x?y"}), ok(), clock=clock, auth=StaticToken("t"), authorize=True)
    assert fed.requests[1].url == "https://dss.example.org/v2/x?y"
    assert fed.tokens == ["t", "t"]


@pytest.mark.parametrize(
    "location",
    [
        ELSEWHERE,
        "http://dss.example.org/v1/x",
        "https://dss.example.org:8443/v1/x",
        "https://dss.example.org.evil.example/v1/x",
        "//evil.example/v1/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_redirect_to_another_origin_is_error_and_not_followed(clock: Clock, location: str, method: str) -> None:
    fed = send(Response(302, {"location": location}), clock=clock, request=get(method))
    assert "change the host of the connection to that address" in str(fed.failed(DSSProtocolError))


def test_content_is_fetched_from_another_origin_without_token(clock: Clock) -> None:
    request = replace(get(), receive=lambda *_: None)
    fed = send(
        *(Response(302, {"location": location}) for location in (ELSEWHERE, f"{URL}/back")),
        ok(),
        clock=clock,
        request=request,
        auth=StaticToken("t"),
        authorize=True,
    )
    assert fed.tokens == ["t", None, "t"]


@pytest.mark.parametrize("body", [b"intranet", b"<title>intranet</title>", b'{"title": "intranet"}'])
@pytest.mark.parametrize("status", [204, 400, 401, 403, 404, 409, 422, 500])
def test_text_of_a_content_server_is_not_in_the_error(clock: Clock, status: int, body: bytes) -> None:
    answer = Response(status, {"x-aws-request-id": "intranet", "content-type": "intranet", "retry-after": "9"}, body)
    request = replace(get(), url=ELSEWHERE, receive=lambda *_: None)
    error = send(answer, clock=clock, request=request, repeatable=False).error
    assert isinstance(error, DSSError)
    assert str(status) in str(error)
    assert "intranet" not in str(error) + repr(vars(error))
    assert getattr(error, "retry_after", 9) == 9


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST", "DELETE"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirected_write_is_error_with_the_address(clock: Clock, method: str, status: int) -> None:
    moved = Response(status, {"location": "https://new.example.org/v1/bundles/all?signature=s"})
    error = send(moved, clock=clock, request=get(method)).failed(DSSProtocolError)
    assert str(error) == (
        f"{method} /v1/bundles/all: redirected to https://new.example.org:443; change the host of the connection to "
        "that address"
    )


def test_301_with_retry_after_is_followed_after_the_wait(clock: Clock) -> None:
    again = Response(301, {"location": f"{URL}/bundles/all?token=x", "retry-after": "10"})
    fed = send(*[again] * 40, ok(), clock=clock)
    assert fed.value.status == 200
    assert fed.delays == [0] + [10] * 40


def test_301_with_retry_after_ends_after_ten_minutes(clock: Clock) -> None:
    again = Response(301, {"location": f"{URL}/bundles/all?token=x", "retry-after": "10"})
    started = clock.now
    error = send(*[again] * 61, clock=clock).failed(DSSProtocolError)
    assert "still redirected after 600 s" in str(error)
    assert clock.now - started == 600


@pytest.mark.parametrize(
    "headers",
    [
        {"location": f"{URL}/bundles/all"},
        {"location": ""},
        {},
        {"location": f"{URL}/bundles/all", "retry-after": "0"},
        {"location": f"{URL}/bundles/all", "retry-after": "0.001"},
        {"location": f"{URL}/bundles/all", "retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"},
    ],
)
def test_redirect_loop_ends_after_twenty(clock: Clock, headers: dict[str, str]) -> None:
    fed = send(*[Response(302, headers)] * 21, clock=clock)
    assert "redirect loop, 21 redirects" in str(fed.failed(DSSProtocolError))


@pytest.mark.parametrize("location", ["s3://bucket/key", "http://[bad", "https://host:port/", "https://u:p@host/"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_redirect_to_invalid_url_is_error_without_quote(clock: Clock, location: str, method: str) -> None:
    fed = send(Response(302, {"location": location}), clock=clock, request=get(method))
    assert location not in str(fed.failed(DSSProtocolError))


def test_wait_of_a_301_is_not_time_spent_on_retries(clock: Clock) -> None:
    again = Response(301, {"location": f"{URL}/bundles/all?token=x", "retry-after": "60"})
    assert send(again, problem(503), ok({}), clock=clock).value.status == 200


def test_retries_within_two_seconds_are_one_warning(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange("https://dss.example.org:443", None, RetryPolicy(first_delay=0.1))
    for _ in range(8):
        feed(exchange.send(Request("GET", f"{URL}/x")), problem(503), ok({}), clock=clock)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    clock.now += 2
    feed(exchange.send(Request("GET", f"{URL}/x")), problem(503), ok({}), clock=clock)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 2


def test_304_is_protocol_error(clock: Clock) -> None:
    assert "304" in str(send(Response(304), clock=clock).failed(DSSProtocolError))
