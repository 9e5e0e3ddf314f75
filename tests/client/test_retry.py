from __future__ import annotations

import pytest

from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.retry import RETRIED, Auth, Exchange, RetryPolicy
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
    """Tokens t1, t2, ... which are renewed when refused, and cost no request."""

    def __init__(self) -> None:
        self.number = 1
        self.refused: list[str] = []

    def token(self) -> Call[str | None]:
        """Return the current one."""
        return f"t{self.number}"
        yield

    def rejected(self, token: str) -> bool:
        """Go on to the next one."""
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
def test_passing_troubles_are_ridden_out(clock: Clock, status: int, method: str) -> None:
    """An idempotent request is sent again after each status that may pass, and the first good answer counts."""
    good = ok({"a": 1})
    fed = send(problem(status), problem(status), good, clock=clock, request=get(method))
    assert fed.value is good
    assert len({request.url for request in fed.requests}) == 1


@pytest.mark.parametrize("kind", ["dns", "refused", "tls", "connect timeout", "read timeout", "dropped"])
def test_connections_that_fail_are_tried_again(clock: Clock, kind: ConnectionFailure) -> None:
    """An idempotent request is sent again when no answer came, whatever the reason."""
    assert send(broken(kind), broken(kind), ok(), clock=clock).value.status == 200


def test_waits_grow_with_jitter(clock: Clock) -> None:
    """Each wait is the double of the one before, up to the longest, and spread over half of itself."""
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


def test_attempts_are_bounded(clock: Clock) -> None:
    """After the last attempt the last failure is raised, with what the server said."""
    fed = send(
        *[broken()] * 2,
        problem(503, "read_only", "Closed today", x_aws_request_id="r-3", retry_after="2"),
        clock=clock,
        policy=RetryPolicy(attempts=3),
    )
    error = fed.failed(DSSResponseError)
    assert (error.status, error.code, error.title) == (503, "read_only", "Closed today")
    assert (error.request_id, error.retry_after, error.permanent) == ("r-3", 2.0, False)


def test_the_total_time_is_bounded(clock: Clock) -> None:
    """Attempts that take long end when the next would come after the total time, though attempts are left."""
    exchange = Exchange(HOME, None, RetryPolicy(attempts=100, seconds=50))
    call = exchange.send(get())
    request, sent = next(call), 1
    with pytest.raises(DSSConnectionError, match="timed out while waiting for the response"):  # noqa: PT012 - the last of the loop raises
        while True:
            clock.now += request.delay + 20
            request, sent = call.throw(broken("read timeout")), sent + 1
    assert sent == 3  # at 0, 20 and 41 s; the next would be sent at 62 s


def test_a_permanent_mistake_dressed_as_500_ends_within_the_minute(clock: Clock) -> None:
    """500 with `Retry-After: 10`, which a DSS gives for a missing staged object, ends soon and with the title."""
    gone = problem(500, title="Could not find s3://b/k", retry_after="10")
    started = clock.now
    error = send(*[gone] * 5, clock=clock).failed(DSSResponseError)
    assert error.title == "Could not find s3://b/k"
    assert clock.now - started <= 50


@pytest.mark.parametrize("asked", [0, 3, 20])
def test_retry_after_is_honoured(clock: Clock, asked: int) -> None:
    """What the server asks for is waited, and at most a tenth more, even beyond the policy's own longest wait."""
    fed = send(problem(503, retry_after=str(asked)), ok(), clock=clock)
    assert asked <= fed.delays[1] <= asked * 1.1


def test_retry_after_beyond_the_total_time_ends_it(clock: Clock) -> None:
    """A server that asks for more time than there is gets no further request, and its error says how long it asks."""
    error = send(problem(503, retry_after="3600"), clock=clock).failed(DSSResponseError)
    assert error.retry_after == 3600


def test_what_a_poll_waits_is_not_retry_time(clock: Clock) -> None:
    """A request that waits before its first sending has all the time for retries nevertheless."""
    fed = send(problem(503), ok(), clock=clock, request=get(delay=30), policy=RetryPolicy(seconds=5))
    assert fed.value.status == 200
    assert fed.delays[0] == 30


@pytest.mark.parametrize("method", ["PATCH", "POST"])
@pytest.mark.parametrize("trouble", [problem(500), problem(503), problem(504), broken("read timeout"), broken()])
def test_what_is_not_idempotent_is_sent_once(clock: Clock, method: str, trouble: Response | DSSConnectionError) -> None:
    """A PATCH or POST is never repeated blindly: it may have been done."""
    fed = send(trouble, clock=clock, request=get(method))
    assert isinstance(fed.error, DSSError)


@pytest.mark.parametrize("method", ["PATCH", "POST"])
@pytest.mark.parametrize(
    "trouble",
    [problem(429), problem(503, "read_only"), broken("dns"), broken("refused"), broken("connect timeout")],
)
def test_what_was_certainly_not_done_is_sent_again(
    clock: Clock, method: str, trouble: Response | DSSConnectionError
) -> None:
    """A PATCH or POST that no DSS has worked at is repeated like everything else."""
    assert send(trouble, ok(), clock=clock, request=get(method)).value.status == 200


