"""The endpoints of collections, which belong to users."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from airflow_provider_hca.client.identifiers import make_version

from .collection_records import CollectionRecord
from .errors import ProblemError
from .links import check_links, deduplicated, identity
from .plain_json import check
from .responses import FQID, LINKED, PAGED, Answer, page_headers, says
from .services import (
    UUID_PATTERN,
    Ctx,
    JsonBody,
    LatestVersion,
    Owner,
    PerPage,
    Replica,
    Services,
    Uuid,
    UuidQuery,
    Version,
    this_url,
    writable_version,
)

router = APIRouter(redirect_slashes=False)
_MOST_ITEMS = 1000
_UNKNOWN = says(404, "not_found")
_INVALID = says(422, "invalid_link")


class CollectionItem(BaseModel):
    """A link to a file, a bundle, another collection, or a fragment of a JSON file."""

    model_config = ConfigDict(strict=True, extra="allow")

    type: str = Field(description="file, bundle, collection, or any other word for a fragment.")
    uuid: str = Field(pattern=UUID_PATTERN, description="Which file, bundle or collection.")
    version: str = Field(description="Which version of it, a DSS_VERSION.")
    fragment: str = Field(default_factory=str, description="For other types: a JSON pointer into the file's content.")


Items = Annotated[list[CollectionItem], AfterValidator(lambda items: [_plain(item) for item in items])]
Details = Annotated[dict[str, Any], AfterValidator(check)]


def _plain(item: CollectionItem) -> CollectionItem:
    check(item.model_extra)
    return item


class NewCollection(BaseModel):
    """The body of PUT collection."""

    model_config = ConfigDict(strict=True)

    name: str = Field(description="A short name.")
    description: str = Field(description="A long description, in Markdown.")
    details: Details = Field(description="Whatever else there is to say.")
    contents: Items = Field(max_length=_MOST_ITEMS, description="The links; the same one twice counts once.")


class CollectionChange(BaseModel):
    """The body of PATCH collection."""

    model_config = ConfigDict(strict=True)

    add_contents: Items = Field(default=[], max_length=_MOST_ITEMS, description="Links to add.")
    remove_contents: Items = Field(default=[], max_length=_MOST_ITEMS, description="Links to take away.")
    name: str = Field(default_factory=str, description="A new name.")
    description: str = Field(default_factory=str, description="A new description.")
    details: Details = Field(default_factory=dict, description="New details.")


class CollectionList(BaseModel):
    """The answer of GET collections."""

    collections: list[FQID]


class CollectionAnswer(NewCollection):
    """The answer of GET collection."""

    owner: str = Field(description="The e-mail address of whoever put it.")


@router.get(
    "/collections",
    summary="List your collections",
    responses=says(200, "All of them, or the last page", CollectionList, headers=PAGED)
    | says(206, "One page; the Link header leads to the next", CollectionList, headers=PAGED | LINKED),
)
def list_collections(
    services: Ctx,
    request: Request,
    owner: Owner,
    per_page: PerPage = 500,
    start_at: Annotated[int, Query(ge=0, description="Given by the server in its links.")] = 0,
) -> Answer:
    """List what you have put and not deleted. Versions made by PATCH are not listed."""
    listed = services.collections.listed(owner)
    page = [{"uuid": uuid, "version": version} for uuid, version in listed[start_at : start_at + per_page]]
    if start_at + per_page >= len(listed):
        return Answer({"collections": page}, 200, page_headers("collections"))
    link = this_url(request, per_page=per_page, start_at=start_at + per_page)
    return Answer({"collections": page}, 206, page_headers("collections", link))


@router.put(
    "/collections",
    summary="Create a collection, or overwrite one",
    status_code=201,
    responses=says(201, "Stored", FQID) | _INVALID,
    dependencies=[JsonBody],
)
def put_collection(
    services: Ctx, owner: Owner, uuid: UuidQuery, version: Version, replica: Replica, body: NewCollection
) -> Answer:
    """Store a collection as yours, in the place of whatever had its uuid and version."""
    writable_version(version)
    contents = _links(body.contents)
    check_links(services, replica, contents)
    kept = body.model_dump(exclude={"contents"}) | {"contents": contents}
    services.collections.overwrite(CollectionRecord(replica, uuid.lower(), version, owner, kept))
    return Answer({"uuid": uuid.lower(), "version": version}, 201)


def _links(items: list[CollectionItem]) -> list[dict[str, Any]]:
    """Return links as they were given, each once."""
    for item in items:
        writable_version(item.version)
    return deduplicated([item.model_dump(exclude_unset=True) for item in items])


@router.get(
    "/collections/{uuid}",
    summary="Get a collection of yours",
    responses=says(200, "The collection", CollectionAnswer) | _UNKNOWN,
)
def get_collection(services: Ctx, owner: Owner, uuid: Uuid, replica: Replica, version: LatestVersion = None) -> Answer:
    """Give the collection, and whose it is."""
    found = _find(services, replica, uuid.lower(), version)
    _require_owner(found, owner)
    return Answer({**found.body, "owner": found.owner})


def _find(services: Services, replica: str, uuid: str, version: str | None) -> CollectionRecord:
    found = services.collections.find(replica, uuid, version)
    if found is None:
        raise ProblemError(404, "not_found", f"There is no collection {uuid} in version {version or 'latest'}")
    return found


def _require_owner(found: CollectionRecord, owner: str) -> None:
    if found.owner != owner:
        raise ProblemError(403, "Forbidden", f"Collection {found.uuid} is somebody else's")


@router.patch(
    "/collections/{uuid}",
    summary="Make a new version of a collection of yours",
    responses=says(200, "The new version", FQID) | _UNKNOWN | _INVALID,
    dependencies=[JsonBody],
)
def patch_collection(
    services: Ctx, owner: Owner, uuid: Uuid, version: Version, replica: Replica, body: CollectionChange
) -> Answer:
    """Remove and add links, and change what is said; every call makes a version, which is not listed."""
    writable_version(version)
    added, removed = _links(body.add_contents), _links(body.remove_contents)
    uuid = uuid.lower()
    if _find(services, replica, uuid, None).owner != owner:
        # The definition has a 403 here, which a DSS spells so that its own check of answers makes a 500 of it.
        raise ProblemError(500, "unhandled_exception", f"Collection {uuid} is somebody else's")
    old = _find(services, replica, uuid, version)
    check_links(services, replica, added)
    gone = {identity(item) for item in removed}
    kept = [item for item in old.body["contents"] if identity(item) not in gone]
    said = body.model_dump(include={"name", "description", "details"}, exclude_unset=True)
    new = old.body | said | {"contents": deduplicated(kept + added)}
    return Answer({"uuid": uuid, "version": _add_version(services, old, new)})


def _add_version(services: Services, old: CollectionRecord, body: dict[str, Any]) -> str:
    while True:
        version = make_version()
        if services.collections.add(CollectionRecord(old.replica, old.uuid, version, old.owner, body)):
            return version


@router.delete(
    "/collections/{uuid}",
    summary="Delete a collection of yours",
    responses=says(200, "Deleted") | _UNKNOWN,
)
def delete_collection(services: Ctx, owner: Owner, uuid: Uuid, replica: Replica) -> Answer:
    """Delete every version, for ever: what is put under the uuid later cannot be read either."""
    found = _find(services, replica, uuid.lower(), None)
    _require_owner(found, owner)
    services.collections.bury(replica, found.uuid, owner)
    return Answer({})
