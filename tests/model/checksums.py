"""The four checksums, computed independently of the code, with parts that are small enough to test."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from types import MappingProxyType

import google_crc32c

PART = 2000  # bytes, instead of 64 MiB


@functools.lru_cache(maxsize=10_000)
def sums(content: bytes) -> Mapping[str, str]:
    """Return the labels of a staged object."""
    parts = [content[start : start + PART] for start in range(0, len(content), PART)] or [b""]
    digests = [hashlib.md5(part).digest() for part in parts]  # noqa: S324 - what S3 calls an ETag
    etag = digests[0].hex()
    if len(parts) > 1:
        etag = f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(parts)}"  # noqa: S324 - same
    return MappingProxyType(
        {
            "hca-dss-sha256": hashlib.sha256(content).hexdigest(),
            "hca-dss-sha1": hashlib.sha1(content).hexdigest(),  # noqa: S324 - a DSS wants it
            "hca-dss-s3_etag": etag,
            "hca-dss-crc32c": f"{google_crc32c.value(content):08x}",
        }
    )
