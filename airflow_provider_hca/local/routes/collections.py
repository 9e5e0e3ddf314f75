"""Routes of collections, which belong to users."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from airflow_provider_hca.client.identifiers import make_version
from airflow_provider_hca.local.collection_records import CollectionRecord
from airflow_provider_hca.local.dependencies import (
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
    require_version,
    url_with_query,
)
from airflow_provider_hca.local.errors import ProblemError, UndefinedCodeError, retry_later
from airflow_provider_hca.local.responses import (
    FQID,
    ApiResponse,
    page_docs,
    page_headers,
    response_doc,
)
from airflow_provider_hca.local.strict_json import check_json

from .collection_links import check_links, deduplicated, identity

router = APIRouter(redirect_slashes=False)
_MAX_ITEMS = 1000
_UNKNOWN = response_doc(404, "not_found")
_INVALID = response_doc(422, "invalid_link")


class CollectionItem(BaseModel):
    """A link to a file, a bundle, another collection, or a fragment of a JSON file."""

    model_config = ConfigDict(strict=True, extra="allow")

    type: str = Field(description="file, bundle or collection; any other type is a fragment.")
    uuid: str = Field(pattern=UUID_PATTERN, description="UUID of the target.")
    version: str = Field(description="Version of the target, a DSS_VERSION.")
    fragment: str = Field(default_factory=str, description="JSON pointer into the file, for fragments.")


Items = Annotated[list[CollectionItem], AfterValidator(lambda items: [_check_item(item) for item in items])]
Details = Annotated[dict[str, Any], AfterValidator(check_json)]


def _check_item(item: CollectionItem) -> CollectionItem:
    check_json(item.model_extra)
    return item


class PutCollectionRequest(BaseModel):
    """Body of PUT collection."""

    model_config = ConfigDict(strict=True)

    name: str = Field(description="Short name.")
    description: str = Field(description="Long description in Markdown.")
    details: Details = Field(description="Additional information.")
    contents: Items = Field(max_length=_MAX_ITEMS, description="Links; duplicates are removed.")


class PatchCollectionRequest(BaseModel):
    """Body of PATCH collection."""

    model_config = ConfigDict(strict=True)

    add_contents: Items = Field(default=[], max_length=_MAX_ITEMS, description="Links to add.")
    remove_contents: Items = Field(default=[], max_length=_MAX_ITEMS, description="Links to remove.")
    name: str = Field(default_factory=str, description="New name.")
    description: str = Field(default_factory=str, description="New description.")
    details: Details = Field(default_factory=dict, description="New details.")


class ListCollectionsResponse(BaseModel):
    """Response of GET collections."""

    collections: list[FQID]


class GetCollectionResponse(PutCollectionRequest):
    """Response of GET collection."""

    owner: str = Field(description="E-mail address of the owner.")


@router.get(
    "/collections",
    summary="List your collections",
    responses=page_docs(ListCollectionsResponse),
)
def list_collections(
    services: Ctx,
    request: Request,
    owner: Owner,
    per_page: PerPage = 500,
    start_at: Annotated[int, Query(ge=0, description="Start of the page; set by the server in links.")] = 0,
) -> ApiResponse:
    """List the caller's collections, without the versions that PATCH created."""
    listed = services.collections.listed(owner)
    page = [{"uuid": uuid, "version": version} for uuid, version in listed[start_at : start_at + per_page]]
    if start_at + per_page >= len(listed):
        return ApiResponse({"collections": page}, 200, page_headers("collections"))
    link = url_with_query(request, start_at=start_at + per_page)
    return ApiResponse({"collections": page}, 206, page_headers("collections", link))


@router.put(
    "/collections",
    summary="Create or overwrite a collection",
    status_code=201,
    responses=response_doc(201, "Stored", FQID) | _INVALID,
    dependencies=[JsonBody],
)
def put_collection(
    services: Ctx, owner: Owner, uuid: UuidQuery, version: Version, replica: Replica, body: PutCollectionRequest
) -> ApiResponse:
    """Store a collection of the caller; one with the same uuid and version is replaced."""
    require_version(version)
    contents = _links(body.contents)
    check_links(services, replica, contents)
    stored = body.model_dump(exclude={"contents"}) | {"contents": contents}
    services.collections.overwrite(CollectionRecord(replica, uuid.lower(), version, owner, stored))
    return ApiResponse({"uuid": uuid.lower(), "version": version}, 201)


def _links(items: list[CollectionItem]) -> list[dict[str, Any]]:
    """Return the given fields of the links, without duplicates."""
    for item in items:
        require_version(item.version)
        if any(isinstance(value, dict | list) for value in (item.model_extra or {}).values()):
            raise retry_later("unhashable type: 'dict'")  # a DSS uses links as keys
    return deduplicated([item.model_dump(exclude_unset=True) for item in items])


@router.get(
    "/collections/{uuid}",
    summary="Get one of your collections",
    responses=response_doc(200, "The collection", GetCollectionResponse) | _UNKNOWN,
)
def get_collection(
    services: Ctx, owner: Owner, uuid: Uuid, replica: Replica, version: LatestVersion = None
) -> ApiResponse:
    """Return a collection and its owner."""
    record = _find(services, replica, uuid.lower(), version)
    _require_owner(record, owner)
    return ApiResponse({**record.body, "owner": record.owner})


def _find(services: Services, replica: str, uuid: str, version: str | None) -> CollectionRecord:
    record = services.collections.find(replica, uuid, version)
    if record is None:
        raise ProblemError(404, "not_found", f"There is no collection {uuid} in version {version or 'latest'}")
    return record


def _require_owner(record: CollectionRecord, owner: str) -> None:
    if record.owner != owner:
        raise UndefinedCodeError("forbidden", {"Retry-After": "10"})


@router.patch(
    "/collections/{uuid}",
    summary="Create a new version of one of your collections",
    responses=response_doc(200, "The new version", FQID) | _UNKNOWN | _INVALID,
    dependencies=[JsonBody],
)
def patch_collection(
    services: Ctx, owner: Owner, uuid: Uuid, version: Version, replica: Replica, body: PatchCollectionRequest
) -> ApiResponse:
    """Remove and add links, and change other fields; every call creates a version, which is not listed."""
    require_version(version)
    added, removed = _links(body.add_contents), _links(body.remove_contents)
    uuid = uuid.lower()
    _require_owner(_find(services, replica, uuid, None), owner)
    old = _find(services, replica, uuid, version)
    check_links(services, replica, added)
    removed_ids = {identity(item) for item in removed}
    kept = [item for item in old.body["contents"] if identity(item) not in removed_ids]
    fields = body.model_dump(include={"name", "description", "details"}, exclude_unset=True)
    new = old.body | fields | {"contents": deduplicated(kept + added)}
    return ApiResponse({"uuid": uuid, "version": _add_version(services, old, new)})


def _add_version(services: Services, old: CollectionRecord, body: dict[str, Any]) -> str:
    while True:
        version = make_version()
        if services.collections.add(CollectionRecord(old.replica, old.uuid, version, old.owner, body)):
            return version


@router.delete(
    "/collections/{uuid}",
    summary="Delete one of your collections",
    responses=response_doc(200, "Deleted") | _UNKNOWN,
)
def delete_collection(services: Ctx, owner: Owner, uuid: Uuid, replica: Replica) -> ApiResponse:
    """Delete all versions permanently: a collection that is put under the uuid later cannot be read either."""
    record = _find(services, replica, uuid.lower(), None)
    _require_owner(record, owner)
    services.collections.add_tombstone(replica, record.uuid, owner)
    return ApiResponse({})
