"""Doing something for many items in some threads, so that it can be watched and stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from airflow_provider_hca.exceptions import DSSAbortedError

T = TypeVar("T")

_PROGRESS_SECONDS = 5.0
_STOP_SECONDS = 3.0  # Airflow kills a task 5 s after it told it to stop
_LOOK_SECONDS = 0.02

_BUSY = 0.7  # of one core: as much as threads of Python get done together
_FASTER = 1.5  # four times as many should be; the first of them are just begun
_GROWS = 4
_AGAIN_SECONDS = 10.0


def run_parallel(
    items: list[T],
    work: Callable[[T], None],
    *,
    name: str,
    workers: int,
    stop: threading.Event,
    goes_on: Callable[[Exception], bool],
    progress: Callable[[int], None],
    at_first: int | None = None,
    cost: Callable[[T], int] = lambda _: 0,
    budget: int = 0,
) -> list[tuple[T, Exception]]:
    """Call `work` for every item, and return those for which it failed.

    There is no queue: each thread takes the next item when it is done with the last, so nothing piles up.

    :param items: what to work on
    :param work: called in several threads at once; may raise
    :param name: of the threads
    :param workers: how many threads at most
    :param stop: when set, no further item is taken, and this returns within seconds
    :param goes_on: whether further items are taken after this failure
    :param progress: called every few seconds, in this thread, with how many items are done
    :param at_first: how many threads to begin with; there are more as long as the threads mostly wait and more of them
        get more done. All at once if None
    :param cost: what an item takes of the budget while it is worked on
    :param budget: what the items under way may cost together; one that costs more goes alone
    """
    queue = _Shared(items, work, stop, goes_on, cost, budget)
    most = min(workers, len(items))
    size = _Size(min(at_first or most, most), most)
    try:
        reported = time.monotonic()
        while True:
            if queue.more():
                queue.employ(size.now(queue.done), name)
            if queue.is_left(_LOOK_SECONDS):
                break
            if stop.is_set():
                queue.is_left(_STOP_SECONDS)
                break
            if time.monotonic() - reported >= _PROGRESS_SECONDS:
                reported = time.monotonic()
                progress(queue.done)
    except BaseException:
        # A task's time-out is raised in the main thread only, which is this one: the others have to be told.
        stop.set()
        queue.is_left(_STOP_SECONDS)
        raise
    return queue.failures


class _Size:
    """How many threads there should be: four times as many while they mostly wait, for as long as that pays.

    :param count: to begin with
    :param most: never more
    """

    def __init__(self, count: int, most: int) -> None:
        self._count, self._most = count, most
        self._before: tuple[int, float] | None = None  # how many it was, and what they got done a second
        self._settled = float("-inf")
        self._mark(0)

    def now(self, done: int) -> int:
        """Return how many threads there should be now that so many items are done."""
        passed = time.monotonic() - self._at
        settled = self._before is None and self._count == self._most
        # Not before each of the threads can have done one.
        if settled or done - self._done < self._count or not passed:
            return self._count
        rate, busy = (done - self._done) / passed, (time.process_time() - self._cpu) / passed
        before, self._before = self._before, None
        if before and rate < before[1] * _FASTER:
            self._count, self._settled = before[0], time.monotonic()
        elif busy < _BUSY and self._count < self._most and time.monotonic() > self._settled + _AGAIN_SECONDS:
            self._before = self._count, rate
            self._count = min(self._most, self._count * _GROWS)
        self._mark(done)
        return self._count

    def _mark(self, done: int) -> None:
        self._done, self._at, self._cpu = done, time.monotonic(), time.process_time()


class _Shared(Generic[T]):
    """The items that are left, from which threads take one after another."""

    def __init__(
        self,
        items: list[T],
        work: Callable[[T], None],
        stop: threading.Event,
        goes_on: Callable[[Exception], bool],
        cost: Callable[[T], int],
        budget: int,
    ) -> None:
        self.done = 0
        self.failures: list[tuple[T, Exception]] = []
        self._wanted = 0
        self._workers: list[threading.Thread] = []
        self._items, self._work, self._goes_on, self._stop = items, work, goes_on, stop
        self._cost, self._budget, self._spent = cost, budget, 0
        self._taken = self._threads = 0
        self._over = False
        self._lock = threading.Lock()
        self._affordable, self._left = threading.Condition(self._lock), threading.Condition(self._lock)

    def more(self) -> bool:
        """Return whether there is an item that no thread has taken."""
        return self._taken < len(self._items) and not self._over and not self._stop.is_set()

    def employ(self, wanted: int, name: str) -> None:
        """Have so many threads work on the items; if they are more, some of them end after their items."""
        self._wanted = wanted
        for number in range(self._threads, wanted):
            with self._lock:
                self._threads += 1
            # Daemons, so that one that hangs in a library cannot keep a killed task alive.
            worker = threading.Thread(target=self._drain, name=f"dss-{name}-{number}", daemon=True)
            worker.start()
            self._workers.append(worker)

    def is_left(self, seconds: float) -> bool:
        """Wait until no thread works on the items any more, and return whether it is so.

        :param seconds: how long to wait at most
        """
        # Not by `Thread.join`: when a signal's handler raises in it, as a time-out's does, the thread passes for ended.
        with self._left:
            if not self._left.wait_for(lambda: not self._threads, seconds):
                return False
        for worker in self._workers:
            worker.join()
        return True

    def _drain(self) -> None:
        while (index := self._next()) is not None:
            item = self._items[index]
            failure = self._failure(item)
            with self._lock:
                self.done += 1
                self._spent -= self._cost(item)
                if failure is not None:
                    self.failures.append((item, failure))
                    self._over |= not self._goes_on(failure)
                self._affordable.notify_all()

    def _failure(self, item: T) -> Exception | None:
        try:
            self._work(item)
        except DSSAbortedError as error:
            return None if self._stop.is_set() else error
        except Exception as error:  # noqa: BLE001 - nobody is above a thread: everything is reported
            return error
        except BaseException as error:  # noqa: BLE001 - a panic in obstore is one: the item must not pass for done
            return RuntimeError(f"{type(error).__name__}: {error}")
        return None

    def _next(self) -> int | None:
        with self._lock:
            while self.more() and self._threads <= self._wanted:
                index = self._taken
                cost = self._cost(self._items[index])
                if self._spent and self._spent + cost > self._budget:
                    self._affordable.wait(0.1)
                    continue
                self._taken += 1
                self._spent += cost
                return index
            self._threads -= 1
            self._left.notify_all()
            return None
