"""Compare a plan with the latest version of its bundle, so that only what differs is uploaded.

The manifest has name, size, content type, `indexed` and checksums of each file. A file that has the same content type
and checksum keeps its UUID and version in the new version of the bundle; it is neither staged nor registered.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from airflow_provider_hca.causes import names_text
from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import Bundle, BundleFile
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import DSSAbortedError, DSSConflictError, DSSProtocolError, InvalidDirectoryError
from airflow_provider_hca.parallel import run_parallel
from airflow_provider_hca.units import count_text, size_text
from airflow_provider_hca.upload.entries import FileChangedError, PlannedFile
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import Plan

log = logging.getLogger(__name__)

_NAMES_IN_LOG = 5


@dataclass(frozen=True, slots=True)
class Changes:
    """Difference between a plan and the latest version of its bundle.

    :ivar version: latest version; None if the bundle does not exist
    :ivar added: names of files that the latest version does not have
    :ivar changed: names of files that differ in content, content type or `indexed`
    :ivar removed: names of files that the plan does not have
    :ivar unchanged: number of other files
    :ivar byte_count: total size of the files to upload, in bytes
    :ivar file_count: number of files to upload; one that differs only in `indexed` is not uploaded
    """

    version: str | None
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: int
    byte_count: int
    file_count: int

    @property
    def count(self) -> int:
        """Number of files that are added, changed or removed."""
        return len(self.added) + len(self.changed) + len(self.removed)

    @property
    def requests(self) -> int:
        """Number of requests that write to the DSS: `PUT /files` for each file to upload, and `PUT /bundles`."""
        return self.file_count + 1 if self.count or self.version is None else 0

    def as_json(self) -> dict[str, Any]:
        """Return the difference for `airflow hca plan --json`."""
        return {
            "added": [*self.added],
            "changed": [*self.changed],
            "removed": [*self.removed],
            "unchanged": self.unchanged,
            "bytes": self.byte_count,
            "requests": self.requests,
        }

    def counts(self) -> dict[str, int]:
        """Return the numbers of files."""
        return {
            "added_file_count": len(self.added),
            "changed_file_count": len(self.changed),
            "removed_file_count": len(self.removed),
            "unchanged_file_count": self.unchanged,
        }

    def __str__(self) -> str:
        groups = {"added": self.added, "changed": self.changed, "removed": self.removed}
        texts = [f"{len(names):,} {group}{_examples(names)}" for group, names in groups.items()]
        since = f"version {self.version}" if self.version else "no earlier version"
        work = f"{size_text(self.byte_count)} to upload, {self.requests:,} requests"
        return f"{', '.join(texts)}, {self.unchanged:,} unchanged; {work} ({since})"


def _examples(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _NAMES_IN_LOG else ""
    return f" ({', '.join(map(repr, names[:_NAMES_IN_LOG]))}{more})"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the latest version.

    :ivar member: the file as an item of `PUT /bundles`
    """

    member: BundleFile
    size: int
    sha256: str
    s3_etag: str
    content_type: str

    @classmethod
    def of(cls, bundle: Bundle, file: Mapping[str, Any]) -> StoredFile:
        """Return a file of a manifest.

        :raises DSSProtocolError: if it lacks an element
        """
        try:
            if not isinstance(file["name"], str):
                raise TypeError("name is no text")
            # Without `bundle_file`: other programs can have put names that only the DSS accepts; they are removed.
            member: BundleFile = {
                "uuid": check_uuid(file["uuid"]),
                "version": check_version(file["version"]),
                "name": file["name"],
                "indexed": file["indexed"],
            }
            return cls(member, int(file["size"]), file["sha256"].lower(), file["s3_etag"], file["content-type"])
        except (KeyError, ValueError, TypeError, AttributeError):
            raise DSSProtocolError(
                f"bundle {bundle['uuid']}.{bundle['version']} has a file whose metadata is missing or invalid"
            ) from None

    @property
    def time_ns(self) -> int:
        """Time of its version, in nanoseconds since the epoch."""
        version = datetime.strptime(self.member["version"], "%Y-%m-%dT%H%M%S.%fZ").replace(tzinfo=UTC)
        return int(version.timestamp() * 1_000_000) * 1000


