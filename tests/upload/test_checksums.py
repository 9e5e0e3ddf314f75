"""The four sums, against sums made in another way."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_hca.parallel import Workers
from airflow_provider_hca.upload.checksums import (
    MIB,
    PART_SIZE,
    Checksums,
    checksum_bytes,
    checksum_stream,
    part_ranges,
    part_size,
)
from airflow_provider_hca.upload.local_files import ContentChangedError, OnBytes, OpenFile, PartSums, ignore_bytes
from airflow_provider_hca.upload.staging.parts import _AHEAD, PartsRunner
from tests.local.server import sums
from tests.upload.support import plan, upload_threads, write_sparse


def _checksum(path: Path, size: int, on_read: OnBytes = ignore_bytes) -> Checksums:
    with OpenFile(path) as file:
        if size <= PART_SIZE:
            return checksum_stream(file.read(0, size, on_read), size)
        with Workers(2, "part") as workers, PartsRunner(workers, on_read=on_read) as runner:
            return runner.checksum(file, size)


class _Reading:
    """A transfer that only reads the parts.

    :param before: called with the number of a part before it is read
    """

    def __init__(self, file: OpenFile, size: int, before: Callable[[int], object]) -> None:
        self._file, self._ranges, self._before = file, part_ranges(size), before
        self.part_count = len(self._ranges)
        self.done = threading.Event()

    def send(self, number: int, _: OnBytes) -> PartSums:
        self._before(number)
        sums = self._file.part_sums(*self._ranges[number])
        if number == self.part_count - 1:
            self.done.set()
        return sums

    def finish(self, sums: Checksums) -> None: ...

    def abort(self) -> None: ...


@pytest.mark.parametrize("size", [0, 1, 64 * MIB, 64 * MIB + 1, 128 * MIB], ids=lambda size: f"{size}")
def test_files(tmp_path: Path, size: int) -> None:
    """A file's sums are those of its content; above 64 MiB the ETag is that of parts of 64 MiB."""
    path = write_sparse(tmp_path / "file", size)
    expected = sums(path)
    assert ("-" in expected["hca-dss-s3_etag"]) == (size > 64 * MIB)
    read: list[int] = []
    assert _checksum(path, size, read.append).as_metadata() == expected
    assert sum(read) == size
    assert max(read, default=0) <= MIB
    assert upload_threads() == []


def test_known_sums() -> None:
    """The sums of "123456789" are those of the standards, and leading zeros of crc32c are kept."""
    found = checksum_bytes(b"123456789")
    assert found == Checksums(
        sha256="15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        sha1="f7c3bc1d808e04732adf679965ccc34ca7ae3441",
        s3_etag="25f9e794323b453885f5181f1b624d0b",
        crc32c="e3069283",
    )
    assert found.crc32c != f"{zlib.crc32(b'123456789'):08x}"
    assert checksum_bytes(b"").crc32c == "00000000"


def test_bytes() -> None:
    """The sums of content in memory are those of the same content in a file, whatever it is."""
    source = random.Random(4711)  # noqa: S311 - the same at every run
    for _ in range(50):
        content = source.randbytes(source.randrange(3000))
        assert checksum_bytes(content).as_metadata() == sums(content)


def test_part_size() -> None:
    """Parts are 64 MiB, and just so much larger, in whole MiB, that there are never more than 10,000."""
    most = 640_000 * MIB
    assert [part_size(size) for size in (0, 1, 64 * MIB + 1, most - 1, most)] == [64 * MIB] * 5
    assert part_size(most + 1) == 65 * MIB
    assert part_size(650_000 * MIB) == 65 * MIB
    assert part_size(650_000 * MIB + 1) == 66 * MIB
    source = random.Random(1)  # noqa: S311 - the same at every run
    for _ in range(1000):
        size = source.randrange(most, 10 * most)
        part = part_size(size)
        assert part % MIB == 0
        assert -(-size // part) <= 10_000
        assert size <= most or -(-size // (part - MIB)) > 10_000, "a smaller part would have done"


def test_larger_parts(tmp_path: Path) -> None:
    """A file above 640,000 MiB, planned and opened as every file is, has larger parts, and still 10,000 at most."""
    size = 640_000 * MIB + 1
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(size)
    [planned] = plan(tmp_path).files
    assert planned.size == size
    ranges = part_ranges(planned.size)
    assert ranges[:2] == [(0, 65 * MIB), (65 * MIB, 65 * MIB)]
    assert ranges[-1] == (9846 * 65 * MIB, size - 9846 * 65 * MIB)
    assert len(ranges) == 9847
    with OpenFile(planned.path) as opened:
        assert opened.part_sums(*ranges[1]).md5 == hashlib.md5(bytes(65 * MIB)).hexdigest()  # noqa: S324 - an ETag


def test_reading_while_a_part_is_in_progress_stops_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a part is sent, no more than half a GiB is read (here two parts), however large the file is."""
    assert _AHEAD * PART_SIZE == 512 * MIB
    monkeypatch.setattr("airflow_provider_hca.upload.staging.parts._AHEAD", 2)
    size, path = 150 * MIB, write_sparse(tmp_path / "file", 150 * MIB)
    read, results, resume = list[int](), list[Checksums](), threading.Event()

    def send() -> None:
        with Workers(2, "part") as workers, PartsRunner(workers, on_read=read.append) as runner:
            results.append(runner.send(_Reading(file, size, lambda number: number or resume.wait(60)), file, size))

    with OpenFile(path) as file:
        sending = threading.Thread(target=send)
        sending.start()
        end = time.monotonic() + 60
        while sum(read) < 128 * MIB and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)
        assert sum(read) == 128 * MIB
        resume.set()
        sending.join()
    assert results == [_checksum(path, size)]


def test_a_file_that_is_written_to_while_it_is_read(tmp_path: Path) -> None:
    """Content that changed between one reader and the next is detected, even if neither size nor time show it."""
    size, path = 65 * MIB, write_sparse(tmp_path / "file", 65 * MIB)
    status, resume = path.stat(), threading.Event()

    def on_read(_: int) -> None:  # of the reader of sha256
        resume.wait(60)

    def change() -> None:
        reading.done.wait(60)
        with path.open("r+b") as writable:
            writable.seek(64 * MIB)
            writable.write(b"other")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        resume.set()

    with OpenFile(path) as file, Workers(1, "part") as workers, PartsRunner(workers, on_read=on_read) as runner:
        reading = _Reading(file, size, lambda _: None)
        threading.Thread(target=change).start()
        with pytest.raises(ContentChangedError, match="written to"):
            runner.send(reading, file, size)


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    """A file that ends earlier than it should is an OSError wherever its sums are asked for."""
    path = write_sparse(tmp_path / "file", 65 * MIB)
    with pytest.raises(OSError, match="shorter"):
        _checksum(path, 130 * MIB)
    assert upload_threads() == []


@pytest.mark.parametrize("size", [50 * MIB, 65 * MIB])
def test_error_of_the_callback_ends_the_reading(tmp_path: Path, size: int) -> None:
    """It ends immediately."""
    path = write_sparse(tmp_path / "file", size)
    reads: list[int] = []

    def on_read(count: int) -> None:
        if count:
            reads.append(count)
        if len(reads) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        _checksum(path, size, on_read)
    assert len(reads) == 3
    assert upload_threads() == []


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """A file that cannot be read is an OSError, which names it."""
    with pytest.raises(FileNotFoundError, match="gone"):
        _checksum(tmp_path / "gone", 1)
