"""Responses of a DSS that registers everything, and its definition for the original client."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from scripts.benchmarks.null_http import Answer, Request
from scripts.benchmarks.null_s3 import NullS3

_PAGES = {
    status: {"description": "Page"} for status in ("200", "206")
}  # the original client reads pages only after 206


def null_dss(request: Request) -> Answer:
    """Answer a request under `/v1`: what is put is made, and there is nothing to get."""
    collection = request.path.split("/")[2]
    if request.method == "PUT":
        return _json(201, {"version": request.query["version"]})
    if request.method == "GET" and collection == "collections":
        return _json(200, {"collections": []})
    return _json(404, {"status": 404, "code": "not_found", "title": "There is nothing here", "stacktrace": ""})


class NullDSS:
    """DSS that returns the manifests of its bundles, for uploads of what changed since.

    :param s3: store of the staged objects, whose sizes and checksums the manifests have
    """

    def __init__(self, s3: NullS3) -> None:
        self._s3 = s3
        self._files: dict[str, dict[str, Any]] = {}  # by UUID and version
        self._manifests: defaultdict[str, dict[str, bytes]] = defaultdict(dict)  # by UUID, by version

    def __call__(self, request: Request) -> Answer:
        """Answer a request under `/v1`."""
        collection, _, uuid = request.path.removeprefix("/v1/").partition("/")
        version = request.query.get("version", "")
        if request.method == "PUT" and collection == "files":
            self._add_file(f"{uuid}.{version}", json.loads(request.body)["source_url"])
        elif request.method == "PUT" and collection == "bundles":
            self._add_bundle(uuid, version, json.loads(request.body)["files"])
        elif request.method == "GET" and uuid == "all":
            prefix = request.query["prefix"]
            return _json(200, {"bundles": [{"uuid": prefix, "version": each} for each in self._manifests[prefix]]})
        elif request.method == "GET" and version in self._manifests[uuid]:
            return Answer(200, self._manifests[uuid][version], "Content-Type: application/json\r\n")
        return null_dss(request)

    def _add_file(self, name: str, source_url: str) -> None:
        staged = self._s3.objects[source_url.split("/", 3)[3]]
        labels = {"size": staged.size, "content-type": staged.content_type}
        self._files[name] = {**labels, "sha256": staged.sha256, "s3_etag": staged.etag}

    def _add_bundle(self, uuid: str, version: str, members: list[dict[str, Any]]) -> None:
        files = [{**member, **self._files[f"{member['uuid']}.{member['version']}"]} for member in members]
        bundle = {"uuid": uuid, "version": version, "creator_uid": 0, "files": files}
        self._manifests[uuid][version] = json.dumps({"bundle": bundle}).encode()


def definition(url: str) -> dict[str, Any]:
    """Return what the original client makes its calls from.

    :param url: of the API, with `/v1`
    """
    files = {"type": "array", "items": {"type": "object"}}
    source = {"source_url": {"type": "string"}, "creator_uid": {"type": "integer"}}
    paths = {
        "/files/{uuid}": {"put": _call(source), "head": _call({}), "get": _call({})},
        "/bundles/{uuid}": {
            "put": _call({"creator_uid": {"type": "integer"}, "files": files}),
            "get": _call({}) | {"responses": _PAGES},
        },
    }
    info = {"title": "Null DSS", "description": "It keeps nothing.", "version": "1"}
    return {"openapi": "3.0.0", "info": info, "servers": [{"url": url}], "paths": paths}


def _call(body: dict[str, Any]) -> dict[str, Any]:
    where = {"uuid": "path", "version": "query", "replica": "query"}
    parameters = [
        {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}, "description": name}
        for name, place in where.items()
    ]
    described = {name: {**schema, "description": name} for name, schema in body.items()}
    call = {"summary": "", "description": "", "parameters": parameters, "responses": {"201": {"description": "Made"}}}
    if described:
        schema = {"type": "object", "properties": described, "required": list(described)}
        call["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        call["security"] = [{"dcpAuth": []}]
    return call


def _json(status: int, body: dict[str, Any]) -> Answer:
    kind = "application/json" if status < 400 else "application/problem+json"
    return Answer(status, json.dumps(body).encode(), f"Content-Type: {kind}\r\n")
