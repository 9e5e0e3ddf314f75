"""The endpoints of bundles."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from airflow_provider_hca.client.identifiers import make_version

from .auth import require_administrator
from .bundle_bodies import BundleAnswer, BundleChange, BundleFile, BundleList, BundleStored, Deletion, NewBundle
from .errors import BareServerError, ProblemError
from .files import check_token, direct_url, make_token, not_ready
from .responses import FQID, LATER, LINKED, PAGED, REDIRECTED, Answer, page_headers, says
from .services import (
    AnyCaller,
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
    this_url,
    writable_version,
)
from .store import FileRecord

router = APIRouter(redirect_slashes=False)
_POLL = 0.1  # seconds between two looks for a file that is missing


# Before the routes with a uuid: "all" would be taken for one.
@router.get(
    "/bundles/all",
    summary="List the bundles",
    responses=says(200, "All of them, or the last page", BundleList, headers=PAGED)
    | says(206, "One page; the Link header leads to the next", BundleList, headers=PAGED | LINKED),
)
def list_bundles(
    services: Ctx,
    request: Request,
    replica: Replica,
    prefix: Annotated[str, Query(pattern="^([a-zA-Z0-9][a-zA-Z0-9-]*)?$", description="How uuids begin.")] = "",
    token: Token = None,
    per_page: PerPage = 100,
    search_after: Annotated[str, Query(description="Given by the server in its links.")] = "",
) -> Answer:
    """List what is not deleted, ordered by uuid. A page that is exactly full is followed by one more, even if empty."""
    key = search_after.removeprefix("bundles/")
    uuid, _, version = key.partition(".")
    found = services.store.bundles_after(replica, prefix.lower(), (uuid, version), per_page)
    body: dict[str, Any] = {
        "bundles": [{"uuid": uuid, "version": version} for uuid, version in found],
        "event_timestamp": datetime.now(UTC).isoformat(),
        "has_more": len(found) == per_page,
        "object": "list",
        "page_count": len(found),
        "per_page": per_page,
        "search_prefix": f"bundles/{prefix.lower()}",
    }
    if not body["has_more"]:
        return Answer(body, 200, page_headers("bundles"))
    body["search_after"] = f"bundles/{'.'.join(found[-1])}"
    body["token"] = token or make_token()
    body["link"] = this_url(
        request,
        replica=replica,
        prefix=prefix or None,
        per_page=per_page,
        search_after=body["search_after"],
        token=body["token"],
    )
    return Answer(body, 206, page_headers("bundles", body["link"]))


@router.put(
    "/bundles/{uuid}",
    summary="Create a version of a bundle",
    responses=says(200, "Created before, just like this", BundleStored)
    | says(201, "Created", BundleStored)
    | says(400, "illegal_arguments, illegal_version, duplicate_filename or file_missing")
    | says(409, "bundle_already_exists, with another manifest"),
    dependencies=[AnyCaller, JsonBody],
)
async def put_bundle(services: Ctx, uuid: Uuid, version: Version, replica: Replica, body: NewBundle) -> Answer:
    """Store a bundle, waiting a while for files that are not there yet."""
    _check_files(body.files)
    writable_version(version)
    found = await _wait_for_files(services, replica, body.files)
    missing = _missing(found, body.files)
    if missing:
        title = f"Could not find file {missing.uuid} in version {missing.version} in {replica}"
        raise ProblemError(400, "file_missing", title)
    manifest = _manifest(version, body.creator_uid, [_entry(file, found) for file in body.files])
    added, stored = await run_in_threadpool(_store_bundle, services, replica, uuid.lower(), manifest)
    if stored != manifest:
        title = f"Bundle {uuid.lower()} has another manifest in version {version}"
        raise ProblemError(409, "bundle_already_exists", title)
    return Answer({"version": version, "manifest": manifest}, 201 if added else 200)


def _store_bundle(
    services: Services, replica: str, uuid: str, manifest: dict[str, Any]
) -> tuple[bool, dict[str, Any] | None]:
    version = manifest["version"]
    added = services.store.add_bundle(replica, uuid, version, manifest)
    if added:
        services.manifests.written(replica, uuid, manifest)
    return added, manifest if added else services.store.bundle(replica, uuid, version, dead_too=True)


def _check_files(files: list[BundleFile]) -> None:
    for file in files:
        writable_version(file.version)
    _check_names([file.name for file in files])


def _check_names(names: list[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ProblemError(400, "duplicate_filename", f"The name {twice!r} is given to more than one file")


Found = dict[tuple[str, str], FileRecord | None]


async def _wait_for_files(services: Services, replica: str, files: list[BundleFile]) -> Found:
    """Return the files found, which may come in while this waits: a copy may be under way."""
    deadline = time.monotonic() + services.file_wait
    wanted = {(file.uuid, file.version) for file in files}
    found = await run_in_threadpool(services.store.files, replica, wanted)
    while None in found.values() and time.monotonic() < deadline:
        if services.stopping.is_set():
            raise ProblemError(503, "service_unavailable", "The local DSS is stopping", {"Retry-After": "1"})
        await asyncio.sleep(_POLL)
        absent = [key for key, file in found.items() if file is None]
        found |= await run_in_threadpool(services.store.files, replica, absent)
    return found


def _missing(found: Found, files: list[BundleFile]) -> BundleFile | None:
    return next((file for file in files if found[file.uuid, file.version] is None), None)


def _entry(file: BundleFile, found: Found) -> dict[str, Any]:
    record = found[file.uuid, file.version]
    if record is None:
        raise RuntimeError("a missing file was not noticed")
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
    responses=says(200, "The bundle, or its last page", BundleAnswer, headers=PAGED)
    | says(206, "One page; the Link header leads to the next", BundleAnswer, headers=PAGED | LINKED)
    | says(301, "Not ready yet; ask again", headers=REDIRECTED | LATER)
    | says(400, "illegal_arguments, illegal_token or only_one_urltype")
    | says(404, "not_found"),
)
def get_bundle(
    services: Ctx,
    request: Request,
    uuid: Uuid,
    replica: Replica,
    version: LatestVersion = None,
    directurls: Annotated[bool, Query(description="Give each file's URL of the object store's kind.")] = False,
    presignedurls: Annotated[bool, Query(description="Give each file's presigned URL.")] = False,
    token: Token = None,
    per_page: PerPage = 500,
    start_at: Annotated[int, Query(ge=0, description="Given by the server in its links.")] = 0,
) -> Response:
    """Give the manifest, a page of files at a time."""
    if directurls and presignedurls:
        raise ProblemError(400, "only_one_urltype", "Ask for directurls or presignedurls, not both")
    check_token(token)
    manifest = services.manifests.find(replica, uuid, version)
    if manifest is None:
        raise ProblemError(404, "not_found", f"There is no bundle {uuid} in version {version or 'latest'}")
    page = manifest["files"][start_at : start_at + per_page]
    query = {
        "replica": replica,
        "version": manifest["version"],
        "directurls": "true" if directurls else None,
        "presignedurls": "true" if presignedurls else None,
        "per_page": per_page,
    }
    if (directurls or presignedurls) and not _checked_out(services, replica, page):
        return not_ready(this_url(request, **query, start_at=start_at, token=make_token()))
    files = [_shown(services, replica, entry, directurls, presignedurls) for entry in page]
    bundle = {
        "uuid": uuid,
        "version": manifest["version"],
        "files": files,
        "creator_uid": manifest["creator_uid"],
    }
    if start_at + per_page >= len(manifest["files"]):
        return Answer({"bundle": bundle}, 200, page_headers("bundle.files"))
    link = this_url(request, **query, start_at=start_at + per_page, token="None")  # noqa: S106 - as a DSS writes it
    return Answer({"bundle": bundle}, 206, page_headers("bundle.files", link))


def _checked_out(services: Services, replica: str, entries: list[dict[str, Any]]) -> bool:
    now = time.time()
    contents = [entry["sha256"] for entry in entries]
    return all([services.store.checked_out(replica, sha, now, services.checkout_delay) for sha in contents])  # noqa: C419 - each must be asked for


def _shown(services: Services, replica: str, entry: dict[str, Any], direct: bool, presigned: bool) -> dict[str, Any]:
    """Return an entry of the manifest as GET spells it."""
    shown = {name.replace("s3-etag", "s3_etag"): value for name, value in entry.items()}
    if presigned:
        shown["url"] = services.presigner.url(entry["sha256"], entry["content-type"])
    if direct:
        file = services.store.file(replica, entry["uuid"], entry["version"])
        shown["url"] = direct_url(file) if file else ""
    return shown


@router.patch(
    "/bundles/{uuid}",
    summary="Make a new version of a bundle",
    responses=says(200, "The new version", FQID)
    | says(400, "illegal_arguments, illegal_version or duplicate_filename")
    | says(404, "not_found"),
    dependencies=[AnyCaller, JsonBody],
)
async def patch_bundle(services: Ctx, uuid: Uuid, version: Version, replica: Replica, body: BundleChange) -> Answer:
    """Add and remove files; every call makes a version, even one that changes nothing."""
    if uuid != uuid.lower():
        # A DSS would write a bundle here that nothing can read again.
        raise ProblemError(400, "illegal_arguments", "The uuid must be in lower case")
    writable_version(version)
    for file in (*body.add_files, *body.remove_files):
        writable_version(file.version)
    old = await run_in_threadpool(services.manifests.find, replica, uuid, version)
    if old is None:
        raise ProblemError(404, "not_found", f"There is no bundle {uuid} in version {version}")
    removed = {(file.name, file.uuid, file.version) for file in body.remove_files}
    kept = [file for file in old["files"] if (file["name"], file["uuid"], file["version"]) not in removed]
    _check_names([file["name"] for file in kept] + [file.name for file in body.add_files])
    found = await _wait_for_files(services, replica, body.add_files)
    if _missing(found, body.add_files):
        raise BareServerError("a file to add is missing")
    files = kept + [_entry(file, found) for file in body.add_files]
    manifest = await run_in_threadpool(_store_new_version, services, replica, uuid, old["creator_uid"], files)
    services.manifests.written(replica, uuid, manifest, version)
    return Answer({"uuid": uuid, "version": manifest["version"]})


def _store_new_version(
    services: Services, replica: str, uuid: str, creator_uid: int, files: list[dict[str, Any]]
) -> dict[str, Any]:
    while True:
        manifest = _manifest(make_version(), creator_uid, files)
        if services.store.add_bundle(replica, uuid, manifest["version"], manifest):
            return manifest


@router.delete(
    "/bundles/{uuid}",
    summary="Delete a bundle or one version of it",
    responses=says(200, "Deleted")
    | says(404, "not_found")
    | says(409, "bundle_tombstone_already_exists, for another reason"),
    dependencies=[JsonBody],
)
def delete_bundle(
    services: Ctx, claims: Caller, uuid: Uuid, replica: Replica, body: Deletion, version: LatestVersion = None
) -> Answer:
    """Put up a tombstone; the records stay."""
    require_administrator(claims)
    if not services.store.has_bundle(replica, uuid, version):
        raise ProblemError(404, "not_found", f"There is no bundle {uuid} in version {version or 'any'}")
    written = services.store.bury(replica, uuid, version or "", body.reason)
    if written != body.reason:
        title = f"Bundle {uuid} was deleted before, for another reason"
        raise ProblemError(409, "bundle_tombstone_already_exists", title)
    return Answer({})
