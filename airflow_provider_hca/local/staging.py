"""Staged objects: their stores, and the checksums that they must carry."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from .checksums import PART_SIZE, Checksums
from .errors import ProblemError, retry_later

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

_PATTERNS = {
    "sha256": re.compile(r"[a-z0-9]{64}"),
    "sha1": re.compile(r"[a-z0-9]{40}"),
    "s3_etag": re.compile(r"[a-z0-9]{32}(-([2-9]|[1-9]\d{1,3}|10000))?"),
    "crc32c": re.compile(r"[a-z0-9]{8}"),
}
SCHEMES = {"aws": "s3", "gcp": "gs"}
_SOURCE = re.compile(r"(?P<scheme>s3|gs|wasb)://(?P<bucket>[^/]+)/(?P<key>.+)", re.DOTALL)


@dataclass(frozen=True)
class StagedObject:
    """The current state of an object in a staging bucket."""

    url: str
    size: int
    content_type: str
    labels: Mapping[str, str]  # user metadata, overridden by tags
    parts_etag: str | None  # ETag of the store; None if it does not depend on the parts


class NoSuchBucketError(Exception):
    """The bucket does not exist."""


class StagingStore(Protocol):
    """The object store of a replica, for staged objects and for checkouts."""

    def find(self, bucket: str, key: str) -> StagedObject | None:
        """Return an object, or None."""

    def open(self, bucket: str, key: str) -> BinaryIO | None:
        """Open the content of an object for reading; return None if it does not exist."""

    def write(self, bucket: str, key: str, content: Path, content_type: str) -> None:
        """Store a file as an object; raise `NoSuchBucketError` if the bucket does not exist."""


@dataclass(frozen=True)
class Source:
    """A parsed `source_url`."""

    url: str
    replica: str
    bucket: str
    key: str


def parse_source(url: str) -> Source:
    """Parse a `source_url`.

    :param url: `s3://bucket/key` or `gs://bucket/key`
    :raises ProblemError: when a DSS would reject it
    """
    if url.startswith("wasb://"):
        raise ProblemError(400, "unknown_source_schema", f"The schema of {url} is not supported")
    match = _SOURCE.fullmatch(url)
    if not match:
        raise retry_later(f"Could not find {url}: expected s3://bucket/key or gs://bucket/key")
    return Source(url, "aws" if match["scheme"] == "s3" else "gcp", match["bucket"], match["key"])


def declared_sums(staged: StagedObject) -> Checksums:
    """Return the checksums in the labels of a staged object.

    :raises ProblemError: when a checksum is missing or malformed
    """
    values: dict[str, str] = {}
    for name in _PATTERNS:
        label = staged.labels.get(f"hca-dss-{name}")
        if label is None:
            raise ProblemError(422, "missing_checksum", f"{staged.url} has no hca-dss-{name}")
        value = values[name] = label.lower()
        if not _PATTERNS[name].fullmatch(value):
            raise ProblemError(422, "invalid_checksum", f"hca-dss-{name} of {staged.url} is malformed: {label!r}")
    return Checksums(**values)


def checksum_error(staged: StagedObject, declared: Checksums, real: Checksums) -> str | None:
    """Return an error message for the first checksum that is wrong, or None.

    :param declared: checksums in the labels of the object
    :param real: checksums of its content
    """
    wrong = declared.first_difference(real)
    if wrong:
        expected, actual = asdict(declared)[wrong], asdict(real)[wrong]
        return f"The {wrong} of {staged.url} is {actual}, but its hca-dss-{wrong} is {expected}"
    if staged.size > PART_SIZE and staged.parts_etag not in (None, declared.s3_etag):
        return (
            f"{staged.url} was staged in parts of another size: its ETag is {staged.parts_etag}, "
            f"but its hca-dss-s3_etag is {declared.s3_etag}"
        )
    return None
