"""Calls with default arguments, and responses to them."""

from __future__ import annotations

from typing import Any

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.sansio import Call, Response

from .feeding import OTHER, SHA256, UUID, VERSION, ok

SOURCE = "s3://bucket/a/b"
NAMED = f"version={VERSION}"


def member(name: str = "a.txt", **changes: Any) -> dict[str, Any]:
    return {"uuid": OTHER, "version": VERSION, "name": name, "indexed": False} | changes


def page(*names: str, status: int = 200, following: str = "", **changes: Any) -> Response:
    """Return a page of a manifest as GET spells it."""
    files = [member(name, size=7, s3_etag="x", sha256=SHA256) for name in names]
    bundle = {"uuid": UUID, "version": VERSION, "creator_uid": 8008, "files": files} | changes
    return ok({"bundle": bundle}, status, **({"link": f"<{following}>; rel='next'"} if following else {}))


def put_file(dss: DSSAPI, uuid: str = UUID, version: str = VERSION, source: str = SOURCE) -> Call[Any]:
    return dss.put_file(uuid, version, source_url=source, creator_uid=8008)


def put_bundle(dss: DSSAPI, *files: dict[str, Any], uuid: str = UUID, replica: str = "aws") -> Call[Any]:
    return dss.put_bundle(uuid, VERSION, replica=replica, creator_uid=8008, files=files or [member()])


def wait_for_file(dss: DSSAPI, seconds: float = 60, uuid: str = UUID, version: str = VERSION) -> Call[Any]:
    return dss.wait_for_file(uuid, version, replica="aws", sha256=SHA256, seconds=seconds)
