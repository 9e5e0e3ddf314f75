"""Staging buckets: where objects wait, with their checksums, for the DSS to copy them.

A `Staging` puts objects and checks what the store says it stored: small ones at once, with their sums; large ones in
parts, while the sums are computed, which follow in the end. It may be used by many threads. Each failure is a
`StagingError` that says what to change. The cloud SDKs are imported by `open_staging`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from airflow_provider_hca.upload.checksums import Checksums
from airflow_provider_hca.upload.entries import PlannedFile
from airflow_provider_hca.upload.file_sums import FileSums, OpenFile
from airflow_provider_hca.upload.sources.base import Source

OnSent = Callable[[int], None]


def unwatched(_: int) -> None:
    """Take no note of what was sent."""


class LargeObject(Protocol):
    """An object above 64 MiB on its way to a staging bucket; several threads may send parts of it.

    :ivar computes_md5s: whether `send` has those MD5s of parts computed that it needs, or all are to be
    """

    computes_md5s: bool

    def send(self, number: int, file: OpenFile, sums: FileSums, on_sent: OnSent = unwatched) -> None:
        """Send a part, unless an earlier try did, and check that the store has it.

        :param number: of the part, from 0 to below the `part_count` of the staging bucket
        :param file: whose content it is
        :param sums: of that file; told which parts of it are done with
        :param on_sent: called with numbers of bytes as they are sent; what it raises ends the sending
        :raises StagingError: when the store does not take it, or took something else
        """
        ...

    def finish(self, sums: Checksums) -> None:
        """Make the object of its parts, check it, and give it its checksums.

        :raises StagingError: when the store does not do it, or has something else
        """
        ...

    def abort(self) -> None:
        """Have the store forget the parts; without that a later try goes on from them."""
        ...


class LargeCopy(Protocol):
    """A copy of an object above 64 MiB on its way to a staging bucket; several threads may have parts of it copied."""

    def copy(self, number: int, on_copied: OnSent = unwatched) -> None:
        """Have a part copied, unless an earlier try did.

        :param number: of the part, from 0 to below the `part_count` of the staging bucket
        :param on_copied: called with numbers of bytes as they are copied; what it raises ends the copying
        :raises FileChangedError: when the object is not as planned
        :raises StagingError: when the store does not do it
        """
        ...

    def finish(self, sums: Checksums) -> None:
        """Make the copy of its parts, check it, and give it its checksums.

        :raises StagingError: when the store does not do it, or has something else
        """
        ...

    def abort(self) -> None:
        """Have the store forget the parts; without that a later try goes on from them."""
        ...


class Staging(Protocol):
    """A staging bucket."""

    def url(self, key: str) -> str:
        """Return the `source_url` of an object (`PUT /files`)."""
        ...

    def check(self) -> None:
        """Look whether the bucket is there and answers.

        :raises StagingError: when it does not
        """
        ...

    def put(
        self, key: str, content: bytes | Path, sums: Checksums, content_type: str, on_sent: OnSent = unwatched
    ) -> None:
        """Stage an object of at most 64 MiB, and check that the store has what the sums say.

        :param key: of the object
        :param content: in memory, or in a file
        :param sums: of the content, stored with it
        :param content_type: of the object
        :param on_sent: called with numbers of bytes as they are sent; what it raises ends the sending
        :raises StagingError: when the store does not take it, or took something else
        """
        ...

    def part_count(self, size: int) -> int:
        """Return how many parts an object above 64 MiB is sent in.

        :param size: of the object, in bytes
        """
        ...

    def begin(self, key: str, content_type: str) -> LargeObject:
        """Begin to stage an object above 64 MiB, or go on with what `find` found begun.

        :param key: of the object
        :param content_type: of the object
        :raises StagingError: when the store does not take it
        """
        ...

    def copy(self, key: str, source: Source, file: PlannedFile, sums: Checksums) -> None:
        """Have the store copy an object of at most 64 MiB, and check that it has what the sums say.

        :param key: of the copy
        :param source: of the same cloud
        :param file: which of its objects
        :param sums: of that, stored with the copy
        :raises FileChangedError: when the object is not as planned
        :raises StagingError: when the store does not do it, or has something else
        """
        ...

    def begin_copy(self, key: str, source: Source, file: PlannedFile) -> LargeCopy:
        """Begin to have the store copy an object above 64 MiB, or go on with what `find` found begun.

        :param key: of the copy
        :param source: of the same cloud
        :param file: which of its objects
        :raises StagingError: when the store does not do it
        """
        ...

    def find(self, prefix: str) -> dict[str, str]:
        """Return what earlier tries staged: for each key the sum that the store computed, as `stored_sum` gives it.

        :param prefix: of the keys
        :raises StagingError: when it cannot be known
        """
        ...

    def abort_multipart_uploads(self) -> None:
        """Have the store forget what `find` found begun and `begin` did not go on with."""
        ...

    def stored_sum(self, sums: Checksums) -> str:
        """Return the one of the sums that the store computes itself."""
        ...

    def label(self, key: str, sums: Checksums) -> None:
        """Give a large object that is there its checksums.

        :raises StagingError: when the store does not do it
        """
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are none.

        :raises StagingError: when the store does not do it
        """
        ...

    def sha256(self, key: str) -> str:
        """Return the `hca-dss-sha256` that an object was staged with.

        :raises StagingError: when it cannot be had
        """
        ...
