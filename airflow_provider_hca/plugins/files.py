"""Content of `links.json` and of the metadata documents that it links."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from airflow_provider_hca.client.sansio import MAX_LOOP_VALUES, parse_json
from airflow_provider_hca.plugins import access
from airflow_provider_hca.plugins.dss import ReplicaQuery, UuidPath, VersionQuery, open_api
from airflow_provider_hca.plugins.graph import MAX_TEXT, read_links
from airflow_provider_hca.plugins.text import plain_text

router = APIRouter(prefix="/api/connections/{connection_id}/files", dependencies=[access.USES_CONNECTION])

_LINKS_SIZE = 4 * 1024 * 1024  # parsed within 50 ms, in which no other thread runs
_PIECE = 64 * 1024  # characters
_LINKS_VALUES = 60_000  # enough for the 20,000 entities that `read_links` reads
_DOCUMENT_SIZE = 1024 * 1024
_LONGEST_URL = 2000  # characters
# A version of a file never changes, but the next user of the same browser may have fewer permissions.
_CACHED = {"cache-control": "private, max-age=86400", "vary": "Cookie, Authorization"}
# Names in the metadata of the Human Cell Atlas, each in the core object of its kind of document.
_NAMES = ("biomaterial_id", "file_name", "protocol_id", "process_id", "project_short_name", "project_shortname")


class Document(BaseModel):
    """Entity that a metadata document describes.

    :ivar id: Id of the entity in `links.json`; may be empty
    :ivar type: Type of the entity, such as `donor_organism`
    :ivar name: Name of the entity for people
    """

    id: str
    type: str
    name: str


@router.get("/{uuid}/links")
async def get_links(
    connection_id: str, uuid: UuidPath, replica: ReplicaQuery, version: VersionQuery
) -> StreamingResponse:
    """Return the graph of a `links.json` with positions."""
    content = await _read(connection_id, uuid, replica, version, _LINKS_SIZE)
    graph = await run_in_threadpool(_draw, content)  # in a thread: it would block the event loop
    # As a stream: Airflow compresses a response piece by piece on its event loop.
    pieces = (graph[start : start + _PIECE] for start in range(0, len(graph), _PIECE))
    return StreamingResponse(pieces, media_type="application/json", headers=_CACHED)


def _draw(content: bytes) -> str:
    try:
        return read_links(parse_json(content, _LINKS_VALUES)).model_dump_json()
    except ValueError as error:
        raise HTTPException(422, f"cannot draw this links.json: {error}") from None


@router.get("/{uuid}/document")
async def get_document(
    connection_id: str, uuid: UuidPath, replica: ReplicaQuery, version: VersionQuery, response: Response
) -> Document:
    """Return the entity that a metadata document describes."""
    content = await _read(connection_id, uuid, replica, version, _DOCUMENT_SIZE)
    response.headers.update(_CACHED)
    return await run_in_threadpool(_describe, content)


def _describe(content: bytes) -> Document:
    try:
        document = parse_json(content, MAX_LOOP_VALUES)
    except ValueError:
        document = None
    if not isinstance(document, Mapping):
        return Document(id="", type="", name="")
    provenance = document.get("provenance")
    provenance = provenance if isinstance(provenance, Mapping) else {}
    cores = [value for key, value in document.items() if key.endswith("_core") and isinstance(value, Mapping)]
    name = next((core[key] for core in cores for key in _NAMES if core.get(key)), "")
    type_ = plain_text(document.get("describedBy"), _LONGEST_URL).rstrip("/").rsplit("/", 1)[-1]
    return Document(
        id=plain_text(provenance.get("document_id"), MAX_TEXT), type=type_[:MAX_TEXT], name=plain_text(name, MAX_TEXT)
    )


class _BoundedBuffer:
    """Buffer that refuses to grow beyond a number of bytes."""

    def __init__(self, max_size: int) -> None:
        self.content = bytearray()
        self._max_size = max_size

    def write(self, data: bytes, /) -> None:
        self.content += data
        if len(self.content) > self._max_size:
            raise HTTPException(413, f"the file is larger than {self._max_size:,} bytes and cannot be shown here")


async def _read(connection_id: str, uuid: str, replica: str, version: str, max_size: int) -> bytes:
    content = _BoundedBuffer(max_size)
    message = "the DSS is still preparing the file; try again in a minute"
    async with open_api(connection_id, patient=True, timeout_message=message) as (api, transport):
        await transport.run(api.get_file(uuid, replica=replica, version=version, to=content))
    return bytes(content.content)
