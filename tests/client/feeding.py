"""Run a call without network: collect its requests and feed it responses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from airflow_provider_hca.client.sansio import Call, Request, Response
from airflow_provider_hca.exceptions import ConnectionFailure, DSSConnectionError

T = TypeVar("T")

URL = "https://dss.example.org/v1"
UUID = "ce55fd51-7833-469b-be0b-5da88ebebfcd"
OTHER = "0a1b2c3d-0000-4000-8000-00000000000f"
VERSION = "2018-12-31T235959.000001Z"
SHA256 = "ab" * 32


class Clock:
    """Replaces the module `time`; tests put it forward."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.now

    def monotonic(self) -> float:
        """Seconds since a fixed moment."""
        return self.now


def ok(body: Any = None, status: int = 200, **headers: str) -> Response:
    """Return a response with a JSON body."""
    content = b"" if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, {"content-type": "application/json", **named}, content)


def problem(status: int, code: str = "unhandled_exception", title: str = "Trouble", **headers: str) -> Response:
    """Return an error in the usual form."""
    return ok({"status": status, "code": code, "title": title, "stacktrace": "..."}, status, **headers)


def refusal(code: str = "forbidden") -> Response:
    """Return the 500 of a DSS whose response validation does not know the code of a refusal."""
    title = "Response body does not conform to specification"
    detail = f"'{code}' is not one of ['unhandled_exception', 'Forbidden', 'not_found']\n\nFailed validating 'enum'"
    return ok({"type": "about:blank", "title": title, "detail": detail, "status": 500}, 500)


def broken(kind: ConnectionFailure = "dropped") -> DSSConnectionError:
    """Return the error of a transport for a missing response."""
    return DSSConnectionError("GET", "https://dss.example.org:443", "/v1", kind)


def file_headers(sha256: str = SHA256, **changes: str) -> Mapping[str, str]:
    """Return the headers of `HEAD /files`."""
    headers = {
        "x-dss-creator-uid": "8008",
        "x-dss-version": VERSION,
        "x-dss-content-type": "text/plain",
        "x-dss-size": "7",
        "x-dss-crc32c": "0a1b2c3d",
        "x-dss-s3-etag": "cd" * 16,
        "x-dss-sha1": "ef" * 20,
        "x-dss-sha256": sha256,
    }
    return headers | {f"x-dss-{name.replace('_', '-')}": value for name, value in changes.items()}


def stored(sha256: str = SHA256) -> Response:
    """Return the response to `HEAD /files` of an existing file."""
    return Response(200, file_headers(sha256))


@dataclass
class Fed(Generic[T]):
    """Requests and result of a call."""

    result: T | None = None
    error: BaseException | None = None
    requests: list[Request] = field(default_factory=list)

    @property
    def value(self) -> T:
        """Result; raises the error of the call."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def failed(self, kind: type[E]) -> E:
        """Return the error, which must have exactly this class."""
        assert type(self.error) is kind, f"{self.error!r}, {self.result!r}"
        return self.error

    @property
    def sent(self) -> list[str]:
        """Requests as `METHOD path?query`, without the base path of the API."""
        return [f"{request.method} {request.url.removeprefix(URL)}" for request in self.requests]

    @property
    def delays(self) -> list[float]:
        """Delay of each request."""
        return [request.delay for request in self.requests]

    @property
    def tokens(self) -> list[str | None]:
        """Token of each request."""
        headers = [request.headers.get("authorization") for request in self.requests]
        return [header.removeprefix("Bearer ") if header else None for header in headers]


E = TypeVar("E", bound=BaseException)


Answer = Response | DSSConnectionError


def feed(call: Call[T], *answers: Answer, clock: Clock | None = None) -> Fed[T]:
    """Run a call with these responses, which it must use up.

    :param clock: Clock to put forward by the delays
    """
    remaining = iter(answers)

    def next_one(request: Request) -> Answer:
        answer = next(remaining, None)
        assert answer is not None, f"{request} is one more than expected"
        return answer

    fed = converse(call, next_one, clock=clock)
    assert next(remaining, None) is None, f"only {len(fed.requests)} requests were sent: {fed.error!r}"
    return fed


def converse(call: Call[T], answer: Callable[[Request], Answer], *, clock: Clock | None = None) -> Fed[T]:
    """Run a call with a function that answers each request.

    :param clock: Clock to put forward by the delays
    """
    fed: Fed[T] = Fed()
    paused = 0.0
    try:
        request = next(call)
        while True:
            assert_no_secret(request)
            if clock:
                clock.now += request.delay
            if not request.method:  # a pause counts as delay of the next request
                paused += request.delay
                request = call.send(Response(0))
                continue
            fed.requests.append(replace(request, delay=request.delay + paused))
            paused = 0.0
            answered = answer(request)
            # A copy: a raised error keeps the frames that it passed, and answers are shared by tests.
            request = call.throw(copy(answered)) if isinstance(answered, DSSConnectionError) else call.send(answered)
    except StopIteration as end:
        fed.result = end.value
    except AssertionError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        fed.error = error
    return fed


def assert_no_secret(request: Request) -> None:
    """Check that the `repr` of a request hides its headers and body."""
    shown = repr(request)
    assert "headers" not in shown
    assert "body" not in shown
    for value in request.headers.values():
        assert value not in shown
    if request.body:
        assert request.body.decode() not in shown
