"""The four checksums that a DSS requires of a staged object."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MIB = 1 << 20
# Up to this size `s3_etag` is the MD5 of the content, and S3 stores one piece; above, parts of this size.
PART_SIZE = 64 * MIB
_MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Checksums:
    """Checksums of one content, in hexadecimal (`PUT /files`).

    :ivar s3_etag: ETag that S3 computes for an object in the parts that a DSS requires
    :ivar crc32c: eight digits, big-endian
    """

    sha256: str
    sha1: str
    s3_etag: str
    crc32c: str

    def as_metadata(self) -> dict[str, str]:
        """Return them under the keys that a DSS reads from an object's tags or metadata."""
        return {
            "hca-dss-sha256": self.sha256,
            "hca-dss-sha1": self.sha1,
            "hca-dss-s3_etag": self.s3_etag,
            "hca-dss-crc32c": self.crc32c,
        }


def part_size(size: int) -> int:
    """Return the size in bytes of the parts in which S3 stores an object of this size.

    Above 640,000 MiB, 64 MiB would give more than S3's 10,000 parts, so they grow, in whole MiB (`PUT /files`).

    :param size: size of the object in bytes
    """
    if size <= PART_SIZE * _MAX_PARTS:
        return PART_SIZE
    return -(-size // (_MAX_PARTS * MIB)) * MIB


def part_ranges(size: int) -> list[tuple[int, int]]:
    """Return offset and size in bytes of the parts of an object above 64 MiB.

    :param size: size of the object in bytes
    """
    step = part_size(size)
    return [(offset, min(step, size - offset)) for offset in range(0, size, step)]


def etag_of_parts(md5s: Sequence[str]) -> str:
    """Return the ETag of an object that S3 stores in parts.

    :param md5s: MD5s of the parts, in hexadecimal
    """
    digests = b"".join(bytes.fromhex(md5) for md5 in md5s)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(md5s)}"


def checksum_bytes(content: bytes) -> Checksums:
    """Return the checksums of a content in memory."""
    return checksum_stream([content], len(content))


def checksum_stream(chunks: Iterable[bytes], size: int) -> Checksums:
    """Return the checksums of a content that is read piece by piece.

    :param chunks: pieces of any size
    :param size: size of the content in bytes
    """
    import google_crc32c

    sha256, sha1, crc32c = hashlib.sha256(), hashlib.sha1(usedforsecurity=False), 0
    md5s = [hashlib.md5(usedforsecurity=False)]
    room = step = part_size(size)
    for chunk in chunks:
        sha256.update(chunk)
        sha1.update(chunk)
        crc32c = google_crc32c.extend(crc32c, chunk)
        rest = memoryview(chunk)
        while len(rest) > room:
            md5s[-1].update(rest[:room])
            md5s.append(hashlib.md5(usedforsecurity=False))
            rest, room = rest[room:], step
        md5s[-1].update(rest)
        room -= len(rest)
    digests = [md5.hexdigest() for md5 in md5s]
    etag = digests[0] if size <= PART_SIZE else etag_of_parts(digests)
    return Checksums(sha256.hexdigest(), sha1.hexdigest(), etag, f"{crc32c:08x}")
