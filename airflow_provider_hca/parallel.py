"""Doing something for many items in a few threads, so that it can be watched and stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from airflow_provider_hca.exceptions import DSSAbortedError

T = TypeVar("T")

_PROGRESS_SECONDS = 5.0
_STOP_SECONDS = 3.0  # Airflow kills a task 5 s after it told it to stop


def run_parallel(
    items: list[T],
    work: Callable[[T], None],
    *,
    name: str,
    workers: int,
    stop: threading.Event,
    goes_on: Callable[[Exception], bool],
    progress: Callable[[int], None],
) -> list[tuple[T, Exception]]:
    """Call `work` for every item, and return those for which it failed.

    There is no queue: each thread takes the next item when it is done with the last, so nothing piles up.

    :param items: what to work on
    :param work: called in several threads at once; may raise
    :param name: of the threads
    :param workers: how many threads
    :param stop: when set, no further item is taken, and this returns within seconds
    :param goes_on: whether further items are taken after this failure
    :param progress: called every few seconds, in this thread, with how many items are done
    """
    queue = _Shared(items, work, stop, goes_on)
    # Daemons, so that one that hangs in a library cannot keep a killed task alive.
    threads: list[threading.Thread] = []
    try:
        for number in range(min(workers, len(items))):
            thread = threading.Thread(target=queue.drain, name=f"dss-{name}-{number}", daemon=True)
            thread.start()
            threads.append(thread)
        reported = time.monotonic()
        while not _ended(threads, time.monotonic() + 0.1):
            if stop.is_set():
                _ended(threads, time.monotonic() + _STOP_SECONDS)
                break
            if time.monotonic() - reported >= _PROGRESS_SECONDS:
                reported = time.monotonic()
                progress(queue.done)
    except BaseException:
        # A task's time-out is raised in the main thread only, which is this one: the others have to be told.
        stop.set()
        _ended(threads, time.monotonic() + _STOP_SECONDS)
        raise
    return queue.failures


class _Shared(Generic[T]):
    """The items that are left, from which threads take one after another."""

    def __init__(
        self, items: list[T], work: Callable[[T], None], stop: threading.Event, goes_on: Callable[[Exception], bool]
    ) -> None:
        self.done = 0
        self.failures: list[tuple[T, Exception]] = []
        self._left, self._work, self._goes_on, self._stop = iter(items), work, goes_on, stop
        self._over = False
        self._lock = threading.Lock()

    def drain(self) -> None:
        while (item := self._next()) is not None:
            failure: Exception | None = None
            try:
                self._work(item)
            except DSSAbortedError:
                return
            except Exception as error:  # noqa: BLE001 - nobody is above a thread: everything is reported
                failure = error
            except BaseException as error:  # noqa: BLE001 - a panic in obstore is one: the item must not pass for done
                failure = RuntimeError(f"{type(error).__name__}: {error}")
            with self._lock:
                self.done += 1
                if failure is not None:
                    self.failures.append((item, failure))
                    self._over |= not self._goes_on(failure)

    def _next(self) -> T | None:
        with self._lock:
            return None if self._over or self._stop.is_set() else next(self._left, None)


def _ended(threads: Iterable[threading.Thread], deadline: float) -> bool:
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
