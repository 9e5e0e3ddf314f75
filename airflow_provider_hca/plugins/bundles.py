"""Bundles of a replica, and the files of one bundle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.models import REPLICAS
from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.plugins import access
from airflow_provider_hca.plugins.dss import (
    LatestVersionQuery,
    PageTransport,
    ReplicaQuery,
    UuidPath,
    first_page,
    open_api,
)
from airflow_provider_hca.plugins.text import plain_text

router = APIRouter(prefix="/api/connections/{connection_id}/bundles", dependencies=[access.USES_CONNECTION])

_MAX_LISTED = 10_000  # versions; a DSS lists by uuid, so finding the newest means reading all, 500 per request
_MAX_SHOWN = 200
_MAX_FILES = 10_000
_MAX_VERSIONS = 1_000
_NAME_LENGTH = 1_000  # characters
_BATCH_SIZE = 500  # files


class BundleName(BaseModel):
    """Version of a bundle."""

    uuid: str
    version: str


class Bundles(BaseModel):
    """Newest bundles of a replica.

    :ivar bundles: Bundle versions, newest first
    :ivar listed: Number of versions that the DSS listed
    :ivar complete: Whether these are all versions of the replica
    """

    bundles: list[BundleName]
    listed: int
    complete: bool


class File(BaseModel):
    """File of a bundle.

    :ivar size: Size in bytes; 0 if unknown
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
    """Bundle with its files.

    :ivar creator_uid: uid of the creator; None if unknown
    :ivar omitted: Number of files that are not listed
    :ivar byte_count: Size of all files in bytes
    :ivar versions: Newest versions of the bundle in this replica, and the shown one, newest first
    :ivar replicas: Whether each replica has this version; None if unknown
    :ivar complete: Whether all files were read, and not only the first page of them
    :ivar files: First files of the bundle, and `links.json`
    """

    uuid: str
    version: str
    creator_uid: int | None
    omitted: int
    byte_count: int
    versions: list[str]
    replicas: dict[str, bool | None]
    complete: bool
    files: list[File]


@router.get("")
async def list_bundles(
    connection_id: str, replica: ReplicaQuery, prefix: Annotated[str, Query(pattern=r"^[0-9a-fA-F-]{0,36}$")] = ""
) -> Bundles:
    """Return the newest bundles of a replica (`GET /bundles/all`)."""
    async with open_api(connection_id) as (api, transport):
        found = await transport.run(api.get_bundles_all(replica=replica, prefix=prefix, at_most=_MAX_LISTED))
    found.sort(key=lambda bundle: (bundle["version"], bundle["uuid"]), reverse=True)
    return Bundles(
        bundles=[_bundle_name(bundle) for bundle in found[:_MAX_SHOWN]],
        listed=len(found),
        complete=len(found) < _MAX_LISTED,
    )


@router.get("/{uuid}")
async def get_bundle(
    connection_id: str,
    uuid: UuidPath,
    replica: ReplicaQuery,
    version: LatestVersionQuery = None,
    *,
    first: bool = False,
) -> StreamingResponse:
    """Return a bundle with its files (`GET /bundles/{uuid}`).

    :param first: Whether to read only the first page of files: a DSS takes seconds for 20,000 files
    """
    async with open_api(connection_id) as (api, transport):
        call, complete = api.get_bundle(uuid, replica=replica, version=version), True
        if first:
            manifest, complete = await transport.run(first_page(call))
        else:
            manifest = await transport.run(call)
        replicas, versions = await asyncio.gather(
            _replicas(api, transport, uuid, manifest["version"], replica),
            _versions(api, transport, uuid, manifest["version"], replica),
        )
    # As a stream: Airflow compresses a response piece by piece on its event loop; each piece is computed in a thread.
    return StreamingResponse(to_json(manifest, versions, replicas, complete=complete), media_type="application/json")


def _bundle_name(bundle: Mapping[str, Any]) -> BundleName:
    return BundleName(uuid=_text(bundle, "uuid"), version=_text(bundle, "version"))


def to_json(
    manifest: Mapping[str, Any], versions: list[str], replicas: dict[str, bool | None], *, complete: bool = True
) -> Iterator[str]:
    """Yield the pieces of the JSON of a `Bundle`."""
    files = manifest["files"]
    links = [file for file in files[_MAX_FILES:] if file.get("name") == "links.json"]
    shown = [*files[:_MAX_FILES], *links[:1]]
    bundle = Bundle(
        uuid=_text(manifest, "uuid"),
        version=_text(manifest, "version"),
        creator_uid=_number(manifest, "creator_uid"),
        omitted=len(files) - len(shown),
        byte_count=sum(_size(file) for file in files),
        versions=versions,
        replicas=replicas,
        complete=complete,
        files=[],
    )
    yield bundle.model_dump_json().removesuffix("]}")
    for start in range(0, len(shown), _BATCH_SIZE):
        files = ",".join(_file(file).model_dump_json() for file in shown[start : start + _BATCH_SIZE])
        yield f",{files}" if start else files
    yield "]}"


async def _replicas(
    api: DSSAPI, transport: PageTransport, uuid: str, version: str, source: str
) -> dict[str, bool | None]:
    available: dict[str, bool | None] = {replica: replica == source for replica in REPLICAS}
    for replica in REPLICAS:
        if replica != source:
            try:
                found = await transport.run(api.find_bundle(uuid, replica=replica, version=version))
                available[replica] = found is not None
            except (DSSError, ValueError):  # the page can show the bundle without it
                available[replica] = None
    return available


async def _versions(api: DSSAPI, transport: PageTransport, uuid: str, version: str, replica: str) -> list[str]:
    try:
        found = await transport.run(api.get_bundles_all(replica=replica, prefix=uuid, at_most=_MAX_LISTED))
    except DSSError:  # the page can show the bundle without it
        found = []
    # The list of a DSS may lack a version that was just stored.
    newest = sorted({plain_text(bundle["version"]) for bundle in found}, reverse=True)[:_MAX_VERSIONS]
    return sorted({plain_text(version), *newest}, reverse=True)


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
    return plain_text(entry.get(key), _NAME_LENGTH)


def _number(entry: Mapping[str, Any], key: str) -> int | None:
    """Return a value if it is a number from 0 up, as sizes and ids are."""
    value = entry.get(key)
    return value if isinstance(value, int) and value >= 0 else None


def _size(entry: Mapping[str, Any]) -> int:
    return _number(entry, "size") or 0