def compare(
    plan: Plan, dss: DSSAPI, transport: RequestsTransport, options: UploadOptions, *, bundle: Bundle | None = None
) -> tuple[Plan, Changes]:
    """Compare a plan with a version of its bundle.

    :param plan: plan from `plan_directory`
    :param dss: API of the DSS
    :param transport: transport of its calls; its `stop` ends the comparison
    :param options: options of the upload
    :param bundle: manifest of the version; that of the latest if None
    :return: the plan, in which files with the same content keep their UUID and version, and the difference
    :raises InvalidDirectoryError: if files changed or could not be read
    :raises StagingError: if objects of a source could not be read
    :raises DSSError: if the DSS does not answer
    :raises DSSAbortedError: if stopped
    """
    transport.rate_limiter.limit(options.max_requests_per_second)
    bundle = bundle or transport.run(dss.latest_bundle(plan.bundle_uuid, replica=options.replica))
    version, stored = (bundle["version"], _stored_files(bundle)) if bundle else (None, {})
    pairs = [(file, stored[file.name]) for file in plan.files if file.name in stored]
    equal: set[str] = set()

    def compare_file(pair: tuple[PlannedFile, StoredFile]) -> None:
        if _has_content(plan, *pair, options, transport.stop):
            equal.add(pair[0].name)

    failures = run_parallel(
        pairs,
        compare_file,
        name="compare",
        workers=1 if options.compare == "size-mtime" else options.max_workers,
        stop=transport.stop,
        continue_after=lambda error: isinstance(error, OSError | FileChangedError),
        on_progress=lambda done: log.info("compare: %d of %d done", done, len(pairs)),
    )
    if transport.stop.is_set():
        raise DSSAbortedError("the upload was stopped; a retry resumes it")
    changed = [(pair[0].name, str(e)) for pair, e in failures if isinstance(e, OSError | FileChangedError)]
    if len(changed) < len(failures):
        raise failures[-1][1]
    if changed:
        raise InvalidDirectoryError(plan.files[0].directory, changed, permanent=False)
    changes = _changes(plan, version, stored, equal)
    log.info("bundle %s: %s", plan.bundle_uuid, changes)
    return replace(_keep(plan, stored, equal), base=version or ""), changes


def encode_kept(compared: Sequence[PlannedFile], registered: Sequence[PlannedFile]) -> str:
    """Return which files of a plan the DSS had already, in a few bytes: for XCom and triggers.

    :param compared: files of the plan that `compare` returned
    :param registered: the same files after `Uploader.register`, which may find them in other versions; or `compared`
    """
    kept = [
        before.registered or (after.version if after.registered else None)
        for before, after in zip(compared, registered, strict=True)
    ]
    return base64.b64encode(zlib.compress(json.dumps(kept).encode())).decode() if any(kept) else ""


def restore_kept(plan: Plan, base: str | None, kept: str, get_base: Callable[[], Bundle]) -> Plan:
    """Return the plan that was encoded, from a plan of the same directory, without reading its files.

    A directory that has changed since gives another plan, which its digest shows.

    :param plan: plan of the directory
    :param base: `base` of the encoded plan
    :param kept: text that `encode_kept` returned
    :param get_base: returns the bundle of that version; called only if the plan kept files of it
    """
    plan = replace(plan, base=base)
    if not kept:
        return plan
    flags: list[bool | str | None] = json.loads(zlib.decompress(base64.b64decode(kept)))
    pairs = list(zip(plan.files, flags, strict=False))
    equal = {file.name for file, flag in pairs if flag is True}
    if equal:
        stored = _stored_files(get_base())
        plan = _keep(plan, stored, equal & stored.keys())
    return plan.with_registered({file.name: version for file, version in pairs if isinstance(version, str)})


def _has_content(
    plan: Plan, file: PlannedFile, stored: StoredFile, options: UploadOptions, stop: threading.Event
) -> bool:
    """Return whether a file has content and content type of a stored one."""
    if (file.size, file.content_type) != (stored.size, stored.content_type):
        return False
    if options.compare == "size-mtime":
        return file.mtime_ns <= stored.time_ns
    if plan.source is not None:
        if file.revision == stored.s3_etag:
            return True
        sums = plan.source.sums(file)
        return sums is not None and sums.sha256 == stored.sha256
    assert plan.directory is not None, "a plan has a source or a directory"  # noqa: S101 - for the type checker
    sha256 = hashlib.sha256()
    with plan.directory.open(file) as opened:
        for chunk in opened.read(0, file.size):
            if stop.is_set():
                raise DSSAbortedError("stopped")
            sha256.update(chunk)
    plan.directory.check_unchanged(file)
    return sha256.hexdigest() == stored.sha256


