"""A prefix of a bucket of Google Cloud Storage as what is uploaded."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.api_core.exceptions import NotFound, PreconditionFailed

from airflow_provider_hca.client.models import Replica
from airflow_provider_hca.upload.access import GCSAccess
from airflow_provider_hca.upload.checksums import Checksums
from airflow_provider_hca.upload.entries import FileChangedError, Names, PlannedFile
from airflow_provider_hca.upload.gcs_client import RETRY, TIMEOUT, open_bucket, told
from airflow_provider_hca.upload.sources.base import FoundObject, labelled


class GCSSource:
    """The objects under a prefix of a bucket of Google Cloud Storage.

    :param bucket: its name
    :param prefix: of the names, with a slash at its end, or empty
    :param access: how to enter it; with the credentials that Google's SDK finds if None
    :raises StagingError: when there are no credentials
    """

    replica: Replica = "gcp"

    def __init__(self, bucket: str, prefix: str, *, access: GCSAccess | None = None) -> None:
        self._prefix = prefix
        self._url = f"gs://{bucket}/{prefix}"
        self._bucket: Any = open_bucket(bucket, access)

    def objects(self, names: Names) -> Iterator[FoundObject]:
        """List the objects, from the first name that is wanted to the last."""
        bounds = {"start_offset": f"{self._prefix}{names.first}" or None}
        if names.before is not None:
            bounds["end_offset"] = f"{self._prefix}{names.before}"
        with told(self._url, "directory"):
            listed = self._bucket.client.list_blobs(
                self._bucket, prefix=self._prefix or None, timeout=TIMEOUT, retry=RETRY, **bounds
            )
            for blob in listed:
                name = blob.name.removeprefix(self._prefix)
                if name in names and not blob.name.endswith("/"):
                    mtime_ns = int(blob.updated.timestamp()) * 10**9
                    yield FoundObject(name, blob.size, mtime_ns, str(blob.generation))

    def sums(self, file: PlannedFile) -> Checksums | None:
        """Look into the metadata; the crc32c tells whether the sums are those of this content."""
        blob = self.blob(file)
        with self.unchanged(file):
            blob.reload(timeout=TIMEOUT, retry=RETRY)
        if str(blob.generation) != file.revision:
            raise FileChangedError
        found = labelled(blob.metadata or {})
        stored = base64.b64decode(blob.crc32c or "").hex()
        return found if found is not None and found.crc32c == stored else None

    def read(self, file: PlannedFile, offset: int, size: int) -> bytes:
        """Read a section of the object, as it is stored."""
        options = {"if_generation_match": int(file.revision), "checksum": None, "timeout": TIMEOUT, "retry": RETRY}
        with self.unchanged(file):
            content: bytes = self.blob(file).download_as_bytes(
                start=offset, end=offset + size - 1, raw_download=True, **options
            )
        return content

    def blob(self, file: PlannedFile) -> Any:
        """Return an object as the SDK has it."""
        return self._bucket.blob(f"{self._prefix}{file.name}")

    @contextmanager
    def unchanged(self, file: PlannedFile) -> Iterator[None]:
        """Raise what the SDK raises inside as what it means for an object of the source.

        :raises FileChangedError: when it is not as planned
        """
        with told(f"{self._url}{file.name}", "directory"):
            try:
                yield
            except (NotFound, PreconditionFailed):
                raise FileChangedError from None
