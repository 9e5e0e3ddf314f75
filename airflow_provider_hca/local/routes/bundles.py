"""Routes of bundles."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from airflow_provider_hca.client.identifiers import make_version
from airflow_provider_hca.local.auth import require_administrator
from airflow_provider_hca.local.dependencies import (
    AnyCaller,
    CachedManifests,
    Caller,
    Ctx,
    JsonBody,
    LatestVersion,
    PerPage,
    Replica,
    Services,
    Token,
    Uuid,
    Version,
    require_version,
    url_with_query,
)
from airflow_provider_hca.local.errors import ProblemError, UndefinedCodeError
from airflow_provider_hca.local.responses import (
    FQID,
    LOCATION_HEADER,
    RETRY_AFTER_HEADER,
    ApiResponse,
    page_docs,
    page_headers,
    response_doc,
)
from airflow_provider_hca.local.store import FileRecord

from .bundle_models import (
    BundleFile,
    DeleteBundleRequest,
    GetBundleResponse,
    ListBundlesResponse,
    PatchBundleRequest,
    PutBundleRequest,
    PutBundleResponse,
)
from .files import check_checkout_token, direct_url, new_checkout_token, not_ready

router = APIRouter(redirect_slashes=False)
_POLL = 0.1  # seconds between two queries for missing files


# Registered before the routes with a uuid, which would match "all".
@router.get(
    "/bundles/all",
    summary="List the bundles",
    responses=page_docs(ListBundlesResponse),
)
def list_bundles(
    services: Ctx,
    request: Request,
    replica: Replica,
    prefix: Annotated[str, Query(pattern="^([a-zA-Z0-9][a-zA-Z0-9-]*)?$", description="Prefix of the uuids.")] = "",
    token: Token = None,
    per_page: PerPage = 100,
    search_after: Annotated[str, Query(description="Start of the page; set by the server in links.")] = "",
) -> ApiResponse:
    """List bundles that are not deleted, ordered by uuid; a full page is followed by another, which may be empty."""
    key = search_after.removeprefix("bundles/")
    uuid, _, version = key.partition(".")
    page = services.store.bundles_after(replica, prefix.lower(), (uuid, version), per_page)
    body: dict[str, Any] = {
        "bundles": [{"uuid": uuid, "version": version} for uuid, version in page],
        "dss_api": str(request.base_url.replace(path="")),
        "event_timestamp": datetime.now(UTC).isoformat(),
        "has_more": len(page) == per_page,
        "object": "list",
        "page_count": len(page),
        "per_page": per_page,
        "search_prefix": f"bundles/{prefix.lower()}",
    }
    if not body["has_more"]:
        return ApiResponse(body, 200, page_headers("bundles"))
    body["search_after"] = f"bundles/{'.'.join(page[-1])}"
    body["token"] = token or new_checkout_token()
    body["link"] = url_with_query(request, search_after=body["search_after"], token=body["token"])
    return ApiResponse(body, 206, page_headers("bundles", body["link"]))


@router.put(
    "/bundles/{uuid}",
    summary="Create a version of a bundle",
    responses=response_doc(200, "Exists with the same manifest", PutBundleResponse)
    | response_doc(201, "Created", PutBundleResponse)
    | response_doc(400, "illegal_arguments, illegal_version, duplicate_filename or file_missing")
    | response_doc(409, "bundle_already_exists, with another manifest"),
    dependencies=[AnyCaller, JsonBody],
)
async def put_bundle(
    services: Ctx,
    manifests: CachedManifests,
    uuid: Uuid,
    version: Version,
    replica: Replica,
    body: PutBundleRequest,
) -> ApiResponse:
    """Create a bundle; wait some time for files that do not exist yet."""
    _check_files(body.files)
    require_version(version)
    records = await _wait_for_files(services, replica, body.files)
    missing = _first_missing(records, body.files)
    if missing:
        title = f"Could not find file {missing.uuid} in version {missing.version} in {replica}"
        raise ProblemError(400, "file_missing", title)
    manifest = _manifest(version, body.creator_uid, [_manifest_entry(file, records) for file in body.files])
    added, stored = await run_in_threadpool(_store_bundle, services, replica, uuid.lower(), manifest)
    if added:
        manifests.keep(replica, uuid.lower(), manifest)
    if stored != manifest:
        title = f"Bundle {uuid.lower()} has another manifest in version {version}"
        raise ProblemError(409, "bundle_already_exists", title)
    return ApiResponse({"version": version, "manifest": manifest}, 201 if added else 200)


def _store_bundle(
    services: Services, replica: str, uuid: str, manifest: dict[str, Any]
) -> tuple[bool, dict[str, Any] | None]:
    version = manifest["version"]
    added = services.store.add_bundle(replica, uuid, version, manifest)
    return added, manifest if added else services.store.bundle(replica, uuid, version, include_deleted=True)


def _check_files(files: list[BundleFile]) -> None:
    for file in files:
        require_version(file.version)
    _check_names([file.name for file in files])


def _check_names(names: list[str]) -> None:
    if len(set(names)) < len(names):
        duplicate = next(name for index, name in enumerate(names) if name in names[:index])
        raise ProblemError(400, "duplicate_filename", f"More than one file has the name {duplicate!r}")


_Records = dict[tuple[str, str], FileRecord | None]


async def _wait_for_files(services: Services, replica: str, files: list[BundleFile]) -> _Records:
    """Return the records of files; wait for missing ones, which may still be copied."""
    deadline = time.monotonic() + services.file_wait
    keys = {(file.uuid, file.version) for file in files}
    records = await run_in_threadpool(services.store.files, replica, keys)
    while None in records.values() and time.monotonic() < deadline:
        if services.stopping.is_set():
            raise ProblemError(503, "service_unavailable", "The local DSS is stopping", {"Retry-After": "1"})
        await asyncio.sleep(_POLL)
        missing = [key for key, record in records.items() if record is None]
        records |= await run_in_threadpool(services.store.files, replica, missing)
    return records


def _first_missing(records: _Records, files: list[BundleFile]) -> BundleFile | None:
    return next((file for file in files if records[file.uuid, file.version] is None), None)


def _manifest_entry(file: BundleFile, records: _Records) -> dict[str, Any]:
    record = records[file.uuid, file.version]
    if record is None:
        raise RuntimeError(f"file {file.uuid}.{file.version} does not exist")
    return {
        "name": file.name,
        "uuid": file.uuid,
        "version": file.version,
        "content-type": record.content_type,
        "size": record.size,
        "indexed": file.indexed,
        "crc32c": record.crc32c,
        "s3-etag": record.s3_etag,
        "sha1": record.sha1,
        "sha256": record.sha256,
    }


def _manifest(version: str, creator_uid: int, files: list[dict[str, Any]]) -> dict[str, Any]:
    return {"format": "0.0.1", "version": version, "files": files, "creator_uid": creator_uid}


@router.get(
    "/bundles/{uuid}",
    summary="Get the manifest of a bundle",
    responses=page_docs(GetBundleResponse)
    | response_doc(301, "Not ready; repeat the request", headers=LOCATION_HEADER | RETRY_AFTER_HEADER)
    | response_doc(400, "illegal_arguments, illegal_token or only_one_urltype")
    | response_doc(404, "not_found"),
)
def get_bundle(
    services: Ctx,
    manifests: CachedManifests,
    request: Request,
    uuid: Uuid,
    replica: Replica,
    version: LatestVersion = None,
    directurls: Annotated[bool, Query(description="Return the `s3://` or `gs://` URL of each file.")] = False,
    presignedurls: Annotated[bool, Query(description="Return a presigned URL of each file.")] = False,
    token: Token = None,
    per_page: PerPage = 500,
    start_at: Annotated[int, Query(ge=0, description="Start of the page; set by the server in links.")] = 0,
) -> Response:
    """Return the manifest, one page of files at a time."""
    if directurls and presignedurls:
        raise ProblemError(400, "only_one_urltype", "directurls and presignedurls exclude each other")
    check_checkout_token(token)
    manifest = manifests.get(replica, uuid.lower(), version)
    if manifest is None:
        raise ProblemError(404, "not_found", f"There is no bundle {uuid} in version {version or 'latest'}")
    page = manifest["files"][start_at : start_at + per_page]
    if (directurls or presignedurls) and not _ensure_checkouts(services, replica, page):
        return not_ready(services, request)
    files = [_get_entry(services, replica, entry, directurls, presignedurls) for entry in page]
    bundle = {
        "uuid": uuid,
        "version": manifest["version"],
        "files": files,
        "creator_uid": manifest["creator_uid"],
    }
    if start_at + per_page >= len(manifest["files"]):
        return ApiResponse({"bundle": bundle}, 200, page_headers("bundle.files"))
    following = start_at + per_page
    link = url_with_query(request, start_at=following, version=manifest["version"], token=str(token))
    return ApiResponse({"bundle": bundle}, 206, page_headers("bundle.files", link))


def _ensure_checkouts(services: Services, replica: str, entries: list[dict[str, Any]]) -> bool:
    now = time.time()
    contents = [entry["sha256"] for entry in entries]
    return all([services.store.ensure_checkout(replica, sha, now, services.checkout_delay) for sha in contents])  # noqa: C419 - starts all


def _get_entry(
    services: Services, replica: str, entry: dict[str, Any], direct: bool, presigned: bool
) -> dict[str, Any]:
    """Return a manifest entry as in the response of GET, which spells `s3_etag` differently."""
    result = {name.replace("s3-etag", "s3_etag"): value for name, value in entry.items()}
    if presigned:
        result["url"] = services.presigner.url(replica, entry["sha256"], entry["content-type"])
    if direct:
        file = services.store.file(replica, entry["uuid"], entry["version"])
        result["url"] = direct_url(file) if file else ""
    return result


@router.patch(
    "/bundles/{uuid}",
    summary="Create a new version of a bundle",
    responses=response_doc(200, "The new version", FQID)
    | response_doc(400, "illegal_arguments, illegal_version or duplicate_filename")
    | response_doc(404, "not_found"),
    dependencies=[AnyCaller, JsonBody],
)
async def patch_bundle(
    services: Ctx,
    manifests: CachedManifests,
    uuid: Uuid,
    version: Version,
    replica: Replica,
    body: PatchBundleRequest,
) -> ApiResponse:
    """Add and remove files; every call creates a version, even if nothing changes.

    As in a DSS, each step changes the cached manifest, which keeps that change if a later step fails, and the new
    version has the uuid as given: it cannot be read if that is in upper case.
    """
    require_version(version)
    for file in (*body.add_files, *body.remove_files):
        require_version(file.version)
    manifest = await run_in_threadpool(manifests.get, replica, uuid.lower(), version)
    if manifest is None:
        raise ProblemError(404, "not_found", f"There is no bundle {uuid} in version {version}")
    removed = {(file.name, file.uuid, file.version) for file in body.remove_files}
    manifest["files"] = [
        file for file in manifest["files"] if (file["name"], file["uuid"], file["version"]) not in removed
    ]
    records = await _wait_for_files(services, replica, body.add_files)
    if _first_missing(records, body.add_files):
        raise UndefinedCodeError("file_missing")
    manifest["files"] += [_manifest_entry(file, records) for file in body.add_files]
    _check_names([file["name"] for file in manifest["files"]])
    await run_in_threadpool(_store_new_version, services, replica, uuid, manifest)
    manifests.keep(replica, uuid, manifest)
    return ApiResponse({"uuid": uuid, "version": manifest["version"]})


def _store_new_version(services: Services, replica: str, uuid: str, manifest: dict[str, Any]) -> None:
    while True:
        manifest["version"] = make_version()
        if services.store.add_bundle(replica, uuid, manifest["version"], manifest):
            return


@router.delete(
    "/bundles/{uuid}",
    summary="Delete a bundle, or a version of it",
    responses=response_doc(200, "Deleted")
    | response_doc(404, "not_found")
    | response_doc(409, "bundle_tombstone_already_exists, for another reason"),
    dependencies=[JsonBody],
)
def delete_bundle(
    services: Ctx,
    claims: Caller,
    uuid: Uuid,
    replica: Replica,
    body: DeleteBundleRequest,
    version: LatestVersion = None,
) -> ApiResponse:
    """Record a tombstone; the bundle's own record remains."""
    require_administrator(claims)
    if not services.store.has_bundle(replica, uuid, version):
        raise ProblemError(404, "not_found", f"There is no bundle {uuid} in version {version or 'any'}")
    stored_reason = services.store.add_tombstone(replica, uuid, version or "", body.reason)
    if stored_reason != body.reason:
        title = f"Bundle {uuid} was deleted before, for another reason"
        raise ProblemError(409, "bundle_tombstone_already_exists", title)
    return ApiResponse({})
