"""Changes of any size to a bundle or a collection: several PATCHes, each of the version that the one before made.

A change says what is to be in and what is to be out, so it can be told at any time what is left of it, and a repeat
does only that. A PATCH is never repeated blindly: after an answer that leaves open whether it was done, the DSS is
looked at first.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_hca.client.bundles import BundleCalls
from airflow_provider_hca.client.collections import CollectionCalls
from airflow_provider_hca.client.files import FileCalls
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.messages import Call, pause
from airflow_provider_hca.client.model import (
    FQID,
    MOST_CHANGES,
    BundleFile,
    Change,
    bundle_file,
    check_replica,
    collection_item,
)
from airflow_provider_hca.exceptions import (
    DSSChangeError,
    DSSConnectionError,
    DSSError,
    DSSNotFoundError,
    DSSResponseError,
)

log = logging.getLogger(__name__)

_TRIES = 2
_UNANSWERED = frozenset({"read timeout", "dropped"})

Member = tuple[str, str, str]  # name, uuid and version: what a removal goes by
Members = dict[Member, bool]  # and whether it is indexed

OnVersion = Callable[[str], None]
# Looks whether a PATCH was done: the version it made, "" when it was done and the version cannot be known, else None.
Look = Callable[[], Call[str | None]]


def _unheard(_: str) -> None:
    """Take no note of a version."""


class ChangeCalls(FileCalls, BundleCalls, CollectionCalls):
    """Changes of any size."""

    def change_bundle(
        self,
        uuid: str,
        *,
        replica: str,
        version: str | None = None,
        add_files: Iterable[Mapping[str, Any]] = (),
        remove_files: Iterable[Mapping[str, Any]] = (),
    ) -> Call[Change]:
        """Have files in a bundle and others out of it, by as many `PATCH /bundles/{uuid}` as it takes.

        What an earlier try did of the same change is found and taken over, so that a repeat makes nothing twice.

        :param uuid: of the bundle
        :param replica: `aws` or `gcp`
        :param version: of the bundle that is changed; the latest if None
        :param add_files: those to be in it, each with `uuid`, `version`, `name` and `indexed`; any number
        :param remove_files: those to be out of it, each with `uuid`, `version`, `name` and `indexed`; any number
        :return: the version that has all of it
        :raises ValueError: when a name would be there twice; nothing was changed
        :raises DSSNotFoundError: when there is no such bundle
        :raises DSSChangeError: when some of it was done and the rest could not be
        """
        uuid, replica = check_uuid(uuid, "bundle uuid"), check_replica(replica)
        adds, removes = _members(add_files), _members(remove_files)
        bundle = yield from self.get_bundle(uuid, replica=replica, version=version)
        base, current = bundle["version"], _members(bundle["files"], checked=False)
        _check_names(f"{uuid}.{base}", current, adds, removes)
        if version is not None and any(_left(current, adds, removes)):
            base, current = yield from self._bundle_so_far(uuid, replica, base, current, adds, removes)
        patches = 0
        while True:
            add, remove = _left(current, adds, removes)
            if not add and not remove:
                return Change(uuid, base, patches)
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
                cause = yield from self._missing_file(error, uuid, replica, add)
                if not patches:
                    raise cause from None
                raise DSSChangeError("bundle", uuid, base, patches, cause) from error
            patches += 1
            log.info("bundle %s.%s: %d added, %d removed", uuid, base, len(add), len(remove))

    def change_collection(
        self,
        uuid: str,
        version: str,
        *,
        replica: str,
        add_contents: Iterable[Mapping[str, Any]] = (),
        remove_contents: Iterable[Mapping[str, Any]] = (),
        name: str | None = None,
        description: str | None = None,
        details: Mapping[str, Any] | None = None,
        reached: str | None = None,
        on_version: OnVersion = _unheard,
    ) -> Call[Change]:
        """Have links in a collection and others out of it, by as many `PATCH /collections/{uuid}` as it takes.

        A DSS does not list the versions that PATCHes make, so a repeat begins with the version that is changed, unless
        it is told which one an earlier try had reached. Either way the result has each link once.

        :param uuid: of the collection
        :param version: of the collection that is changed
        :param replica: `aws` or `gcp`
        :param add_contents: links to be in it; any number
        :param remove_contents: links to be out of it; any number
        :param name: a new one, or None
        :param description: a new one, or None
        :param details: new ones, or None
        :param reached: a version that an earlier try made; it is used if it is on the way
        :param on_version: called with each version that is made
        :return: the version that has all of it
        :raises DSSNotFoundError: when there is no such version
        :raises DSSChangeError: when some of it was done and the rest could not be
        """
        uuid, replica = check_uuid(uuid, "collection uuid"), check_replica(replica)
        base = check_version(version, "collection version")
        adds, removes = _links(add_contents), _links(remove_contents)
        given = {"name": name, "description": description, "details": None if details is None else dict(details)}
        fields = {key: value for key, value in given.items() if value is not None}
        collection = yield from self.get_collection(uuid, replica=replica, version=base)
        if reached is not None and reached != base:
            base, collection = yield from self._collection_so_far(
                uuid, replica, base, collection, reached, {*adds, *removes}
            )
        current = {_link(item) for item in collection["contents"]}
        fields = {key: value for key, value in fields.items() if collection.get(key) != value}
        patches = 0
        while True:
            add = [link for link in adds if link not in current]
            remove = [link for link in removes if link in current and link not in adds]
            if not add and not remove and not fields:
                return Change(uuid, base, patches)
            add, remove = add[:MOST_CHANGES], remove[:MOST_CHANGES]
            current = current - {*remove} | {*add}
            try:
                base = yield from self._patch(
                    self._collection_patch(uuid, base, replica, add, remove, fields),
                    self._collection_look(uuid, replica, current, fields),
                )
            except DSSError as error:
                if not patches:
                    raise
                raise DSSChangeError("collection", uuid, base, patches, error) from error
            fields, patches = {}, patches + 1
            on_version(base)
            log.info("collection %s.%s: %d added, %d removed", uuid, base, len(add), len(remove))

    def _patch(self, send: Callable[[], Call[FQID]], look: Look) -> Call[str]:
        """Return the version that a PATCH made; send it again only when it was seen not to be done."""
        tried = 0
        while True:
            tried += 1
            try:
                return (yield from send()).version
            except (DSSConnectionError, DSSResponseError) as error:
                if not _is_unclear(error):
                    raise
                failure = error
            log.warning("%s. Looking whether it was done", failure)
            version = yield from self._look(look, may_go_on=_may_go_on(failure))
            if version:
                log.info("it was done: version %s", version)
                return version
            if tried == _TRIES:
                raise failure

    def _look(self, look: Look, *, may_go_on: bool) -> Call[str | None]:
        """Look whether a PATCH was done; again and again if the DSS may still be working at it."""
        attempt, started = 1, time.monotonic()
        while True:
            version = yield from look()
            delay = self.retry.delay(attempt, time.monotonic() - started, None) if may_go_on else None
            if version is not None or delay is None:
                return version
            yield pause(delay)
            attempt += 1

    # Bundles

    def _bundle_so_far(
        self, uuid: str, replica: str, base: str, files: Members, adds: Members, removes: Members
    ) -> Call[tuple[str, Members]]:
        """Return the newest version that is the given one with a part of the change, and its files."""
        touched = {*adds, *removes}
        for version, found in (yield from self._newer_bundles(uuid, replica, base)):
            others = {member: found[member] for member in found if member not in touched}
            same = others == {member: files[member] for member in files if member not in touched}
            if same and _count(found, adds, removes) < _count(files, adds, removes):
                log.info("bundle %s.%s has some of the change already", uuid, version)
                return version, found
        return base, files

    def _newer_bundles(self, uuid: str, replica: str, version: str) -> Call[list[tuple[str, Members]]]:
        """Return the versions of a bundle after this one, newest first, and their files."""
        # Not the latest: servers remember that, and tell it for long after there is a newer one.
        newer = yield from self.get_bundles_all(replica=replica, prefix=uuid, newer_than=version)
        found = []
        for each in sorted((bundle["version"] for bundle in newer), reverse=True):
            try:
                bundle = yield from self.get_bundle(uuid, replica=replica, version=each)
            except DSSNotFoundError:
                continue
            found.append((each, _members(bundle["files"], checked=False)))
        return found

    def _bundle_patch(
        self, uuid: str, version: str, replica: str, add: list[BundleFile], remove: list[BundleFile]
    ) -> Callable[[], Call[FQID]]:
        return lambda: self.patch_bundle(uuid, version, replica=replica, add_files=add, remove_files=remove)

    def _bundle_look(self, uuid: str, version: str, replica: str, expected: Members) -> Look:
        def look() -> Call[str | None]:
            newer = yield from self._newer_bundles(uuid, replica, version)
            return next((each for each, found in newer if found == expected), None)

        return look

    def _missing_file(self, error: DSSError, uuid: str, replica: str, add: list[Member]) -> Call[DSSError]:
        """Return a better error where a file to add does not exist: a DSS answers a bare 500 to that."""
        if isinstance(error, DSSResponseError) and error.status == 500:
            for name, file, version in add:
                try:
                    yield from self.head_file(file, replica=replica, version=version)
                except DSSNotFoundError:
                    title = f"there is no file {file}.{version} ({name!r}) in {replica}, so it cannot be added"
                    return DSSResponseError("PATCH", f"/bundles/{uuid}", 400, "file_missing", title, error.request_id)
                except DSSError:
                    break
        return error

    # Collections

    def _collection_so_far(
        self, uuid: str, replica: str, base: str, collection: dict[str, Any], reached: str, touched: set[str]
    ) -> Call[tuple[str, dict[str, Any]]]:
        try:
            found = yield from self.get_collection(uuid, replica=replica, version=reached)
        except DSSNotFoundError:
            return base, collection
        same = {_link(item) for item in found["contents"]} - touched == {
            _link(item) for item in collection["contents"]
        } - touched
        return (reached, found) if same else (base, collection)

    def _collection_patch(
        self, uuid: str, version: str, replica: str, add: list[str], remove: list[str], fields: Mapping[str, Any]
    ) -> Callable[[], Call[FQID]]:
        return lambda: self.patch_collection(
            uuid,
            version,
            replica=replica,
            add_contents=map(json.loads, add),
            remove_contents=map(json.loads, remove),
            **fields,
        )

    def _collection_look(self, uuid: str, replica: str, expected: set[str], fields: Mapping[str, Any]) -> Look:
        def look() -> Call[str | None]:
            latest = yield from self.get_collection(uuid, replica=replica)
            done = {_link(item) for item in latest["contents"]} == expected
            # Which version that is nobody tells. The PATCH can be sent again, now that it is over: it makes the same.
            return "" if done and all(latest.get(key) == value for key, value in fields.items()) else None

        return look


def _is_unclear(error: DSSConnectionError | DSSResponseError) -> bool:
    if isinstance(error, DSSConnectionError):
        return error.kind in _UNANSWERED
    return error.status >= 500 and error.code != "read_only"


def _may_go_on(error: DSSConnectionError | DSSResponseError) -> bool:
    """Return whether the DSS may still be at work, although it did not answer, or only the gateway before it did."""
    return isinstance(error, DSSConnectionError) or error.status in {502, 504}


def _members(files: Iterable[Mapping[str, Any]], *, checked: bool = True) -> Members:
    members: Members = {}
    for file in files:
        each: Mapping[str, Any] = bundle_file(file) if checked else file
        members[each["name"], each["uuid"], each["version"]] = each["indexed"]
    return members


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


def _step(add: list[Member], remove: list[Member]) -> tuple[list[Member], list[Member]]:
    """Return as much of it as one PATCH takes. A name is taken out no later than it is put in again."""
    taken = {name for name, _, _ in remove[MOST_CHANGES:]}
    return [member for member in add if member[0] not in taken][:MOST_CHANGES], remove[:MOST_CHANGES]


def _check_names(fqid: str, current: Members, adds: Members, removes: Members) -> None:
    add, _ = _left(current, adds, removes)
    staying = {name for name, uuid, version in current if (name, uuid, version) not in removes}
    names = [name for name, _, _ in add]
    there = sorted(name for name in names if name in staying)
    if there:
        raise ValueError(
            f"bundle {fqid} has another file of the name {there[0]!r} already"
            f"{f' (and so for {len(there) - 1:,} more)' if there[1:] else ''}: remove it in the same change"
        )
    twice = [name for name, count in Counter(name for name, _, _ in adds).items() if count > 1]
    if twice:
        raise ValueError(f"a bundle's files need different names; add_files has more than one {twice[0]!r}")


def _link(item: Mapping[str, Any]) -> str:
    """Return a link as text, equal for equal links."""
    return json.dumps(item, sort_keys=True)


def _links(items: Iterable[Mapping[str, Any]]) -> dict[str, None]:
    """Return links in their order, each once."""
    return dict.fromkeys(_link(collection_item(item)) for item in items)
