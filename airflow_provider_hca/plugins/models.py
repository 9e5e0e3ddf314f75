"""Tasks that use bundles, as the page shows them; the mapped tasks of a DAG run are merged into one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

OVER = {"success", "failed", "upstream_failed", "skipped", "removed"}
FAILED = {"failed", "upstream_failed"}
_MAX_NAMES = 5  # of files with the same failure, as in the XCom

Action = Literal[
    "create",
    "shard",
    "change",
    "delete",
    "download",
    "use",
    "put_file",
    "put_collection",
    "change_collection",
    "delete_collection",
]


class Failure(BaseModel):
    """Files that failed for the same reason.

    :ivar cause: Reason and remedy
    :ivar count: Number of files
    :ivar names: Names of the first files
    """

    cause: str
    count: int
    names: list[str]


class Changes(BaseModel):
    """Number of files by how they differ from the latest version of the bundle."""

    added: int
    changed: int
    removed: int
    unchanged: int


class Progress(BaseModel):
    """Progress of an upload.

    :ivar phase: `plan`, `compare`, `stage`, `register`, `copy`, `bundle` or `done`; after a failure the failed phase;
        `directories` for a part of a batch, `shards` for merged shards, `tasks` for other mapped tasks
    :ivar phase_done: Number of files, directories, shards or tasks that finished the phase, of `phase_files`
    :ivar copied_file_count: Number of files that the DSS copies asynchronously; None if unknown
    :ivar changes: Difference to the latest version; None if the upload was not compared
    :ivar staged_byte_count: Total size of the files that were staged
    :ivar sent_byte_count: Bytes that are in the bucket or the DSS, those of unfinished files included
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
    copied_file_count: int | None = None
    changes: Changes | None = None
    staged_byte_count: int = 0
    sent_byte_count: int = 0
    rate: float = 0.0
    error: str = ""
    failures: list[Failure] = []
    shard_number: int | None = None
    shard_count: int | None = None


class Bundle(BaseModel, frozen=True):
    """Bundle that a task creates, downloads or waits for.

    :ivar version: Version; the latest if None
    :ivar name: Key or directory; empty if unknown
    """

    connection: str
    replica: str
    uuid: str
    version: str | None
    name: str = ""


class Target(BaseModel):
    """File or collection that a task created, changed or deleted.

    :ivar name: Name of a file in bundles; empty for collections
    :ivar item_count: Number of links of a collection; None if unknown
    """

    uuid: str
    version: str
    replica: str
    name: str
    item_count: int | None


class Cause(BaseModel):
    """Directories of a batch with the same outcome for the same reason.

    :ivar count: Number of directories
    :ivar directories: The first ones
    """

    outcome: str
    cause: str
    count: int
    directories: list[str]


class Report(BaseModel):
    """Report of a batch: number of directories by outcome, and why bundles were not created."""

    created: int
    unchanged: int
    skipped: int
    invalid: int
    failed: int
    causes: list[Cause]


