"""Change a bundle with any number of files: several PATCHes, each of the version that the previous one created.

Each process of a DSS caches the manifests that it reads. PATCH changes the cached one, even if it fails, so a later GET
or PATCH of the same version may use files that are not stored. Therefore:

- The version to change is confirmed: the DSS compares a repeated PUT of it with its store, not with a cache.
- The files that the new version must have are derived from it. A PATCH sends the difference to them.
- The version that a PATCH created is not yet in any cache with other files. It is read, and if it differs, patched.

The remaining changes can therefore be derived from any version, and a repeat makes only those.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_hca.client.api.base import DONE
from airflow_provider_hca.client.api.bundles import BundleCalls
from airflow_provider_hca.client.api.files import FileCalls
from airflow_provider_hca.client.api.patching import Check, Patches
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import (
    FQID,
    MAX_CHANGES,
    Bundle,
    BundleFile,
    Change,
    bundle_file,
    check_replica,
)
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.exceptions import (
    DSSChangeError,
    DSSConflictError,
    DSSError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

log = logging.getLogger(__name__)

Member = tuple[str, str, str]  # name, UUID and version, by which a file is removed
Members = dict[Member, bool]  # and whether it is indexed

_ATTEMPTS = 5  # any process of the DSS may answer; not all have false files


@dataclass(slots=True)
class _Progress:
    """The change of a bundle, and what it has reached.

    :ivar target: Files that the new version must have
    :ivar creator: Creator of the bundle, which a PATCH keeps
    :ivar known: Versions that no PATCH of unknown outcome can have created
    :ivar version: Version that was reached
    :ivar files: Its files
    :ivar is_sure: Whether these files are stored, not only expected from a PATCH or returned from a cache
    :ivar patches: Number of PATCHes so far; the version is new if there was one
    :ivar surprises: Number of responses that were based on files that are not stored
    """

    uuid: str
    replica: str
    target: Members
    creator: int | None
    known: set[str]
    version: str
    files: Members
    is_sure: bool
    patches: int = 0
    surprises: int = 0

    def continue_from(self, version: str, add: list[Member], remove: list[Member]) -> None:
        """Continue from the version that a PATCH created."""
        removed = {*remove}
        kept = {member: indexed for member, indexed in self.files.items() if member not in removed}
        self.files = kept | {member: self.target[member] for member in add}
        self.known.add(version)
        self.version, self.is_sure, self.patches = version, False, self.patches + 1


class BundleChanges(FileCalls, BundleCalls, Patches):
    """Changes of any size to bundles."""

    def change_bundle(
        self,
        uuid: str,
        *,
        replica: str,
        version: str | None = None,
        add_files: Iterable[Mapping[str, Any]] = (),
        remove_files: Iterable[Mapping[str, Any]] = (),
        replace_files: Iterable[Mapping[str, Any]] = (),
    ) -> Call[Change]:
        """Add any number of files to a bundle and remove others, with as many `PATCH /bundles/{uuid}` as necessary."""
        replaces, removes = _checked(replace_files), _checked(remove_files)
        adds = _checked(add_files) | replaces
        _check_unique(adds)
        bundle, is_sure, listed = yield from self._base(uuid, replica, version)
        uuid, first, files = bundle["uuid"], bundle["version"], _members(bundle)
        names = {name for name, _, _ in replaces}
        removes |= {file: flag for file, flag in files.items() if file[0] in names and adds.get(file) != flag}
        target = _target(f"{uuid}.{first}", files, adds, removes)
        progress = _Progress(uuid, replica, target, bundle.get("creator_uid"), listed, first, files, is_sure)
        if files != target:
            yield from self._resume(progress, {*adds, *removes})
        try:
            yield from self._reach(progress)
        except DSSError as error:
            if progress.version == first:
                raise
            raise DSSChangeError("bundle", uuid, progress.version, progress.patches, error) from error
        return Change(uuid, progress.version, len(target), progress.patches)

    def bundle_to_change(
        self,
        uuid: str,
        *,
        replica: str,
        version: str | None = None,
        add_files: Iterable[Mapping[str, Any]] = (),
        remove_files: Iterable[Mapping[str, Any]] = (),
    ) -> Call[Bundle]:
        """Return the version that `change_bundle` would change, and check that it can be changed so.

        :raises ValueError: if a file to add has the name of one that stays
        """
        adds, removes = _checked(add_files), _checked(remove_files)
        _check_unique(adds)
        bundle, _, _ = yield from self._base(uuid, replica, version)
        _target(f"{bundle['uuid']}.{bundle['version']}", _members(bundle), adds, removes)
        return bundle

    def _base(self, uuid: str, replica: str, version: str | None) -> Call[tuple[Bundle, bool, set[str]]]:
        """Return the version to change, whether it is sure that it is stored like this, and all versions."""
        uuid, replica = check_uuid(uuid, "bundle uuid"), check_replica(replica)
        if version is not None:
            check_version(version, "bundle version")
        listed = yield from self._versions(uuid, replica)
        first = max(listed, default="") if version is None else version
        if first not in listed:  # the caches may still have it
            raise self._not_found(uuid, replica, version)
        bundle, is_sure = yield from self._stored_bundle(uuid, replica, first)
        return bundle, is_sure, listed

    def _reach(self, progress: _Progress) -> Call[None]:
        """Patch until a version has exactly the files of the target."""
        while not (progress.is_sure and progress.files == progress.target):
            if progress.surprises >= _ATTEMPTS:
                raise _outdated(progress.uuid, progress.version)
            if progress.patches and progress.files == progress.target:
                yield from self._read(progress)
                progress.surprises += progress.files != progress.target
            else:
                yield from self._patch_once(progress)

    def _patch_once(self, progress: _Progress) -> Call[None]:
        """Add and remove as many files as one PATCH can."""
        # A process with false files may have those to add already, which would be duplicate names.
        readd = progress.surprises > 0 and (progress.is_sure or not progress.patches)
        add, remove = _batch(progress.files, progress.target, readd=readd)
        send, check = self._bundle_patch(progress, add, remove), self._bundle_check(progress, add, remove)
        try:
            version = yield from self._patch(send, check)
        except DSSError as error:
            if not isinstance(error, DSSResponseError) or error.code != "duplicate_filename":
                raise (yield from self._missing_file(error, progress.replica, add)) from None
            log.warning("%s. The names are unique, so the DSS has outdated files in a cache; resending", error)
            progress.surprises += 1
            if progress.patches and not progress.is_sure:
                yield from self._read(progress)
            return
        progress.continue_from(version, add, remove)
        log.info("bundle %s.%s: %d added, %d removed", progress.uuid, version, len(add), len(remove))

    def _read(self, progress: _Progress) -> Call[None]:
        """Read the files of a version that a PATCH of this call created."""
        bundle = yield from self.get_bundle(progress.uuid, replica=progress.replica, version=progress.version)
        files = _members(bundle)
        if files != progress.files:
            log.warning("bundle %s.%s has other files than expected; correcting them", progress.uuid, progress.version)
        progress.files, progress.is_sure = files, True

    def _not_found(self, uuid: str, replica: str, version: str | None) -> DSSNotFoundError:
        path = self._request("GET", f"/bundles/{uuid}", {}).path
        what = f"bundle {uuid}{f'.{version}' if version else ''}"
        return DSSNotFoundError("GET", path, 404, "not_found", f"{what} does not exist in {replica}, or was deleted")

    def _stored_bundle(self, uuid: str, replica: str, version: str) -> Call[tuple[Bundle, bool]]:
        """Return a version, and whether it is sure that it is stored like this, not only cached."""
        false: list[Bundle] = []
        unsure: Bundle | None = None
        for _ in range(_ATTEMPTS):
            bundle = yield from self.get_bundle(uuid, replica=replica, version=version)
            if bundle in false:
                continue
            if unsure is not None:
                if bundle == unsure:
                    return bundle, False
                unsure = bundle
                continue
            is_stored = yield from self._compare(bundle, replica)
            if is_stored:
                return bundle, True
            if is_stored is None:
                unsure = bundle
            else:
                log.warning("bundle %s.%s: the DSS returned files that are not stored; repeating", uuid, version)
                false.append(bundle)
        raise _outdated(uuid, version)

    def _compare(self, bundle: Bundle, replica: str) -> Call[bool | None]:
        """Return whether a version is stored exactly like this; None if the DSS cannot compare it.

        A PUT of an existing version changes nothing: the DSS compares it with its store, and answers 200 or 409.
        """
        uuid, version = bundle["uuid"], bundle["version"]
        members = _members(bundle)
        body = {"creator_uid": bundle.get("creator_uid"), "files": _files(members, members)}
        request = self._request("PUT", f"/bundles/{uuid}", {"version": version, "replica": replica}, body)
        try:
            yield from self._exchange.send(request, accept=DONE, authorize=True)
        except DSSConflictError:
            return False
        except DSSResponseError as error:  # for example 504: the DSS looks up each file of the bundle
            log.warning("%s. The files of bundle %s.%s cannot be confirmed", error, uuid, version)
            return None
        return True

    def _resume(self, progress: _Progress, changed: set[Member]) -> Call[None]:
        """Continue with the newest version that has a part of the changes, and no others."""
        uuid, replica, target = progress.uuid, progress.replica, progress.target
        before = _remaining(progress.files, target)

        def is_partial(bundle: Bundle) -> bool:
            if bundle.get("creator_uid") != progress.creator:  # created by another program
                return False
            remaining = _remaining(_members(bundle), target)
            return remaining <= changed and len(remaining) < len(before)

        for version in sorted((known for known in progress.known if known > progress.version), reverse=True):
            try:
                bundle = yield from self.get_bundle(uuid, replica=replica, version=version)
                if not is_partial(bundle):
                    continue
                bundle, is_sure = yield from self._stored_bundle(uuid, replica, version)
            except (DSSNotFoundError, DSSProtocolError):
                continue
            if is_partial(bundle):
                log.info("bundle %s.%s has a part of the changes already", uuid, version)
                progress.version, progress.files, progress.is_sure = version, _members(bundle), is_sure
                return

    def _bundle_patch(self, progress: _Progress, add: list[Member], remove: list[Member]) -> Callable[[], Call[FQID]]:
        members = progress.files | progress.target
        files = {"add_files": _files(add, members), "remove_files": _files(remove, members)}
        return lambda: self.patch_bundle(progress.uuid, progress.version, replica=progress.replica, **files)

    def _bundle_check(self, progress: _Progress, add: list[Member], remove: list[Member]) -> Check:
        """Return a check for a new version with these changes. Its other files are corrected later."""
        uuid, replica = progress.uuid, progress.replica
        checked = {*progress.known}
        added, removed = {member: progress.target[member] for member in add}, {*remove}.difference(add)

        def check() -> Call[str | None]:
            for version in sorted((yield from self._versions(uuid, replica)) - checked, reverse=True):
                checked.add(version)
                try:
                    bundle = yield from self.get_bundle(uuid, replica=replica, version=version)
                    files = _members(bundle)
                except (DSSNotFoundError, DSSProtocolError):
                    continue
                if bundle.get("creator_uid") != progress.creator:
                    continue
                if removed.isdisjoint(files) and added.items() <= files.items():
                    return version
            return None

        return check

    def _missing_file(self, error: DSSError, replica: str, add: list[Member]) -> Call[DSSError]:
        """Return a better error if a file to add does not exist: a DSS answers that with a bare 500."""
        if isinstance(error, DSSResponseError) and error.status == 500:
            for name, file, version in add:
                try:
                    yield from self.head_file(file, replica=replica, version=version)
                except DSSNotFoundError:
                    title = f"file {file}.{version} ({name!r}) does not exist in {replica}, so it cannot be added"
                    return DSSResponseError(error.method, error.path, 500, "file_missing", title, error.request_id)
                except DSSError:
                    break
        return error


def _checked(files: Iterable[Mapping[str, Any]]) -> Members:
    checked = map(bundle_file, files)
    return {(file["name"], file["uuid"], file["version"]): file["indexed"] for file in checked}


def _members(bundle: Bundle) -> Members:
    try:
        return {(file["name"], file["uuid"], file["version"]): file["indexed"] for file in bundle["files"]}
    except KeyError as error:
        raise DSSProtocolError(f"bundle {bundle['uuid']}.{bundle['version']} has a file without {error}") from None


def _files(selected: Iterable[Member], members: Members) -> list[BundleFile]:
    return [
        {"uuid": member[1], "version": member[2], "name": member[0], "indexed": members[member]} for member in selected
    ]


def _difference(files: Members, target: Members) -> tuple[list[Member], list[Member]]:
    """Return the files to add and to remove, to get those of `target`."""
    add = [member for member, indexed in target.items() if files.get(member) != indexed]
    return add, [member for member, indexed in files.items() if target.get(member) != indexed]


def _remaining(files: Members, target: Members) -> set[Member]:
    add, remove = _difference(files, target)
    return {*add, *remove}


def _batch(files: Members, target: Members, *, readd: bool) -> tuple[list[Member], list[Member]]:
    """Return the files to add and to remove by one PATCH. A name is not added again before its file is removed.

    :param readd: Whether to remove the files to add too, which removes them wherever they are already
    """
    add, remove = _difference(files, target)
    size = MAX_CHANGES // 2 if readd else MAX_CHANGES
    occupied = {name for name, _, _ in remove[size:]}
    add, remove = [member for member in add if member[0] not in occupied][:size], remove[:size]
    return add, [*dict.fromkeys(remove + add)] if readd else remove


def _check_unique(adds: Members) -> None:
    duplicates = [name for name, count in Counter(name for name, _, _ in adds).items() if count > 1]
    if duplicates:
        raise ValueError(f"file names in a bundle must be unique; {duplicates[0]!r} would be added more than once")


def _target(fqid: str, current: Members, adds: Members, removes: Members) -> Members:
    """Return the files after the changes, or raise if a file to add has the name of one that stays."""
    add = [member for member, indexed in adds.items() if current.get(member) != indexed]
    staying = {member: indexed for member, indexed in current.items() if member not in removes}
    names = {name for name, _, _ in staying}
    clashes = sorted(name for name, _, _ in add if name in names)
    if clashes:
        raise ValueError(
            f"bundle {fqid} already has another file named {clashes[0]!r}"
            f"{f' (and {len(clashes) - 1:,} more such names)' if clashes[1:] else ''}; remove it in the same change"
        )
    return staying | adds


def _outdated(uuid: str, version: str) -> DSSProtocolError:
    return DSSProtocolError(
        f"bundle {uuid}.{version}: {_ATTEMPTS} responses were based on files that the DSS does not store, from a cache "
        "that a failed PATCH changed; retry later",
        permanent=False,
    )
