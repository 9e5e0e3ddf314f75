"""The four checksums of a file, computed in one read."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import google_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

MIB = 1024 * 1024
PART_SIZE = 64 * MIB
_MOST_PARTS = 10_000


@dataclass(frozen=True)
class Checksums:
    """What a DSS knows content by."""

    sha256: str
    sha1: str
    crc32c: str
    s3_etag: str

    def differing(self, other: Checksums) -> str | None:
        """Return the name of the first sum that differs, or None.

        :param other: the sums to compare with
        """
        mine, theirs = asdict(self), asdict(other)
        return next((name for name in mine if mine[name] != theirs[name]), None)


def part_size(size: int) -> int:
    """Return the size of the parts in which an object of `size` bytes is staged.

    :param size: the size of the whole in bytes
    """
    if size <= PART_SIZE * _MOST_PARTS:
        return PART_SIZE
    return -(-size // (_MOST_PARTS * MIB)) * MIB


def chunks(source: BinaryIO) -> Iterator[bytes]:
    """Return the content of `source` a mebibyte at a time: every part size is a multiple of that.

    :param source: an open file
    """
    return iter(lambda: source.read(MIB), b"")


def summed(source: Iterable[bytes], size: int) -> Iterator[bytes | Checksums]:
    """Pass the chunks through, and after the last one give the checksums of them all.

    :param source: chunks of one mebibyte, but for the last
    :param size: how many bytes are to be expected, which decides on the form of the ETag
    """
    sha256 = hashlib.sha256()
    sha1 = hashlib.sha1(usedforsecurity=False)
    crc = google_crc32c.Checksum()  # type: ignore[no-untyped-call] # shipped without types, as the next
    part = hashlib.md5(usedforsecurity=False)
    parts: list[bytes] = []
    limit, filled = part_size(size), 0
    for chunk in source:
        if filled == limit:
            parts.append(part.digest())
            part, filled = hashlib.md5(usedforsecurity=False), 0
        for digest in (sha256, sha1, crc, part):
            digest.update(chunk)
        filled += len(chunk)
        yield chunk
    etag = part.hexdigest()
    if size > PART_SIZE:
        parts.append(part.digest())
        etag = f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
    yield Checksums(sha256.hexdigest(), sha1.hexdigest(), crc.digest().hex(), etag)  # type: ignore[no-untyped-call] # same
