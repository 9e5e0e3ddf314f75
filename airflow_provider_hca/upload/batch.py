"""A batch: many directories that become bundles.

`plan_batch` plans all directories, and divides them into units of work: small directories share one, a large one is
divided into shards. Nothing is kept of a directory but counts, so memory does not grow with the number of files.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from airflow_provider_hca.causes import cause_text, most_frequent, names_text
from airflow_provider_hca.client.identifiers import bundle_uuid_of
from airflow_provider_hca.exceptions import DSSAbortedError, InvalidDirectoryError
from airflow_provider_hca.parallel import run_parallel
from airflow_provider_hca.units import amount, count_text
from airflow_provider_hca.upload.checksums import PART_SIZE
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.report import UploadReport

Outcome = Literal["created", "unchanged", "skipped", "invalid", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("created", "unchanged", "skipped", "invalid", "failed")

_PLANNED_AT_ONCE = 16  # listings of prefixes wait for the store most of the time
_MAX_NAMES = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A directory of a batch.

    :ivar directory: path, `s3://bucket/prefix` or `gs://bucket/prefix`
    :ivar bundle_key: key of its bundle
    :ivar byte_count: total size of its files, once it is planned
    """

    directory: str
    bundle_key: str
    byte_count: int = 0

    @property
    def name(self) -> str:
        """Last part of the directory, for labels."""
        return self.directory.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class BundleResult:
    """Result of a directory of a batch.

    :ivar outcome: `created`, `unchanged`, `skipped` (a newer version exists), `invalid` (the directory) or `failed`
    :ivar version: version of the bundle; None if the directory has no bundle
    :ivar cause: reason why it is not created or unchanged
    :ivar permanent: whether a retry would fail too
    """

    directory: str
    bundle_key: str
    outcome: Outcome
    uuid: str = ""
    version: str | None = None
    file_count: int = 0
    byte_count: int = 0
    added_file_count: int = 0
    changed_file_count: int = 0
    removed_file_count: int = 0
    unchanged_file_count: int = 0
    cause: str = ""
    permanent: bool = False

    @classmethod
    def of_report(cls, row: Row, outcome: Outcome, report: UploadReport) -> Self:
        """Return the result of an upload."""
        names = {field.name for field in fields(cls)} & {field.name for field in fields(report)}
        return cls(row.directory, row.bundle_key, outcome, **{name: getattr(report, name) for name in names})

    @classmethod
    def of_error(cls, row: Row, outcome: Outcome, error: Exception) -> Self:
        """Return the result of a directory that failed; its cause leaves the directory out, as others may share it."""
        return cls(
            row.directory,
            row.bundle_key,
            outcome,
            cause=cause_text(error.problems if isinstance(error, InvalidDirectoryError) else error),
            permanent=isinstance(error, ValueError) or getattr(error, "permanent", False),
        )

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the result that `as_json` returned."""
        return cls(**document)

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary for XCom, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value or name in {"directory", "bundle_key"}}


@dataclass(frozen=True, slots=True)
class Planned:
    """A planned directory.

    :ivar file_count: number of its files
    :ivar byte_count: total size of its files
    :ivar is_copied_later: whether the DSS copies one of its files asynchronously
    """

    row: Row
    file_count: int
    byte_count: int
    is_copied_later: bool

    @classmethod
    def of_plan(cls, row: Row, plan: Plan) -> Self:
        """Return the counts of a plan."""
        return cls(row, len(plan.files), plan.size, any(file.size > PART_SIZE for file in plan.files))


@dataclass(slots=True)
class Batch:
    """The planned directories of a batch.

    :ivar planned: directories that can be uploaded
    :ivar invalid: results of the others
    """

    planned: list[Planned] = field(default_factory=list)
    invalid: list[BundleResult] = field(default_factory=list)

    def __str__(self) -> str:
        size = amount(sum(one.file_count for one in self.planned), sum(one.byte_count for one in self.planned))
        directories = count_text(len(self.planned), "directory", "directories")
        return f"{directories} with {size}, {len(self.invalid):,} invalid"


def check_keys(rows: Sequence[Row]) -> None:
    """Raise if two directories would become versions of one bundle.

    :raises ValueError: with the keys that occur twice, or that are empty
    """
    for row in rows:
        bundle_uuid_of(row.bundle_key)
    counts = Counter(row.bundle_key for row in rows)
    twice = sorted(key for key, count in counts.items() if count > 1)
    if twice:
        names = ", ".join(
            f"{key!r} of " + " and ".join(row.directory for row in rows if row.bundle_key == key)
            for key in twice[:_MAX_NAMES]
        )
        more = f" and {len(twice) - _MAX_NAMES:,} more" if len(twice) > _MAX_NAMES else ""
        raise ValueError(f"each directory needs a bundle_key of its own, but these occur more than once: {names}{more}")


def plan_batch(rows: Sequence[Row], plan: Callable[[Row], Plan], *, stop: threading.Event) -> Batch:
    """Plan all directories; one that cannot be uploaded does not stop the others.

    :param rows: directories
    :param plan: plans a directory, and perhaps validates it
    :param stop: event that ends this with a `DSSAbortedError`
    :raises DSSError: if a store or a connection fails for all directories
    """
    found: dict[Row, Planned] = {}

    def plan_row(row: Row) -> None:
        found[row] = Planned.of_plan(row, plan(row))

    failures = run_parallel(
        list(rows),
        plan_row,
        name="plan",
        workers=_PLANNED_AT_ONCE,
        stop=stop,
        continue_after=_is_of_one_directory,
        on_progress=lambda _: None,
    )
    if stop.is_set():
        raise DSSAbortedError("stopped while the batch was planned")
    for _, error in failures:
        if not _is_of_one_directory(error):
            raise error
    errors = dict(failures)
    return Batch(
        [found[row] for row in rows if row in found],
        [BundleResult.of_error(row, "invalid", errors[row]) for row in rows if row in errors],
    )


def _is_of_one_directory(error: Exception) -> bool:
    return isinstance(error, ValueError)


def is_large(one: Planned, *, max_files: int, max_bytes: int) -> bool:
    """Return whether a directory gets units of work of its own, which wait for the DSS's copies in the triggerer."""
    return one.file_count > max_files or one.byte_count > max_bytes or one.is_copied_later


