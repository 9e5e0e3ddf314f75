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
class _Reached:
    """The version that a change has reached.

    :ivar creator: Creator of the bundle, which a PATCH keeps
    :ivar is_sure: Whether these files are stored, not only expected from a PATCH or returned from a cache
    :ivar patches: Number of PATCHes so far; the version is new if there was one
    :ivar surprises: Number of responses that were based on files that are not stored
    """

    version: str
    files: Members
    creator: int | None
    is_sure: bool
    patches: int = 0
    surprises: int = 0


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
        uuid, replica = check_uuid(uuid, "bundle uuid"), check_replica(replica)
        if version is not None:
            check_version(version, "bundle version")
        replaces, removes = _checked(replace_files), _checked(remove_files)
        adds = _checked(add_files) | replaces
        _check_unique(adds)
        listed = yield from self._versions(uuid, replica)
        first = max(listed, default="") if version is None else version
        if first not in listed:  # the caches may still have it
            raise self._not_found(uuid, replica, version)
        bundle, is_sure = yield from self._stored_bundle(uuid, replica, first)
        files = _members(bundle)
        names = {name for name, _, _ in replaces}
        removes |= {file: flag for file, flag in files.items() if file[0] in names and adds.get(file) != flag}
        _check_no_clash(f"{uuid}.{first}", files, adds, removes)
        target = {member: indexed for member, indexed in files.items() if member not in removes} | adds
        reached = _Reached(first, files, bundle.get("creator_uid"), is_sure)
        if files != target:
            newer = sorted((other for other in listed if other > first), reverse=True)
            yield from self._resume(reached, uuid, replica, target, {*adds, *removes}, newer)
        try:
            yield from self._reach(reached, uuid, replica, target, known=listed)
        except DSSError as error:
            if reached.version == first:
                raise
            raise DSSChangeError("bundle", uuid, reached.version, reached.patches, error) from error
        return Change(uuid, reached.version, len(target), reached.patches)

    def _reach(self, reached: _Reached, uuid: str, replica: str, target: Members, known: set[str]) -> Call[None]:
        """Patch until a version has exactly the files of `target`."""
        while not (reached.is_sure and reached.files == target):
            if reached.surprises >= _ATTEMPTS:
                raise _outdated(uuid, reached.version)
            if reached.patches and reached.files == target:
                yield from self._read(reached, uuid, replica)
                reached.surprises += reached.files != target
                continue
            # A process with false files may have those to add already, which would be duplicate names.
            readd = reached.surprises > 0 and (reached.is_sure or not reached.patches)
            add, remove = _batch(reached.files, target, readd=readd)
            send = self._bundle_patch(uuid, reached.version, replica, add, remove, reached.files | target)
            check = self._bundle_check(uuid, replica, known, add, remove, target, reached.creator)
            try:
                version = yield from self._patch(send, check)
            except DSSError as error:
                if not isinstance(error, DSSResponseError) or error.code != "duplicate_filename":
                    raise (yield from self._missing_file(error, replica, add)) from None
                log.warning("%s. The names are unique, so the DSS has outdated files in a cache; resending", error)
                reached.surprises += 1
                if reached.patches and not reached.is_sure:
                    yield from self._read(reached, uuid, replica)
                continue
            known.add(version)
            removed = {*remove}
            kept = {member: indexed for member, indexed in reached.files.items() if member not in removed}
            reached.files = kept | {member: target[member] for member in add}
            reached.version, reached.is_sure, reached.patches = version, False, reached.patches + 1
            log.info("bundle %s.%s: %d added, %d removed", uuid, version, len(add), len(remove))

    def _read(self, reached: _Reached, uuid: str, replica: str) -> Call[None]:
        """Read the files of a version that a PATCH of this call created."""
        files = _members((yield from self.get_bundle(uuid, replica=replica, version=reached.version)))
        if files != reached.files:
            log.warning("bundle %s.%s has other files than expected; correcting", uuid, reached.version)
        reached.files, reached.is_sure = files, True

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

    def _resume(
        self,
        reached: _Reached,
        uuid: str,
        replica: str,
        target: Members,
        changed: set[Member],
        newer: Iterable[str],
    ) -> Call[None]:
        """Continue with the newest version that has a part of the changes, and no others."""
        before = len({member for members in _difference(reached.files, target) for member in members})

        def is_partial(bundle: Bundle) -> bool:
            if bundle.get("creator_uid") != reached.creator:  # created by another program
                return False
            remaining = {member for members in _difference(_members(bundle), target) for member in members}
            return remaining <= changed and len(remaining) < before

        for version in newer:
            try:
                bundle = yield from self.get_bundle(uuid, replica=replica, version=version)
                if not is_partial(bundle):
                    continue
                bundle, is_sure = yield from self._stored_bundle(uuid, replica, version)
            except (DSSNotFoundError, DSSProtocolError):
                continue
            if is_partial(bundle):
                log.info("bundle %s.%s has a part of the changes already", uuid, version)
                reached.version, reached.files, reached.is_sure = version, _members(bundle), is_sure
                return

    def _bundle_patch(
        self, uuid: str, version: str, replica: str, add: list[Member], remove: list[Member], members: Members
    ) -> Callable[[], Call[FQID]]:
        files = {"add_files": _files(add, members), "remove_files": _files(remove, members)}
        return lambda: self.patch_bundle(uuid, version, replica=replica, **files)

    def _bundle_check(
        self,
        uuid: str,
        replica: str,
        known: set[str],
        add: list[Member],
        remove: list[Member],
        target: Members,
        creator: int | None,
    ) -> Check:
        """Return a check for a new version with these changes. Its other files are corrected later."""
        checked = {*known}
        removed = {*remove}.difference(add)

        def check() -> Call[str | None]:
            for version in sorted((yield from self._versions(uuid, replica)) - checked, reverse=True):
                checked.add(version)
                try:
                    bundle = yield from self.get_bundle(uuid, replica=replica, version=version)
                    files = _members(bundle)
                except (DSSNotFoundError, DSSProtocolError):
                    continue
                if bundle.get("creator_uid") != creator:
                    continue
                if removed.isdisjoint(files) and all(files.get(member) == target[member] for member in add):
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


def _check_no_clash(fqid: str, current: Members, adds: Members, removes: Members) -> None:
    """Raise if a file to add has the name of one that stays."""
    add = [member for member, indexed in adds.items() if current.get(member) != indexed]
    staying = {member[0] for member in current if member not in removes}
    clashes = sorted(name for name, _, _ in add if name in staying)
    if clashes:
        raise ValueError(
            f"bundle {fqid} already has another file named {clashes[0]!r}"
            f"{f' (and {len(clashes) - 1:,} more such names)' if clashes[1:] else ''}; remove it in the same change"
        )


def _outdated(uuid: str, version: str) -> DSSProtocolError:
    return DSSProtocolError(
        f"bundle {uuid}.{version}: {_ATTEMPTS} responses were based on files that the DSS does not store, from a cache "
        "that a failed PATCH changed; retry later",
        permanent=False,
    )
