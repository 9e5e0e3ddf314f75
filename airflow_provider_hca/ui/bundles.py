"""The bundles of a replica, and what is in one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from airflow_provider_hca.client.model import REPLICAS
from airflow_provider_hca.client.protocol import DSSAPI
from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.hooks.connection import AsyncAdvisingTransport
from airflow_provider_hca.ui import access
from airflow_provider_hca.ui.dss import LatestVersionQuery, ReplicaQuery, UuidPath, asking

router = APIRouter(prefix="/api/connections/{connection_id}/bundles", dependencies=[access.USES_CONNECTION])

_MOST_LISTED = 10_000  # versions; a DSS lists by uuid, so to find the newest all have to be looked at, 500 a request
_MOST_SHOWN = 200


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

    :ivar size: in bytes
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

    :ivar versions: all there are of it in this replica, newest first
    :ivar replicas: for each replica whether this version is there; None if the DSS did not say
    """

    uuid: str
    version: str
    creator_uid: int
    files: list[File]
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
        bundles=[BundleName(uuid=each["uuid"], version=each["version"]) for each in found[:_MOST_SHOWN]],
        looked_at=len(found),
        complete=len(found) < _MOST_LISTED,
    )


@router.get("/{uuid}")
async def get_bundle(
    connection_id: str, uuid: UuidPath, replica: ReplicaQuery, version: LatestVersionQuery = None
) -> Bundle:
    """Return a bundle with its files (`GET /bundles/{uuid}`)."""
    async with asking(connection_id) as (api, transport):
        manifest = await transport.run(api.get_bundle(uuid, replica=replica, version=version))
        there, versions = await asyncio.gather(
            _replicas(api, transport, manifest["uuid"], manifest["version"], replica),
            _versions(api, transport, manifest["uuid"], manifest["version"], replica),
        )
    files = [_file(each) for each in manifest["files"]]
    return Bundle(
        uuid=manifest["uuid"],
        version=manifest["version"],
        creator_uid=manifest["creator_uid"],
        files=files,
        byte_count=sum(file.size for file in files),
        versions=versions,
        replicas=there,
    )


async def _replicas(
    api: DSSAPI, transport: AsyncAdvisingTransport, uuid: str, version: str, seen_in: str
) -> dict[str, bool | None]:
    there: dict[str, bool | None] = {replica: replica == seen_in for replica in REPLICAS}
    for replica in REPLICAS:
        if replica != seen_in:
            try:
                found = await transport.run(api.find_bundle(uuid, replica=replica, version=version))
                there[replica] = found is not None
            except DSSError:  # the bundle itself is there, so the page has something to show
                there[replica] = None
    return there


async def _versions(api: DSSAPI, transport: AsyncAdvisingTransport, uuid: str, version: str, replica: str) -> list[str]:
    try:
        found = await transport.run(api.get_bundles_all(replica=replica, prefix=uuid))
    except DSSError:  # same
        found = []
    # A DSS that has just stored a version may not list it yet.
    return sorted({version, *(each["version"] for each in found)}, reverse=True)


def _file(entry: Mapping[str, Any]) -> File:
    return File(
        name=str(entry.get("name", "")),
        uuid=str(entry.get("uuid", "")),
        version=str(entry.get("version", "")),
        size=int(entry.get("size") or 0),
        content_type=str(entry.get("content-type", "")),
        indexed=bool(entry.get("indexed")),
        sha256=str(entry.get("sha256", "")),
        sha1=str(entry.get("sha1", "")),
        s3_etag=str(entry.get("s3_etag", "")),
        crc32c=str(entry.get("crc32c", "")),
    )
