"""Changes of any size to a collection: several PATCHes, each of the version that the one before made.

A change says what is to be in and what is to be out, so it can be told at any time what is left of it, and a repeat
does only that.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_hca.client.api.collections import CollectionCalls, said
from airflow_provider_hca.client.api.patching import Look, Patches
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import FQID, MOST_CHANGES, Change, check_replica, collection_item, existing_item
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.exceptions import DSSChangeError, DSSError, DSSNotFoundError

log = logging.getLogger(__name__)

OnVersion = Callable[[str], None]


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
        base = begun = check_version(version, "collection version")
        adds = dict.fromkeys(_link(collection_item(item)) for item in add_contents)
        removes = dict.fromkeys(_link(existing_item(item)) for item in remove_contents)
        fields = said(name, description, details)
        collection = yield from self.get_collection(uuid, replica=replica, version=base)
        if resume_from is not None and resume_from != base:
            found = yield from self._collection_at(uuid, replica, resume_from)
            touched = {*adds, *removes}
            if found is not None and _untouched(found, touched, fields) == _untouched(collection, touched, fields):
                log.info("collection %s.%s has some of the change already", uuid, resume_from)
                base, collection = resume_from, found
        current = _links(collection)
        fields = {key: value for key, value in fields.items() if collection.get(key) != value}
        patches = 0
        while True:
            add = [link for link in adds if link not in current]
            remove = [link for link in removes if link in current and link not in adds]
            if not add and not remove and not fields:
                return Change(uuid, base, len(current), patches)
            add, remove = add[:MOST_CHANGES], remove[:MOST_CHANGES]
            current = current.difference(remove).union(add)
            try:
                base = yield from self._patch(
                    self._collection_patch(uuid, base, replica, add, remove, fields),
                    self._collection_look(uuid, replica, current, fields),
                )
            except DSSError as error:
                if base == begun:
                    raise
                raise DSSChangeError("collection", uuid, base, patches, error) from error
            fields, patches = {}, patches + 1
            if on_version is not None:
                on_version(base)
            log.info("collection %s.%s: %d added, %d removed", uuid, base, len(add), len(remove))

    def _collection_at(self, uuid: str, replica: str, version: str) -> Call[dict[str, Any] | None]:
        try:
            return (yield from self.get_collection(uuid, replica=replica, version=version))
        except (DSSNotFoundError, ValueError):
            return None  # it was a hint

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
            done = _links(latest) == expected
            # Which version that is nobody tells. The PATCH can be sent again, now that it is over: it makes the same.
            return "" if done and all(latest.get(key) == value for key, value in fields.items()) else None

        return look


def _link(item: Mapping[str, Any]) -> str:
    """Return a link as text, equal for equal links."""
    return json.dumps(item, sort_keys=True)


def _links(collection: Mapping[str, Any]) -> set[str]:
    return {_link(item) for item in collection["contents"]}


def _untouched(collection: Mapping[str, Any], touched: set[str], fields: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a change has nothing to do with."""
    kept = {key: collection.get(key) for key in ("name", "description", "details") if key not in fields}
    return _links(collection) - touched, kept