def test_the_caller_may_say_that_it_is_repeatable(clock: Clock) -> None:
    """Whether a request is repeated can be told for each, in both directions."""
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
def test_other_errors_end_it_at_once(clock: Clock, status: int, kind: type[DSSResponseError]) -> None:
    """Any other error is raised after one request, `Retry-After` or not."""
    assert status not in RETRIED
    error = send(problem(status, "some_code", retry_after="1"), clock=clock).failed(kind)
    assert (error.status, error.code) == (status, "some_code")


@pytest.mark.parametrize("code", ["forbidden", "file_missing"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_refusal_dressed_as_500_ends_it_at_once(clock: Clock, code: str, method: str) -> None:
    """What a DSS refused, and its own check of answers made a 500 of, would be refused again."""
    fed = send(refusal(code), clock=clock, request=get(method))
    assert isinstance(fed.error, DSSResponseError)
    assert fed.error.code == code


def test_a_success_nobody_expects_is_no_success(clock: Clock) -> None:
    """A 2xx that the operation does not have is an error."""
    assert "204" in str(send(ok(status=204), clock=clock).failed(DSSProtocolError))


@pytest.mark.parametrize("attempts", [1, 0])
def test_one_attempt_is_one(clock: Clock, attempts: int) -> None:
    """With one attempt nothing is repeated."""
    send(problem(503), clock=clock, policy=RetryPolicy(attempts=attempts)).failed(DSSResponseError)


# Tokens


def test_a_token_is_sent_only_where_it_is_wanted(clock: Clock) -> None:
    """A call that needs no token sends none."""
    assert send(ok(), clock=clock, auth=StaticToken("t"), authorize=True).tokens == ["t"]
    assert send(ok(), clock=clock, auth=StaticToken("t")).tokens == [None]
    assert send(ok(), clock=clock, authorize=True).tokens == [None]


def test_a_refused_token_is_renewed_once(clock: Clock) -> None:
    """After a 401 the request is sent again at once with another token."""
    auth = Renewing()
    fed = send(problem(401), ok(), clock=clock, auth=auth, authorize=True)
    assert fed.value.status == 200
    assert (fed.tokens, fed.delays, auth.refused) == (["t1", "t2"], [0, 0], ["t1"])


def test_a_token_is_renewed_only_once(clock: Clock) -> None:
    """A second 401, even after other troubles, is told: the credentials are wrong, not old."""
    auth = Renewing()
    fed = send(problem(401), problem(503), problem(401, title="No"), clock=clock, auth=auth, authorize=True)
    assert fed.failed(DSSAuthError).title == "No"
    assert fed.tokens == ["t1", "t2", "t2"]


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_a_refused_token_is_renewed_for_every_method(clock: Clock, method: str) -> None:
    """A 401 says that nothing was done, so even a PATCH is sent again."""
    fed = send(problem(401), ok(), clock=clock, request=get(method), auth=Renewing(), authorize=True)
    assert fed.tokens == ["t1", "t2"]


def test_renewing_does_not_wait_again(clock: Clock) -> None:
    """The wait before a poll is not repeated when its token was refused."""
    fed = send(problem(401), ok(), clock=clock, request=get(delay=30), auth=Renewing(), authorize=True)
    assert fed.delays == [30, 0]


def test_renewing_costs_no_attempt(clock: Clock) -> None:
    """A token that expired does not use up an attempt."""
    policy = RetryPolicy(attempts=2)
    fed = send(problem(401), problem(503), ok(), clock=clock, auth=Renewing(), authorize=True, policy=policy)
    assert fed.value.status == 200


@pytest.mark.parametrize("auth", [None, StaticToken("t")])
def test_without_another_token_a_401_ends_it(clock: Clock, auth: Auth | None) -> None:
    """Where no other token can be had, a 401 is told at once."""
    assert send(problem(401), clock=clock, auth=auth, authorize=True).failed(DSSAuthError).permanent


def test_a_403_renews_nothing(clock: Clock) -> None:
    """A token that is good but not enough is not renewed."""
    auth = Renewing()
    send(problem(403), clock=clock, auth=auth, authorize=True).failed(DSSAuthError)
    assert auth.refused == []


def test_a_401_to_a_request_without_token_renews_nothing(clock: Clock) -> None:
    """A 401 to a request that carried no token says nothing about the token."""
    auth = Renewing()
    send(problem(401), clock=clock, auth=auth).failed(DSSAuthError)
    assert auth.refused == []


def test_a_token_that_cannot_be_had_ends_it(clock: Clock) -> None:
    """When no token can be made, nothing is sent."""

    class Failing(Renewing):
        def token(self) -> Call[str | None]:
            raise DSSCredentialsError("no key")
            yield

    send(clock=clock, auth=Failing(), authorize=True).failed(DSSCredentialsError)


def test_the_token_is_kept_out_of_the_error(clock: Clock) -> None:
    """A server that echoes the token does not get it into the error."""
    echo = problem(403, title="bad token s3cr3t")
    assert "s3cr3t" not in str(send(echo, clock=clock, auth=StaticToken("s3cr3t"), authorize=True).error)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reads_are_redirected(clock: Clock, status: int, method: str) -> None:
    """A GET or HEAD follows every kind of redirect, and stays what it was."""
    fed = send(Response(status, {"location": ELSEWHERE}), ok(), clock=clock, request=get(method))
    assert [(request.method, request.url) for request in fed.requests] == [
        (method, f"{URL}/bundles/all"),
        (method, ELSEWHERE),
    ]


def test_relative_redirects_are_resolved(clock: Clock) -> None:
    """A `Location` without a host leads to the same one, with the token."""
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
def test_a_token_does_not_follow_to_another_origin(clock: Clock, location: str) -> None:
    """Another host, port or scheme gets no token, neither at first nor after a failure; the DSS gets it again."""
    fed = send(
        Response(302, {"location": location}),
        problem(503),
        Response(302, {"location": f"{URL}/back"}),
        ok(),
        clock=clock,
        auth=StaticToken("t"),
        authorize=True,
    )
    assert fed.tokens == ["t", None, None, "t"]


def test_a_401_of_another_origin_renews_nothing(clock: Clock) -> None:
    """An object store that refuses does not make the client throw its token away."""
    auth = Renewing()
    moved = Response(302, {"location": ELSEWHERE})
    send(moved, problem(401), clock=clock, auth=auth, authorize=True).failed(DSSAuthError)
    assert auth.refused == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST", "DELETE"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_writes_are_not_redirected(clock: Clock, method: str, status: int) -> None:
    """A write that is redirected ends with an error that says where to and what to change."""
    moved = Response(status, {"location": "https://new.example.org/v1/bundles/all?signature=s"})
    error = send(moved, clock=clock, request=get(method)).failed(DSSProtocolError)
    assert str(error) == (
        f"{method} /v1/bundles/all: redirected to https://new.example.org:443; write to that address instead: change "
        "the host of the connection"
    )


def test_a_301_with_retry_after_is_waited_for(clock: Clock) -> None:
    """A checkout under way, 301 with `Retry-After`, is followed after the wait, more often than other redirects."""
    again = Response(301, {"location": f"{URL}/bundles/all?token=x", "retry-after": "10"})
    fed = send(*[again] * 40, ok(), clock=clock)
    assert fed.value.status == 200
    assert fed.delays == [0] + [10] * 40


def test_a_checkout_without_end_is_given_up(clock: Clock) -> None:
    """301 with `Retry-After` is followed for ten minutes at most."""
    again = Response(301, {"location": f"{URL}/bundles/all?token=x", "retry-after": "10"})
    started = clock.now
    error = send(*[again] * 61, clock=clock).failed(DSSProtocolError)
    assert "again and again, for 600 s" in str(error)
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
def test_redirect_loops_end(clock: Clock, headers: dict[str, str]) -> None:
    """Redirects that do not wait end after twenty, so a loop does not hammer the server for ten minutes."""
    fed = send(*[Response(302, headers)] * 21, clock=clock)
    assert "again and again" in str(fed.failed(DSSProtocolError))


@pytest.mark.parametrize("location", ["s3://bucket/key", "http://[bad", "https://host:port/", "https://u:p@host/"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_redirects_to_nowhere(clock: Clock, location: str, method: str) -> None:
    """A `Location` that HTTP cannot go to, or that names a user, is an error of the protocol."""
    fed = send(Response(302, {"location": location}), clock=clock, request=get(method))
    assert location not in str(fed.failed(DSSProtocolError))


def test_a_long_checkout_leaves_the_retries_untouched(clock: Clock) -> None:
    """What a 301 has the client wait for does not count as time spent on retries."""
    again = Response(301, {"location": f"{URL}/bundles/all?token=x", "retry-after": "60"})
    assert send(again, problem(503), ok({}), clock=clock).value.status == 200


def test_many_threads_in_the_same_trouble_are_told_of_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Of retries within two seconds the first is a warning, the others are for debugging."""
    exchange = Exchange("https://dss.example.org:443", None, RetryPolicy(first_delay=0.1))
    for _ in range(8):
        feed(exchange.send(Request("GET", f"{URL}/x")), problem(503), ok({}), clock=clock)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    clock.now += 2
    feed(exchange.send(Request("GET", f"{URL}/x")), problem(503), ok({}), clock=clock)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 2


def test_304_is_no_redirect(clock: Clock) -> None:
    """Statuses in the three hundreds that lead nowhere are errors."""
    assert "304" in str(send(Response(304), clock=clock).failed(DSSProtocolError))
