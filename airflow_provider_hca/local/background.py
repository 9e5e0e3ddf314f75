"""Background threads."""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE = 0.1  # seconds between two polls


class Worker(Protocol):
    """Background work."""

    def start(self) -> None:
        """Start the threads."""

    def stop(self) -> None:
        """Start no further work."""


class BackgroundLoop:
    """A thread that repeats a step.

    :param step: returns whether it did some work; the loop pauses when it did none
    """

    def __init__(self, step: Callable[[], bool]) -> None:
        self.step = step
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._work, daemon=True).start()

    def stop(self) -> None:
        """Start no further step. A running one may be interrupted: a step records its result when it is complete."""
        self._stopping.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                worked = self.step()
            except Exception:  # noqa: BLE001 - the thread must survive, or later work would silently never be done
                if self._stopping.is_set():
                    return
                traceback.print_exc()
                worked = False
            if not worked:
                self._stopping.wait(_PAUSE)
