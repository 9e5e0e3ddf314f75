"""Change a bundle with any number of files: several PATCHes, each of the version that the previous one created.

The call describes the files to add and to remove. The remaining changes can therefore be derived from any version, and
a repeat makes only those.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_hca.client.api.bundles import BundleCalls
from airflow_provider_hca.client.api.files import FileCalls
from airflow_provider_hca.client.api.patching import Check, Patches
from airflow_provider_hca.client.identifiers import check_uuid
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
    DSSError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

log = logging.getLogger(__name__)

Member = tuple[str, str, str]  # name, UUID and version, by which a file is removed
Members = dict[Member, bool]  # and whether it is indexed


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
    ) -> Call[Change]:
        """Add any number of files to a bundle and remove others, with as many `PATCH /bundles/{uuid}` as necessary."""
        uuid, replica = check_uuid(uuid, "bundle uuid"), check_replica(replica)
        adds, removes = _checked(add_files), _checked(remove_files)
        _check_unique(adds)
        first, current = yield from self._first_version(uuid, replica, version)
        _check_no_clash(f"{uuid}.{first}", current, adds, removes)
        base = first
        if version is not None and any(_remaining(current, adds, removes)):
            base, current = yield from self._newest_partial(uuid, replica, base, current, adds, removes)
        patches = 0
        while True:
            add, remove = _remaining(current, adds, removes)
            if not add and not remove:
                return Change(uuid, base, len(current), patches)
            add, remove = _batch(add, remove)
            removed = {*remove}
            current = {member: indexed for member, indexed in current.items() if member not in removed}
            current |= {member: adds[member] for member in add}
            try:
                base = yield from self._patch(
                    self._bundle_patch(uuid, base, replica, _files(add, adds), _files(remove, removes)),
                    self._bundle_check(uuid, base, replica, current),
                )
            except DSSError as error:
                cause = yield from self._missing_file(error, replica, add)
                if base == first:
                    raise cause from None
                raise DSSChangeError("bundle", uuid, base, patches, cause) from error
            patches += 1
            log.info("bundle %s.%s: %d added, %d removed", uuid, base, len(add), len(remove))

    def _first_version(self, uuid: str, replica: str, version: str | None) -> Call[tuple[str, Members]]:
        """Return the version to change, and its files."""
        bundle = yield from self._whole_bundle(uuid, replica, version, {}, exact=False)
        if version is None:
            # Servers cache the latest version, and return it long after there is a newer one.
            newer = yield from self._newer_bundles(uuid, replica, bundle["version"])
            if newer:
                bundle = yield from self.get_bundle(uuid, replica=replica, version=newer[0])
        elif bundle["version"] != version:
            log.warning(
                "bundle %s.%s: the DSS returned version %s; continuing with it", uuid, version, bundle["version"]
            )
        return bundle["version"], _members(bundle)

    def _newer_bundles(self, uuid: str, replica: str, version: str) -> Call[list[str]]:
        """Return the versions of a bundle after this one, newest first."""
        newer = yield from self.get_bundles_all(replica=replica, prefix=uuid, newer_than=version)
        return sorted((bundle["version"] for bundle in newer), reverse=True)

    def _bundle_files(self, uuid: str, replica: str, version: str) -> Call[Members | None]:
        """Return the files of a version; None if it does not exist, or the DSS returns another version instead."""
        try:
            bundle = yield from self._whole_bundle(uuid, replica, version, {}, exact=False)
        except DSSNotFoundError:
            return None
        return _members(bundle) if bundle["version"] == version else None

    def _newest_partial(
        self, uuid: str, replica: str, base: str, files: Members, adds: Members, removes: Members
    ) -> Call[tuple[str, Members]]:
        """Return the newest version that differs from `base` only by a part of the changes, and its files."""
        untouched = _untouched(files, adds, removes)
        for version in (yield from self._newer_bundles(uuid, replica, base)):
            partial = yield from self._bundle_files(uuid, replica, version)
            if partial is None or _untouched(partial, adds, removes) != untouched:
                continue
            if _count(partial, adds, removes) < _count(files, adds, removes):
                log.info("bundle %s.%s has a part of the changes already", uuid, version)
                return version, partial
        return base, files

    def _bundle_patch(
        self, uuid: str, version: str, replica: str, add: list[BundleFile], remove: list[BundleFile]
    ) -> Callable[[], Call[FQID]]:
        return lambda: self.patch_bundle(uuid, version, replica=replica, add_files=add, remove_files=remove)

    def _bundle_check(self, uuid: str, version: str, replica: str, expected: Members) -> Check:
        checked: set[str] = set()

        def check() -> Call[str | None]:
            for newer in (yield from self._newer_bundles(uuid, replica, version)):
                if newer not in checked:
                    checked.add(newer)
                    if (yield from self._bundle_files(uuid, replica, newer)) == expected:
                        return newer
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


def _remaining(current: Members, adds: Members, removes: Members) -> tuple[list[Member], list[Member]]:
    """Return the files that still have to be added and removed."""
    add = [member for member in adds if current.get(member) != adds[member]]
    return add, [member for member in removes if member in current and current[member] != adds.get(member)]


def _count(current: Members, adds: Members, removes: Members) -> int:
    return sum(map(len, _remaining(current, adds, removes)))


def _untouched(current: Members, adds: Members, removes: Members) -> Members:
    """Return the files that the changes do not concern."""
    return {member: current[member] for member in current if member not in adds and member not in removes}


def _batch(add: list[Member], remove: list[Member]) -> tuple[list[Member], list[Member]]:
    """Return the files for one PATCH. A name is not added again before its file is removed."""
    occupied = {name for name, _, _ in remove[MAX_CHANGES:]}
    return [member for member in add if member[0] not in occupied][:MAX_CHANGES], remove[:MAX_CHANGES]


def _check_unique(adds: Members) -> None:
    duplicates = [name for name, count in Counter(name for name, _, _ in adds).items() if count > 1]
    if duplicates:
        raise ValueError(f"file names in a bundle must be unique; add_files has {duplicates[0]!r} more than once")


def _check_no_clash(fqid: str, current: Members, adds: Members, removes: Members) -> None:
    """Raise if a file to add has the name of one that stays."""
    add, _ = _remaining(current, adds, removes)
    staying = {member[0] for member in current if member not in removes}
    clashes = sorted(name for name, _, _ in add if name in staying)
    if clashes:
        raise ValueError(
            f"bundle {fqid} already has another file named {clashes[0]!r}"
            f"{f' (and {len(clashes) - 1:,} more such names)' if clashes[1:] else ''}; remove it in the same change"
        )
