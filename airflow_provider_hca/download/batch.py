"""Download several bundles into subdirectories of a directory.

Bundles are taken in groups. The manifests of a group are requested together, and so are the files of all its bundles,
so that they wait together for checkout copies. Only one group is in memory.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_hca.causes import cause_text, group_errors, most_frequent, names_text
from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.bulk import run_bulk
from airflow_provider_hca.client.identifiers import check_sha256, check_version
from airflow_provider_hca.client.models import FQID, Bundle, check_replica
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download.directory import TargetDirectory
from airflow_provider_hca.download.downloader import check_case, download_error
from airflow_provider_hca.download.files import DEFAULT_WORKERS, ErrorLimit, FileDownloader, describe_failure
from airflow_provider_hca.download.plan import WantedFile, check_patterns, plan_download
from airflow_provider_hca.download.selection import Choice, Selection
from airflow_provider_hca.exceptions import DSSAbortedError
from airflow_provider_hca.units import amount, size_text

log = logging.getLogger(__name__)

OUTCOMES = ("downloaded", "unchanged", "failed")
FILES_DIRECTORY = "files"
_GROUP_FILES = 10_000  # files after which a group is complete
_REQUESTED_AT_ONCE = 50  # manifests; each may have many files
_NOT_TRIED = "not tried, since the DSS or the disk failed for another bundle"


@dataclass(frozen=True, slots=True)
class Failure:
    """A bundle or file that failed.

    :ivar name: FQID, or the UUID if the version is not known
    :ivar permanent: Whether a retry would fail too
    """

    name: str
    cause: str
    permanent: bool

    @classmethod
    def of_error(cls, name: str, error: Exception) -> Failure:
        """Return the failure of an error."""
        return cls(name, cause_text(error), isinstance(error, ValueError) or getattr(error, "permanent", False))


@dataclass(slots=True)
class BatchDownloadReport:
    """Progress and result of a download of several bundles.

    :ivar directory: Path of the directory
    :ivar bundles: Complete bundles, as FQIDs
    :ivar counts: Number of bundles by outcome; a single file of a collection counts as one
    :ivar files: Number of selected files of complete bundles
    :ivar size: Their size in bytes
    :ivar downloaded_files: Number of files downloaded by this try
    :ivar downloaded_size: Bytes downloaded by this try
    :ivar failures: Bundles that failed
    """

    directory: str
    replica: str
    bundles: list[FQID] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    files: int = 0
    size: int = 0
    downloaded_files: int = 0
    downloaded_size: int = 0
    failures: list[Failure] = field(default_factory=list)

    def add_failure(self, failure: Failure) -> None:
        """Count a bundle that failed."""
        self.counts["failed"] += 1
        self.failures.append(failure)

    def add_not_tried(self, items: Iterable[Choice | FQID], error: Exception) -> None:
        """Count bundles that were not tried after an error that concerns all of them."""
        for item in items:
            self.add_failure(replace(Failure.of_error(name_of(item), error), cause=_NOT_TRIED))

    def as_json(self) -> dict[str, Any]:
        """Return counts, and the most frequent causes of failures with some of their bundles."""
        return {
            "directory": self.directory,
            "replica": self.replica,
            **{outcome: self.counts[outcome] for outcome in OUTCOMES},
            "file_count": self.files,
            "byte_count": self.size,
            "causes": most_frequent(((failure.name, failure.cause) for failure in self.failures), "bundles"),
            "statistics": {
                "downloaded_file_count": self.downloaded_files,
                "downloaded_byte_count": self.downloaded_size,
            },
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{self.counts[outcome]:,} {outcome}" for outcome in OUTCOMES)
        new = f"{self.downloaded_files:,} of them ({size_text(self.downloaded_size)}) downloaded now"
        lines = [f"{counts}; {amount(self.files, self.size)} in {self.directory}, {new}"]
        for cause, names in group_errors((failure.name, failure.cause) for failure in self.failures):
            lines.append(f"  failed  {names_text(names, len(names))}: {cause}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Item:
    """A bundle, or a single file, whose manifest was read.

    :ivar files: Files to download, with paths below the directory of the batch
    """

    fqid: FQID
    files: list[WantedFile]
    is_bundle: bool = True


Plan = Callable[..., list[WantedFile]]  # `plan_download` with its patterns


class BatchDownloader:
    """Downloads several bundles, each into the subdirectory `UUID.VERSION` of a directory.

    Single files of collections get the path `files/UUID.VERSION`.

    :param dss: API of the DSS
    :param transport: Driver that runs the calls; its stop event ends `download` within seconds
    :param replica: Replica to download from
    :param workers: Number of files downloaded at once; each needs less than 1 MiB of memory
    :raises ValueError: if `workers` is below 1
    """

    def __init__(
        self, dss: DSSAPI, transport: RequestsTransport, *, replica: str, workers: int = DEFAULT_WORKERS
    ) -> None:
        self._dss, self._transport, self._replica, self._workers = dss, transport, replica, workers
        self._files = FileDownloader(dss, transport, replica=replica, workers=workers, tolerant=True)

    def download(
        self,
        selection: Selection,
        directory: str | Path,
        *,
        data_files: Sequence[str] = ("*",),
        metadata_files: Sequence[str] = ("*",),
    ) -> BatchDownloadReport:
        """Download bundles and files; one that fails does not stop the others, unless the DSS or the disk does.

        :param selection: Bundles and files
        :param directory: Path of the directory, created if missing; other files in it are not changed
        :param data_files: Patterns for files that are not indexed
        :param metadata_files: Patterns for indexed files
        :raises ValueError: if an argument is invalid; nothing was written
        :raises OSError: if the directory cannot be created or opened
        :raises DSSAbortedError: if stopped
        """
        if not str(directory):
            raise ValueError("directory is empty: give a path")
        check_replica(self._replica)
        check_patterns(data_files, metadata_files)
        plan = partial(plan_download, data_files=data_files, metadata_files=metadata_files)
        report = BatchDownloadReport(str(directory), self._replica)
        chosen: list[Choice | FQID] = [*selection.bundles, *selection.files]
        group: list[_Item] = []
        with TargetDirectory(Path(directory)) as target:
            for start in range(0, len(chosen), _REQUESTED_AT_ONCE):
                end = start + _REQUESTED_AT_ONCE
                items, fatal = self._read(chosen[start:end], plan, target, report)
                group += items
                if fatal or end >= len(chosen) or sum(len(item.files) for item in group) >= _GROUP_FILES:
                    fatal = self._download(group, target, report) or fatal
                    group = []
                if fatal:
                    report.add_not_tried(chosen[end:], fatal)
                    break
        log.info("%s", report)
        return report

    def _read(
        self, chosen: list[Choice | FQID], plan: Plan, target: TargetDirectory, report: BatchDownloadReport
    ) -> tuple[list[_Item], Exception | None]:
        """Read manifests, and return the bundles with their files, and an error that concerns all bundles."""
        items: dict[int, _Item] = {}
        limit = ErrorLimit(min(self._workers, len(chosen)) - 1)

        def read(number: int) -> Call[None]:
            item = chosen[number]
            if isinstance(item, Choice):
                items[number] = yield from self._read_bundle(item, plan, target)
            else:
                items[number] = yield from self._read_file(item)

        failures = dict(
            run_bulk(
                range(len(chosen)),
                read,
                transport=self._transport,
                concurrency=self._workers,
                continue_after=lambda error: isinstance(error, ValueError) or limit.continue_after(error),
                on_progress=lambda done: log.info("%d of %d manifests read", done, len(chosen)),
            )
        )
        if self._transport.stop.is_set():
            raise DSSAbortedError("the download was stopped; a retry resumes it")
        for number, item in enumerate(chosen):
            if number in failures:
                log.warning("%s: %s", name_of(item), failures[number])
                report.add_failure(Failure.of_error(name_of(item), failures[number]))
            elif number not in items and limit.fatal:
                report.add_not_tried([item], limit.fatal)
        return [items[number] for number in sorted(items)], limit.fatal

    def _read_bundle(self, choice: Choice, plan: Plan, target: TargetDirectory) -> Call[_Item]:
        bundle = yield from self._dss.get_bundle(choice.uuid, replica=self._replica, version=choice.version)
        if choice.data_files is not None:
            _keep_data_files(bundle, choice.data_files)
        wanted = plan(bundle)
        check_case(partial(plan, bundle), target)
        fqid = FQID(choice.uuid, check_version(bundle["version"]))
        return _Item(fqid, [replace(file, parts=(str(fqid), *file.parts)) for file in wanted])

    def _read_file(self, fqid: FQID) -> Call[_Item]:
        found = yield from self._dss.head_file(fqid.uuid, replica=self._replica, version=fqid.version)
        parts = (FILES_DIRECTORY, str(fqid))
        file = WantedFile(fqid.uuid, fqid.version, parts, found.size, check_sha256(found.sha256))
        return _Item(fqid, [file], is_bundle=False)

    def _download(self, group: list[_Item], target: TargetDirectory, report: BatchDownloadReport) -> Exception | None:
        """Download a group, and return an error that concerns all bundles."""
        # Without duplicates: a bundle may be chosen as the latest version and as this version.
        files = list(dict.fromkeys(file for item in group for file in item.files))
        result = self._files.download(files, target)
        complete, new, failed = set(result.complete), set(result.new), dict(result.failures)
        fatal = result.limit.fatal
        report.files += len(complete)
        report.size += sum(file.size for file in complete)
        report.downloaded_files += len(new)
        report.downloaded_size += result.size
        for item in group:
            done = sum(file in complete for file in item.files)
            if any(file in failed for file in item.files):
                report.add_failure(_failure(item, failed, done))
            elif done < len(item.files) and fatal:
                report.add_not_tried([item.fqid], fatal)
            else:
                report.counts["downloaded" if any(file in new for file in item.files) else "unchanged"] += 1
                report.bundles += [item.fqid] * item.is_bundle
        return fatal


def _failure(item: _Item, failed: Mapping[WantedFile, Exception], done: int) -> Failure:
    errors = [(file, failed[file]) for file in item.files if file in failed]
    error = download_error(errors, done=done, total=len(item.files))
    log.warning("%s: %s", item.fqid, error)
    ((cause, _), *_) = group_errors((file.name, describe_failure(error)) for file, error in errors)
    return Failure(str(item.fqid), cause_text(cause), error.permanent)


def _keep_data_files(bundle: Bundle, names: Mapping[str, str]) -> None:
    """Remove other data files from a bundle.

    :param names: Data files to keep, with their SHA-256 or an empty text
    :raises ValueError: if the bundle does not have one of them, or with other content
    """
    sums = {file.get("name"): str(file.get("sha256")).lower() for file in bundle["files"]}
    for name, sha256 in names.items():
        if name not in sums:
            raise ValueError(f"the bundle has no file {name!r}, which the manifest has")
        if sha256 and sha256 != sums[name]:
            raise ValueError(f"file {name!r} has sha256 {sums[name]} in the bundle, {sha256} in the manifest")
    bundle["files"] = [file for file in bundle["files"] if file.get("indexed") or file.get("name") in names]


def name_of(item: Choice | FQID) -> str:
    """Return the FQID of a bundle or file, or the UUID of a bundle without a version."""
    return item.name if isinstance(item, Choice) else str(item)
