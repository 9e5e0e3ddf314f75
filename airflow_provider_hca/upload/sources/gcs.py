"""A prefix of a bucket of Google Cloud Storage as the source of an upload."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.api_core.exceptions import NotFound, PreconditionFailed

from airflow_provider_hca.client.models import Replica
from airflow_provider_hca.upload.access import GCSAccess
from airflow_provider_hca.upload.checksums import Checksums
from airflow_provider_hca.upload.entries import FileChangedError, Names, PlannedFile
from airflow_provider_hca.upload.gcs_client import RETRY, TIMEOUT, GCSBucket, crc32c_of
from airflow_provider_hca.upload.sources.base import FoundFile, parse_labels


class GCSSource:
    """Objects under a prefix of a bucket of Google Cloud Storage.

    :param bucket: name of the bucket
    :param prefix: prefix of the names, empty or with a slash at its end
    :param access: credentials; those that Google's SDK finds if None
    :raises StagingError: if there are no credentials
    """

    replica: Replica = "gcp"

    def __init__(self, bucket: str, prefix: str, *, access: GCSAccess | None = None) -> None:
        self._prefix, self._bucket = prefix, GCSBucket(bucket, access, parameter="directory")

    def objects(self, names: Names) -> Iterator[FoundFile]:
        """List the objects from the first name of the range to the last."""
        bounds = {"start_offset": f"{self._prefix}{names.first}" or None}
        if names.before is not None:
            bounds["end_offset"] = f"{self._prefix}{names.before}"
        with self._bucket.errors(self._prefix):
            for blob in self._bucket.list(self._prefix, **bounds):
                name = blob.name.removeprefix(self._prefix)
                if name in names and not blob.name.endswith("/"):
                    mtime_ns = int(blob.updated.timestamp()) * 10**9
                    yield FoundFile(name, blob.size, mtime_ns, str(blob.generation))

    def prefixes(self) -> Iterator[str]:
        """List the common prefixes."""
        with self._bucket.errors(self._prefix):
            listing: Any = self._bucket.list(self._prefix, delimiter="/")
            for page in listing.pages:
                for prefix in page.prefixes:
                    yield prefix.removeprefix(self._prefix).rstrip("/")

    def sums(self, file: PlannedFile) -> Checksums | None:
        """Read the metadata; the stored crc32c proves that the checksums are those of this content."""
        blob = self.blob(file)
        with self.unchanged(file):
            blob.reload(timeout=TIMEOUT, retry=RETRY)
        if str(blob.generation) != file.revision:
            raise FileChangedError
        sums = parse_labels(blob.metadata or {})
        return sums if sums is not None and sums.crc32c == crc32c_of(blob) else None

    def read(self, file: PlannedFile, offset: int, size: int) -> bytes:
        """Read a section of an object, without decompressing it."""
        options = {"if_generation_match": int(file.revision), "checksum": None, "timeout": TIMEOUT, "retry": RETRY}
        with self.unchanged(file):
            content: bytes = self.blob(file).download_as_bytes(
                start=offset, end=offset + size - 1, raw_download=True, **options
            )
        return content

    def blob(self, file: PlannedFile) -> Any:
        """Return an object of the SDK."""
        return self._bucket.blob(f"{self._prefix}{file.name}")

    @contextmanager
    def unchanged(self, file: PlannedFile) -> Iterator[None]:
        """Raise errors of the SDK as those of a source object.

        :raises FileChangedError: if the object differs from its plan
        :raises StagingError: if it cannot be read
        """
        with self._bucket.errors(f"{self._prefix}{file.name}"):
            try:
                yield
            except (NotFound, PreconditionFailed):
                raise FileChangedError from None
