"""Protocol of staging buckets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from airflow_provider_hca.upload.checksums import Checksums
from airflow_provider_hca.upload.entries import PlannedFile
from airflow_provider_hca.upload.local_files import OnBytes, OpenFile, ignore_bytes
from airflow_provider_hca.upload.sources.base import Source
from airflow_provider_hca.upload.staging.parts import Transfer

SHA256_LABEL = "hca-dss-sha256"
UNFINISHED = ""  # in place of the checksum of an object


class Staging(Protocol):
    """A bucket in which objects wait, with their checksums, until the DSS has copied them.

    Each method compares what the store has with what was sent. Several threads may use it.
    """

    def url(self, key: str) -> str:
        """Return the `source_url` of an object (`PUT /files`)."""
        ...

    def check(self) -> None:
        """Check that the bucket exists; missing permission to do so is not an error.

        :raises StagingError: if it does not exist
        """
        ...

    def find(self, prefix: str, *, after: str = "") -> dict[str, str]:
        """Return the `stored_sum` of each object under a prefix, or `UNFINISHED` for an upload that `begin` resumes.

        :param prefix: prefix of the keys
        :param after: text that the keys of the objects follow
        :raises StagingError: if they cannot be listed
        """
        ...

    def stored_sum(self, sums: Checksums) -> str:
        """Return the checksum that the store computes itself."""
        ...

    def put(
        self, key: str, content: bytes | OpenFile, sums: Checksums, content_type: str, on_sent: OnBytes = ignore_bytes
    ) -> None:
        """Stage an object of at most 64 MiB with its checksums.

        :param key: key of the object
        :param content: content, or the open file
        :param sums: checksums of the content
        :param content_type: content type of the object
        :param on_sent: called with the number of bytes of a file while they are sent; may wait, or raise to cancel
        :raises StagingError: if the store refuses it, or has other content
        """
        ...

    def copy(self, key: str, source: Source, file: PlannedFile, sums: Checksums) -> None:
        """Copy an object of at most 64 MiB with its checksums.

        :param key: key of the copy
        :param source: source in the same cloud
        :param file: object of the source
        :param sums: checksums of the object
        :raises FileChangedError: if the object differs from its plan
        :raises StagingError: if the store refuses it, or has other content
        """
        ...

    def begin(self, key: str, content_type: str, file: OpenFile, size: int) -> Transfer:
        """Begin to stage a file above 64 MiB, or resume an upload that `find` noted.

        :param key: key of the object
        :param content_type: content type of the object
        :param file: open file
        :param size: size of the file in bytes
        :raises StagingError: if the store refuses it
        """
        ...

    def begin_copy(self, key: str, source: Source, file: PlannedFile) -> Transfer:
        """Begin to copy an object above 64 MiB, or resume an upload that `find` noted.

        :param key: key of the copy
        :param source: source in the same cloud
        :param file: object of the source
        :raises StagingError: if the store refuses it
        """
        ...

    def label(self, key: str, sums: Checksums) -> None:
        """Add the checksums to a staged object above 64 MiB.

        :raises StagingError: if the store refuses it
        """
        ...

    def abort_multipart_uploads(self, prefix: str) -> None:
        """Abort the unfinished uploads that `find` found and nothing resumed.

        :param prefix: prefix of their keys
        """
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, if they exist.

        :raises StagingError: if the store refuses it
        """
        ...

    def sha256(self, key: str) -> str:
        """Return the `hca-dss-sha256` of a staged object.

        :raises StagingError: if the object or the label is missing
        """
        ...
