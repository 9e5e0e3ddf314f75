"""The four sums, against sums made in another way."""

from __future__ import annotations

import hashlib
import random
import zlib
from pathlib import Path

import pytest

from airflow_provider_hca.upload.checksums import MIB, Checksums, _Etag, checksum_bytes, checksum_file, part_size
from tests.local.server import sums
from tests.upload.support import write_sparse


def _labels(content: bytes) -> dict[str, str]:
    return sums(content)


@pytest.mark.parametrize(
    "size", [0, 1, MIB, 64 * MIB - 1, 64 * MIB, 64 * MIB + 1, 128 * MIB, 130 * MIB], ids=lambda size: f"{size}"
)
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
def test_parts_do_not_depend_on_reads(seed: int) -> None:
    """The ETag is the same wherever one read ends and the next begins, even in reads larger than a part."""
    source = random.Random(seed)  # noqa: S311 - the same at every run
    content = bytearray(source.choice([65, 128, 129]) * MIB + source.choice([0, 1, 17]))
    for _ in range(100):
        content[source.randrange(len(content))] = source.randrange(256)
    view, etag, start = memoryview(content), _Etag(len(content)), 0
    while start < len(content):
        room = 64 * MIB - start % (64 * MIB)
        step = source.choice([room, room + 1, max(1, room - 1), 3 * MIB + 1, 66 * MIB, 1])
        etag.update(bytes(view[start : start + step]))
        start += step
    digests = [hashlib.md5(view[at : at + 64 * MIB]).digest() for at in range(0, len(content), 64 * MIB)]  # noqa: S324 - an ETag
    whole = hashlib.md5(b"".join(digests)).hexdigest()  # noqa: S324 - an ETag
    assert etag.hexdigest() == f"{whole}-{len(digests)}"


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


def test_larger_parts() -> None:
    """The ETag of a file above 640,000 MiB is that of its larger parts."""
    etag = _Etag(640_000 * MIB + 1)
    content = bytes(66 * MIB)
    etag.update(content)
    digests = [hashlib.md5(part).digest() for part in (content[: 65 * MIB], content[65 * MIB :])]  # noqa: S324 - an ETag
    assert etag.hexdigest() == f"{hashlib.md5(b''.join(digests)).hexdigest()}-2"  # noqa: S324 - an ETag


def test_reading_can_be_ended(tmp_path: Path) -> None:
    """What the callback raises ends the reading, there and then."""
    path = write_sparse(tmp_path / "file", 50 * MIB)
    reads: list[int] = []

    def on_read(count: int) -> None:
        reads.append(count)
        if len(reads) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        checksum_file(path, 50 * MIB, on_read)
    assert len(reads) == 3


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """A file that cannot be read is an OSError, which names it."""
    with pytest.raises(FileNotFoundError, match="gone"):
        checksum_file(tmp_path / "gone", 1)