def _stored_files(bundle: Bundle) -> dict[str, StoredFile]:
    files = (StoredFile.of(bundle, file) for file in bundle["files"])
    return {file.member["name"]: file for file in files}


def _changes(plan: Plan, version: str | None, stored: Mapping[str, StoredFile], equal: Collection[str]) -> Changes:
    names: dict[str, list[str]] = {"added": [], "changed": [], "unchanged": []}
    for file in plan.files:
        if file.name not in stored:
            names["added"].append(file.name)
        elif file.name in equal and file.indexed == stored[file.name].member["indexed"]:
            names["unchanged"].append(file.name)
        else:
            names["changed"].append(file.name)
    new = [file.size for file in plan.files if file.name not in equal]
    return Changes(
        version=version,
        added=tuple(names["added"]),
        changed=tuple(names["changed"]),
        removed=tuple(sorted(stored.keys() - {file.name for file in plan.files})),
        unchanged=len(names["unchanged"]),
        byte_count=sum(new),
        file_count=len(new),
    )


def _keep(plan: Plan, stored: Mapping[str, StoredFile], equal: Collection[str]) -> Plan:
    """Return the plan with the UUIDs and versions of stored files."""

    def kept(file: PlannedFile) -> PlannedFile:
        member = stored[file.name].member
        return replace(file, uuid=member["uuid"], version=member["version"], registered=True)

    return replace(plan, files=tuple(kept(file) if file.name in equal else file for file in plan.files))


class NewerVersionError(ValueError):
    """The bundle has a version that is not older than the one to create."""


def check_newer(plan: Plan, changes: Changes) -> None:
    """Raise if the bundle has a version that is not older, and differs.

    :param plan: plan that was compared
    :param changes: difference to the latest version
    :raises NewerVersionError: if the version of the plan would not be the latest
    """
    if changes.count and changes.version is not None and changes.version >= plan.bundle_version:
        raise NewerVersionError(
            f"bundle {plan.bundle_uuid} has version {changes.version} already, and version {plan.bundle_version} would "
            f"not be the latest: {changes}. Run it for a later date, or check that no other task has this bundle_key"
        )


def check_created(plan: Plan, bundle: Bundle) -> None:
    """Raise if the bundle that an earlier try created has files with other names than the plan.

    Otherwise a new file would be registered, which cannot be undone, and then the DSS would refuse the bundle.

    :param plan: plan of the whole directory, or of a range of names
    :param bundle: manifest of the version of the plan
    :raises DSSConflictError: with the names that only one of them has
    :raises DSSProtocolError: if a file of the manifest lacks an element
    """
    created = {name for name in _stored_files(bundle) if name in plan.names}
    names = sorted(created.symmetric_difference(file.name for file in plan.files))
    if names:
        raise DSSConflictError(
            "GET",
            f"/bundles/{plan.bundle_uuid}",
            409,
            "bundle_already_exists",
            f"an earlier try created version {plan.bundle_version}, and since then files were added or removed: "
            f"{names_text(names, len(names))}. Clear the DAG run, or set another bundle_version of the upload, so that "
            "the bundle gets a new version",
        )


def check_max_changed(changes: Changes, max_changed: float | None) -> None:
    """Raise if more changes than expected: the directory may be another one, or incomplete.

    :param changes: difference to the latest version; a new bundle is always accepted
    :param max_changed: maximum number of files added, changed or removed; a float is a share of the latest version's
    :raises ValueError: if there are more
    """
    if max_changed is None or changes.version is None:
        return
    before = changes.unchanged + len(changes.changed) + len(changes.removed)
    limit = max_changed * before if isinstance(max_changed, float) else max_changed
    if changes.count > limit:
        raise ValueError(
            f"{count_text(changes.count, 'file', 'files')} would change, more than "
            f"max_changed={max_changed!r} allows for {before:,} files: {changes}. Check that the directory is "
            "complete, and that of this bundle"
        )
