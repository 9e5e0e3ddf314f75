"""Work in the background: a step that is taken again and again."""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE = 0.1  # seconds between two looks for something to do


class Background:
    """A thread that takes a step after the other, and pauses when one found nothing to do."""

    def __init__(self, step: Callable[[], bool]) -> None:
        self._step = step
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._work, daemon=True).start()

    def stop(self) -> None:
        """Take no further step. One that is being taken may be cut off: what it does is recorded when it is done."""
        self._stopping.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                found = self._step()
            except Exception:  # noqa: BLE001 - a thread that died would leave all that follows undone, without a word
                if self._stopping.is_set():
                    return
                traceback.print_exc()
                found = False
            if not found:
                self._stopping.wait(_PAUSE)
