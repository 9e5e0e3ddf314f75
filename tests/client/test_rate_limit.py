"""Rate limits shared by threads."""

from __future__ import annotations

import json
import threading
import time

import pytest

from airflow_provider_hca.client import rate_limit
from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import DSSResponseError

from .drivers import call, get
from .feeding import UUID, VERSION, Clock
from .server import Reply, Server


class Waits(threading.Event):
    """An event that is never set; waiting for it puts the clock forward."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """Put the clock forward."""
        assert timeout is not None
        self._clock.now += timeout
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock for rate limiters, which only their waits put forward."""
    clock = Clock()
    monkeypatch.setattr(rate_limit, "time", clock)
    return clock


def _turns(limiter: RateLimiter, clock: Clock, seconds: float, *, amount: float = 1.0) -> int:
    """Return the number of turns within some seconds; each takes 0.5 ms."""
    end, got, stop = clock.now + seconds, 0, Waits(clock)
    while True:
        limiter.wait(stop, amount)
        if clock.now >= end:
            return got
        got += 1
        clock.now += 0.0005


def test_no_wait_without_limit(clock: Clock) -> None:
    assert _turns(RateLimiter(), clock, 0.5) in {1000, 1001}


def test_limit_counts_turns_and_amounts(clock: Clock) -> None:
    assert 49 <= _turns(RateLimiter(100), clock, 0.5) <= 51
    assert 4 <= _turns(RateLimiter(100), clock, 0.5, amount=10) <= 6


def test_limit_is_shared_by_threads() -> None:
    limiter, stop, started = RateLimiter(100), threading.Event(), time.monotonic()

    def work() -> None:
        for _ in range(5):
            limiter.wait(stop)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started >= 0.19  # the first of 20 turns is at once


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_limit_not_above_zero_is_value_error(limit: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        RateLimiter(limit)


def test_stop_ends_the_wait_for_a_turn() -> None:
    limiter, stop = RateLimiter(0.01), threading.Event()
    limiter.wait(stop)
    threading.Timer(0.1, stop.set).start()
    started = time.monotonic()
    limiter.wait(stop)
    assert 0.05 < time.monotonic() - started < 90  # the next turn is in 100 s


def test_slow_down_halves_the_rate_once_for_all_threads(clock: Clock) -> None:
    limiter = RateLimiter(200)
    before = _turns(limiter, clock, 1.2) / 1.2
    for _ in range(8):
        limiter.slow_down(None)
    assert 0.45 < _turns(limiter, clock, 0.5) / 0.5 / before < 0.55


def test_slow_down_with_seconds_pauses_all_turns(clock: Clock) -> None:
    limiter = RateLimiter()
    limiter.slow_down(0.4)
    assert _turns(limiter, clock, 0.4) == 0
    assert _turns(limiter, clock, 1) > 0


def test_rate_doubles_every_five_seconds_after_slow_down(clock: Clock) -> None:
    limiter = RateLimiter(320)
    _turns(limiter, clock, 1.2)
    limiter.slow_down(None)
    speeds = []
    for _ in range(3):
        speeds.append(_turns(limiter, clock, 0.4) / 0.4)
        clock.now += 5.0
    assert speeds == pytest.approx([160, 320, 320], rel=0.1)


@pytest.mark.parametrize("status", [429, 503])
def test_429_or_503_to_one_thread_holds_up_all(status: int) -> None:
    with Server() as server, RequestsTransport(pool_size=4) as transport:
        server.replies = [Reply(status, [("Retry-After", "1")], b"{}"), Reply()]
        moments: list[float] = []
        waiting = threading.Thread(target=transport.run, args=(call(get(server.url), get(server.url, delay=1.1)),))
        began = time.monotonic()
        waiting.start()
        while not transport.rate_limiter._next > began + 0.5:  # noqa: SLF001 - no public attribute shows that it waits
            assert time.monotonic() < began + 60
            time.sleep(0.01)

        def work() -> None:
            assert transport.run(call(get(server.url))).status == 200
            moments.append(time.monotonic() - began)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in (*threads, waiting):
            thread.join()
    assert min(moments) > 0.9


@pytest.mark.parametrize("body", [b"{}", b'{"status": 503, "code": "read_only", "title": "Closed"}'])
def test_503_that_ends_a_call_holds_up_no_other(body: bytes) -> None:
    policy, hour = RetryPolicy(seconds=10), [("Retry-After", "3600")]
    with Server() as server, RequestsTransport(stop=_stops_in(60)) as transport:
        server.replies = [Reply(503, hour, body)]
        api = DSSAPI(server.url, retry=policy)
        for _ in range(3):
            with pytest.raises(DSSResponseError, match="503"):
                transport.run(api.find_bundle(UUID, replica="aws"))
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "code", "looks"), [(503, "read_only", 0), (429, "too_many_requests", 0), (503, "unavailable", 1)]
)
def test_put_bundle_is_checked_only_after_unclear_failure(status: int, code: str, looks: int) -> None:
    body = json.dumps({"status": status, "code": code, "title": "Closed today"}).encode()
    with Server() as server, RequestsTransport(stop=_stops_in(60)) as transport:
        server.replies = [Reply(status, [("Retry-After", "3600")], body)]
        api = DSSAPI(server.url, retry=RetryPolicy(seconds=10))
        with pytest.raises(DSSResponseError, match="Closed today"):
            transport.run(api.put_bundle(UUID, VERSION, replica="aws", files=[]))
        assert [asked.method for asked in server.asked] == ["PUT", *["GET"] * looks]


def _stops_in(seconds: float) -> threading.Event:
    """Return a stop event that is set after some time, so that a test fails rather than hangs."""
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.daemon = True
    timer.start()
    return stop


def test_stop_while_slowed_down_sends_nothing() -> None:
    stop = threading.Event()
    with Server() as server, RequestsTransport(stop=stop) as transport:
        transport.rate_limiter.slow_down(30)
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(Exception, match="stopped"):
            transport.run(call(get(server.url)))
        assert server.asked == []
