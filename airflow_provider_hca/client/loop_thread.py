"""An event loop in a thread of its own, whose connections stay open from one piece of work to the next."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from airflow_provider_hca.client.async_transport import AiohttpTransport

_CLOSE_TIMEOUT = 1.0  # seconds; Airflow kills a task 5 s after SIGTERM


class LoopThread:
    """Runs coroutines in an event loop that has a transport.

    :param open_transport: Returns the transport; called in the event loop
    """

    def __init__(self, open_transport: Callable[[], AiohttpTransport]) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon, so that a host name lookup that hangs cannot keep a killed task alive.
        self._thread = threading.Thread(target=_run, args=(self._loop,), name="dss-loop", daemon=True)
        self._thread.start()

        async def open_in_loop() -> AiohttpTransport:
            return open_transport()

        try:
            self._transport = asyncio.run_coroutine_threadsafe(open_in_loop(), self._loop).result()
        except BaseException:
            self.call(self._loop.stop)
            raise

    def submit(self, work: Callable[[AiohttpTransport], Coroutine[Any, Any, None]]) -> Future[None]:
        """Start a coroutine and return its future.

        :param work: Returns the coroutine
        """
        return asyncio.run_coroutine_threadsafe(work(self._transport), self._loop)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the event loop, soon."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """Cancel what is running, close the connections and end the thread, soon."""
        self.call(lambda: self._loop.create_task(self._stop()))

    def close(self) -> None:
        """Stop, and wait for the end of the thread; a loop that is blocked is left behind."""
        self.stop()
        self._thread.join(_CLOSE_TIMEOUT)

    async def _stop(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._transport.close()
        self._loop.stop()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
