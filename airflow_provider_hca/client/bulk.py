"""Run one call per item on `aiohttp`, on the event loop of a transport.

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
    :param transport: Transport, in whose event loop the calls run; also gives the stop event
    :param concurrency: Calls at once
    :param continue_after: Returns whether to start further calls after this error
    :param on_progress: Called every 5 s, in the caller's thread, with the number of items processed
    :param finish: Starts what is left to do for an item with the result of its call, in another thread; the item is
        processed when that has ended
    """
    if not items:
        return []
    bulk = _Bulk(items, make_call, transport.stop, min(concurrency, len(items)), continue_after, finish)
    loop = transport.loop_thread()
    ended = loop.submit(bulk.run)
    reported = time.monotonic()
    try:
        while not _has_ended(ended, _STOP_INTERVAL):
            if transport.stop.is_set():
                loop.call(bulk.cancel)
                _has_ended(ended, _STOP_TIMEOUT)
                return list(bulk.failures)
            if time.monotonic() - reported >= _PROGRESS_INTERVAL:
                reported = time.monotonic()
                on_progress(bulk.done)
    except BaseException:
        transport.stop.set()
        loop.call(bulk.cancel)
        _has_ended(ended, _STOP_TIMEOUT)
        raise
    ended.result()
    return list(bulk.failures)


def _has_ended(future: Future[None], timeout: float) -> bool:
    """Wait for a future, and return whether it has ended.

    :param timeout: Seconds to wait at most
    """
    try:
        future.exception(timeout)
    except TimeoutError:
        return False
    return True


class _Bulk(Generic[T]):
    """State that the event loop's thread shares with the caller's.

    :ivar done: Number of items processed
    :ivar failures: Items whose call failed
    """

    def __init__(
        self,
        items: Sequence[T],
        make_call: Callable[[T], Call[Any]],
        stop: threading.Event,
        concurrency: int,
        continue_after: Callable[[Exception], bool],
        finish: Callable[[T, Any], Future[None]] | None,
    ) -> None:
        self.done = 0
        self.failures: list[tuple[T, Exception]] = []
        self._items, self._make_call, self._continue_after = iter(items), make_call, continue_after
        self._finish = finish
        self._stop, self._concurrency = stop, concurrency
        self._over = False
        self._workers: asyncio.Future[Any] | None = None

    async def run(self, transport: AiohttpTransport) -> None:
        """Process the items.

        :raises Exception: what another function than a call raised, such as `continue_after`
        """
        tasks = [asyncio.create_task(self._work(transport)) for _ in range(self._concurrency)]
        self._workers = asyncio.gather(*tasks)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._workers
        finally:  # an error of one does not end the others
            for task in tasks:
                task.cancel()

    def cancel(self) -> None:
        """Cancel the calls under way; those that have not started see the stop event. Call it in the event loop."""
        if self._workers is not None:
            self._workers.cancel()

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
