"""Prefixes of buckets in place of directories: `s3://bucket/prefix` and `gs://bucket/prefix`.

What is in the cloud of the staging bucket is copied there by the store itself. A worker reads an object only when it
comes without the checksums that a DSS wants, and then once. The cloud SDKs are imported by `open_source`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from airflow_provider_hca.client.models import Replica, check_name
from airflow_provider_hca.upload.checksums import Checksums
from airflow_provider_hca.upload.entries import Names, PlannedFile

_REPLICAS: Mapping[str, Replica] = {"s3": "aws", "gs": "gcp"}
_LABELS = {
    "hca-dss-sha256": re.compile(r"[0-9a-f]{64}"),
    "hca-dss-sha1": re.compile(r"[0-9a-f]{40}"),
    "hca-dss-s3_etag": re.compile(r"[0-9a-f]{32}(-[0-9]+)?"),
    "hca-dss-crc32c": re.compile(r"[0-9a-f]{8}"),
}


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object of a source.

    :ivar name: its key without the prefix
    :ivar size: in bytes
    :ivar mtime_ns: when it was put there
    :ivar revision: its ETag on S3, its generation on Google Cloud Storage: another content has another
    """

    name: str
    size: int
    mtime_ns: int
    revision: str

    def problem(self) -> str | None:
        """Return why it cannot be a file of a bundle, if so."""
        try:
            check_name(self.name)
        except ValueError as error:
            return str(error)
        return None


class Source(Protocol):
    """The objects under a prefix; may be used by many threads.

    :ivar replica: whose staging bucket is in the same cloud
    """

    replica: Replica

    def objects(self, names: Names) -> Iterator[FoundObject]:
        """Yield the objects whose names are in a range, without those that stand for directories.

        :raises StagingError: when they cannot be listed
        """
        ...

    def sums(self, file: PlannedFile) -> Checksums | None:
        """Return the sums in an object's tags or metadata, if all are there and the store knows of no others.

        :raises FileChangedError: when it is not as planned
        :raises StagingError: when it cannot be looked at
        """
        ...

    def read(self, file: PlannedFile, offset: int, size: int) -> bytes:
        """Return a section of the content of an object.

        :param file: of the object
        :param offset: where it begins, in bytes
        :param size: of it, in bytes
        :raises FileChangedError: when it is not as planned
        :raises StagingError: when it cannot be read
        """
        ...


def is_url(directory: str | Path) -> bool:
    """Return whether that is a prefix of a bucket, and not a directory."""
    return str(directory).startswith(("s3://", "gs://"))


def split_source(directory: str) -> tuple[Replica, str, str]:
    """Return the replica of the same cloud, the bucket, and the prefix with its slash at the end, or empty.

    :param directory: `s3://bucket/prefix` or `gs://bucket/prefix`
    :raises ValueError: when it names no bucket
    """
    scheme, _, rest = directory.partition("://")
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise ValueError(f"directory is a path, 's3://bucket/prefix' or 'gs://bucket/prefix', not {directory!r}")
    return _REPLICAS[scheme], bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""


def check_source(directory: str, *, replica: str, staged: str) -> None:
    """Raise if what is to be uploaded cannot be staged there; a path always can.

    :param directory: to be uploaded
    :param replica: to be staged for
    :param staged: where, as `s3://bucket/prefix`, `gs://bucket/prefix` or, without a scheme, `//bucket/prefix`
    :raises ValueError: when it is in another cloud, or when what is staged would come to lie in it
    """
    if not is_url(directory):
        return
    cloud, bucket, prefix = split_source(directory)
    if cloud != replica:
        raise ValueError(
            f"{directory} is not in the cloud of replica {replica!r}: take replica={cloud!r}, and the DSS copies the "
            "bundle to its other replica by itself"
        )
    target = urlsplit(staged)
    if target.netloc == bucket and target.path.lstrip("/").startswith(prefix):
        raise ValueError(
            f"what is staged would be in {directory} and be uploaded by the next try: give a staging_prefix outside of "
            "it, or another staging_bucket"
        )


def staged_under(bucket: str, prefix: str | None) -> str:
    """Return where an upload is staged, as `check_source` takes it.

    :param bucket: the staging bucket
    :param prefix: of the staged objects' keys
    """
    return f"//{bucket}/{(prefix or '').strip('/')}/"


class Listing:
    """The objects under a prefix, of which some are left out.

    :param root: `s3://bucket/prefix` or `gs://bucket/prefix`
    :param source: of that prefix
    :param hidden: `skip` leaves out what has a segment that begins with a dot, `include` takes it
    :param names: of the objects that are wanted
    """

    def __init__(self, root: str, source: Source, *, hidden: str, names: Names) -> None:
        self.root, self.source = root, source
        self.directories: set[str] = set()
        self._hidden, self._names = hidden, names
        self.offenders: list[tuple[str, str]] = []
        self.skipped = 0

    def files(self) -> Iterator[tuple[str, FoundObject]]:
        """Yield the objects and their names."""
        for found in self.source.objects(self._names):
            if self._hidden == "skip" and f"/{found.name}".find("/.") >= 0:
                self.skipped += 1
            else:
                yield found.name, found


def labelled(labels: Mapping[str, str]) -> Checksums | None:
    """Return the sums that an object is labelled with, if all four are there and well-formed."""
    found = {label: labels.get(label, "").lower() for label in _LABELS}
    if not all(pattern.fullmatch(found[label]) for label, pattern in _LABELS.items()):
        return None
    return Checksums(**{label.removeprefix("hca-dss-"): value for label, value in found.items()})
