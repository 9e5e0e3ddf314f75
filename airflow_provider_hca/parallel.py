"""Work on many items in threads, with progress, a memory budget, and a stop within seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, Self, TypeVar

from airflow_provider_hca.exceptions import DSSAbortedError

T = TypeVar("T")

_PROGRESS_SECONDS = 5.0
_STOP_SECONDS = 3.0  # Airflow kills a task 5 s after asking it to stop
_POLL_SECONDS = 0.02


def run_parallel(
    items: list[T],
    work: Callable[[T], None],
    *,
    name: str,
    workers: int,
    stop: threading.Event,
    continue_after: Callable[[Exception], bool],
    on_progress: Callable[[int], None],
    cost: Callable[[T], int] = lambda _: 0,
    budget: int = 0,
) -> list[tuple[T, Exception]]:
    """Call `work` for every item, and return the failed items with their errors.

    There is no queue: each thread takes the next item after its last one, so nothing piles up.

    :param items: items to work on
    :param work: function that is called in several threads at once; may raise
    :param name: part of the threads' names
    :param workers: maximum number of threads
    :param stop: event after which no further item is taken, and this returns within seconds
    :param continue_after: decides whether further items are taken after an error
    :param on_progress: function that is called every few seconds, in this thread, with the number of finished items
    :param cost: share of the budget that an item takes while it is in progress
    :param budget: maximum cost of the items in progress; an item that costs more runs alone
    """
    shared = _Shared(items, work, stop, continue_after, cost, budget)
    shared.start(min(workers, len(items)), name)
    try:
        reported = time.monotonic()
        while not shared.wait(_POLL_SECONDS):
            if stop.is_set():
                shared.wait(_STOP_SECONDS)
                break
            if time.monotonic() - reported >= _PROGRESS_SECONDS:
                reported = time.monotonic()
                on_progress(shared.done)
    except BaseException:
        # Airflow raises a task's timeout in the main thread only, which is this one.
        stop.set()
        shared.wait(_STOP_SECONDS)
        raise
    return shared.failures


class _Shared(Generic[T]):
    """Items from which threads take one after another."""

    def __init__(
        self,
        items: list[T],
        work: Callable[[T], None],
        stop: threading.Event,
        continue_after: Callable[[Exception], bool],
        cost: Callable[[T], int],
        budget: int,
    ) -> None:
        self.done = 0
        self.failures: list[tuple[T, Exception]] = []
        self._items, self._work, self._continue_after, self._stop = items, work, continue_after, stop
        self._cost, self._budget, self._spent = cost, budget, 0
        self._taken = self._running = 0
        self._halted = False
        self._threads: list[threading.Thread] = []
        lock = threading.Lock()
        self._lock = lock
        self._affordable, self._ended = threading.Condition(lock), threading.Condition(lock)

    def start(self, count: int, name: str) -> None:
        self._running = count
        for number in range(count):
            # Daemons: a thread that hangs in a library must not keep a killed task alive.
            thread = threading.Thread(target=self._run, name=f"dss-{name}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait(self, seconds: float) -> bool:
        """Return whether all threads end within some seconds."""
        # Not by `Thread.join` alone: if a signal handler raises in it, as for a timeout, the thread counts as ended.
        with self._ended:
            if not self._ended.wait_for(lambda: not self._running, seconds):
                return False
        for thread in self._threads:
            thread.join()
        return True

    def _run(self) -> None:
        while (index := self._next()) is not None:
            item = self._items[index]
            error = self._error(item)
            with self._lock:
                self.done += 1
                self._spent -= self._cost(item)
                if error is not None:
                    self.failures.append((item, error))
                    self._halted |= not self._continue_after(error)
                self._affordable.notify_all()

    def _error(self, item: T) -> Exception | None:
        try:
            self._work(item)
        except DSSAbortedError as error:
            return None if self._stop.is_set() or self._halted else error
        except Exception as error:  # noqa: BLE001 - a thread has no caller: every error is returned
            return error
        except BaseException as error:  # noqa: BLE001 - a panic in obstore is one: the item has failed, too
            return RuntimeError(f"{type(error).__name__}: {error}")
        return None

    def _next(self) -> int | None:
        with self._lock:
            while self._taken < len(self._items) and not self._halted and not self._stop.is_set():
                index = self._taken
                cost = self._cost(self._items[index])
                if self._spent and self._spent + cost > self._budget:
                    self._affordable.wait(0.1)
                    continue
                self._taken += 1
                self._spent += cost
                return index
            self._running -= 1
            self._ended.notify_all()
            return None


class Workers:
    """A thread pool like `ThreadPoolExecutor`, with daemon threads, so that a hung one does not keep a task alive.

    :param count: number of threads
    :param name: part of the threads' names
    """

    def __init__(self, count: int, name: str) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"dss-{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Call a function in one of the threads."""
        future: Future[T] = Future()
        self._tasks.put((future, function, arguments))
        return future

    def close(self) -> None:
        """Run the tasks that were submitted, and end the threads."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, function, arguments = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                    future.set_exception(error)
                del future, function, arguments, task