def pack(planned: Sequence[Planned], *, max_files: int, max_bytes: int, max_units: int) -> Iterator[list[Planned]]:
    """Divide small directories into units of work, in their order.

    :param planned: small directories
    :param max_files: maximum number of files of a unit; more if there would be too many units
    :param max_bytes: maximum size of a unit
    :param max_units: maximum number of units
    """
    files, size = sum(one.file_count for one in planned), sum(one.byte_count for one in planned)
    # A unit that is closed because the next directory does not fit is at least half full, with the one after it.
    max_files, max_bytes = max(max_files, 2 * files // max_units), max(max_bytes, 2 * size // max_units)
    unit: list[Planned] = []
    files = size = 0
    for one in planned:
        if unit and (files + one.file_count > max_files or size + one.byte_count > max_bytes):
            yield unit
            unit, files, size = [], 0, 0
        unit.append(one)
        files += one.file_count
        size += one.byte_count
    if unit:
        yield unit


def label_of(rows: Sequence[Row]) -> str:
    """Return the names of some directories, for `map_index_template`."""
    names = ", ".join(row.name for row in rows[:3])
    return f"{names} and {len(rows) - 3:,} more" if len(rows) > 3 else names


@dataclass(slots=True)
class BatchReport:
    """Results of a batch.

    :ivar results: one for each directory
    """

    results: list[BundleResult]

    @property
    def counts(self) -> dict[str, int]:
        """Number of directories by outcome."""
        found = Counter(result.outcome for result in self.results)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    @property
    def failed(self) -> int:
        """Number of directories that are invalid or failed."""
        return self.counts["failed"] + self.counts["invalid"]

    def causes(self) -> list[dict[str, Any]]:
        """Return why directories failed, the most frequent cause first, each with some of the directories."""
        return [
            {"outcome": outcome, **cause}
            for outcome in ("failed", "invalid", "skipped")
            for cause in most_frequent(
                ((result.directory, result.cause) for result in self.results if result.outcome == outcome),
                "directories",
            )
        ]

    def as_json(self) -> dict[str, Any]:
        """Return counts, causes, and the bundles that were created."""
        created = [result for result in self.results if result.outcome == "created"]
        bundles = [(result.directory, result.bundle_key, f"{result.uuid}.{result.version}") for result in created]
        return {
            **self.counts,
            "file_count": sum(result.file_count for result in self.results),
            "byte_count": sum(result.byte_count for result in self.results),
            "bundles": [dict(zip(("directory", "bundle_key", "fqid"), bundle, strict=True)) for bundle in bundles],
            "causes": self.causes(),
        }

    def __str__(self) -> str:
        lines = [", ".join(f"{count:,} {outcome}" for outcome, count in self.counts.items())]
        width = max((len(result.directory) for result in self.results), default=0)
        for result in self.results:
            if result.outcome == "created":
                changes = ", ".join(
                    f"{getattr(result, f'{name}_file_count'):,} {name}"
                    for name in ("added", "changed", "removed", "unchanged")
                )
                lines.append(f"  created    {result.directory:{width}}  {result.uuid}.{result.version}  {changes}")
        for cause in self.causes():
            names = names_text(cause["directories"], cause["count"])
            lines.append(f"  {cause['outcome']:9}  {names}: {cause['cause']}")
        return "\n".join(lines)
