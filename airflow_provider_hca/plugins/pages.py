"""Static files of the page: one HTML page for all views, scripts, style sheet and icons."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from airflow_provider_hca.plugins import access

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).with_name("static")
_FILES = {path.name: path for path in _STATIC.iterdir() if path.suffix in {".css", ".js", ".svg"}}
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html"}


@router.get("/")
@router.get("/asset")
@router.get("/bundle")
@router.get("/ingests")
@router.get("/connections", dependencies=[access.READS_CONNECTIONS])
@router.get("/run", dependencies=[access.READS_XCOMS])
async def page() -> FileResponse:
    """Return the page, whose script selects the view by the address."""
    return _file(_STATIC / "page.html")


@router.get("/static/{name}")
async def static(name: str) -> FileResponse:
    """Return a script, the style sheet or an icon."""
    if name not in _FILES:
        raise HTTPException(404, "Not Found")
    return _file(_FILES[name])


def _file(path: Path) -> FileResponse:
    # Types of our own: the machine's registry may call scripts text/plain, which browsers do not run.
    headers = {"cache-control": "private, no-cache"}  # revalidate at each request
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=headers)
