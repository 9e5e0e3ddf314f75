"""Receive the content of a file: resume after broken connections and verify the checksum."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from airflow_provider_hca.client.models import FileMetadata
from airflow_provider_hca.exceptions import DSSContentError, DSSError, DSSProtocolError

_RANGE = re.compile(r"bytes (\d+)-")
_CHUNK_SIZE = 1024 * 1024


class Writable(Protocol):
    """A file open for writing in binary mode, or another object with `write`."""

    def write(self, data: bytes, /) -> object:
        """Write bytes."""
        ...


class Readable(Protocol):
    """A file open for reading in binary mode."""

    def seek(self, offset: int, /) -> object:
        """Move to an offset."""
        ...

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; empty at the end."""
        ...


class NotReadyError(DSSError):
    """The DSS still prepares the copy to download from; raised only if the caller does not want to wait."""


class Content:
    """Received content of a file.

    :param to: File to write it to
    :ivar size: Size of the received content, in bytes
    """

    def __init__(self, to: Writable) -> None:
        self.size = 0
        self._write = to.write
        self._sha256 = hashlib.sha256()

    def begin_with(self, file: Readable) -> None:
        """Count the content that an earlier attempt wrote.

        :param file: The file to write to, open for reading too; read from its start to its end
        """
        file.seek(0)
        while chunk := file.read(_CHUNK_SIZE):
            self._sha256.update(chunk)
            self.size += len(chunk)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the request for the remaining content."""
        # The object store must neither compress nor decompress content that has a checksum.
        return {"accept-encoding": "identity"} | ({"range": f"bytes={self.size}-"} if self.size else {})

    def receive(self, file: FileMetadata, status: int, headers: Mapping[str, str]) -> Callable[[bytes], None] | None:
        """Return the receiver for the body of a response; see `sansio.Receive`.

        :param file: Metadata of the file; more than its size is not accepted
        :raises DSSProtocolError: if the response starts after the received content
        """
        if status == 206:
            match = _RANGE.match(headers.get("content-range", ""))
            begin = int(match[1]) if match else -1
            if not 0 <= begin <= self.size:
                raise DSSProtocolError(
                    f"expected a range from byte {self.size}, got {headers.get('content-range', 'no Content-Range')!r}"
                )
            return self._receiver(self.size - begin, file)
        # A store that does not support ranges sends the whole content.
        return self._receiver(self.size, file) if status == 200 else None

    def _receiver(self, known: int, file: FileMetadata) -> Callable[[bytes], None]:
        """Return a function that appends chunks.

        :param known: Number of bytes to skip, since they were received before
        """

        def append(chunk: bytes) -> None:
            nonlocal known
            new = chunk[known:] if known else chunk
            known = max(0, known - len(chunk))
            if self.size + len(new) > file.size:  # an endless response would fill the disk
                raise DSSContentError(file.uuid, file.version, f"expected {file.size:,} bytes, got more")
            if new:
                self._write(new)
                self._sha256.update(new)
                self.size += len(new)

        return append

    def check(self, file: FileMetadata) -> None:
        """Compare size and SHA-256 of the received content with the metadata.

        :raises DSSContentError: if they are different
        """
        sha256 = self._sha256.hexdigest()
        if (self.size, sha256) != (file.size, file.sha256):
            message = f"expected {file.size:,} bytes (sha256 {file.sha256}), got {self.size:,} bytes (sha256 {sha256})"
            raise DSSContentError(file.uuid, file.version, message)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` once it is complete.

    :param path: Path of the file, in an existing directory
    """
    partial = path.with_name(f".{secrets.token_hex(8)}.part")  # not from the name, which may have the maximum length
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
