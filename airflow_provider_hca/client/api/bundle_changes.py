"""Changes of any size to a bundle: several PATCHes, each of the version that the one before made.

A change says what is to be in and what is to be out, so it can be told at any time what is left of it, and a repeat
does only that.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_hca.client.api.bundles import BundleCalls
from airflow_provider_hca.client.api.files import FileCalls
from airflow_provider_hca.client.api.patching import Look, Patches
from airflow_provider_hca.client.identifiers import check_uuid
from airflow_provider_hca.client.models import (
    FQID,
    MOST_CHANGES,
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

Member = tuple[str, str, str]  # name, uuid and version: what a removal goes by
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
        adds, removes = _wanted(add_files), _wanted(remove_files)
        _check_different(adds)
        begun, current = yield from self._beginning(uuid, replica, version)
        _check_free(f"{uuid}.{begun}", current, adds, removes)
        base = begun
        if version is not None and any(_left(current, adds, removes)):
            base, current = yield from self._bundle_so_far(uuid, replica, base, current, adds, removes)
        patches = 0
        while True:
            add, remove = _left(current, adds, removes)
            if not add and not remove:
                return Change(uuid, base, len(current), patches)
            add, remove = _step(add, remove)
            gone = {*remove}
            current = {member: indexed for member, indexed in current.items() if member not in gone}
            current |= {member: adds[member] for member in add}
            try:
                base = yield from self._patch(
                    self._bundle_patch(uuid, base, replica, _files(add, adds), _files(remove, removes)),
                    self._bundle_look(uuid, base, replica, current),
                )
            except DSSError as error:
                cause = yield from self._missing_file(error, replica, add)
                if base == begun:
                    raise cause from None
                raise DSSChangeError("bundle", uuid, base, patches, cause) from error
            patches += 1
            log.info("bundle %s.%s: %d added, %d removed", uuid, base, len(add), len(remove))

    def _beginning(self, uuid: str, replica: str, version: str | None) -> Call[tuple[str, Members]]:
        """Return the version that is changed, and its files."""
        bundle = yield from self._whole_bundle(uuid, replica, version, {}, exact=False)
        if version is None:
            # Servers remember which was the latest, and tell it for long after there is a newer one.
            newer = yield from self._newer_bundles(uuid, replica, bundle["version"])
            if newer:
                bundle = yield from self.get_bundle(uuid, replica=replica, version=newer[0])
        elif bundle["version"] != version:
            log.warning("bundle %s.%s is shown as version %s; going on from that", uuid, version, bundle["version"])
        return bundle["version"], _members(bundle)

    def _newer_bundles(self, uuid: str, replica: str, version: str) -> Call[list[str]]:
        """Return the versions of a bundle after this one, newest first."""
        newer = yield from self.get_bundles_all(replica=replica, prefix=uuid, newer_than=version)
        return sorted((bundle["version"] for bundle in newer), reverse=True)

    def _bundle_files(self, uuid: str, replica: str, version: str) -> Call[Members | None]:
        """Return the files of a version; None if it is gone, or the DSS shows another one in its place."""
        try:
            bundle = yield from self._whole_bundle(uuid, replica, version, {}, exact=False)
        except DSSNotFoundError:
            return None
        return _members(bundle) if bundle["version"] == version else None

    def _bundle_so_far(
        self, uuid: str, replica: str, base: str, files: Members, adds: Members, removes: Members
    ) -> Call[tuple[str, Members]]:
        """Return the newest version that is the given one with a part of the change, and its files."""
        untouched = _without(files, adds, removes)
        for version in (yield from self._newer_bundles(uuid, replica, base)):
            found = yield from self._bundle_files(uuid, replica, version)
            if found is None or _without(found, adds, removes) != untouched:
                continue
            if _count(found, adds, removes) < _count(files, adds, removes):
                log.info("bundle %s.%s has some of the change already", uuid, version)
                return version, found
        return base, files

    def _bundle_patch(
        self, uuid: str, version: str, replica: str, add: list[BundleFile], remove: list[BundleFile]
    ) -> Callable[[], Call[FQID]]:
        return lambda: self.patch_bundle(uuid, version, replica=replica, add_files=add, remove_files=remove)

    def _bundle_look(self, uuid: str, version: str, replica: str, expected: Members) -> Look:
        seen: set[str] = set()

        def look() -> Call[str | None]:
            for each in (yield from self._newer_bundles(uuid, replica, version)):
                if each not in seen:
                    seen.add(each)
                    if (yield from self._bundle_files(uuid, replica, each)) == expected:
                        return each
            return None

        return look

    def _missing_file(self, error: DSSError, replica: str, add: list[Member]) -> Call[DSSError]:
        """Return a better error where a file to add does not exist: a DSS answers a bare 500 to that."""
        if isinstance(error, DSSResponseError) and error.status == 500:
            for name, file, version in add:
                try:
                    yield from self.head_file(file, replica=replica, version=version)
                except DSSNotFoundError:
                    title = f"there is no file {file}.{version} ({name!r}) in {replica}, so it cannot be added"
                    return DSSResponseError(error.method, error.path, 500, "file_missing", title, error.request_id)
                except DSSError:
                    break
        return error


def _wanted(files: Iterable[Mapping[str, Any]]) -> Members:
    checked = map(bundle_file, files)
    return {(file["name"], file["uuid"], file["version"]): file["indexed"] for file in checked}


def _members(bundle: Bundle) -> Members:
    try:
        return {(file["name"], file["uuid"], file["version"]): file["indexed"] for file in bundle["files"]}
    except KeyError as error:
        raise DSSProtocolError(f"bundle {bundle['uuid']}.{bundle['version']} has a file without {error}") from None


def _files(wanted: Iterable[Member], members: Members) -> list[BundleFile]:
    return [
        {"uuid": member[1], "version": member[2], "name": member[0], "indexed": members[member]} for member in wanted
    ]


def _left(current: Members, adds: Members, removes: Members) -> tuple[list[Member], list[Member]]:
    """Return what is still to be added and to be removed."""
    add = [member for member in adds if current.get(member) != adds[member]]
    return add, [member for member in removes if member in current and current[member] != adds.get(member)]


def _count(current: Members, adds: Members, removes: Members) -> int:
    return sum(map(len, _left(current, adds, removes)))


def _without(current: Members, adds: Members, removes: Members) -> Members:
    """Return what a change has nothing to do with."""
    return {member: current[member] for member in current if member not in adds and member not in removes}


def _step(add: list[Member], remove: list[Member]) -> tuple[list[Member], list[Member]]:
    """Return as much of it as one PATCH takes. A name is taken out no later than it is put in again."""
    taken = {name for name, _, _ in remove[MOST_CHANGES:]}
    return [member for member in add if member[0] not in taken][:MOST_CHANGES], remove[:MOST_CHANGES]


def _check_different(adds: Members) -> None:
    twice = [name for name, count in Counter(name for name, _, _ in adds).items() if count > 1]
    if twice:
        raise ValueError(f"file names in a bundle must be unique; add_files has {twice[0]!r} more than once")


def _check_free(fqid: str, current: Members, adds: Members, removes: Members) -> None:
    """Raise if a file to add has the name of one that stays."""
    add, _ = _left(current, adds, removes)
    staying = {member[0] for member in current if member not in removes}
    there = sorted(name for name, _, _ in add if name in staying)
    if there:
        raise ValueError(
            f"bundle {fqid} has another file of the name {there[0]!r} already"
            f"{f' (and so for {len(there) - 1:,} more)' if there[1:] else ''}: remove it in the same change"
        )
