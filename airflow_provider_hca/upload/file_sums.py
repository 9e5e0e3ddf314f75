"""The four checksums of a file that may be larger than memory, computed while it is sent.

Several threads each read the file for themselves, a little at a time. They keep close together, so that the disk is
read once and the others read from the system's cache, at 25 GB/s. Each makes a crc32c of every part besides, for a
twentieth of its time, by which it is known that all of them read the same content.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from airflow_provider_hca.upload.checksums import (
    MIB,
    PART_SIZE,
    Checksums,
    checksum_chunks,
    combine_crc32c,
    etag_of_parts,
    part_size,
)

OnRead = Callable[[int], None]


def unread(_: int) -> None:
    """Take no note of what was read."""


_READ_SIZE = MIB // 2  # what a core's own cache holds
_AHEAD = 8  # parts between the first and the last reader: half a GiB of the system's cache
_MOST_MD5S = 4  # threads; sha256 and sha1, which cannot be divided, are no faster than three
_LOOK_AGAIN = 0.1  # seconds


class ContentChangedError(OSError):
    """A file had another content when it was read again."""


def checksum_file(path: Path, size: int, on_read: OnRead = unread) -> Checksums:
    """Return the sums of a file.

    :param path: of the file
    :param size: how long it is, in bytes: decides what `s3_etag` is
    :param on_read: called with the number of bytes after each read, maybe in several threads; what it raises ends the
        reading
    :raises OSError: when it cannot be read, or is shorter
    """
    with OpenFile(path) as file:
        if size <= PART_SIZE:
            return checksum_chunks(file.read(0, size, on_read))
        with FileSums(file, size, on_read) as sums:
            for number in range(len(sums.parts)):
                sums.part(number)
                sums.release(number)
            return sums.result()


class OpenFile:
    """A file that many threads read at once, each where it likes.

    :raises OSError: when it cannot be opened
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def read_some(self, offset: int, most: int) -> bytes:
        """Return some of it, never nothing.

        :param offset: from where, in bytes
        :param most: how much at most, in bytes
        :raises OSError: when it cannot be read, or ended before
        """
        chunk = os.pread(self._file.fileno(), most, offset)
        if not chunk:
            raise ContentChangedError("the file has become shorter")
        return chunk

    def read(self, offset: int, size: int, on_read: OnRead = unread) -> Iterator[bytes]:
        """Yield a section of it, in small pieces.

        :param offset: where it begins, in bytes
        :param size: how long it is, in bytes
        :param on_read: called with the number of bytes after each read
        """
        end = offset + size
        while offset < end:
            chunk = self.read_some(offset, min(_READ_SIZE, end - offset))
            offset += len(chunk)
            on_read(len(chunk))
            yield chunk


class Section:
    """A section of a file, as HTTP libraries read what they send.

    :param file: the file
    :param offset: where the section begins, in bytes
    :param size: how long it is, in bytes
    :param on_read: called with the number of bytes each time that half a MiB was read, and at the end; what it raises
        goes through the library, whatever that does with errors, and out of `reading`
    """

    def __init__(self, file: OpenFile, offset: int, size: int, on_read: OnRead) -> None:
        self._file, self._offset, self._size, self._on_read = file, offset, size, on_read
        self._at = self._untold = 0

    def __len__(self) -> int:
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        """Return so much of it, or what is left."""
        left = self._size - self._at
        most = left if size is None or size < 0 else min(size, left)
        if not most:
            return b""
        try:
            chunk = self._file.read_some(self._offset + self._at, most)
            self._tell(len(chunk))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again by `reading`
            raise _PassingError(error) from None
        return chunk

    def _tell(self, count: int) -> None:
        self._at += count
        self._untold += count
        if self._untold >= _READ_SIZE or self._at == self._size:
            self._untold, told = 0, self._untold
            self._on_read(told)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to where the next read begins."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at


