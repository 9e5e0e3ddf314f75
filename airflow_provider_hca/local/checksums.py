"""The four checksums of a DSS file, computed in one pass."""

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
_MAX_PARTS = 10_000


@dataclass(frozen=True)
class Checksums:
    """The four checksums that identify a content in a DSS."""

    sha256: str
    sha1: str
    crc32c: str
    s3_etag: str

    def first_difference(self, other: Checksums) -> str | None:
        """Return the name of the first checksum that differs, or None."""
        mine, theirs = asdict(self), asdict(other)
        return next((name for name in mine if mine[name] != theirs[name]), None)


def part_size(size: int) -> int:
    """Return the part size, in bytes, in which an object is staged.

    :param size: size of the object in bytes
    """
    if size <= PART_SIZE * _MAX_PARTS:
        return PART_SIZE
    return -(-size // (_MAX_PARTS * MIB)) * MIB


def read_chunks(source: BinaryIO) -> Iterator[bytes]:
    """Read a file in chunks of 1 MiB; every part size is a multiple of that."""
    return iter(lambda: source.read(MIB), b"")


def hash_chunks(source: Iterable[bytes], size: int) -> Iterator[bytes | Checksums]:
    """Yield the chunks, then their checksums.

    :param source: chunks of 1 MiB, except the last
    :param size: total size in bytes, which determines the form of the ETag
    """
    sha256 = hashlib.sha256()
    sha1 = hashlib.sha1(usedforsecurity=False)
    crc = google_crc32c.Checksum()  # type: ignore[no-untyped-call] # no type information
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
