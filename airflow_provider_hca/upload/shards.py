"""Shards of a plan: ranges of names that workers stage and register independently.

A shard does not contain its files, perhaps 100,000: each worker plans its range again, and compares. The
ranges are adjacent and the outer ones unbounded, so a new file anywhere in the directory is in one of them and noticed.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from airflow_provider_hca.client.models import Bundle
from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.changes import encode_kept, restore_kept
from airflow_provider_hca.upload.entries import Names, PlannedFile
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.report import UploadReport, slowest

_CHANGED = (
    "files were added, removed or changed after the upload was planned: wait until the program that writes them has "
    "finished, then clear the DAG run to plan again"
)
_COUNTERS = (
    "staged_file_count",
    "staged_byte_count",
    "skipped_file_count",
    "skipped_byte_count",
    "registered_file_count",
    "copied_file_count",
    "retry_count",
    "sent_byte_count",
    "summed_byte_count",
)


@dataclass(frozen=True, slots=True)
class Shard:
    """The files of a plan whose names are in a range.

    :ivar bundle_uuid: UUID of the bundle of all shards
    :ivar bundle_version: version of that bundle
    :ivar number: number of this shard, from 1
    :ivar of: number of shards
    :ivar first: first name of the range
    :ivar before: name after the range; None for the last shard
    :ivar file_count: number of files
    :ivar byte_count: total size of the files
    :ivar digest: sha256 of the files' names, sizes and modification times
    :ivar base: `base` of the plan
    :ivar kept: which of the files the DSS has already; see `changes.encode_kept`
    """

    bundle_uuid: str
    bundle_version: str
    number: int
    of: int
    first: str
    before: str | None
    file_count: int
    byte_count: int
    digest: str
    base: str | None = None
    kept: str = ""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the shard that `as_json` returned."""
        return cls(**document)

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary for XCom."""
        return asdict(self)

    @property
    def names(self) -> Names:
        """The range of names."""
        return Names(self.first, self.before)

    def check(self, plan: Plan, directory: str) -> None:
        """Compare a plan of this shard's range with the shard.

        :param plan: current plan of its range, with the files that are kept
        :param directory: directory, for the error message
        :raises InvalidDirectoryError: if files changed
        """
        if _digest(plan.files) != self.digest:
            raise self.changed(directory)

    def changed(self, directory: str) -> InvalidDirectoryError:
        """Return the error for files that differ from the plan.

        :param directory: directory, for the error message
        """
        # Not permanent: a worker may see changes of a shared directory late.
        return InvalidDirectoryError(directory, [(f"shard {self.number} of {self.of}", _CHANGED)], permanent=False)


def split_plan(plan: Plan, *, max_files: int, max_bytes: int) -> list[Shard]:
    """Split a plan into shards, in the order of its files.

    :param plan: plan of a whole directory
    :param max_files: maximum number of files of a shard, without those that the DSS has already
    :param max_bytes: maximum size of those files; a larger file is a shard of its own
    :return: the shards, which together have all files; none if the DSS has all of them
    """
    if all(file.registered for file in plan.files):
        return []
    pieces = list(_pieces(plan.files, max_files, max_bytes))
    firsts = ["", *(piece[0].name for piece in pieces[1:])]
    return [
        Shard(
            bundle_uuid=plan.bundle_uuid,
            bundle_version=plan.bundle_version,
            number=number,
            of=len(pieces),
            first=firsts[number - 1],
            before=firsts[number] if number < len(pieces) else None,
            file_count=len(piece),
            byte_count=sum(file.size for file in piece),
            digest=_digest(piece),
            base=plan.base,
            kept=encode_kept(piece, piece),
        )
        for number, piece in enumerate(pieces, 1)
    ]


def join_shards(
    plan: Plan,
    planned: UploadReport,
    shards: Sequence[Shard],
    reports: Sequence[UploadReport],
    directory: str,
    get_base: Callable[[], Bundle],
) -> tuple[Plan, UploadReport]:
    """Return a whole plan and its report, from those of its shards.

    :param plan: current plan of the whole directory
    :param planned: report before the upload
    :param shards: all shards in order
    :param reports: report of each shard, in the same order
    :param directory: directory, for the error message
    :param get_base: returns the bundle that the plan was compared with
    :raises InvalidDirectoryError: if the bundle would have other files than were registered
    :raises ValueError: if reports are missing
    """
    if len(reports) != len(shards):
        raise ValueError(f"only {len(reports)} of {len(shards)} shards returned a result: clear the others' tasks")
    if not shards:
        plan = restore_kept(plan, planned.base, planned.kept, get_base)
        return plan, planned
    files: list[PlannedFile] = []
    for shard, report in zip(shards, reports, strict=True):
        part = replace(plan, files=tuple(_within(plan.files, shard.names)))
        part = restore_kept(part, shard.base, report.kept, get_base)
        if part.digest != report.digest:
            raise shard.changed(directory)
        files += part.files
    plan = replace(plan, files=tuple(files))
    joined = replace(planned, digest=plan.digest, seconds={})
    for report in reports:
        joined.add(**{name: getattr(report, name) for name in _COUNTERS})
        for phase, seconds in report.seconds.items():
            joined.seconds[phase] = round(joined.seconds.get(phase, 0.0) + seconds, 3)
    joined.slowest_files = slowest(file for report in reports for file in report.slowest_files)
    return plan, joined


def _pieces(files: Sequence[PlannedFile], max_files: int, max_bytes: int) -> Iterator[list[PlannedFile]]:
    piece: list[PlannedFile] = []
    count = size = 0
    for file in files:
        if not file.registered:
            if count and (count == max_files or size + file.size > max_bytes):
                yield piece
                piece, count, size = [], 0, 0
            count += 1
            size += file.size
        piece.append(file)
    yield piece


def _within(files: Sequence[PlannedFile], names: Names) -> Sequence[PlannedFile]:
    """Return the files in a range, from files that are ordered by name."""
    begin = bisect_left(files, names.first, key=lambda file: file.name)
    end = len(files) if names.before is None else bisect_left(files, names.before, key=lambda file: file.name)
    return files[begin:end]


def _digest(files: Sequence[PlannedFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        values = [file.size, file.mtime_ns, file.revision, file.content_type, *file.as_member().values()]
        digest.update(json.dumps(values).encode() + b"\n")
    return digest.hexdigest()
