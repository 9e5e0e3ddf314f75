"""Read planned files, and parse them as JSON within limits."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from airflow_provider_hca.exceptions import DSSAbortedError, InvalidDirectoryError
from airflow_provider_hca.parallel import run_parallel
from airflow_provider_hca.upload.entries import FileChangedError, PlannedFile
from airflow_provider_hca.upload.plan import Plan

# Parsed JSON takes up to 25 times its size.
MAX_BYTES = 8 * 1024 * 1024
_MAX_DEPTH = 64  # levels; jsonschema takes about ten Python frames for each
_READERS = 16  # threads that read objects of a bucket
_BATCH_FILES, _BATCH_BYTES = 64, 4 * MAX_BYTES


def read_file(plan: Plan, file: PlannedFile) -> bytes:
    """Return the content of a planned file of at most `MAX_BYTES`.

    :raises InvalidDirectoryError: if it cannot be read, or differs from its plan; not permanent
    :raises StagingError: if an object cannot be read
    """
    try:
        if plan.source is not None:
            return plan.source.read(file, 0, file.size) if file.size else b""
        assert plan.directory is not None, "a plan has a source or a directory"  # noqa: S101 - for the type checker
        return plan.directory.read_unchanged(file)
    except FileChangedError as error:
        problem = str(error)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    raise InvalidDirectoryError(file.directory, [(file.name, problem)], permanent=False)


def read_files(
    plan: Plan, files: Iterable[PlannedFile], stop: threading.Event | None
) -> Iterator[tuple[PlannedFile, bytes]]:
    """Yield files with their content; objects of a bucket are read in batches, several at once.

    :param plan: plan of the files
    :param files: files of at most `MAX_BYTES`
    :param stop: event after which no further file is read
    :raises InvalidDirectoryError: as `read_file`
    :raises StagingError: as `read_file`
    :raises DSSAbortedError: after `stop`
    """
    stop = stop or threading.Event()
    for batch in _batches(files):
        contents = {} if plan.source is None else _read_batch(plan, batch, stop)
        for file in batch:
            _check_stop(stop)
            yield file, contents.pop(file.name) if contents else read_file(plan, file)


def _batches(files: Iterable[PlannedFile]) -> Iterator[list[PlannedFile]]:
    batch: list[PlannedFile] = []
    size = 0
    for file in files:
        if batch and (len(batch) == _BATCH_FILES or size + file.size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _read_batch(plan: Plan, batch: list[PlannedFile], stop: threading.Event) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}

    def read(file: PlannedFile) -> None:
        contents[file.name] = read_file(plan, file)

    failures = run_parallel(
        batch,
        read,
        name="validate",
        workers=_READERS,
        stop=stop,
        continue_after=lambda _: False,
        on_progress=lambda _: None,
    )
    if failures:
        raise failures[0][1]
    _check_stop(stop)
    return contents


def parse_json(content: bytes) -> Any:
    """Return a JSON value.

    :raises ValueError: if it is no JSON text in UTF-8, or nested too deeply
    """
    try:
        value = json.loads(content.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start:,}") from None
    except RecursionError:
        raise ValueError(f"is nested more than {_MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    _check_depth(value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [child for parent in level for child in _children(parent) if isinstance(child, dict | list)]
        if not level:
            return
    raise ValueError(f"is nested more than {_MAX_DEPTH} levels deep")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_stop(stop: threading.Event) -> None:
    if stop.is_set():
        raise DSSAbortedError("stopped while the metadata was validated")
