"""The bundles of a replica, and what is in one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.models import REPLICAS
from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.hooks.connection import AsyncAdvisingTransport
from airflow_provider_hca.plugins import access
from airflow_provider_hca.plugins.dss import LatestVersionQuery, ReplicaQuery, UuidPath, asking, sendable

router = APIRouter(prefix="/api/connections/{connection_id}/bundles", dependencies=[access.USES_CONNECTION])

_MOST_LISTED = 10_000  # versions; a DSS lists by uuid, so to find the newest all have to be looked at, 500 a request
_MOST_SHOWN = 200
_MOST_FILES = 10_000


class BundleName(BaseModel):
    """A version of a bundle."""

    uuid: str
    version: str


class Bundles(BaseModel):
    """The newest bundles.

    :ivar bundles: newest first
    :ivar looked_at: how many versions were looked at
    :ivar complete: whether those are all there are
    """

    bundles: list[BundleName]
    looked_at: int
    complete: bool


class File(BaseModel):
    """A file of a bundle.

    :ivar size: in bytes; 0 if the DSS does not say it
    """

    name: str
    uuid: str
    version: str
    size: int
    content_type: str
    indexed: bool
    sha256: str
    sha1: str
    s3_etag: str
    crc32c: str


class Bundle(BaseModel):
    """A bundle.

    :ivar creator_uid: None if the DSS does not say it
    :ivar files: the first of them, and `links.json`
    :ivar omitted: how many files were too many to list
    :ivar byte_count: of all files
    :ivar versions: all there are of it in this replica, newest first
    :ivar replicas: for each replica whether this version is there; None if the DSS did not say
    """

    uuid: str
    version: str
    creator_uid: int | None
    files: list[File]
    omitted: int
    byte_count: int
    versions: list[str]
    replicas: dict[str, bool | None]


@router.get("")
async def list_bundles(
    connection_id: str, replica: ReplicaQuery, prefix: Annotated[str, Query(pattern=r"^[0-9a-fA-F-]{0,36}$")] = ""
) -> Bundles:
    """Return the newest bundles of a replica (`GET /bundles/all`)."""
    async with asking(connection_id) as (api, transport):
        found = await transport.run(api.get_bundles_all(replica=replica, prefix=prefix, at_most=_MOST_LISTED))
    found.sort(key=lambda each: (each["version"], each["uuid"]), reverse=True)
    return Bundles(
        bundles=[BundleName(uuid=_text(each, "uuid"), version=_text(each, "version")) for each in found[:_MOST_SHOWN]],
        looked_at=len(found),
        complete=len(found) < _MOST_LISTED,
    )


@router.get("/{uuid}")
async def get_bundle(
    connection_id: str, uuid: UuidPath, replica: ReplicaQuery, version: LatestVersionQuery = None
) -> Response:
    """Return a bundle with its files (`GET /bundles/{uuid}`)."""
    async with asking(connection_id) as (api, transport):
        manifest = await transport.run(api.get_bundle(uuid, replica=replica, version=version))
        there, versions = await asyncio.gather(
            _replicas(api, transport, uuid, manifest["version"], replica),
            _versions(api, transport, uuid, manifest["version"], replica),
        )
    # Of a large bundle this takes so long that others would have to wait.
    told = await run_in_threadpool(_tell, manifest, versions, there)
    return Response(told, media_type="application/json")


def _tell(manifest: Mapping[str, Any], versions: list[str], there: dict[str, bool | None]) -> str:
    files = manifest["files"]
    links = [each for each in files[_MOST_FILES:] if each.get("name") == "links.json"]
    shown = [*files[:_MOST_FILES], *links[:1]]
    bundle = Bundle(
        uuid=_text(manifest, "uuid"),
        version=_text(manifest, "version"),
        creator_uid=_number(manifest, "creator_uid"),
        files=[_file(each) for each in shown],
        omitted=len(files) - len(shown),
        byte_count=sum(_size(each) for each in files),
        versions=versions,
        replicas=there,
    )
    return bundle.model_dump_json()


async def _replicas(
    api: DSSAPI, transport: AsyncAdvisingTransport, uuid: str, version: str, seen_in: str
) -> dict[str, bool | None]:
    there: dict[str, bool | None] = {replica: replica == seen_in for replica in REPLICAS}
    for replica in REPLICAS:
        if replica != seen_in:
            try:
                found = await transport.run(api.find_bundle(uuid, replica=replica, version=version))
                there[replica] = found is not None
            except (DSSError, ValueError):  # the bundle itself is there, so the page has something to show
                there[replica] = None
    return there


async def _versions(api: DSSAPI, transport: AsyncAdvisingTransport, uuid: str, version: str, replica: str) -> list[str]:
    try:
        found = await transport.run(api.get_bundles_all(replica=replica, prefix=uuid, at_most=_MOST_LISTED))
    except DSSError:  # same
        found = []
    # A DSS that has just stored a version may not list it yet.
    return sorted({sendable(each) for each in (version, *(each["version"] for each in found))}, reverse=True)


def _file(entry: Mapping[str, Any]) -> File:
    return File(
        name=_text(entry, "name"),
        uuid=_text(entry, "uuid"),
        version=_text(entry, "version"),
        size=_size(entry),
        content_type=_text(entry, "content-type"),
        indexed=bool(entry.get("indexed")),
        sha256=_text(entry, "sha256"),
        sha1=_text(entry, "sha1"),
        s3_etag=_text(entry, "s3_etag"),
        crc32c=_text(entry, "crc32c"),
    )


def _text(entry: Mapping[str, Any], key: str) -> str:
    return sendable(str(entry.get(key, "")))


def _number(entry: Mapping[str, Any], key: str) -> int | None:
    """Return a number if it is one that can be a size or an id."""
    value = entry.get(key)
    return value if isinstance(value, int) and value >= 0 else None


def _size(entry: Mapping[str, Any]) -> int:
    return _number(entry, "size") or 0
