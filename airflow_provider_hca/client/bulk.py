"""Run one call per item on `aiohttp`, on an event loop in a thread of its own.

Registering thousands of files takes 40% of the processor time that threads with `requests` take. The caller's thread
only waits, so that Airflow's SIGTERM handler and execution timeout, which raise in the main thread, act at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from airflow_provider_hca.client.async_transport import AiohttpTransport
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import DSSAbortedError

T = TypeVar("T")

_PROGRESS_INTERVAL = 5.0  # seconds
_STOP_INTERVAL = 0.1  # seconds between two looks at the stop event
_STOP_TIMEOUT = 3.0  # seconds; Airflow kills a task 5 s after SIGTERM


def run_bulk(
    items: Sequence[T],
    make_call: Callable[[T], Call[Any]],
    *,
    transport: RequestsTransport,
    concurrency: int,
    continue_after: Callable[[Exception], bool],
    on_progress: Callable[[int], None],
    finish: Callable[[T, Any], Future[None]] | None = None,
) -> list[tuple[T, Exception]]:
    """Run a call for every item and return the items whose call failed, each with its error.

    The calls run in the event loop's thread, so a call can record its result itself; it must not block. When the
    transport's stop event is set, calls are cancelled and this returns within seconds, without their errors.

    :param items: Items to process
    :param make_call: Returns the call for an item; may be a generator function that combines calls
    :param transport: Gives the settings, stop event, rate limiter and error messages; its connections are not used
    :param concurrency: Calls at once
    :param continue_after: Returns whether to start further calls after this error
    :param on_progress: Called every 5 s, in the caller's thread, with the number of items processed
    :param finish: Starts what is left to do for an item with the result of its call, in another thread; the item is
        processed when that has ended
    """
    if not items:
        return []
    bulk = _Bulk(items, make_call, transport, min(concurrency, len(items)), continue_after, finish)
    bulk.start()
    reported = time.monotonic()
    try:
        while not bulk.has_ended(_STOP_INTERVAL):
            if transport.stop.is_set():
                bulk.cancel()
                bulk.has_ended(_STOP_TIMEOUT)
                break
            if time.monotonic() - reported >= _PROGRESS_INTERVAL:
                reported = time.monotonic()
                on_progress(bulk.done)
    except BaseException:
        transport.stop.set()
        bulk.cancel()
        bulk.has_ended(_STOP_TIMEOUT)
        raise
    if bulk.error is not None:
        raise bulk.error
    return list(bulk.failures)


class _Bulk(Generic[T]):
    """State that the event loop's thread shares with the caller's.

    :ivar done: Number of items processed
    :ivar failures: Items whose call failed
    :ivar error: Error outside of calls, such as in `continue_after`
    """

    def __init__(
        self,
        items: Sequence[T],
        make_call: Callable[[T], Call[Any]],
        transport: RequestsTransport,
        concurrency: int,
        continue_after: Callable[[Exception], bool],
        finish: Callable[[T, Any], Future[None]] | None,
    ) -> None:
        self.done = 0
        self.failures: list[tuple[T, Exception]] = []
        self.error: BaseException | None = None
        # A daemon, so that a host name lookup that hangs cannot keep a killed task alive.
        self._thread = threading.Thread(target=self._run_loop, name="dss-bulk", daemon=True)
        self._ended = threading.Event()
        self._items, self._make_call, self._continue_after = iter(items), make_call, continue_after
        self._finish = finish
        self._transport, self._stop, self._concurrency = transport, transport.stop, concurrency
        self._over = False
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]] | None = None

    def start(self) -> None:
        """Start the event loop in its thread."""
        self._thread.start()

    def has_ended(self, timeout: float) -> bool:
        """Wait for the end of the event loop and return whether it has ended.

        :param timeout: Seconds to wait at most
        """
        # Not by Thread.join alone: if a signal handler raises in it, Python 3.11 takes the thread for ended.
        if not self._ended.wait(timeout):
            return False
        self._thread.join()
        return True

    def cancel(self) -> None:
        """Cancel the calls under way; if the loop has not started yet, it sees the stop event."""
        if self._running is not None:
            loop, workers = self._running
            with contextlib.suppress(RuntimeError):  # the loop has ended in between
                loop.call_soon_threadsafe(workers.cancel)

    def _run_loop(self) -> None:
        try:
            asyncio.run(self._run())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self.error = error
        finally:
            self._ended.set()

    async def _run(self) -> None:
        async with self._transport.as_async(pool_size=self._concurrency) as transport:
            workers = asyncio.gather(*(self._work(transport) for _ in range(self._concurrency)))
            self._running = asyncio.get_running_loop(), workers
            await workers

    async def _work(self, transport: AiohttpTransport) -> None:
        while not self._over and not self._stop.is_set():
            try:
                item = next(self._items)
            except StopIteration:
                return
            failure = await self._failure(transport, item)
            self.done += 1
            if failure is not None:
                self.failures.append((item, failure))
                self._over |= not self._continue_after(failure)

    async def _failure(self, transport: AiohttpTransport, item: T) -> Exception | None:
        try:
            result = await transport.run(self._make_call(item))
            if self._finish is not None:
                await asyncio.wrap_future(self._finish(item, result))
        except DSSAbortedError as error:
            return None if self._stop.is_set() else error
        except Exception as error:  # noqa: BLE001 - every failure is reported with its item
            return error
        return None
