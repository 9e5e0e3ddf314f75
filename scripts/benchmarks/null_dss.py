"""Responses of a DSS that registers everything, and its definition for the original client."""

from __future__ import annotations

import json
from typing import Any

from scripts.benchmarks.null_http import Answer, Request


def null_dss(request: Request) -> Answer:
    """Answer a request under `/v1`: what is put is made, and there is nothing to get."""
    collection = request.path.split("/")[2]
    if request.method == "PUT":
        return _json(201, {"version": request.query["version"]})
    if request.method == "GET" and collection == "collections":
        return _json(200, {"collections": []})
    return _json(404, {"status": 404, "code": "not_found", "title": "There is nothing here", "stacktrace": ""})


def definition(url: str) -> dict[str, Any]:
    """Return what the original client makes its calls from.

    :param url: of the API, with `/v1`
    """
    files = {"type": "array", "items": {"type": "object"}}
    source = {"source_url": {"type": "string"}, "creator_uid": {"type": "integer"}}
    paths = {
        "/files/{uuid}": {"put": _call(source), "head": _call({})},
        "/bundles/{uuid}": {"put": _call({"creator_uid": {"type": "integer"}, "files": files})},
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