class Ingest(BaseModel):
    """Task that uses the DSS, or all mapped tasks of one task.

    :ivar map_index: Map index; -1 if not mapped, or merged
    :ivar label: Rendered `map_index_template`; empty without one
    :ivar run_state: State of the DAG run
    :ivar state: State of the task instance
    :ivar bundle: Bundle; None if the task failed before it was known
    :ivar target: File or collection; None if the task has not succeeded or uses a bundle
    :ivar action: What the task does with the bundle, file or collection
    :ivar changed: Whether the task changed something in the DSS; None if unknown
    :ivar report: Report of a batch; None of other tasks
    :ivar error: Reason of the failure, of a failed task always, and of one that will be retried if it is known
    :ivar updated: Time of the last progress report
    :ivar states: Number of mapped tasks by state, if merged
    :ivar members: Mapped tasks by index, if merged
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    label: str = ""
    operator: str
    run_state: str
    state: str | None
    try_number: int
    started: datetime | None
    ended: datetime | None
    bundle: Bundle | None
    target: Target | None = None
    action: Action
    changed: bool | None = None
    file_count: int | None
    byte_count: int | None
    report: Report | None = None
    error: str = ""
    progress: Progress | None
    updated: datetime | None
    states: dict[str, int] = {}
    members: list[Ingest] = []


def merge_mapped(ingests: Iterable[Ingest]) -> list[Ingest]:
    """Return ingests with the mapped tasks of each task and run merged into one, such as the shards of a group.

    :param ingests: Ingests of any tasks
    """
    groups: defaultdict[tuple[str, str, str], list[Ingest]] = defaultdict(list)
    others = []
    for ingest in ingests:
        if ingest.map_index >= 0:
            groups[ingest.dag_id, ingest.run_id, ingest.task_id].append(ingest)
        else:
            others.append(ingest)
    return [*others, *(_merge(sorted(members, key=lambda member: member.map_index)) for members in groups.values())]


def select_most_relevant(ingests: Sequence[Ingest], limit: int) -> tuple[list[Ingest], int]:
    """Return the most relevant ingests in their order, and the number of omitted ingests and mapped tasks.

    Failed and running ingests are preferred, then the newest others.

    :param ingests: Result of `merge_mapped`
    :param limit: Maximum number of tasks, and of mapped tasks of each
    """
    tasks, omitted = _select(ingests, limit)
    shown = []
    for task in tasks:
        members, others = _select(task.members, limit)
        omitted += others
        shown.append(task.model_copy(update={"members": members}) if others else task)
    return shown, omitted


def _select(ingests: Sequence[Ingest], limit: int) -> tuple[list[Ingest], int]:
    def rank(index: int) -> tuple[bool, float]:
        ingest = ingests[index]
        return ingest.state in OVER - FAILED, -(ingest.started.timestamp() if ingest.started else float("inf"))

    kept = sorted(sorted(range(len(ingests)), key=rank)[:limit])
    return [ingests[index] for index in kept], len(ingests) - len(kept)


def _merge(members: Sequence[Ingest]) -> Ingest:
    states = Counter(member.state or "no_state" for member in members)
    state = merged_state(states, run_is_over=members[0].run_state in {"success", "failed"})
    is_upload_group = any(member.action == "shard" for member in members)
    action, phase = ("create", "shards") if is_upload_group else (members[0].action, "tasks")
    progress = _merge_progress(members, phase, states["success"])
    ended = max(filter(None, (member.ended for member in members)), default=None)
    return members[0].model_copy(
        update={
            "map_index": -1,
            "label": "",
            "state": state,
            "try_number": 1,
            "started": min(filter(None, (member.started for member in members)), default=None),
            "ended": ended if state in OVER else None,
            "bundle": _common_bundle(members),
            "action": action,
            "file_count": progress.file_count,
            "byte_count": progress.byte_count,
            "error": _merge_errors(members),
            "progress": progress,
            "updated": max(filter(None, (member.updated for member in members)), default=None),
            "states": dict(states),
            "members": list(members),
        }
    )


def _common_bundle(members: Sequence[Ingest]) -> Bundle | None:
    """Return the bundle that all mapped tasks have; of shards, those that have started."""
    bundles = {member.bundle for member in members if member.bundle or member.action != "shard"}
    return bundles.pop() if len(bundles) == 1 else None


def _shard_count(members: Sequence[Ingest]) -> int:
    """Return the number of shards of an upload group; 0 for other tasks, such as those of a batch."""
    shards = (member.progress for member in members if member.progress and member.action == "shard")
    return max((shard.shard_count or 0 for shard in shards), default=0)


def _merge_progress(members: Sequence[Ingest], phase: str, phase_done: int) -> Progress:
    known = list(filter(None, (member.progress for member in members)))
    running = filter(None, (member.progress for member in members if member.state not in OVER))
    return Progress(
        phase=phase,
        phase_done=phase_done,
        phase_files=_shard_count(members) or len(members),
        file_count=sum(filter(None, (member.file_count for member in members))),
        byte_count=sum(filter(None, (member.byte_count for member in members))),
        sent_byte_count=sum(progress.sent_byte_count for progress in known),
        rate=sum(progress.rate for progress in running),
        failures=_merge_failures(failure for progress in known for failure in progress.failures),
    )


def _merge_errors(members: Sequence[Ingest]) -> str:
    """Return the most frequent reason of failures."""
    # A task that did not run has a better reason in another row.
    reasons = Counter(member.error for member in members if member.error and member.state != "upstream_failed")
    reasons = reasons or Counter(member.error for member in members if member.error)
    if not reasons:
        return ""
    reason, _ = reasons.most_common(1)[0]
    others = len(reasons) - 1
    return reason if not others else f"{reason} (and {others:,} other reason{'s' if others > 1 else ''})"


def merged_state(states: Counter[str], *, run_is_over: bool) -> str | None:
    """Return the state of all mapped tasks together.

    :param run_is_over: Whether the DAG run has ended, so that tasks without a state will not run
    """
    if len(states) == 1:
        return None if states["no_state"] else next(iter(states))
    if not run_is_over and not set(states) <= OVER:
        return "running"
    return next((state for state in ("failed", "upstream_failed", "success", "skipped") if states[state]), "failed")


def _merge_failures(failures: Iterable[Failure]) -> list[Failure]:
    by_cause: dict[str, Failure] = {}
    for failure in failures:
        known = by_cause.get(failure.cause, Failure(cause=failure.cause, count=0, names=[]))
        names = [*known.names, *failure.names][:_MAX_NAMES]
        by_cause[failure.cause] = Failure(cause=failure.cause, count=known.count + failure.count, names=names)
    return list(by_cause.values())
