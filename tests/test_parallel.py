"""Many items in a few threads."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from airflow_provider_hca.exceptions import DSSAbortedError
from airflow_provider_hca.parallel import _STOP_SECONDS, run_parallel
from tests.upload.support import upload_threads


def _run(items: list[int], work: Callable[[int], None], **options: Any) -> list[tuple[int, Exception]]:
    defaults: dict[str, Any] = {
        "name": "test",
        "workers": 4,
        "stop": threading.Event(),
        "continue_after": lambda _: True,
        "on_progress": lambda _: None,
    }
    return run_parallel(items, work, **(defaults | options))


@pytest.mark.parametrize("workers", [1, 3, 16])
@pytest.mark.parametrize("count", [0, 1, 7, 500])
def test_each_item_is_worked_on_once(count: int, workers: int) -> None:
    """Each item is worked on exactly once, however many threads there are, and none of them is left."""
    done: list[int] = []
    assert _run(list(range(count)), done.append, workers=workers) == []
    assert Counter(done) == Counter(range(count))
    assert upload_threads() == []


def test_as_many_items_as_workers_are_in_progress() -> None:
    """As many items as there are workers are under way at once, and no more."""
    all_running = threading.Barrier(4)
    here: list[int] = []
    most = [0]
    lock = threading.Lock()

    def work(item: int) -> None:
        with lock:
            here.append(item)
            most[0] = max(most[0], len(here))
        all_running.wait(60)
        with lock:
            here.remove(item)

    assert _run(list(range(12)), work) == []
    assert most[0] == 4


def test_failures_are_collected() -> None:
    """Every failure is returned with its item, and the other items are done nevertheless."""
    done: list[int] = []

    def work(item: int) -> None:
        if item % 10 == 3:
            raise ValueError(item)
        done.append(item)

    failures = _run(list(range(50)), work)
    assert sorted((item, str(error)) for item, error in failures) == [(n, str(n)) for n in (3, 13, 23, 33, 43)]
    assert len(done) == 45


def test_failure_of_all_items_halts() -> None:
    """After a failure that would hit all items alike no further one is taken."""
    tried: list[int] = []

    def work(item: int) -> None:
        tried.append(item)
        time.sleep(0.01)
        raise OSError(item)

    failures = _run(list(range(1000)), work, continue_after=lambda error: not isinstance(error, OSError))
    assert sorted(item for item, _ in failures) == sorted(tried)
    assert 1 <= len(tried) <= 4


def test_stop_takes_no_further_item() -> None:
    """After stop no further item is taken, and it returns when those in progress have ended."""
    stop, tried = threading.Event(), []

    def work(item: int) -> None:
        tried.append(item)
        if len(tried) == 4:
            stop.set()
        if stop.wait(60):
            raise DSSAbortedError("stopped")

    assert _run(list(range(1000)), work, stop=stop) == []
    assert len(tried) == 4
    assert upload_threads() == []


def test_stop_does_not_wait_for_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that hangs in a library does not keep it from returning in time for Airflow's five seconds."""
    assert _STOP_SECONDS < 5
    monkeypatch.setattr("airflow_provider_hca.parallel._STOP_SECONDS", 0.1)
    stop, let_go, hung = threading.Event(), threading.Event(), threading.Event()

    def hang(_: int) -> None:
        stop.set()
        let_go.wait(60)
        hung.set()

    _run([1], hang, stop=stop)
    assert not hung.is_set()
    let_go.set()
    assert hung.wait(60)


class _TimeoutError(BaseException):
    """As Airflow's task time-out, which is no Exception."""


def _alarm(_: int, __: FrameType | None) -> None:
    raise _TimeoutError


def test_timeout_in_main_thread_stops_all() -> None:
    """An exception in the main thread, such as a task's timeout, stops the other threads and is raised again."""
    stop, tried = threading.Event(), []

    def work(item: int) -> None:
        tried.append(item)
        stop.wait(0.05)

    before = signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(_TimeoutError):
            _run(list(range(10_000)), work, stop=stop)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stop.is_set()
    assert upload_threads() == []
    assert len(tried) < 10_000


def test_item_whose_thread_dies_fails() -> None:
    """An item is never taken for done when its thread dies of something that is no Exception, as a Rust panic is."""

    def work(item: int) -> None:
        if item == 5:
            raise _TimeoutError

    failures = _run(list(range(10)), work)
    assert [item for item, _ in failures] == [5]


def test_budget_limits_items_in_progress() -> None:
    """Items in progress cost no more than the budget together; an item that costs more runs alone."""
    costs = {item: 100 if item == 8 else 5 for item in range(61)}
    spent, most, lock = [0], [0, 0], threading.Lock()
    two = threading.Barrier(2, timeout=60)

    def work(item: int) -> None:
        with lock:
            spent[0] += costs[item]
            most[item == 8] = max(most[item == 8], spent[0])
        if item != 8:
            two.wait()
        with lock:
            spent[0] -= costs[item]

    assert _run(list(range(61)), work, workers=16, cost=costs.__getitem__, budget=10) == []
    assert most == [10, 100]


def test_progress_is_reported_in_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every five seconds the number of finished items is reported, in the calling thread."""
    reports: list[tuple[int, threading.Thread]] = []
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() * 100)  # a clock that runs fast
    _run(
        list(range(100)),
        lambda _: time.sleep(0.01),
        workers=2,
        on_progress=lambda done: reports.append((done, threading.current_thread())),
    )
    counts = [count for count, _ in reports]
    assert len(counts) >= 3
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[-1] <= 100
    assert {thread for _, thread in reports} == {threading.current_thread()}
