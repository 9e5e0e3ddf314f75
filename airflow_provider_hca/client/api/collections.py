"""Collection calls. A collection is a named list of links to files, bundles, collections and pieces of metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_hca.client.api.base import DONE, Calls, new_version, objects, replica_and_version
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import FQID, check_changes, check_replica, collection_item, existing_item
from airflow_provider_hca.client.sansio import Call, json_object


class CollectionCalls(Calls):
    """Collection calls; all need a token with the e-mail of the owner."""

    def get_collections(self, *, per_page: int = 500) -> Call[list[dict[str, str]]]:
        """Return `uuid` and `version` of your collections, without versions created by PATCH (`GET /collections`)."""
        request = self._request("GET", "/collections", {"per_page": str(per_page)})
        return (yield from self._items(request, "collections", authorize=True))

    def put_collection(
        self,
        uuid: str,
        version: str,
        *,
        replica: str,
        name: str,
        description: str,
        details: Mapping[str, Any] | None = None,
        contents: Iterable[Mapping[str, Any]] = (),
    ) -> Call[FQID]:
        """Create a version of a collection (`PUT /collections`)."""
        uuid, version = check_uuid(uuid, "collection uuid"), check_version(version, "collection version")
        links = [collection_item(item) for item in contents]
        check_changes({"contents": links})
        body = {
            "name": _text("name", name),
            "description": _text("description", description),
            "details": dict(details or {}),
            "contents": links,
        }
        query = {"uuid": uuid, "version": version, "replica": check_replica(replica)}
        request = self._request("PUT", "/collections", query, body)
        response = yield from self._exchange.send(request, accept=DONE, authorize=True)
        return FQID(uuid, str(json_object(request, response).get("version", version)))

    def get_collection(self, uuid: str, *, replica: str, version: str | None = None) -> Call[dict[str, Any]]:
        """Return a collection (`GET /collections/{uuid}`)."""
        query = replica_and_version(replica, version, "collection")
        request = self._request("GET", f"/collections/{check_uuid(uuid, 'collection uuid')}", query)
        collection = json_object(request, (yield from self._exchange.send(request, authorize=True)))
        objects(request, collection, "contents")
        return collection

    def patch_collection(
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
    ) -> Call[FQID]:
        """Create a new version of a collection (`PATCH /collections/{uuid}`)."""
        uuid, version = check_uuid(uuid, "collection uuid"), check_version(version, "collection version")
        changes = {
            "add_contents": [collection_item(item) for item in add_contents],
            "remove_contents": [existing_item(item) for item in remove_contents],
            **given_fields(name, description, details),
        }
        check_changes(changes)
        query = {"version": version, "replica": check_replica(replica)}
        request = self._request("PATCH", f"/collections/{uuid}", query, changes)
        return new_version(request, (yield from self._exchange.send(request, authorize=True)), uuid)

    def delete_collection(self, uuid: str, *, replica: str) -> Call[None]:
        """Delete a collection permanently: a later one with its UUID stays hidden (`DELETE /collections/{uuid}`)."""
        query = {"replica": check_replica(replica)}
        request = self._request("DELETE", f"/collections/{check_uuid(uuid, 'collection uuid')}", query)
        yield from self._exchange.send(request, authorize=True, deletes=True)


def given_fields(name: str | None, description: str | None, details: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the fields of a collection that are not None.

    :raises ValueError: if name or description is not text
    """
    texts = {"name": name, "description": description}
    given: dict[str, Any] = {key: _text(key, value) for key, value in texts.items() if value is not None}
    return given if details is None else {**given, "details": dict(details)}


def _text(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {value!r}")
    return value
