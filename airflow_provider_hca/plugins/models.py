"""Tasks that use bundles, as the page shows them; shards of an upload group are merged into one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

_OVER = {"success", "failed", "upstream_failed", "skipped", "removed"}
_FAILED = {"failed", "upstream_failed"}
_MAX_NAMES = 5  # of files with the same failure, as in the XCom

Action = Literal["create", "shard", "download", "use"]


class Failure(BaseModel):
    """Files that failed for the same reason.

    :ivar cause: Reason and remedy
    :ivar count: Number of files
    :ivar names: Names of the first files
    """

    cause: str
    count: int
    names: list[str]


class Progress(BaseModel):
    """Progress of an upload.

    :ivar phase: `plan`, `stage`, `register`, `copy`, `bundle` or `done`; after a failure the failed phase; `shards` for
        merged shards
    :ivar phase_done: Number of files that finished the phase, of `phase_files`
    :ivar sent_byte_count: Bytes staged
    :ivar rate: Bytes per second over the last seconds; at the end over all of staging
    :ivar error: Reason of the failure
    :ivar failures: Failed files by cause
    :ivar shard_number: Number of the shard, from 1
    :ivar shard_count: Number of shards
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
    """Bundle that a task creates, downloads or waits for.

    :ivar version: Version; the latest if None
    """

    connection: str
    replica: str
    uuid: str
    version: str | None


class Ingest(BaseModel):
    """Task that uses a bundle.

    :ivar run_state: State of the DAG run
    :ivar state: State of the task instance
    :ivar bundle: Bundle; None if the task failed before it was known
    :ivar action: Whether the task creates the bundle, registers a shard of it, downloads it, or uses it otherwise
    :ivar updated: Time of the last progress report
    :ivar shards: Shards of an upload group, if merged
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
    updated: datetime | None
    shards: list[Ingest] = []


def merge_shards(ingests: Iterable[Ingest]) -> list[Ingest]:
    """Return ingests with the shards of each group merged into one.

    :param ingests: Ingests of any tasks
    """
    groups: defaultdict[tuple[str, str, str], list[Ingest]] = defaultdict(list)
    others = []
    for ingest in ingests:
        if ingest.action == "shard":
            groups[ingest.dag_id, ingest.run_id, ingest.task_id].append(ingest)
        else:
            others.append(ingest)
    return [*others, *(_merge(sorted(shards, key=lambda shard: shard.map_index)) for shards in groups.values())]


def drop_finished_shards(ingests: Sequence[Ingest]) -> list[Ingest]:
    """Return ingests without merged shards whose bundle already has a task of its own.

    Until that task reports, a group with only successful shards is still running.

    :param ingests: Result of `merge_shards`
    """
    created = {_bundle_key(ingest) for ingest in ingests if not ingest.shards and ingest.action == "create"}
    kept = [ingest for ingest in ingests if not ingest.shards or _bundle_key(ingest) not in created]
    return [
        ingest.model_copy(update={"state": "running"})
        if ingest.shards and ingest.state == "success" and not _run_is_over(ingest)
        else ingest
        for ingest in kept
    ]


def select_most_relevant(ingests: Sequence[Ingest], limit: int) -> tuple[list[Ingest], int]:
    """Return the most relevant ingests in their order, and the number of omitted ingests and shards.

    Failed and running ingests are preferred, then the newest others.

    :param ingests: Result of `merge_shards`
    :param limit: Maximum number of tasks, and of shards of each
    """
    tasks, omitted = _select(ingests, limit)
    shown = []
    for task in tasks:
        shards, others = _select(task.shards, limit)
        omitted += others
        shown.append(task.model_copy(update={"shards": shards}) if others else task)
    return shown, omitted


def _select(ingests: Sequence[Ingest], limit: int) -> tuple[list[Ingest], int]:
    def rank(index: int) -> tuple[bool, float]:
        ingest = ingests[index]
        return ingest.state in _OVER - _FAILED, -(ingest.started.timestamp() if ingest.started else float("inf"))

    kept = sorted(sorted(range(len(ingests)), key=rank)[:limit])
    return [ingests[index] for index in kept], len(ingests) - len(kept)


def _bundle_key(ingest: Ingest) -> tuple[str, ...]:
    return ingest.dag_id, ingest.run_id, str(ingest.bundle)


def _run_is_over(ingest: Ingest) -> bool:
    return ingest.run_state in {"success", "failed"}


def _merge(shards: Sequence[Ingest]) -> Ingest:
    progress = _merge_progress(shards)
    state = _state(shards, progress.phase_files)
    return shards[0].model_copy(
        update={
            "map_index": -1,
            "state": state,
            "try_number": 1,
            "started": min((shard.started for shard in shards if shard.started), default=None),
            "ended": max((shard.ended for shard in shards if shard.ended), default=None) if state in _OVER else None,
            "bundle": next((shard.bundle for shard in shards if shard.bundle), None),
            "action": "create",
            "file_count": progress.file_count,
            "byte_count": progress.byte_count,
            "progress": progress,
            "updated": max((shard.updated for shard in shards if shard.updated), default=None),
            "shards": list(shards),
        }
    )


def _merge_progress(shards: Sequence[Ingest]) -> Progress:
    known = [shard.progress for shard in shards if shard.progress is not None]
    running = [shard.progress for shard in shards if shard.progress is not None and shard.state not in _OVER]
    return Progress(
        phase="shards",
        phase_done=sum(shard.state == "success" for shard in shards),
        phase_files=max(progress.shard_count or 0 for progress in known),
        file_count=sum(progress.file_count for progress in known),
        byte_count=sum(progress.byte_count for progress in known),
        sent_byte_count=sum(progress.sent_byte_count for progress in known),
        rate=sum(progress.rate for progress in running),
        error=next((progress.error for progress in known if progress.error), ""),
        failures=_merge_failures(failure for progress in known for failure in progress.failures),
    )


def _state(shards: Sequence[Ingest], count: int) -> str:
    """Return the state of all shards together; shards that have not started are not among them.

    :param count: Number of shards of the group
    """
    states = {shard.state for shard in shards}
    if states == {"success"} and len(shards) == count:
        return "success"
    if _run_is_over(shards[0]) or (states <= _OVER and "failed" in states):
        return "failed"
    return "running"


def _merge_failures(failures: Iterable[Failure]) -> list[Failure]:
    by_cause: dict[str, Failure] = {}
    for failure in failures:
        known = by_cause.get(failure.cause, Failure(cause=failure.cause, count=0, names=[]))
        names = [*known.names, *failure.names][:_MAX_NAMES]
        by_cause[failure.cause] = Failure(cause=failure.cause, count=known.count + failure.count, names=names)
    return list(by_cause.values())
