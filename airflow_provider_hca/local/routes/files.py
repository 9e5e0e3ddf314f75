"""Routes of files."""

import base64
import html
import json
import time
import uuid as uuids
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_hca.local.auth import require_group
from airflow_provider_hca.local.copies import ChecksumMismatchError, StagedObjectGoneError
from airflow_provider_hca.local.dependencies import (
    Caller,
    Ctx,
    JsonBody,
    LatestVersion,
    Replica,
    Services,
    Token,
    Uuid,
    Version,
    require_version,
    url_with_query,
)
from airflow_provider_hca.local.errors import ProblemError, retry_later
from airflow_provider_hca.local.responses import LOCATION_HEADER, RETRY_AFTER_HEADER, ApiResponse, response_doc
from airflow_provider_hca.local.staging import SCHEMES, Source, StagedObject, declared_sums, parse_source
from airflow_provider_hca.local.store import FileRecord

router = APIRouter(redirect_slashes=False)


class PutFileRequest(BaseModel):
    """Body of PUT file."""

    model_config = ConfigDict(strict=True)

    source_url: str = Field(pattern="^(gs|s3|wasb)://", description="URL of the staged object: s3://... or gs://...")
    creator_uid: int = Field(ge=-(2**63), lt=2**63, description="Number that identifies the creator.")


class PutFileResponse(BaseModel):
    """Response of PUT file."""

    version: str = Field(description="Version of the file, a DSS_VERSION.")


class PutFileAcceptedResponse(PutFileResponse):
    """Response of PUT file when the content is copied after the response."""

    task_id: str


_FILE_HEADERS = {
    "X-DSS-CREATOR-UID": ("integer", "Number that identifies the creator."),
    "X-DSS-VERSION": ("string", "Version of the file, a DSS_VERSION."),
    "X-DSS-CONTENT-TYPE": ("string", "Content type."),
    "X-DSS-SIZE": ("integer", "Size in bytes."),
    "X-DSS-CRC32C": ("string", "Hexadecimal checksum."),
    "X-DSS-S3-ETAG": ("string", "Hexadecimal checksum, with the number of parts if there are several."),
    "X-DSS-SHA1": ("string", "Hexadecimal checksum."),
    "X-DSS-SHA256": ("string", "Hexadecimal checksum."),
}


@router.put(
    "/files/{uuid}",
    summary="Register a staged object as a version of a file",
    responses=response_doc(200, "Exists with the same properties", PutFileResponse)
    | response_doc(201, "Created", PutFileResponse)
    | response_doc(202, "Copied later; poll with HEAD", PutFileAcceptedResponse)
    | response_doc(400, "illegal_arguments, illegal_version or unknown_source_schema")
    | response_doc(409, "file_already_exists, with another content, creator or content type")
    | response_doc(422, "missing_checksum or invalid_checksum"),
    dependencies=[JsonBody],
)
def put_file(
    services: Ctx, claims: Caller, request: Request, uuid: Uuid, version: Version, body: PutFileRequest
) -> ApiResponse:
    """Verify the staged object and store it; large ones are copied after the response."""
    require_group(claims)
    require_version(version)
    source = parse_source(body.source_url)
    staged = _find_staged(services, source)
    sums = declared_sums(staged)
    file = FileRecord(
        source.replica,
        uuid.lower(),
        version,
        **asdict(sums),
        size=staged.size,
        content_type=staged.content_type,
        creator_uid=body.creator_uid,
    )
    if staged.size > services.async_above and not services.store.has_content(source.replica, sums, staged.size):
        fail_status = int(request.scope.get("dss.fail_copy", 0))
        copy, new = services.store.add_copy(str(uuids.uuid4()), source.url, file, fail_status)
        if new:
            services.copies.enqueue(copy)
        return ApiResponse({"version": version, "task_id": copy.task_id}, 202)
    if staged.size <= services.async_above:
        _copy_now(services, source, file)
    stored, added = services.store.add_file(file)
    if stored != file:
        title = f"File {file.uuid} has another content, creator or content type in version {version}"
        raise ProblemError(409, "file_already_exists", title)
    return ApiResponse({"version": version}, 201 if added else 200)


def _find_staged(services: Services, source: Source) -> StagedObject:
    staging = services.staging_stores.get(source.replica)
    if staging is None:
        raise retry_later(f"Could not find {source.url}: the local DSS was started without --gcs")
    staged = staging.find(source.bucket, source.key)
    if staged is None:
        raise retry_later(f"Could not find {source.url}")
    return staged


