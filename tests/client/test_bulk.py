from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import Any

import pytest

from airflow_provider_hca.client import bulk
from airflow_provider_hca.client.async_transport import AiohttpTransport
from airflow_provider_hca.client.bulk import _STOP_TIMEOUT, run_bulk
from airflow_provider_hca.client.sansio import Call, Request, Response, pause
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import DSSAbortedError, DSSConnectionError
from airflow_provider_hca.parallel import Workers

from .drivers import get
from .server import Reply, ScriptedServer, Server

Loops = Callable[[], list[threading.Thread]]


def _run(items: list[int], make_call: Any, **options: Any) -> list[tuple[int, Exception]]:
    defaults: dict[str, Any] = {"concurrency": 4, "continue_after": lambda _: True, "on_progress": lambda _: None}
    transport = options.pop("transport", None) or RequestsTransport()
    with transport:
        return run_bulk(items, make_call, transport=transport, **(defaults | options))


def _loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "dss-loop"]


@pytest.fixture
def started_loops() -> Loops:
    """Return a function that returns the event loops started in this test: other tests may have left theirs."""
    before = _loop_threads()
    return lambda: [thread for thread in _loop_threads() if thread not in before]


@pytest.mark.parametrize("concurrency", [1, 3, 16])
@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_each_item_is_processed_once(server: Server, count: int, concurrency: int, started_loops: Loops) -> None:
    results: list[int] = []

    def ask(item: int) -> Call[None]:
        response = yield get(f"{server.url}/{item}")
        results.append(response.status)

    assert _run(list(range(count)), ask, concurrency=concurrency) == []
    assert Counter(asked.path for asked in server.asked) == Counter(f"/v1/{item}" for item in range(count))
    assert results == [200] * count
    assert started_loops() == []


def test_concurrency_is_reached_and_not_exceeded() -> None:
    running, peak = 0, 0

    def wait(_: int) -> Call[None]:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        yield pause(0.05)
        running -= 1

    assert _run(list(range(40)), wait, concurrency=20) == []
    assert peak == 20


def test_failures_are_returned_with_their_items(server: Server) -> None:
    def ask(item: int) -> Call[Response]:
        if item % 10 == 3:
            raise ValueError(item)
        return (yield get(server.url))

    failures = _run(list(range(30)), ask)
    assert sorted((item, str(error)) for item, error in failures) == [(3, "3"), (13, "13"), (23, "23")]
    assert len(server.asked) == 27


def test_items_are_finished_in_another_thread(server: Server) -> None:
    finished: dict[int, tuple[int, str]] = {}

    def ask(item: int) -> Call[int]:
        return (yield get(f"{server.url}/{item}")).status

    def finish(item: int, status: int) -> None:
        if item == 7:
            raise ValueError(item)
        finished[item] = status, threading.current_thread().name

    with Workers(2, "finish") as workers:
        failures = _run(list(range(20)), ask, finish=partial(workers.submit, finish))
    assert [(item, str(error)) for item, error in failures] == [(7, "7")]
    assert {item: status for item, (status, _) in finished.items()} == {item: 200 for item in range(20) if item != 7}
    assert {name for _, name in finished.values()} <= {"dss-finish-0", "dss-finish-1"}


def test_connection_error_reaches_the_call(server: Server) -> None:
    server.replies = [Reply(drop=True)]
    [(item, error)] = _run([5], lambda _: _ask(get(server.url)))
    assert item == 5
    assert isinstance(error, DSSConnectionError)
    assert error.kind == "dropped"


def _ask(request: Request) -> Call[Response]:
    return (yield request)


def test_no_item_is_started_after_a_general_failure() -> None:
    tried: list[int] = []

    def fail(item: int) -> Call[None]:
        tried.append(item)
        yield pause(0.01)
        raise OSError(item)

    failures = _run(list(range(1000)), fail, continue_after=lambda error: not isinstance(error, OSError))
    assert sorted(item for item, _ in failures) == sorted(tried)
    assert 1 <= len(tried) <= 4


def test_stop_cancels_calls_within_a_second(server: Server, started_loops: Loops) -> None:
    server.replies = [Reply(after=30)]
    stop, tried, closed = threading.Event(), [], []

    def ask(item: int) -> Call[None]:
        tried.append(item)
        try:
            yield get(server.url, read=60)
        finally:
            closed.append(item)

    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    assert _run(list(range(1000)), ask, transport=RequestsTransport(stop=stop)) == []
    assert time.monotonic() - started < 10
    assert len(tried) == len(closed) == 4
    assert started_loops() == []


def test_after_a_stop_nothing_is_started() -> None:
    stop = threading.Event()
    stop.set()
    assert _run([1], lambda _: pytest.fail("started"), transport=RequestsTransport(stop=stop)) == []


def test_abort_without_a_stop_is_a_failure() -> None:
    def abort(_: int) -> Call[None]:
        raise DSSAbortedError("not by this stop")
        yield

    [(_, error)] = _run([1], abort)
    assert str(error) == "not by this stop"