class _PassingError(BaseException):
    """An error on its way through a library that would take an `Exception` for a broken connection, and try again."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


@contextmanager
def reading() -> Iterator[None]:
    """Raise what a `Section` met inside as what it was."""
    try:
        yield
    except _PassingError as passing:
        raise passing.error from None


class FileSums:
    """The sums of a file above 64 MiB: of its parts as soon as they are there, and in the end of the whole.

    sha256 and sha1 have a thread each, the MD5s of the parts several.

    :param file: open until this is closed
    :param size: how long it is, in bytes
    :param on_read: called with the number of bytes after each read that none else did before; what it raises ends all
    """

    def __init__(self, file: OpenFile, size: int, on_read: OnRead = unread) -> None:
        self._file, self._on_read = file, on_read
        step = part_size(size)
        self.parts = [(offset, min(step, size - offset)) for offset in range(0, size, step)]
        self._sha256, self._sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
        self._md5s: list[bytes | None] = [None] * len(self.parts)
        self._crc32cs: dict[str, list[int | None]] = {}
        self._released = [False] * len(self.parts)
        self._first_held = 0
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> None:
        """Let the reading end, and whoever waits for a sum."""
        self._fail(ValueError("the file is closed"))

    def close(self) -> None:
        """End the reading; the file may be closed then."""
        self.stop()
        for thread in self._threads:
            thread.join()

    def part(self, number: int) -> str:
        """Wait for the MD5 of a part, and return it in hexadecimal.

        :param number: of the part, from 0
        :raises OSError: when the file cannot be read
        """
        with self._changed:
            self._wait(lambda: self._md5s[number] is not None)
        digest = self._md5s[number]
        assert digest is not None, "that is what was waited for"  # noqa: S101 - for the type checker
        return digest.hex()

    def release(self, number: int) -> None:
        """Say that a part is done with; without that the reading does not go on for ever.

        :param number: of the part, from 0
        """
        with self._changed:
            self._released[number] = True
            while self._first_held < len(self.parts) and self._released[self._first_held]:
                self._first_held += 1
            self._changed.notify_all()

    def result(self) -> Checksums:
        """Wait for the sums of the whole file, and return them.

        :raises ContentChangedError: when not all of them are of the same content
        :raises OSError: when the file cannot be read
        """
        with self._changed:
            self._wait(lambda: all(None not in crc32cs for crc32cs in self._crc32cs.values()))
        one, *others = self._crc32cs.values()
        if any(other != one for other in others):
            raise ContentChangedError("the file was written to while it was read")
        whole = 0
        for crc32c, (_, size) in zip(one, self.parts, strict=True):
            whole = combine_crc32c(whole, crc32c or 0, size)
        etag = etag_of_parts([digest or b"" for digest in self._md5s])
        return Checksums(self._sha256.hexdigest(), self._sha1.hexdigest(), etag, f"{whole:08x}")

    def _start(self) -> None:
        step = min(_MOST_MD5S, os.cpu_count() or 1, len(self.parts))
        everything = range(len(self.parts))
        readers: list[tuple[str, range, Any]] = [("sha256", everything, self._sha256), ("sha1", everything, self._sha1)]
        readers += [("md5", everything[first::step], None) for first in range(step)]
        self._threads = [
            threading.Thread(target=self._read, args=reader, name=f"dss-{reader[0]}", daemon=True) for reader in readers
        ]
        for name, _, _ in readers:
            self._crc32cs[name] = [None] * len(self.parts)
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, numbers: range, whole: Any) -> None:
        """Make the sums of some parts, in a thread of its own.

        :param name: of the sum
        :param numbers: of the parts
        :param whole: what takes all of their content, one behind the other; without it each part has an MD5 of its own
        """
        import google_crc32c

        # One reader's reads are told: that of sha256, which goes through the whole file.
        on_read = self._on_read if name == "sha256" else lambda _: self._check()
        try:
            for number in numbers:
                with self._changed:
                    self._wait(lambda: number < self._first_held + _AHEAD)  # noqa: B023 - called at once
                crc32c, own = 0, whole or hashlib.md5(usedforsecurity=False)
                for chunk in self._file.read(*self.parts[number], on_read):
                    own.update(chunk)
                    crc32c = google_crc32c.extend(crc32c, chunk)
                    self._check()
                with self._changed:
                    self._crc32cs[name][number] = crc32c
                    if whole is None:
                        self._md5s[number] = own.digest()
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - nobody is above a thread: it is raised where the sums are asked for
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _wait(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._check()
            self._on_read(0)  # which raises when all of it is to end
            self._changed.wait(_LOOK_AGAIN)
        self._check()
