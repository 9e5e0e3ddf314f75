"""The four sums, against sums made in another way."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
import zlib
from pathlib import Path

import pytest

from airflow_provider_hca.upload.checksums import MIB, PART_SIZE, Checksums, checksum_bytes, combine_crc32c, part_size
from airflow_provider_hca.upload.file_sums import _AHEAD, ContentChangedError, FileSums, OpenFile, checksum_file
from airflow_provider_hca.upload.staging.s3 import S3Staging
from tests.local.server import sums
from tests.upload.support import plan, upload_threads, write_sparse


def _labels(content: bytes) -> dict[str, str]:
    return sums(content)


@pytest.mark.parametrize("size", [0, 1, 64 * MIB, 64 * MIB + 1, 128 * MIB], ids=lambda size: f"{size}")
def test_files(tmp_path: Path, size: int) -> None:
    """A file's sums are those of its content; above 64 MiB the ETag is that of parts of 64 MiB."""
    path = write_sparse(tmp_path / "file", size)
    content = path.read_bytes()
    assert len(content) == max(size, 0)
    expected = _labels(content)
    assert ("-" in expected["hca-dss-s3_etag"]) == (size > 64 * MIB)
    read: list[int] = []
    assert checksum_file(path, size, read.append).as_metadata() == expected
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
        assert checksum_bytes(content).as_metadata() == _labels(content)


@pytest.mark.parametrize("seed", range(4))
def test_crc32c_of_two_contents(seed: int) -> None:
    """The crc32c of two contents one behind the other is had from theirs, whatever their lengths."""
    source = random.Random(seed)  # noqa: S311 - the same at every run
    for _ in range(20):
        first, second = source.randbytes(source.randrange(300)), source.randbytes(source.choice([0, 1, 5, 4097, MIB]))
        crc32cs = [int(checksum_bytes(content).crc32c, 16) for content in (first, second, first + second)]
        assert combine_crc32c(crc32cs[0], crc32cs[1], len(second)) == crc32cs[2]


def test_crc32c_of_very_large_contents() -> None:
    """A thousand parts of 65 MiB of zeros have the crc32c that comes of joining them two by two."""
    size = 65 * MIB
    one = int(checksum_bytes(bytes(size)).crc32c, 16)
    whole, by_halves = 0, one
    for _ in range(1024):
        whole = combine_crc32c(whole, one, size)
    for doubling in range(10):
        by_halves = combine_crc32c(by_halves, by_halves, size << doubling)
    assert whole == by_halves


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
    with OpenFile(planned.path) as opened, FileSums(opened, planned.size) as of_file:
        assert of_file.parts[:2] == [(0, 65 * MIB), (65 * MIB, 65 * MIB)]
        assert of_file.parts[-1] == (9846 * 65 * MIB, size - 9846 * 65 * MIB)
        assert of_file.md5(0) == of_file.md5(1) == hashlib.md5(bytes(65 * MIB)).hexdigest()  # noqa: S324 - an ETag
    assert S3Staging.part_count(size) == len(of_file.parts) == 9847


def test_reader_while_no_part_is_released_stops_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While parts are in use, no more than half a GiB is read (here two parts), however large the file is."""
    assert _AHEAD * PART_SIZE == 512 * MIB
    monkeypatch.setattr("airflow_provider_hca.upload.file_sums._AHEAD", 2)
    path = write_sparse(tmp_path / "file", 150 * MIB)
    read: list[int] = []
    with OpenFile(path) as file, FileSums(file, 150 * MIB, read.append) as of_file:
        of_file.md5(1)
        end = time.monotonic() + 60
        while sum(read) < 128 * MIB and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)
        assert sum(read) == 128 * MIB
        for number in range(len(of_file.parts)):
            of_file.release(number)
        assert of_file.result() == checksum_file(path, 150 * MIB)


def test_a_file_that_is_written_to_while_it_is_read(tmp_path: Path) -> None:
    """Content that changed between one reader and the next is found out, even if neither size nor time tell."""
    path = write_sparse(tmp_path / "file", 65 * MIB)
    status, go_on = path.stat(), threading.Event()

    def on_read(count: int) -> None:  # of the reader of sha256
        if count:
            go_on.wait(60)

    with OpenFile(path) as file, FileSums(file, 65 * MIB, on_read) as of_file:
        of_file.md5(1)
        with path.open("r+b") as writable:
            writable.seek(64 * MIB)
            writable.write(b"other")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        go_on.set()
        with pytest.raises(ContentChangedError, match="written to"):
            of_file.result()


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    """A file that ends earlier than it should is an OSError wherever its sums are asked for."""
    path = write_sparse(tmp_path / "file", 65 * MIB)
    with OpenFile(path) as file, FileSums(file, 130 * MIB) as of_file:
        with pytest.raises(OSError, match="shorter"):
            of_file.md5(1)
        with pytest.raises(OSError, match="shorter"):
            of_file.result()
    assert upload_threads() == []


@pytest.mark.parametrize("size", [50 * MIB, 65 * MIB])
def test_reading_can_be_ended(tmp_path: Path, size: int) -> None:
    """What the callback raises ends the reading, there and then."""
    path = write_sparse(tmp_path / "file", size)
    reads: list[int] = []

    def on_read(count: int) -> None:
        if count:
            reads.append(count)
        if len(reads) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        checksum_file(path, size, on_read)
    assert len(reads) == 3
    assert upload_threads() == []


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """A file that cannot be read is an OSError, which names it."""
    with pytest.raises(FileNotFoundError, match="gone"):
        checksum_file(tmp_path / "gone", 1)
