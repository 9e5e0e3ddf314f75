"""Copying staged content into the store: at once, or later in the background."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from typing import TYPE_CHECKING

from .staging import mismatch, parse_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .blob_store import Blobs
    from .staging import Source, Staging
    from .store import Copy, FileRecord, Store

_WORKERS = 2


class CopyRefusedError(Exception):
    """The content is not what the staged object says."""


class StagedObjectGoneError(Exception):
    """There is nothing to copy (any more)."""


class Copies:
    """Copies content. Those made in the background are recorded first, so that a restart goes on with them."""

    def __init__(self, store: Store, blobs: Blobs, stagings: Mapping[str, Staging], delay: float) -> None:
        self._store = store
        self._blobs = blobs
        self._stagings = stagings
        self._delay = delay
        self._queue: queue.Queue[tuple[float, Copy] | None] = queue.Queue()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the workers, with what an earlier process left undone."""
        for copy in self._store.pending_copies():
            self.later(copy)
        for _ in range(_WORKERS):
            threading.Thread(target=self._work, daemon=True).start()

    def stop(self) -> None:
        """Start no more copies. One that is running may be cut off: it is still recorded."""
        self._stopping.set()

    def later(self, copy: Copy) -> None:
        """Make a recorded copy in the background.

        :param copy: the copy
        """
        self._queue.put((time.monotonic() + self._delay, copy))

    def now(self, source: Source, file: FileRecord) -> None:
        """Put the content of `source` into the store if it is what `file` says.

        :param source: the staged object
        :param file: what it is to become
        :raises CopyRefusedError: when a checksum or the parts are wrong
        :raises StagedObjectGoneError: when there is no such object
        """
        staging = self._stagings[source.replica]
        staged = staging.find(source.bucket, source.key)
        content = staging.open(source.bucket, source.key)
        if staged is None or content is None:
            raise StagedObjectGoneError(source.url)
        with content, self._blobs.receive(content, staged.size) as incoming:
            wrong = mismatch(staged, file.sums, incoming.sums)
            if wrong:
                raise CopyRefusedError(wrong)
            incoming.keep()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                item = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if item is None:
                return
            due, copy = item
            if not self._stopping.wait(max(0.0, due - time.monotonic())):
                self._finish(copy)

    def _finish(self, copy: Copy) -> None:
        """Make one copy; whatever goes wrong shows in what HEAD answers from then on."""
        try:
            if copy.doomed:
                self._store.fail_copy(copy, copy.doomed)
                return
            self.now(parse_source(copy.source), copy.file)
            self._store.add_file(copy.file, copy)  # does nothing to a file that is there: the copy is dropped
        except CopyRefusedError:
            self._store.fail_copy(copy, 422)
        except StagedObjectGoneError:
            self._store.fail_copy(copy, 404)
        except Exception:  # noqa: BLE001 - a worker that died would leave every later copy undone, without a word
            if not self._stopping.is_set():
                traceback.print_exc()
                self._store.fail_copy(copy, 500)
