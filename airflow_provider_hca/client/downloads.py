"""The content of a file on its way here: through broken connections, and checked when it is whole."""

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
_CHUNK = 1024 * 1024


class Writable(Protocol):
    """What content can be written to: a file open in binary mode, or anything with its `write`."""

    def write(self, data: bytes, /) -> object:
        """Take some bytes."""
        ...


class NotReadyError(DSSError):
    """The DSS is still making the copy that a file is downloaded from; only for those who do not want to wait."""


class Readable(Protocol):
    """What content can be read from that came earlier: a file open in binary mode."""

    def seek(self, offset: int, /) -> object:
        """Go to a place."""
        ...

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, and none at the end."""
        ...


class Content:
    """What has come of a file.

    :param to: where it goes
    :ivar size: bytes so far
    """

    def __init__(self, to: Writable) -> None:
        self.size = 0
        self._write = to.write
        self._sha256 = hashlib.sha256()

    def begin_with(self, file: Readable) -> None:
        """Take what an earlier try wrote for the beginning.

        :param file: the same that the rest is written to, open for reading too; is read from its beginning to its end
        """
        file.seek(0)
        while chunk := file.read(_CHUNK):
            self._sha256.update(chunk)
            self.size += len(chunk)

    @property
    def headers(self) -> dict[str, str]:
        """What to ask with for the rest."""
        # The object store is not to compress, or to decompress, what has a checksum.
        return {"accept-encoding": "identity"} | ({"range": f"bytes={self.size}-"} if self.size else {})

    def receive(self, file: FileMetadata, status: int, headers: Mapping[str, str]) -> Callable[[bytes], None] | None:
        """Say where the body of an answer goes; see `messages.Receive`.

        :param file: what is to come: no more than that is taken
        :raises DSSProtocolError: when it begins behind what has come so far
        """
        if status == 206:
            found = _RANGE.match(headers.get("content-range", ""))
            begin = int(found[1]) if found else -1
            if not 0 <= begin <= self.size:
                raise DSSProtocolError(f"bytes from {self.size} on were asked for, and others came")
            return self._after(self.size - begin, file)
        # A store that knows no ranges sends all of it again.
        return self._after(self.size, file) if status == 200 else None

    def _after(self, known: int, file: FileMetadata) -> Callable[[bytes], None]:
        def take(chunk: bytes) -> None:
            nonlocal known
            new = chunk[known:] if known else chunk
            known = max(0, known - len(chunk))
            if self.size + len(new) > file.size:  # a store that sends without end would fill the disk
                raise DSSContentError(file.uuid, file.version, f"more came than its {file.size:,} bytes")
            if new:
                self._write(new)
                self._sha256.update(new)
                self.size += len(new)

        return take

    def check(self, file: FileMetadata) -> None:
        """Compare what came with what the DSS says.

        :raises DSSContentError: when it is something else
        """
        came = self._sha256.hexdigest()
        if (self.size, came) != (file.size, file.sha256):
            told = f"{file.size:,} bytes with sha256 {file.sha256} were to come, and {self.size:,} with {came} came"
            raise DSSContentError(file.uuid, file.version, told)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a new file to write to, which gets its name when it is whole; a file of that name stays until then.

    :param path: the file; its directory must be there
    """
    partial = path.with_name(f".{secrets.token_hex(8)}.part")  # not of its name, which may have no room for more
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
