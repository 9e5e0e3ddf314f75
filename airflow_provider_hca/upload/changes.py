"""Files that are read must be as they were planned."""

from __future__ import annotations

import os

from airflow_provider_hca.exceptions import DSSAbortedError
from airflow_provider_hca.upload.entries import FileChangedError, PlannedFile


def check_unchanged(file: PlannedFile) -> None:
    """Raise if a file is not as it was planned.

    :raises FileChangedError: when it is not
    :raises OSError: when it is not there any more
    """
    _check_as_planned(file, os.stat(file.location))  # noqa: PTH116 - needs no Path


def _check_as_planned(file: PlannedFile, status: os.stat_result) -> None:
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        raise FileChangedError


class blaming_the_file:  # noqa: N801 - used as a function
    """If something fails inside and the file has changed, raise that: trying again will not help then."""

    def __init__(self, file: PlannedFile) -> None:
        self._file = file

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, DSSAbortedError):
            check_unchanged(self._file)


def read_unchanged(file: PlannedFile) -> bytes:
    """Return the content of a file, which is as planned after it was read.

    By descriptor: for a small file Python's file objects take longer than reading it.

    :raises FileChangedError: when it is not as planned
    :raises OSError: when it cannot be read
    """
    descriptor = os.open(file.location, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, file.size)
        while len(content) < file.size and (more := os.read(descriptor, file.size - len(content))):
            content += more
        _check_as_planned(file, os.fstat(descriptor))
    finally:
        os.close(descriptor)
    if len(content) != file.size:
        raise FileChangedError
    return content
