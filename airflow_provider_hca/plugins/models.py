"""What tasks tell of bundles, as the page has it; and the shards of a `DSSUploadTaskGroup` as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

_OVER = {"success", "failed", "upstream_failed", "skipped", "removed"}
_FAILED = {"failed", "upstream_failed"}
_NAMES = 5  # of files that failed alike, as a task tells them

Action = Literal["make", "shard", "fetch", "see"]


class Failure(BaseModel):
    """Files that failed alike.

    :ivar cause: why, and what to change
    :ivar count: how many files
    :ivar names: of the first of them
    """

    cause: str
    count: int
    names: list[str]


class Progress(BaseModel):
    """How far an upload is.

    :ivar phase: `plan`, `stage`, `register`, `copy`, `bundle` or `done`; the one that it failed in; of a group's
        shards together, `shards`
    :ivar phase_done: files that the phase is done with, of `phase_files`
    :ivar sent_byte_count: bytes that are staged
    :ivar rate: in bytes per second, over the last seconds; at the end over the whole of staging
    :ivar error: why the try failed
    :ivar failures: the files that failed, by cause
    :ivar shard_number: of a shard, from 1
    :ivar shard_count: how many shards there are
    """

    phase: str = ""
    phase_done: int = 0
    phase_files: int = 0
    file_count: int = 0
    byte_count: int = 0
    sent_byte_count: int = 0
    rate: float = 0.0
    error: str = ""
    failures: list[Failure] = []
    shard_number: int | None = None
    shard_count: int | None = None


class Bundle(BaseModel):
    """The bundle that a task makes or waits for.

    :ivar version: None is the latest
    """

    connection: str
    replica: str
    uuid: str
    version: str | None


class Ingest(BaseModel):
    """A task that makes or waits for a bundle.

    :ivar run_state: of the DAG run
    :ivar state: of the task instance
    :ivar bundle: None if the task did not say in time
    :ivar action: whether it makes the bundle, registers a shard of it, fetches it, or only has to do with it
    :ivar told: when it last said how far it is
    :ivar shards: for the shards of a `DSSUploadTaskGroup` together, each of them
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    operator: str
    run_state: str
    state: str | None
    try_number: int
    started: datetime | None
    ended: datetime | None
    bundle: Bundle | None
    action: Action
    file_count: int | None
    byte_count: int | None
    progress: Progress | None
    told: datetime | None
    shards: list[Ingest] = []


def shards_as_one(ingests: Iterable[Ingest]) -> list[Ingest]:
    """Return ingests with one in place of all shards of a group.

    :param ingests: of any tasks
    """
    groups: defaultdict[tuple[str, str, str], list[Ingest]] = defaultdict(list)
    others = []
    for each in ingests:
        if each.action == "shard":
            groups[each.dag_id, each.run_id, each.task_id].append(each)
        else:
            others.append(each)
    return [*others, *(_as_one(sorted(shards, key=lambda each: each.map_index)) for shards in groups.values())]


def bundles_once(ingests: Sequence[Ingest]) -> list[Ingest]:
    """Return ingests without the shards of which the task that makes the bundle tells already.

    Until it does, a group whose shards are all done is still under way.

    :param ingests: as `shards_as_one` returns them
    """
    told = {_bundle_of(each) for each in ingests if not each.shards and each.action == "make"}
    kept = [each for each in ingests if not each.shards or _bundle_of(each) not in told]
    return [
        each.model_copy(update={"state": "running"})
        if each.shards and each.state == "success" and not _is_over(each)
        else each
        for each in kept
    ]


def most_telling(ingests: Sequence[Ingest], most: int) -> tuple[list[Ingest], int]:
    """Return as many ingests as can be shown, in their order, and how many others there are, shards too.

    Those that failed or are under way go before those that are done, and of these the newest.

    :param ingests: as `shards_as_one` returns them
    :param most: how many tasks, and how many shards of each
    """
    whole, omitted = _first(ingests, most)
    shown = []
    for each in whole:
        shards, others = _first(each.shards, most)
        omitted += others
        shown.append(each.model_copy(update={"shards": shards}) if others else each)
    return shown, omitted


def _first(ingests: Sequence[Ingest], most: int) -> tuple[list[Ingest], int]:
    def interest(place: int) -> tuple[bool, float]:
        each = ingests[place]
        return each.state in _OVER - _FAILED, -(each.started.timestamp() if each.started else float("inf"))

    kept = sorted(sorted(range(len(ingests)), key=interest)[:most])
    return [ingests[place] for place in kept], len(ingests) - len(kept)


def _bundle_of(ingest: Ingest) -> tuple[str, ...]:
    return ingest.dag_id, ingest.run_id, str(ingest.bundle)


def _is_over(ingest: Ingest) -> bool:
    """Return whether the DAG run of a task is over."""
    return ingest.run_state in {"success", "failed"}


def _as_one(shards: Sequence[Ingest]) -> Ingest:
    told = [(each, each.progress) for each in shards if each.progress is not None]
    files, size = sum(progress.file_count for _, progress in told), sum(progress.byte_count for _, progress in told)
    count = max(progress.shard_count or 0 for _, progress in told)
    state = _state(shards, count)
    progress = Progress(
        phase="shards",
        phase_done=sum(each.state == "success" for each in shards),
        phase_files=count,
        file_count=files,
        byte_count=size,
        sent_byte_count=sum(progress.sent_byte_count for _, progress in told),
        rate=sum(progress.rate for each, progress in told if each.state not in _OVER),
        error=next((progress.error for _, progress in told if progress.error), ""),
        failures=_together(failure for _, progress in told for failure in progress.failures),
    )
    return shards[0].model_copy(
        update={
            "map_index": -1,
            "state": state,
            "try_number": 1,
            "started": min((each.started for each in shards if each.started), default=None),
            "ended": max((each.ended for each in shards if each.ended), default=None) if state in _OVER else None,
            "bundle": next((each.bundle for each in shards if each.bundle), None),
            "action": "make",
            "file_count": files,
            "byte_count": size,
            "progress": progress,
            "told": max((each.told for each in shards if each.told), default=None),
            "shards": list(shards),
        }
    )


def _state(shards: Sequence[Ingest], count: int) -> str:
    """Return the state of all shards; those that have not begun tell nothing."""
    states = {each.state for each in shards}
    if states == {"success"} and len(shards) == count:
        return "success"
    if _is_over(shards[0]) or (states <= _OVER and "failed" in states):
        return "failed"
    return "running"


def _together(failures: Iterable[Failure]) -> list[Failure]:
    by_cause: dict[str, Failure] = {}
    for each in failures:
        known = by_cause.get(each.cause, Failure(cause=each.cause, count=0, names=[]))
        names = [*known.names, *each.names][:_NAMES]
        by_cause[each.cause] = Failure(cause=each.cause, count=known.count + each.count, names=names)
    return list(by_cause.values())
