"""The calls about collections: named lists of links to files, bundles, other collections and pieces of metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_hca.client.api.base import DONE, Calls, new_version, objects, replica_and_version
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import FQID, check_changes, check_replica, collection_item, existing_item
from airflow_provider_hca.client.sansio import Call, json_object


class CollectionCalls(Calls):
    """The calls about collections. All want a token with the caller's e-mail, who owns what he makes."""

    def get_collections(self, *, per_page: int = 500) -> Call[list[dict[str, str]]]:
        """Return `uuid` and `version` of your collections (`GET /collections`). Versions made by PATCH are not listed.

        :param per_page: 10 to 500
        """
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
        """Make a version of a collection (`PUT /collections`).

        A DSS overwrites what is there, whoever owns it. `DSSPutCollectionOperator` looks first.

        :param uuid: of the collection
        :param version: of the collection
        :param replica: `aws` or `gcp`
        :param name: of the collection
        :param description: in Markdown
        :param details: anything else, as JSON
        :param contents: at most 1,000 links, each with `type`, `uuid`, `version`, and `fragment` where `type` is none
            of `file`, `bundle` and `collection`
        :raises DSSResponseError: with code `invalid_link` when something linked to does not exist
        """
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
        """Return a collection (`GET /collections/{uuid}`).

        :param uuid: of the collection
        :param replica: `aws` or `gcp`
        :param version: of the collection; the latest if None
        :return: `owner`, `name`, `description`, `details` and `contents`; a DSS does not say which version it is
        :raises DSSNotFoundError: when it is not there, or deleted
        :raises DSSAuthError: when it is another's
        """
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
        """Make a new version of a collection (`PATCH /collections/{uuid}`).

        It is sent once: after an error only a look at the DSS tells whether it was done. `change_collection` does that,
        and takes any number of links.

        :param uuid: of the collection
        :param version: of the collection that is changed
        :param replica: `aws` or `gcp`
        :param add_contents: at most 1,000 links; what is there already is not added again
        :param remove_contents: at most 1,000 links, with all that they have there; what is not there is ignored
        :param name: a new one, or None
        :param description: a new one, or None
        :param details: new ones, or None
        :return: the new version, whose name the DSS chooses
        :raises DSSNotFoundError: when there is no such version
        :raises DSSResponseError: with code `invalid_link` when something linked to does not exist; with status 500
            when the collection is another's
        """
        uuid, version = check_uuid(uuid, "collection uuid"), check_version(version, "collection version")
        changes = {
            "add_contents": [collection_item(item) for item in add_contents],
            "remove_contents": [existing_item(item) for item in remove_contents],
            **said(name, description, details),
        }
        check_changes(changes)
        query = {"version": version, "replica": check_replica(replica)}
        request = self._request("PATCH", f"/collections/{uuid}", query, changes)
        return new_version(request, (yield from self._exchange.send(request, authorize=True)), uuid)

    def delete_collection(self, uuid: str, *, replica: str) -> Call[None]:
        """Delete a collection (`DELETE /collections/{uuid}`), for ever: what is put under its uuid later stays unseen.

        :param uuid: of the collection
        :param replica: `aws` or `gcp`
        :raises DSSNotFoundError: when it is not there, which it also says when it is deleted already
        :raises DSSAuthError: when it is another's
        """
        query = {"replica": check_replica(replica)}
        request = self._request("DELETE", f"/collections/{check_uuid(uuid, 'collection uuid')}", query)
        yield from self._exchange.send(request, authorize=True, deletes=True)


def said(name: str | None, description: str | None, details: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is said of a collection, without what is None.

    :raises ValueError: when a text is none
    """
    texts = {"name": name, "description": description}
    given: dict[str, Any] = {key: _text(key, value) for key, value in texts.items() if value is not None}
    return given if details is None else {**given, "details": dict(details)}


def _text(what: str, value: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} must be text, not {value!r}")
    return value