def _copy_now(services: Services, source: Source, file: FileRecord) -> None:
    """Copy the content into the store, unless the file exists with other properties, which is a conflict."""
    existing = services.store.file(file.replica, file.uuid, file.version)
    if existing is not None and existing != file:
        return
    try:
        services.copies.copy(source, file)
    except ChecksumMismatchError as error:
        raise retry_later(str(error)) from None
    except StagedObjectGoneError:
        raise retry_later(f"Could not find {source.url}") from None


@router.head(
    "/files/{uuid}",
    summary="Get the properties of a file",
    response_class=Response,
    responses=response_doc(200, "Properties of the file", headers=_FILE_HEADERS)
    | response_doc(404, "Does not exist, or is still being copied")
    | response_doc(422, "The copy failed"),
)
def head_file(services: Ctx, uuid: str, replica: Replica, version: LatestVersion = None) -> Response:
    """Return the properties of a file as headers."""
    file = services.store.file(replica, uuid, version)
    if file is None:
        return HTMLResponse(status_code=services.store.copy_failure(replica, uuid, version) or 404)
    return HTMLResponse(headers=_headers(file))


def _headers(file: FileRecord) -> dict[str, str]:
    names = ("creator_uid", "version", "content_type", "size", "crc32c", "s3_etag", "sha1", "sha256")
    return {f"X-DSS-{name.replace('_', '-').upper()}": str(getattr(file, name)) for name in names}


@router.get(
    "/files/{uuid}",
    summary="Get the content of a file",
    status_code=302,
    response_class=HTMLResponse,
    responses=response_doc(301, "Not ready; repeat the request", headers=LOCATION_HEADER | RETRY_AFTER_HEADER)
    | response_doc(302, "Redirect to the content", headers=LOCATION_HEADER | _FILE_HEADERS)
    | response_doc(400, "illegal_arguments or illegal_token")
    | response_doc(404, "not_found"),
)
def get_file(
    services: Ctx,
    request: Request,
    uuid: Uuid,
    replica: Replica,
    version: LatestVersion = None,
    token: Token = None,
    directurl: Annotated[bool, Query(description="Redirect to the `s3://` or `gs://` URL.")] = False,
    content_disposition: Annotated[str | None, Query(description="Content-Disposition of the content.")] = None,
) -> Response:
    """Redirect to the content when it is ready for download."""
    check_checkout_token(token)
    file = services.store.file(replica, uuid, version)
    if file is None:
        if services.store.copy_failure(replica, uuid, version) not in (None, 404):
            raise retry_later(f"The content of file {uuid} in version {version or 'latest'} was not copied")
        raise ProblemError(404, "not_found", f"There is no file {uuid} in version {version or 'latest'}")
    if directurl:
        return HTMLResponse("", 302, {"Location": direct_url(file), **_headers(file)})
    if not services.store.ensure_checkout(replica, file.sha256, time.time(), services.checkout_delay):
        return not_ready(services, request)
    url = services.presigner.url(replica, file.sha256, file.content_type, content_disposition)
    return HTMLResponse("", 302, {"Location": url, **_headers(file)})


def not_ready(services: Services, request: Request) -> Response:
    """Return the redirect to the same URL while a checkout is in progress."""
    location = url_with_query(request, token=new_checkout_token())
    body = f'<!doctype html>\n<title>Redirecting...</title>\n<a href="{html.escape(location)}">Redirecting...</a>\n'
    return HTMLResponse(body, 301, {"Location": location, "Retry-After": str(services.retry_after)})


def direct_url(file: FileRecord) -> str:
    """Return the URL that the content of a file would have in the bucket of a DSS."""
    return f"{SCHEMES[file.replica]}://dss-local/blobs/{file.sha256}.{file.sha1}.{file.s3_etag}.{file.crc32c}"


def new_checkout_token() -> str:
    """Return a new token for the URL of a 301."""
    return base64.urlsafe_b64encode(json.dumps({"started": time.time()}).encode()).decode()


def check_checkout_token(token: str | None) -> None:
    """Raise 400 if a token is malformed; the text `None`, which a DSS writes into its own links, is accepted."""
    if token in (None, "None"):
        return
    try:
        json.loads(base64.urlsafe_b64decode(str(token)))
    except ValueError:
        raise ProblemError(400, "illegal_token", "The token is malformed") from None
