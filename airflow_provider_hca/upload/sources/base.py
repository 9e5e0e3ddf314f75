"""Protocol of sources, and URLs of prefixes: `s3://bucket/prefix` and `gs://bucket/prefix`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from airflow_provider_hca.client.identifiers import SHA256
from airflow_provider_hca.client.models import Replica, name_problem
from airflow_provider_hca.upload.checksums import Checksums
from airflow_provider_hca.upload.entries import Names, PlannedFile
from airflow_provider_hca.upload.local_files import LocalDirectory

_REPLICAS: Mapping[str, Replica] = {"s3": "aws", "gs": "gcp"}
MAX_SIZE = 5 * 1024**4  # bytes
_LABELS = {
    "hca-dss-sha256": SHA256,
    "hca-dss-sha1": re.compile(r"[0-9a-f]{40}"),
    "hca-dss-s3_etag": re.compile(r"[0-9a-f]{32}(-[0-9]+)?"),
    "hca-dss-crc32c": re.compile(r"[0-9a-f]{8}"),
}


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a directory, or an object under a prefix.

    :ivar name: path or key without the directory or prefix
    :ivar size: size in bytes
    :ivar mtime_ns: modification time
    :ivar revision: ETag on S3, generation on Google Cloud Storage, empty for a file; changes with the content
    :ivar is_regular: False for a device, socket or pipe
    """

    name: str
    size: int
    mtime_ns: int
    revision: str = ""
    is_regular: bool = True


class Listing(Protocol):
    """Files of a directory or objects under a prefix, with a record of those that were left out.

    :ivar root: directory or prefix
    :ivar source: source of the objects; None for files
    :ivar offenders: names that cannot become files of a bundle, with the reason
    :ivar directories: names of directories among the offenders
    :ivar skipped: number of files left out by `hidden` and `symlinks`
    """

    root: str
    source: Source | None
    offenders: list[tuple[str, str]]
    directories: set[str]
    skipped: int

    @property
    def directory(self) -> LocalDirectory | None:
        """The open directory."""
        ...

    def files(self) -> Iterator[FoundFile]:
        """Yield all files in no particular order."""
        ...

    def problem(self, file: FoundFile) -> str | None:
        """Return the reason why a file cannot become a file of a bundle, if there is one."""
        ...


class Source(Protocol):
    """Objects under a prefix; several threads may use it.

    :ivar replica: replica whose staging bucket is in the same cloud
    """

    replica: Replica

    def objects(self, names: Names) -> Iterator[FoundFile]:
        """Yield the objects in a range of names, without placeholders of directories.

        :raises StagingError: if they cannot be listed
        """
        ...

    def prefixes(self) -> Iterator[str]:
        """Yield the names directly below the prefix that further names are below.

        :raises StagingError: if they cannot be listed
        """
        ...

    def sums(self, file: PlannedFile) -> Checksums | None:
        """Return the checksums in an object's tags or metadata, if complete and not refuted by the store.

        :raises FileChangedError: if the object differs from its plan
        :raises StagingError: if it cannot be read
        """
        ...

    def read(self, file: PlannedFile, offset: int, size: int) -> bytes:
        """Return a section of an object.

        :param file: planned object
        :param offset: start of the section in bytes
        :param size: size of the section in bytes
        :raises FileChangedError: if the object differs from its plan
        :raises StagingError: if it cannot be read
        """
        ...


class PrefixListing:
    """Listing of the objects under a prefix.

    :param root: `s3://bucket/prefix` or `gs://bucket/prefix`
    :param source: source of that prefix
    :param hidden: `skip` or `include` objects with a segment that begins with a dot
    :param names: range of names
    """

    directory: LocalDirectory | None = None

    def __init__(self, root: str, source: Source, *, hidden: str, names: Names) -> None:
        self.root = root
        self.source: Source | None = source
        self._source = source
        self.offenders: list[tuple[str, str]] = []
        self.directories: set[str] = set()
        self.skipped = 0
        self._hidden, self._names = hidden, names

    def files(self) -> Iterator[FoundFile]:
        """Yield the objects."""
        for file in self._source.objects(self._names):
            if self._hidden == "skip" and "/." in f"/{file.name}":
                self.skipped += 1
            else:
                yield file

    def problem(self, file: FoundFile) -> str | None:
        """Check name and size."""
        return file_problem(file)


def file_problem(file: FoundFile) -> str | None:
    """Return the reason why a DSS or a store refuses a file, if there is one."""
    if problem := name_problem(file.name):
        return problem
    if file.size > MAX_SIZE:
        return f"has {file.size:,} bytes; stores accept at most 5 TiB ({MAX_SIZE:,} bytes) in an object"
    return None


def is_url(directory: str | Path) -> bool:
    """Return whether this is a prefix of a bucket, and not a directory."""
    return str(directory).startswith(("s3://", "gs://"))


def split_source(directory: str) -> tuple[Replica, str, str]:
    """Return the replica of the same cloud, the bucket, and the prefix, empty or with a slash at its end.

    :param directory: `s3://bucket/prefix` or `gs://bucket/prefix`
    :raises ValueError: if the bucket is missing
    """
    scheme, _, rest = directory.partition("://")
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise ValueError(f"directory must be a path, 's3://bucket/prefix' or 'gs://bucket/prefix', got {directory!r}")
    return _REPLICAS[scheme], bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""


def check_source(directory: str, *, replica: str, staged: str) -> None:
    """Check that a prefix can be staged in a bucket; a path always can.

    :param directory: path, or URL of a prefix
    :param replica: replica that it is staged for
    :param staged: `s3://bucket/prefix`, `gs://bucket/prefix`, or `//bucket/prefix` of the staged objects
    :raises ValueError: if it is in another cloud, or would contain the staged objects
    """
    if not is_url(directory):
        return
    cloud, bucket, prefix = split_source(directory)
    if cloud != replica:
        raise ValueError(
            f"{directory} is not in the cloud of replica {replica!r}: give replica={cloud!r}; the DSS copies the "
            "bundle to its other replica by itself"
        )
    target = urlsplit(staged)
    if target.netloc == bucket and target.path.lstrip("/").startswith(prefix):
        raise ValueError(
            f"staged objects would be in {directory}, and be uploaded by the next try: give a staging_prefix outside "
            "of it, or another staging_bucket"
        )


def staged_under(bucket: str, prefix: str | None) -> str:
    """Return the `staged` argument of `check_source`.

    :param bucket: name of the staging bucket
    :param prefix: prefix of the keys of staged objects
    """
    return f"//{bucket}/{(prefix or '').strip('/')}/"


def parse_labels(labels: Mapping[str, str]) -> Checksums | None:
    """Return the checksums in tags or metadata, if all four are present and well-formed."""
    values = {label: labels.get(label, "").lower() for label in _LABELS}
    if not all(pattern.fullmatch(values[label]) for label, pattern in _LABELS.items()):
        return None
    return Checksums(**{label.removeprefix("hca-dss-"): value for label, value in values.items()})
