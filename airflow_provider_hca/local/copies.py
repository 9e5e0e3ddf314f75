"""Copy staged objects into the store: during the request, or in the background."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from typing import TYPE_CHECKING

from .staging import checksum_error, parse_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .blob_store import BlobStore
    from .staging import Source, StagingStore
    from .store import Copy, FileRecord, Store

_WORKERS = 2


class ChecksumMismatchError(Exception):
    """The content does not match the checksums of the staged object."""


class StagedObjectGoneError(Exception):
    """The staged object does not exist (any more)."""


class Copies:
    """Copy content. Copies in the background are recorded first, so that a restart resumes them.

    :param delay: seconds before a copy in the background starts
    """

    def __init__(
        self, store: Store, blobs: BlobStore, staging_stores: Mapping[str, StagingStore], delay: float
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._staging_stores = staging_stores
        self._delay = delay
        self._queue: queue.Queue[tuple[float, Copy]] = queue.Queue()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the worker threads; enqueue the copies that an earlier process did not finish."""
        for copy in self._store.pending_copies():
            self.enqueue(copy)
        for _ in range(_WORKERS):
            threading.Thread(target=self._work, daemon=True).start()

    def stop(self) -> None:
        """Start no more copies. A running one may be interrupted: it remains recorded as pending."""
        self._stopping.set()

    def enqueue(self, copy: Copy) -> None:
        """Schedule a recorded copy."""
        self._queue.put((time.monotonic() + self._delay, copy))

    def copy(self, source: Source, file: FileRecord) -> None:
        """Copy a staged object into the store if its content matches the checksums of `file`.

        :raises ChecksumMismatchError: when a checksum or the part size is wrong
        :raises StagedObjectGoneError: when the object does not exist
        """
        staging = self._staging_stores[source.replica]
        staged = staging.find(source.bucket, source.key)
        content = staging.open(source.bucket, source.key)
        if staged is None or content is None:
            raise StagedObjectGoneError(source.url)
        with content, self._blobs.receive(content, staged.size) as blob:
            error = checksum_error(staged, file.sums, blob.sums)
            if error:
                raise ChecksumMismatchError(error)
            blob.commit()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                due, copy = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if not self._stopping.wait(max(0.0, due - time.monotonic())):
                self.finish(copy)

    def finish(self, copy: Copy) -> None:
        """Execute one copy; HEAD file reports the status of a failure from then on."""
        try:
            if copy.fail_status:
                self._store.fail_copy(copy, copy.fail_status)
                return
            self.copy(parse_source(copy.source), copy.file)
            self._store.add_file(copy.file, copy)  # an existing file is kept, and the copy is removed
        except ChecksumMismatchError:
            self._store.fail_copy(copy, 422)
        except StagedObjectGoneError:
            self._store.fail_copy(copy, 404)
        except Exception:  # noqa: BLE001 - the thread must survive, or later copies would silently never be made
            if not self._stopping.is_set():
                traceback.print_exc()
                self._store.fail_copy(copy, 500)
