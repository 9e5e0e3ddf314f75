"""What a staged object must carry, and the check that its content is what it says."""

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

_FORMS = {
    "sha256": re.compile(r"[a-z0-9]{64}"),
    "sha1": re.compile(r"[a-z0-9]{40}"),
    "s3_etag": re.compile(r"[a-z0-9]{32}(-([2-9]|[1-9]\d{1,3}|10000))?"),
    "crc32c": re.compile(r"[a-z0-9]{8}"),
}
SCHEMES = {"aws": "s3", "gcp": "gs"}
_SOURCE = re.compile(r"(?P<scheme>s3|gs|wasb)://(?P<bucket>[^/]+)/(?P<key>.+)", re.DOTALL)


@dataclass(frozen=True)
class Staged:
    """An object in a staging bucket, as it is right now."""

    url: str
    size: int
    content_type: str
    labels: Mapping[str, str]  # tags over user metadata
    parts_etag: str | None  # the ETag the store gave it, where that shows the parts it came in


class NoBucketError(Exception):
    """There is no such bucket to write to."""


class Staging(Protocol):
    """The object store of a replica: where staged objects are, and where bundles are checked out to."""

    def find(self, bucket: str, key: str) -> Staged | None:
        """Return the object, or None."""

    def open(self, bucket: str, key: str) -> BinaryIO | None:
        """Return its content, open for reading, or None."""

    def write(self, bucket: str, key: str, content: Path, content_type: str) -> None:
        """Make an object of a file; `NoBucketError` where there is no such bucket."""


@dataclass(frozen=True)
class Source:
    """A parsed `source_url`."""

    url: str
    replica: str
    bucket: str
    key: str


def parse_source(url: str) -> Source:
    """Return the parts of a `source_url`.

    :param url: `s3://bucket/key` or `gs://bucket/key`
    :raises ProblemError: when a DSS would refuse it
    """
    if url.startswith("wasb://"):
        raise ProblemError(400, "unknown_source_schema", f"The schema of {url} is not supported")
    match = _SOURCE.fullmatch(url)
    if not match:
        raise retry_later(f"Could not find {url}: it names no bucket and key")
    return Source(url, "aws" if match["scheme"] == "s3" else "gcp", match["bucket"], match["key"])


def declared_sums(staged: Staged) -> Checksums:
    """Return the checksums a staged object carries.

    :param staged: the object
    :raises ProblemError: when one is missing or badly formed
    """
    found = {name: staged.labels.get(f"hca-dss-{name}") for name in _FORMS}
    for name, value in found.items():
        if value is None:
            raise ProblemError(422, "missing_checksum", f"{staged.url} carries no hca-dss-{name}")
        if not _FORMS[name].fullmatch(value):
            raise ProblemError(422, "invalid_checksum", f"hca-dss-{name} of {staged.url} is badly formed: {value!r}")
    return Checksums(**{name: str(value) for name, value in found.items()})


def mismatch(staged: Staged, declared: Checksums, real: Checksums) -> str | None:
    """Return a sentence on the first sum that is wrong, or None when all are right.

    :param staged: the object
    :param declared: the checksums it carries
    :param real: the checksums of its content
    """
    wrong = declared.differing(real)
    if wrong:
        said, is_ = asdict(declared)[wrong], asdict(real)[wrong]
        return f"The {wrong} of {staged.url} is {is_}, but its hca-dss-{wrong} says {said}"
    if staged.size > PART_SIZE and staged.parts_etag not in (None, declared.s3_etag):
        return f"{staged.url} was not staged in the parts its hca-dss-s3_etag says: its ETag is {staged.parts_etag}"
    return None
