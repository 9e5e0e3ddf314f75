"""Record of an upload, used by log, XCom, shards and the page in the Airflow UI."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from airflow_provider_hca.units import amount, count_text
from airflow_provider_hca.upload.changes import Changes, encode_kept
from airflow_provider_hca.upload.plan import Plan

SLOWEST_COUNT = 5
_STATISTICS = (
    "added_file_count",
    "changed_file_count",
    "removed_file_count",
    "unchanged_file_count",
    "staged_file_count",
    "staged_byte_count",
    "skipped_file_count",
    "registered_file_count",
    "copied_file_count",
    "retry_count",
    "seconds",
    "slowest_files",
)
_LOCK = threading.Lock()


@dataclass(slots=True)
class UploadReport:
    """Progress and result of an upload; several threads add to it.

    :ivar uuid: UUID of the bundle
    :ivar version: version of the bundle
    :ivar replica: replica of the bundle
    :ivar digest: digest of the plan
    :ivar file_count: members of the bundle
    :ivar byte_count: total size of the members
    :ivar added_file_count: members that the version before did not have; all members of a new bundle
    :ivar changed_file_count: members that differ from those of the version before
    :ivar removed_file_count: members of the version before that are not in this one
    :ivar unchanged_file_count: other members
    :ivar kept_byte_count: total size of the members whose file the DSS had already
    :ivar base: version that the plan was compared with; see `Plan`
    :ivar kept: which of the planned files the DSS had already; see `changes.encode_kept`
    :ivar staged_file_count: files that this try sent to the staging bucket
    :ivar staged_byte_count: total size of those files
    :ivar skipped_file_count: files that an earlier try staged or registered
    :ivar skipped_byte_count: total size of those files
    :ivar registered_file_count: files that this try registered
    :ivar copied_file_count: those of them that the DSS copies asynchronously
    :ivar retry_count: repeated requests to the store or the DSS
    :ivar sent_byte_count: bytes that this try sent, including unfinished files
    :ivar summed_byte_count: bytes of large files that were hashed
    :ivar seconds: duration of each phase
    :ivar slowest_files: name and seconds of the files that took longest to stage
    :ivar created: whether this try created the bundle; False if it existed already, identical
    :ivar copying: UUID, version and sha256 of the files that the DSS is copying
    :ivar phase: `plan`, `compare`, `stage`, `register`, `copy`, `bundle` or `done`
    :ivar phase_done: files that are done in this phase
    :ivar phase_files: files of this phase
    :ivar rate: bytes sent per second over the last progress reports
    """

    uuid: str
    version: str
    replica: str
    digest: str
    file_count: int
    byte_count: int
    added_file_count: int = 0
    changed_file_count: int = 0
    removed_file_count: int = 0
    unchanged_file_count: int = 0
    kept_byte_count: int = 0
    base: str | None = None
    kept: str = ""
    staged_file_count: int = 0
    staged_byte_count: int = 0
    skipped_file_count: int = 0
    skipped_byte_count: int = 0
    registered_file_count: int = 0
    copied_file_count: int = 0
    retry_count: int = 0
    sent_byte_count: int = 0
    summed_byte_count: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    slowest_files: list[list[Any]] = field(default_factory=list)
    created: bool = False
    copying: list[list[str]] = field(default_factory=list)
    phase: str = "plan"
    phase_done: int = 0
    phase_files: int = 0
    rate: float = 0.0

    @classmethod
    def of_plan(cls, plan: Plan, replica: str, changes: Changes | None = None) -> Self:
        """Return an empty report.

        :param plan: plan of the upload
        :param replica: replica of the bundle
        :param changes: difference to the latest version; None if the plan was not compared
        """
        report = cls(plan.bundle_uuid, plan.bundle_version, replica, plan.digest, len(plan.files), plan.size)
        report.base, report.kept = plan.base, encode_kept(plan.files, plan.files)
        report.kept_byte_count = sum(file.size for file in plan.files if file.registered)
        report.add(**(changes.counts() if changes else {"added_file_count": len(plan.files)}))
        return report

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the report that `as_json` returned."""
        return cls(**document)

    def as_json(self) -> dict[str, Any]:
        """Return the report without `copying`, which can have as many items as there are files."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "copying"}

    def statistics(self) -> dict[str, Any]:
        """Return what this try did."""
        return {name: getattr(self, name) for name in _STATISTICS}

    def progress(self) -> dict[str, Any]:
        """Return the state for the page in the Airflow UI."""
        sent = self.sent_byte_count + self.skipped_byte_count + self.kept_byte_count
        names = ("file_count", "byte_count", "phase", "phase_done", "phase_files", "copied_file_count")
        found = ("added", "changed", "removed", "unchanged") if self.base else ()
        return {
            **{name: getattr(self, name) for name in names},
            "changes": {name: getattr(self, f"{name}_file_count") for name in found} or None,
            "staged_byte_count": self.staged_byte_count,
            "sent_byte_count": self.byte_count if self.phase in {"copy", "done"} else min(sent, self.byte_count),
            "rate": self.rate,
        }

    def add(self, **counts: int) -> None:
        """Increase counters."""
        with _LOCK:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def add_duration(self, name: str, seconds: float) -> None:
        """Record how long a file took to stage."""
        with _LOCK:
            self.slowest_files = slowest([*self.slowest_files, [name, round(seconds, 3)]])

    def __str__(self) -> str:
        phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in self.seconds.items())
        slow = ", ".join(f"{name!r} {spent:.1f}" for name, spent in self.slowest_files)
        return (
            f"bundle {self.uuid}.{self.version} in {self.replica} {'created' if self.created else 'existed already'}: "
            f"{amount(self.file_count, self.byte_count)}; this try staged "
            f"{amount(self.staged_file_count, self.staged_byte_count)} and registered {self.registered_file_count:,}, "
            f"skipped {self.skipped_file_count:,}, {count_text(self.retry_count, 'retry', 'retries')}; "
            f"seconds: {phases}; slowest to stage: {slow}"
        )


def slowest(durations: Iterable[list[Any]]) -> list[list[Any]]:
    """Return the longest of some pairs of name and seconds."""
    return sorted(durations, key=lambda file: -file[1])[:SLOWEST_COUNT]
