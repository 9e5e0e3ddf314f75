"""Change a collection with any number of links: several PATCHes, each of the version that the previous one created.

The call describes the links to add and to remove. The remaining changes can therefore be derived from any version, and
a repeat makes only those.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_hca.client.api.collections import CollectionCalls, given_fields
from airflow_provider_hca.client.api.patching import Check, Patches
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import FQID, MAX_CHANGES, Change, check_replica, collection_item, existing_item
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.exceptions import DSSChangeError, DSSError, DSSNotFoundError

log = logging.getLogger(__name__)

OnVersion = Callable[[str], None]
Links = dict[str, None]  # links as JSON, in order


class CollectionChanges(CollectionCalls, Patches):
    """Changes of any size to collections."""

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
        resume_from: str | None = None,
        on_version: OnVersion | None = None,
    ) -> Call[Change]:
        """Change a collection with as many `PATCH /collections/{uuid}` as necessary."""
        uuid, replica = check_uuid(uuid, "collection uuid"), check_replica(replica)
        first = check_version(version, "collection version")
        changes = _Changes(
            adds=dict.fromkeys(_link(collection_item(item)) for item in add_contents),
            removes=dict.fromkeys(_link(existing_item(item)) for item in remove_contents),
            fields=given_fields(name, description, details),
        )
        base, collection = yield from self._start(uuid, replica, first, resume_from, changes)
        links = _links(collection)
        fields = {key: value for key, value in changes.fields.items() if collection.get(key) != value}
        patches = 0
        while True:
            add, remove = changes.remaining(links)
            if not add and not remove and not fields:
                return Change(uuid, base, len(links), patches)
            add, remove = add[:MAX_CHANGES], remove[:MAX_CHANGES]
            links = links.difference(remove).union(add)
            try:
                base = yield from self._patch(
                    self._collection_patch(uuid, base, replica, add, remove, fields),
                    self._collection_check(uuid, replica, links, fields),
                )
            except DSSError as error:
                if base == first:
                    raise
                raise DSSChangeError("collection", uuid, base, patches, error) from error
            fields, patches = {}, patches + 1
            if on_version is not None:
                on_version(base)
            log.info("collection %s.%s: %d added, %d removed", uuid, base, len(add), len(remove))

    def _start(
        self, uuid: str, replica: str, version: str, resume_from: str | None, changes: _Changes
    ) -> Call[tuple[str, dict[str, Any]]]:
        """Return the version to start from: that of an earlier attempt if it differs only by these changes."""
        collection = yield from self.get_collection(uuid, replica=replica, version=version)
        if resume_from is None or resume_from == version:
            return version, collection
        try:
            reached = yield from self.get_collection(uuid, replica=replica, version=resume_from)
        except (DSSNotFoundError, ValueError):
            return version, collection
        if changes.untouched(reached) != changes.untouched(collection):
            return version, collection
        log.info("collection %s.%s has a part of the changes already", uuid, resume_from)
        return resume_from, reached

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

    def _collection_check(self, uuid: str, replica: str, expected: set[str], fields: Mapping[str, Any]) -> Check:
        def check() -> Call[str | None]:
            latest = yield from self.get_collection(uuid, replica=replica)
            applied = _links(latest) == expected and all(latest.get(key) == value for key, value in fields.items())
            # A DSS does not return the version of the latest. The PATCH can be repeated: it creates the same content.
            return "" if applied else None

        return check


@dataclass(frozen=True, slots=True)
class _Changes:
    adds: Links
    removes: Links
    fields: Mapping[str, Any]

    def remaining(self, links: set[str]) -> tuple[list[str], list[str]]:
        """Return the links that still have to be added and removed."""
        add = [link for link in self.adds if link not in links]
        return add, [link for link in self.removes if link in links and link not in self.adds]

    def untouched(self, collection: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the part of a collection that the changes do not concern."""
        kept = {key: collection.get(key) for key in ("name", "description", "details") if key not in self.fields}
        return _links(collection) - {*self.adds, *self.removes}, kept


def _link(item: Mapping[str, Any]) -> str:
    """Return a link as text that is equal for equal links."""
    return json.dumps(item, sort_keys=True)


def _links(collection: Mapping[str, Any]) -> set[str]:
    return {_link(item) for item in collection["contents"]}
