"""What is in the small files of a bundle that the page shows: `links.json`, and the metadata that it links."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from airflow_provider_hca.plugins import access
from airflow_provider_hca.plugins.dss import ReplicaQuery, UuidPath, VersionQuery, asking
from airflow_provider_hca.plugins.graph import read_links, shown

router = APIRouter(prefix="/api/connections/{connection_id}/files", dependencies=[access.USES_CONNECTION])

_LINKS_SIZE = 8 * 1024 * 1024
_DOCUMENT_SIZE = 1024 * 1024
# A version of a file never changes; but whoever logs in next at that browser may not be allowed to see it.
_KEPT = {"cache-control": "private, max-age=86400", "vary": "Cookie, Authorization"}
# How the metadata of the Human Cell Atlas names things, each in the core of its kind of document.
_NAMES = ("biomaterial_id", "file_name", "protocol_id", "process_id", "project_short_name", "project_shortname")


class Document(BaseModel):
    """What a metadata document describes.

    :ivar id: by which `links.json` names it; empty if it has none
    :ivar type: such as `donor_organism`
    :ivar name: that people gave it
    """

    id: str
    type: str
    name: str


@router.get("/{uuid}/links")
async def get_links(connection_id: str, uuid: UuidPath, replica: ReplicaQuery, version: VersionQuery) -> Response:
    """Return the graph of a `links.json`, laid out."""
    content = await _read(connection_id, uuid, replica, version, _LINKS_SIZE)
    graph = await run_in_threadpool(_draw, content)  # which takes so long that others would have to wait
    return Response(graph, media_type="application/json", headers=_KEPT)


def _draw(content: bytes) -> str:
    try:
        return read_links(json.loads(content)).model_dump_json()
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"this links.json cannot be drawn: {error}") from None


@router.get("/{uuid}/document")
async def get_document(
    connection_id: str, uuid: UuidPath, replica: ReplicaQuery, version: VersionQuery, response: Response
) -> Document:
    """Return what a metadata document describes."""
    content = await _read(connection_id, uuid, replica, version, _DOCUMENT_SIZE)
    response.headers.update(_KEPT)
    return await run_in_threadpool(_describe, content)


def _describe(content: bytes) -> Document:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, Mapping):
        return Document(id="", type="", name="")
    provenance = document.get("provenance")
    provenance = provenance if isinstance(provenance, Mapping) else {}
    cores = [value for key, value in document.items() if key.endswith("_core") and isinstance(value, Mapping)]
    name = next((core[key] for core in cores for key in _NAMES if core.get(key)), "")
    return Document(
        id=shown(provenance.get("document_id") or ""),
        type=shown(str(document.get("describedBy") or "").rstrip("/").rsplit("/", 1)[-1]),
        name=shown(name),
    )


class _Few:
    """Bytes, up to a number."""

    def __init__(self, most: int) -> None:
        self.content = bytearray()
        self._most = most

    def write(self, data: bytes, /) -> None:
        self.content += data
        if len(self.content) > self._most:
            raise HTTPException(413, f"the file is larger than {self._most:,} bytes: too large to be shown here")


async def _read(connection_id: str, uuid: str, replica: str, version: str, most: int) -> bytes:
    content = _Few(most)
    late = "the DSS is still preparing the file: come again in a minute"
    async with asking(connection_id, patient=True, late=late) as (api, transport):
        await transport.run(api.get_file(uuid, replica=replica, version=version, to=content))
    return bytes(content.content)
