"""A plan in shards: ranges of names that many workers stage and register, each for itself.

A shard does not hold its files, of which there may be a hundred thousand: a worker plans its range again, and
compares. The ranges touch one another, and the outer ones have no end, so a file that comes anywhere in the directory
is in one of them, and noticed.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.entries import Names, PlannedFile
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.report import SLOWEST, Registered

_CHANGED = (
    "files came, went or changed since the upload was planned: let whatever writes them finish first, then clear the "
    "DAG run, and it is planned anew"
)


@dataclass(frozen=True, slots=True)
class Shard:
    """Some of the files that are to be a bundle: those whose names are in a range.

    :ivar bundle_uuid: of the bundle of all shards
    :ivar bundle_version: of that bundle
    :ivar number: of this shard, from 1
    :ivar of: how many shards there are
    :ivar first: where its names begin
    :ivar before: the name that they end before; None for the last shard
    :ivar file_count: how many files it has
    :ivar byte_count: of all of them
    :ivar digest: a sha256 over its files, with their sizes and modification times
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

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Self:
        """Return the shard that `as_json` described."""
        return cls(**told)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it: some hundred bytes."""
        return asdict(self)

    @property
    def names(self) -> Names:
        """The range."""
        return Names(self.first, self.before)

    def check(self, plan: Plan, directory: str) -> None:
        """Raise if a directory is not as it was when it was planned.

        :param plan: of the names of this shard
        :param directory: for the error message
        :raises InvalidDirectoryError: then
        """
        if _digest(plan.files) != self.digest:
            raise self.changed(directory)

    def changed(self, directory: str) -> InvalidDirectoryError:
        """Return the error that says that some of the files are not as planned.

        :param directory: whose they are
        """
        where = f"shard {self.number} of {self.of}"
        # Not permanent: a worker's view of a shared directory may lag behind.
        return InvalidDirectoryError(directory, [(where, _CHANGED)], permanent=False)


def cut(plan: Plan, *, most_files: int, most_bytes: int) -> list[Shard]:
    """Return a plan in shards, in the order of its files.

    :param plan: of a whole directory
    :param most_files: in a shard
    :param most_bytes: in a shard; a file that is larger has one to itself
    """
    pieces = list(_pieces(plan.files, most_files, most_bytes))
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
        )
        for number, piece in enumerate(pieces, 1)
    ]


def join(plan: Plan, shards: Sequence[Shard], done: Sequence[Registered], directory: str) -> Registered:
    """Return what was done for a whole plan, out of what was done for its shards.

    :param plan: of the whole directory, as it is now
    :param shards: all of them, in order
    :param done: for each of them, in order
    :param directory: for the error message
    :raises InvalidDirectoryError: when the bundle would have other files than were registered
    :raises ValueError: when shards are not registered
    """
    if len(done) != len(shards):
        raise ValueError(f"only {len(done)} of {len(shards)} shards have returned a result: clear the others' tasks")
    for shard, registered in zip(shards, done, strict=True):
        part = replace(plan, files=tuple(_within(plan.files, shard.names)))
        if part.digest != registered.digest:
            raise shard.changed(directory)
    phases = dict.fromkeys(phase for each in done for phase in each.seconds)
    slowest = heapq.nlargest(SLOWEST, (file for each in done for file in each.slowest), key=lambda file: file[1])
    return Registered(
        copying=(),
        digest=plan.digest,
        staged_files=sum(each.staged_files for each in done),
        staged_size=sum(each.staged_size for each in done),
        skipped_files=sum(each.skipped_files for each in done),
        registered_files=sum(each.registered_files for each in done),
        copied_files=sum(each.copied_files for each in done),
        retries=sum(each.retries for each in done),
        slowest=slowest,
        seconds={phase: round(sum(each.seconds.get(phase, 0.0) for each in done), 3) for phase in phases},
    )


def _pieces(files: Sequence[PlannedFile], most_files: int, most_bytes: int) -> Iterator[list[PlannedFile]]:
    piece: list[PlannedFile] = []
    size = 0
    for file in files:
        if piece and (len(piece) == most_files or size + file.size > most_bytes):
            yield piece
            piece, size = [], 0
        piece.append(file)
        size += file.size
    if piece:
        yield piece


def _within(files: Sequence[PlannedFile], names: Names) -> Sequence[PlannedFile]:
    """Return those files, which are in the order of their names, that are in a range."""
    begin = bisect_left(files, names.first, key=lambda file: file.name)
    end = len(files) if names.before is None else bisect_left(files, names.before, key=lambda file: file.name)
    return files[begin:end]


def _digest(files: Sequence[PlannedFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        told = [file.size, file.mtime_ns, file.revision, file.content_type, *file.as_member().values()]
        digest.update(json.dumps(told).encode() + b"\n")
    return digest.hexdigest()
