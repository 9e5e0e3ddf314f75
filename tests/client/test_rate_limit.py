"""How fast many threads may go together."""

from __future__ import annotations

import json
import threading
import time

import pytest

from airflow_provider_hca.client import rate_limit as pace
from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import DSSResponseError

from .drivers import call, get
from .feeding import UUID, VERSION, Clock
from .server import Reply, Server


class Waits(threading.Event):
    """A stop that nobody sets: a wait for it passes on the clock, at once."""

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
    """Return the clock of paces, which passes by their waits alone."""
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def _turns(pace: RateLimiter, clock: Clock, seconds: float, *, amount: float = 1.0) -> int:
    """Return how many turns there are in so many seconds, each of which takes a moment."""
    end, got, stop = clock.now + seconds, 0, Waits(clock)
    while True:
        pace.wait(stop, amount)
        if clock.now >= end:
            return got
        got += 1
        clock.now += 0.0005


def test_without_limit(clock: Clock) -> None:
    """Without a limit there is no waiting at all."""
    assert _turns(RateLimiter(), clock, 0.5) in {1000, 1001}


def test_a_limit_is_for_all_turns_together(clock: Clock) -> None:
    """There are so many turns a second, and what counts for several takes several."""
    assert 49 <= _turns(RateLimiter(100), clock, 0.5) <= 51
    assert 4 <= _turns(RateLimiter(100), clock, 0.5, amount=10) <= 6


def test_threads_share_the_turns() -> None:
    """However many threads wait, they get no more turns together than the limit."""
    pace, stop, started = RateLimiter(100), threading.Event(), time.monotonic()

    def work() -> None:
        for _ in range(5):
            pace.wait(stop)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started >= 0.19  # the first of 20 turns is at once


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_what_is_no_limit(limit: float) -> None:
    """Nothing at all is no limit."""
    with pytest.raises(ValueError, match="above 0"):
        RateLimiter(limit)


def test_a_stop_ends_the_waiting() -> None:
    """Whoever waits for a turn goes on at once when told to stop."""
    pace, stop = RateLimiter(0.01), threading.Event()
    pace.wait(stop)
    threading.Timer(0.1, stop.set).start()
    started = time.monotonic()
    pace.wait(stop)
    assert 0.05 < time.monotonic() - started < 90  # of the hundred seconds until the next turn


def test_slower_when_asked_for(clock: Clock) -> None:
    """After a service asked for it, there are half as many turns as before, however many threads were told so."""
    pace = RateLimiter(200)
    before = _turns(pace, clock, 1.2) / 1.2
    for _ in range(8):
        pace.slow_down(None)
    assert 0.45 < _turns(pace, clock, 0.5) / 0.5 / before < 0.55


def test_a_pause_that_was_asked_for(clock: Clock) -> None:
    """For as long as a service asked there is no turn for anybody."""
    pace = RateLimiter()
    pace.slow_down(0.4)
    assert _turns(pace, clock, 0.4) == 0
    assert _turns(pace, clock, 1) > 0


def test_faster_again(clock: Clock) -> None:
    """Without further trouble the speed doubles every five seconds, until it is what it was."""
    pace = RateLimiter(320)
    _turns(pace, clock, 1.2)
    pace.slow_down(None)
    speeds = []
    for _ in range(3):
        speeds.append(_turns(pace, clock, 0.4) / 0.4)
        clock.now += 5.0
    assert speeds == pytest.approx([160, 320, 320], rel=0.1)


@pytest.mark.parametrize("status", [429, 503])
def test_what_a_dss_asks_of_one_all_do(status: int) -> None:
    """After a 429 or 503 to one thread that waits as it is asked to, no other one asks either until then."""
    with Server() as server, RequestsTransport(pool_size=4) as transport:
        server.replies = [Reply(status, [("Retry-After", "1")], b"{}"), Reply()]
        moments: list[float] = []
        waiting = threading.Thread(target=transport.run, args=(call(get(server.url), get(server.url, delay=1.1)),))
        began = time.monotonic()
        waiting.start()
        while not transport.rate_limiter._next > began + 0.5:  # noqa: SLF001 - nothing else tells that it has begun to wait
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
def test_an_answer_that_ends_a_call_holds_up_no_other(body: bytes) -> None:
    """A `Retry-After` beyond what a request is tried for ends it at once, and the next request is sent at once."""
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
def test_a_bundle_is_not_looked_for_after_a_clear_refusal(status: int, code: str, looks: int) -> None:
    """A PUT that the DSS certainly did not do fails with the DSS's words at once; any other is looked for, at once."""
    body = json.dumps({"status": status, "code": code, "title": "Closed today"}).encode()
    with Server() as server, RequestsTransport(stop=_stops_in(60)) as transport:
        server.replies = [Reply(status, [("Retry-After", "3600")], body)]
        api = DSSAPI(server.url, retry=RetryPolicy(seconds=10))
        with pytest.raises(DSSResponseError, match="Closed today"):
            transport.run(api.put_bundle(UUID, VERSION, replica="aws", files=[]))
        assert [asked.method for asked in server.asked] == ["PUT", *["GET"] * looks]


def _stops_in(seconds: float) -> threading.Event:
    """Return what ends a wait that goes on for so long, so that its test fails and does not hang."""
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.daemon = True
    timer.start()
    return stop


def test_a_stop_while_all_wait() -> None:
    """A thread that waits because of another one's answer is stopped at once, and sends nothing."""
    stop = threading.Event()
    with Server() as server, RequestsTransport(stop=stop) as transport:
        transport.rate_limiter.slow_down(30)
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(Exception, match="stopped"):
            transport.run(call(get(server.url)))
        assert server.asked == []
