"""The four checksums that a DSS wants of a staged object; those of a file are in `file_sums`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MIB = 1 << 20
# Up to this size `s3_etag` is the content's MD5, and S3 has the object in one piece; above, in parts of this size.
PART_SIZE = 64 * MIB
_MOST_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Checksums:
    """The sums of one content, in hexadecimal (`PUT /files`).

    :ivar s3_etag: as S3 computes it for an object staged as a DSS wants it
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
    """Return the size in bytes of the parts that an object of this size is staged in on S3.

    Above 640,000 MiB parts of 64 MiB would be more than S3's 10,000, so they grow, in whole MiB (`PUT /files`).

    :param size: of the object, in bytes
    """
    if size <= PART_SIZE * _MOST_PARTS:
        return PART_SIZE
    return -(-size // (_MOST_PARTS * MIB)) * MIB


def etag_of_parts(digests: Sequence[bytes]) -> str:
    """Return the ETag that S3 gives an object which was put in parts.

    :param digests: the parts' MD5s, 16 bytes each
    """
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def checksum_bytes(content: bytes) -> Checksums:
    """Return the sums of a content of at most 64 MiB that is in memory."""
    return checksum_chunks([content])


def checksum_chunks(chunks: Iterable[bytes]) -> Checksums:
    """Return the sums of a content of at most 64 MiB that comes in pieces."""
    import google_crc32c

    sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    md5, crc32c = hashlib.md5(usedforsecurity=False), 0
    for chunk in chunks:
        sha256.update(chunk)
        sha1.update(chunk)
        md5.update(chunk)
        crc32c = google_crc32c.extend(crc32c, chunk)
    return Checksums(sha256.hexdigest(), sha1.hexdigest(), md5.hexdigest(), f"{crc32c:08x}")


def checksum_stream(chunks: Iterable[bytes], size: int) -> Checksums:
    """Return the sums of a content of any size that comes in pieces.

    :param size: of it, in bytes
    """
    if size <= PART_SIZE:
        return checksum_chunks(chunks)
    import google_crc32c

    sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    md5, crc32c = hashlib.md5(usedforsecurity=False), 0
    digests: list[bytes] = []
    left = step = part_size(size)
    for chunk in chunks:
        sha256.update(chunk)
        sha1.update(chunk)
        crc32c = google_crc32c.extend(crc32c, chunk)
        rest = memoryview(chunk)
        while len(rest) >= left:
            md5.update(rest[:left])
            digests.append(md5.digest())
            md5, rest, left = hashlib.md5(usedforsecurity=False), rest[left:], step
        md5.update(rest)
        left -= len(rest)
    if left < step:
        digests.append(md5.digest())
    return Checksums(sha256.hexdigest(), sha1.hexdigest(), etag_of_parts(digests), f"{crc32c:08x}")


# crc32c is the remainder of a division of polynomials, kept with its bits reversed: the highest is the constant 1.
_POLYNOMIAL = 0x82F63B78
_ONE, _X = 1 << 31, 1 << 30


def combine_crc32c(first: int, second: int, size: int) -> int:
    """Return the crc32c of two contents, one behind the other, from the crc32c of each.

    :param first: of the first content
    :param second: of the second one
    :param size: of the second one, in bytes
    """
    power, factor, bits = _X, _ONE, size * 8
    while bits:
        if bits & 1:
            factor = _multiply(factor, power)
        power, bits = _multiply(power, power), bits >> 1
    return _multiply(first, factor) ^ second


def _multiply(left: int, right: int) -> int:
    """Return the product of two polynomials, modulo that of crc32c."""
    product = 0
    while left:
        if left & _ONE:
            product ^= right
        left = left << 1 & 0xFFFFFFFF
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return product
