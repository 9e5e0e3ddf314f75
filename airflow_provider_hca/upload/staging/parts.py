"""Objects above 64 MiB: shared workers transfer their parts while the checksums of the whole are computed.

A file is read by several threads, each for itself: one for sha256, one for sha1, and the workers that send parts. They
stay within half a GiB of each other, so that a disk is read once and the others read from the system's cache, at 25
GB/s. Each computes a crc32c of every part besides, for a twentieth of its time: the parts are equal for all readers, or
the file was written to meanwhile, which modification times on network file systems show late.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Protocol, Self, TypeVar

from airflow_provider_hca.exceptions import DSSAbortedError
from airflow_provider_hca.parallel import Workers
from airflow_provider_hca.upload.checksums import PART_SIZE, Checksums, etag_of_parts, part_ranges
from airflow_provider_hca.upload.local_files import ContentChangedError, OnBytes, OpenFile, PartSums, ignore_bytes

T = TypeVar("T")

_AHEAD = 8  # parts between the first and the last reader
_POLL_SECONDS = 0.1


class Transfer(Protocol):
    """An object above 64 MiB on its way to a staging bucket, from a file or from another bucket of the same store.

    :ivar part_count: number of parts; 1 if the store takes the object as one stream
    """

    part_count: int

    def send(self, number: int, on_sent: OnBytes) -> PartSums | None:
        """Transfer a part, unless an earlier try did, and compare it; several threads may do so.

        :param number: number of the part, from 0
        :param on_sent: called with the number of bytes while they are sent; may raise to cancel the transfer
        :return: checksums of the part that was read for it, if any
        :raises FileChangedError: if a source object differs from its plan
        :raises StagingError: if the store refuses it, or has other content
        """
        ...

    def finish(self, sums: Checksums) -> None:
        """Complete the object, compare it, and label it with its checksums.

        :raises StagingError: if the store refuses it, or has other content
        """
        ...

    def abort(self) -> None:
        """Delete the transferred parts; without that, a later try resumes from them."""
        ...


class PartsRunner:
    """Runs the transfer of one object; when it is left, all of its tasks have ended.

    :param workers: thread pool for parts
    :param retry: calls a function again while its failure may be temporary
    :param on_read: called with the number of bytes while a file is hashed; may raise to cancel
    :param on_sent: called with the number of bytes while they are sent; may raise to cancel
    """

    def __init__(
        self,
        workers: Workers,
        *,
        retry: Callable[[Callable[[], Any]], Any] = lambda call: call(),
        on_read: OnBytes = ignore_bytes,
        on_sent: OnBytes = ignore_bytes,
    ) -> None:
        self._workers, self._retry, self._on_read, self._on_sent = workers, retry, on_read, on_sent
        self._tasks: list[Future[Any]] = []
        self._hashers: list[Workers] = []
        self._sent = 0
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._error = self._error or DSSAbortedError("the transfer has ended")
        for task in self._tasks:
            task.cancel()
        wait(self._tasks)
        for hasher in self._hashers:
            hasher.close()

    def copy(self, transfer: Transfer) -> None:
        """Transfer all parts of an object that does not pass this machine."""
        for task in [self._send(transfer, number) for number in range(transfer.part_count)]:
            self._result(task)

    def send(self, transfer: Transfer, file: OpenFile, size: int) -> Checksums:
        """Transfer all parts of a file, and return its checksums.

        :param transfer: transfer of that file
        :param file: file above 64 MiB
        :param size: size in bytes
        :raises ContentChangedError: if the file changed between two reads
        """
        if transfer.part_count > 1:
            return self._checksum(file, size, lambda number: self._send(transfer, number))
        stream = self._send(transfer, 0)
        sums = self.checksum(file, size, stream)
        self._result(stream)
        return sums

    def checksum(self, file: OpenFile, size: int, stream: Future[Any] | None = None) -> Checksums:
        """Return the checksums of a file.

        :param file: file above 64 MiB
        :param size: size in bytes
        :param stream: task that sends the file meanwhile, and that the other readers stay close to
        :raises ContentChangedError: if the file changed between two reads
        """
        ranges = part_ranges(size)

        def submit(number: int) -> Future[PartSums]:
            while stream and not stream.done() and ranges[number][0] > self._sent + _AHEAD * PART_SIZE:
                time.sleep(_POLL_SECONDS)
            return self._submit(self._workers, file.part_sums, *ranges[number], self._check)

        return self._checksum(file, size, submit)

    def _checksum(self, file: OpenFile, size: int, submit_part: Callable[[int], Future[Any]]) -> Checksums:
        import google_crc32c

        sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
        crc32c, md5s, window = 0, list[str](), deque[tuple[Future[Any], Future[int], Future[int]]]()

        def update(chunk: bytes) -> None:
            nonlocal crc32c
            sha1.update(chunk)
            crc32c = google_crc32c.extend(crc32c, chunk)

        def collect() -> None:
            part, *others = (self._result(task) for task in window.popleft())
            if any(other != part.crc32c for other in others):
                raise ContentChangedError("the file was written to while it was read")
            md5s.append(part.md5)

        self._hashers = [Workers(1, "sha256"), Workers(1, "sha1")]
        for number, part in enumerate(part_ranges(size)):
            if len(window) == _AHEAD:
                collect()
            window.append(
                (
                    submit_part(number),
                    self._submit(self._hashers[0], file.crc32c, *part, sha256.update, self._count_read),
                    self._submit(self._hashers[1], file.crc32c, *part, update, self._check),
                )
            )
        while window:
            collect()
        return Checksums(sha256.hexdigest(), sha1.hexdigest(), etag_of_parts(md5s), f"{crc32c:08x}")

    def _send(self, transfer: Transfer, number: int) -> Future[PartSums | None]:
        def send() -> PartSums | None:
            self._check()
            return transfer.send(number, self._count_sent)

        return self._submit(self._workers, self._retry, send)

    def _submit(self, workers: Workers, function: Callable[..., T], *arguments: Any) -> Future[T]:
        def run() -> T:
            self._check()
            try:
                return function(*arguments)
            except BaseException as error:
                self._error = self._error or error
                raise

        task = workers.submit(run)
        self._tasks.append(task)
        return task

    def _result(self, task: Future[T]) -> T:
        try:
            return task.result()
        except DSSAbortedError:  # perhaps because another task failed
            raise self._error or DSSAbortedError("the transfer has ended") from None

    def _count_read(self, count: int) -> None:
        self._check()
        self._on_read(count)

    def _count_sent(self, count: int) -> None:
        self._check()
        self._sent += count
        self._on_sent(count)

    def _check(self, _: int = 0) -> None:
        if self._error is not None:
            raise DSSAbortedError("another part failed")
