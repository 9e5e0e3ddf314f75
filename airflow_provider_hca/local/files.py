"""The endpoints of files."""

import base64
import json
import time
import uuid as uuids
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from .auth import require_group
from .copies import CopyRefusedError, StagedObjectGoneError
from .errors import ProblemError, retry_later
from .responses import LATER, REDIRECTED, Answer, says
from .services import (
    Caller,
    Ctx,
    JsonBody,
    LatestVersion,
    Replica,
    Services,
    Token,
    Uuid,
    Version,
    this_url,
    writable_version,
)
from .staging import SCHEMES, Source, Staged, declared_sums, parse_source
from .store import FileRecord

router = APIRouter(redirect_slashes=False)


class NewFile(BaseModel):
    """The body of PUT file."""

    model_config = ConfigDict(strict=True)

    source_url: str = Field(pattern="^(gs|s3|wasb)://", description="The staged object: s3://... or gs://...")
    creator_uid: int = Field(ge=-(2**63), lt=2**63, description="A number for whoever creates the file.")


class FileStored(BaseModel):
    """The answer of PUT file."""

    version: str = Field(description="A DSS_VERSION.")


class FileAccepted(FileStored):
    """The answer of PUT file, when the content is to be copied."""

    task_id: str


_PROPERTIES = {
    "X-DSS-CREATOR-UID": ("integer", "The number of whoever created it."),
    "X-DSS-VERSION": ("string", "A DSS_VERSION."),
    "X-DSS-CONTENT-TYPE": ("string", "Of the content."),
    "X-DSS-SIZE": ("integer", "In bytes."),
    "X-DSS-CRC32C": ("string", "Hexadecimal."),
    "X-DSS-S3-ETAG": ("string", "Hexadecimal, with the number of parts if there are several."),
    "X-DSS-SHA1": ("string", "Hexadecimal."),
    "X-DSS-SHA256": ("string", "Hexadecimal."),
}


@router.put(
    "/files/{uuid}",
    summary="Register a staged object as a version of a file",
    responses=says(200, "Stored before, just like this", FileStored)
    | says(201, "Stored", FileStored)
    | says(202, "Will be copied; ask HEAD", FileAccepted)
    | says(400, "illegal_arguments, illegal_version or unknown_source_schema")
    | says(409, "file_already_exists, with another content, creator or content type")
    | says(422, "missing_checksum or invalid_checksum"),
    dependencies=[JsonBody],
)
def put_file(services: Ctx, claims: Caller, request: Request, uuid: Uuid, version: Version, body: NewFile) -> Answer:
    """Check the staged object and store it: at once, or after the answer when it is large."""
    require_group(claims)
    writable_version(version)
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
        doomed = int(request.scope.get("dss.fail_copy", 0))
        copy, new = services.store.add_copy(str(uuids.uuid4()), source.url, file, doomed)
        if new:
            services.copies.later(copy)
        return Answer({"version": version, "task_id": copy.task_id}, 202)
    if staged.size <= services.async_above:
        _copy_now(services, source, file)
    stored, added = services.store.add_file(file)
    if stored != file:
        title = f"File {file.uuid} has another content, creator or content type in version {version}"
        raise ProblemError(409, "file_already_exists", title)
    return Answer({"version": version}, 201 if added else 200)


def _find_staged(services: Services, source: Source) -> Staged:
    staging = services.stagings.get(source.replica)
    if staging is None:
        raise retry_later(f"Could not find {source.url}: the local DSS was started without --gcs")
    staged = staging.find(source.bucket, source.key)
    if staged is None:
        raise retry_later(f"Could not find {source.url}")
    return staged


def _copy_now(services: Services, source: Source, file: FileRecord) -> None:
    """Put the content into the store. A file that is there with other properties is a conflict before any reading."""
    there = services.store.file(file.replica, file.uuid, file.version)
    if there is not None and there != file:
        return
    try:
        services.copies.now(source, file)
    except CopyRefusedError as error:
        raise retry_later(str(error)) from None
    except StagedObjectGoneError:
        raise retry_later(f"Could not find {source.url}") from None


@router.head(
    "/files/{uuid}",
    summary="Ask about a file",
    response_class=Response,
    responses=says(200, "What it is", headers=_PROPERTIES)
    | says(404, "There is none, or it is still being copied")
    | says(422, "Its copy failed"),
)
def head_file(services: Ctx, uuid: str, replica: Replica, version: LatestVersion = None) -> Response:
    """Answer with the properties of a file as headers."""
    file = services.store.file(replica, uuid, version)
    if file is None:
        return Response(status_code=services.store.failure(replica, uuid, version) or 404)
    return Response(headers=_headers(file))


def _headers(file: FileRecord) -> dict[str, str]:
    names = ("creator_uid", "version", "content_type", "size", "crc32c", "s3_etag", "sha1", "sha256")
    return {f"X-DSS-{name.replace('_', '-').upper()}": str(getattr(file, name)) for name in names}


@router.get(
    "/files/{uuid}",
    summary="Get the content of a file",
    status_code=302,
    response_class=HTMLResponse,
    responses=says(301, "Not ready yet; ask again", headers=REDIRECTED | LATER)
    | says(302, "Where the content is", headers=REDIRECTED | _PROPERTIES)
    | says(400, "illegal_arguments or illegal_token")
    | says(404, "not_found"),
)
def get_file(
    services: Ctx,
    request: Request,
    uuid: Uuid,
    replica: Replica,
    version: LatestVersion = None,
    token: Token = None,
    directurl: Annotated[bool, Query(description="Give the URL of the object store's own kind.")] = False,
    content_disposition: Annotated[str | None, Query(description="The Content-Disposition to come with.")] = None,
) -> Response:
    """Redirect to the content, once there is a copy of it for downloading."""
    check_token(token)
    file = services.store.file(replica, uuid, version)
    if file is None:
        raise ProblemError(404, "not_found", f"There is no file {uuid} in version {version or 'latest'}")
    if directurl:
        return HTMLResponse("", 302, {"Location": direct_url(file), **_headers(file)})
    if not services.store.checked_out(replica, file.sha256, time.time(), services.checkout_delay):
        location = this_url(
            request,
            version=version,
            replica=replica,
            content_disposition=content_disposition,
            token=make_token(),
        )
        return not_ready(location)
    url = services.presigner.url(file.sha256, file.content_type, content_disposition)
    return HTMLResponse("", 302, {"Location": url, **_headers(file)})


def not_ready(location: str) -> Response:
    """Return the answer to a request whose checkout is still being made.

    :param location: where to ask again
    """
    return HTMLResponse("", 301, {"Location": location, "Retry-After": "1"})


def direct_url(file: FileRecord) -> str:
    """Return where the content of a file would be in the bucket of a DSS.

    :param file: the file
    """
    return f"{SCHEMES[file.replica]}://dss-local/blobs/{file.sha256}.{file.sha1}.{file.s3_etag}.{file.crc32c}"


def make_token() -> str:
    """Return a token as clients carry it from a 301 to the next request."""
    return base64.urlsafe_b64encode(json.dumps({"started": time.time()}).encode()).decode()


def check_token(token: str | None) -> None:
    """Refuse a token that was not made here; `None`, which a DSS writes into its own links, is none.

    :param token: the token of a request
    """
    if token in (None, "None"):
        return
    try:
        json.loads(base64.urlsafe_b64decode(str(token)))
    except ValueError:
        raise ProblemError(400, "illegal_token", "The token cannot be understood") from None
