"""The four checksums that a DSS wants of a staged object, computed in one read of the content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1 << 20
# Up to this size `s3_etag` is the content's MD5, and S3 has the object in one piece; above, in parts of this size.
PART_SIZE = 64 * MIB
_MOST_PARTS = 10_000
_READ_SIZE = MIB


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


def checksum_bytes(content: bytes) -> Checksums:
    """Return the sums of a content of at most 64 MiB that is in memory."""
    return _checksum([content], len(content))


def checksum_file(path: Path, size: int, on_read: Callable[[int], None] = lambda _: None) -> Checksums:
    """Return the sums of a file, read once, a MiB at a time.

    :param path: of the file
    :param size: how long it is, in bytes: decides what `s3_etag` is
    :param on_read: called with the number of bytes after each read; what it raises ends the reading
    :raises OSError: when it cannot be read
    """

    def content() -> Iterator[bytes]:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_READ_SIZE):
                on_read(len(chunk))
                yield chunk

    return _checksum(content(), size)


def _checksum(content: Iterable[bytes], size: int) -> Checksums:
    import google_crc32c

    sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    crc32c: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]  # google's
    etag = _Etag(size)
    for chunk in content:
        sha256.update(chunk)
        sha1.update(chunk)
        crc32c.update(chunk)
        etag.update(chunk)
    return Checksums(sha256.hexdigest(), sha1.hexdigest(), etag.hexdigest(), crc32c.hexdigest().decode())


class _Etag:
    """The ETag that S3 gives an object which is staged as a DSS wants it."""

    def __init__(self, size: int) -> None:
        self._multipart = size > PART_SIZE
        self._part_size = part_size(size)
        self._parts: list[bytes] = []
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._room = self._part_size

    def update(self, chunk: bytes) -> None:
        if not self._multipart or len(chunk) < self._room:
            self._md5.update(chunk)
            self._room -= len(chunk)
            return
        view = memoryview(chunk)
        while len(view) >= self._room:
            self._md5.update(view[: self._room])
            view = view[self._room :]
            self._close_part()
        self._md5.update(view)
        self._room -= len(view)

    def hexdigest(self) -> str:
        if not self._multipart:
            return self._md5.hexdigest()
        if self._room < self._part_size:
            self._close_part()
        whole = hashlib.md5(b"".join(self._parts), usedforsecurity=False).hexdigest()
        return f"{whole}-{len(self._parts)}"

    def _close_part(self) -> None:
        self._parts.append(self._md5.digest())
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._room = self._part_size