def test_stop_does_not_wait_for_a_blocked_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow kills a task five seconds after SIGTERM."""
    assert _STOP_TIMEOUT < 5
    monkeypatch.setattr(bulk, "_STOP_TIMEOUT", 0.1)
    stop, release, released = threading.Event(), threading.Event(), threading.Event()

    def block(_: int) -> Call[None]:
        stop.set()
        release.wait(60)
        released.set()
        yield pause(0)

    _run([1], block, transport=RequestsTransport(stop=stop))
    assert not released.is_set()
    release.set()
    assert released.wait(60)


def test_signal_handler_interrupts_the_wait(started_loops: Loops) -> None:
    """Airflow's handlers of SIGTERM and of the execution timeout raise in the main thread."""

    class TimeoutReachedError(BaseException):
        pass

    def handle(_: int, __: FrameType | None) -> None:
        raise TimeoutReachedError

    transport = RequestsTransport()
    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        started = time.monotonic()
        with pytest.raises(TimeoutReachedError):
            _run(list(range(100)), lambda _: _ask(pause(60)), transport=transport)
        assert time.monotonic() - started < 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert transport.stop.is_set()
    assert started_loops() == []


def test_progress_is_reported_in_the_callers_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_PROGRESS_INTERVAL", 0.0)
    reports: list[tuple[int, str]] = []
    _run(
        list(range(12)),
        lambda _: _ask(pause(0.2)),
        on_progress=lambda done: reports.append((done, threading.current_thread().name)),
    )
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert {done for done, _ in reports} >= {4, 8}
    assert {name for _, name in reports} == {threading.current_thread().name}


def test_error_outside_of_calls_is_raised() -> None:
    def broken(_: Exception) -> bool:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        _run([1, 2], lambda _: _fail(), continue_after=broken)


def _fail() -> Call[None]:
    raise OSError
    yield


def test_all_calls_slow_down_after_a_503(server: Server) -> None:
    """A 503 with `Retry-After` to one call holds up the others too, and the limiter is the transport's."""
    server.replies = [Reply(503, [("Retry-After", "1")]), Reply()]
    transport, moments = RequestsTransport(), []
    started = time.monotonic()

    def ask(item: int) -> Call[None]:
        if item:
            yield pause(0.3)
        response = yield get(server.url)
        if response.status == 503:
            yield get(server.url, delay=1.0)
        moments.append(time.monotonic() - started)

    assert _run([0, 1, 2, 3], ask, transport=transport) == []
    assert min(moments) > 0.9
    assert transport.rate_limiter.reserve() < 1


def test_limit_is_for_all_calls_together(server: Server) -> None:
    transport = RequestsTransport()
    transport.rate_limiter.limit(50)
    started = time.monotonic()
    assert _run(list(range(21)), lambda _: _ask(get(server.url)), transport=transport, concurrency=8) == []
    assert time.monotonic() - started >= 0.39  # the first of 21 turns is immediate


def test_calls_run_where_an_event_loop_is_running(server: Server) -> None:
    async def main() -> list[tuple[int, Exception]]:
        return _run([1], lambda _: _ask(get(server.url)))

    assert asyncio.run(main()) == []


# One event loop for all runs of a transport


def test_connections_stay_open_between_runs(started_loops: Loops) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with ScriptedServer([answer] * 4) as server, RequestsTransport() as transport:
        for _ in range(3):
            failures = run_bulk(
                [1],
                lambda _: _ask(get(server.url)),
                transport=transport,
                concurrency=1,
                continue_after=lambda _: False,
                on_progress=lambda _: None,
            )
            assert failures == []
        assert server.connections == 1
    assert started_loops() == []


def test_runs_of_several_threads_share_a_loop_and_fail_alone(server: Server, started_loops: Loops) -> None:
    def ask(item: int) -> Call[Response]:
        if item == 13:
            raise ValueError(item)
        return (yield get(f"{server.url}/{item}"))

    def run(start: int) -> list[int]:
        failures = run_bulk(
            range(start, start + 10),
            ask,
            transport=transport,
            concurrency=3,
            continue_after=lambda _: False,
            on_progress=lambda _: None,
        )
        return [item for item, _ in failures]

    with RequestsTransport() as transport, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(0, 40, 10))) == [[], [13], [], []]
        assert len(started_loops()) == 1
    asked = {int(request.path.rpartition("/")[2]) for request in server.asked}
    assert asked >= {*range(10), *range(20, 40)}


def test_transport_that_is_not_closed_ends_its_loop(server: Server, started_loops: Loops) -> None:
    transport = RequestsTransport()
    options: dict[str, Any] = {"concurrency": 1, "continue_after": lambda _: False, "on_progress": lambda _: None}
    assert run_bulk([1], lambda _: _ask(get(server.url)), transport=transport, **options) == []
    (thread,) = started_loops()
    del transport
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


def test_error_outside_of_calls_cancels_the_others() -> None:
    closed: list[int] = []

    def wait(item: int) -> Call[None]:
        if item == 0:
            raise OSError
        try:
            yield pause(60)
        finally:
            closed.append(item)

    def broken(_: Exception) -> bool:
        raise RuntimeError("broken")

    started = time.monotonic()
    with pytest.raises(RuntimeError, match="broken"):
        _run([1, 2, 0], wait, continue_after=broken)
    assert sorted(closed) == [1, 2]
    assert time.monotonic() - started < 30


def test_transport_that_cannot_be_opened_is_an_error() -> None:
    class BrokenTransport(RequestsTransport):
        def as_async(self) -> AiohttpTransport:
            raise OSError("no event loop")

    with pytest.raises(OSError, match="no event loop"):
        _run([1], lambda _: pytest.fail("started"), transport=BrokenTransport())
