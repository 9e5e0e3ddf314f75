"""A small tree of schemas, and a bundle that is valid against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HOST = "https://schema.humancellatlas.org"
CELL, SEQUENCES, PROCESS = (f"{number}0000000-0000-4000-8000-000000000000" for number in (1, 2, 3))


def _typed(name: str, **properties: Any) -> dict[str, Any]:
    common = {
        "describedBy": {"type": "string"},
        "provenance": {
            "type": "object",
            "required": ["document_id"],
            "properties": {"document_id": {"type": "string", "pattern": "^[0-9a-f-]{36}$"}},
        },
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"{HOST}/{name}",
        "type": "object",
        "required": ["describedBy", *properties],
        "properties": {**common, **properties},
        "additionalProperties": False,
    }


_CORE = {"$ref": f"{HOST}/core/biomaterial/1.0.0/biomaterial_core"}
_FILE_CORE = {"type": "object", "required": ["file_name"], "properties": {"file_name": {"type": "string"}}}
SCHEMAS = {
    "core/biomaterial/1.0.0/biomaterial_core": {"type": "object", "properties": {"taxon": {"type": "integer"}}},
    "system/1.0.0/links": _typed("system/1.0.0/links", links={"type": "array"}),
    "type/project/1.0.0/project": _typed("type/project/1.0.0/project", project_core={"type": "object"}),
    "type/biomaterial/1.0.0/cell": _typed("type/biomaterial/1.0.0/cell", biomaterial_core=_CORE),
    "type/process/1.0.0/process": _typed("type/process/1.0.0/process"),
    "type/file/1.0.0/sequence_file": _typed("type/file/1.0.0/sequence_file", file_core=_FILE_CORE),
}


def document(schema: str, document_id: str = "", **items: Any) -> dict[str, Any]:
    """Return a metadata document.

    :param schema: path of its schema
    """
    provenance = {"provenance": {"document_id": document_id}} if document_id else {}
    return {"describedBy": f"{HOST}/{schema}", **provenance, **items}


def bundle() -> dict[str, Any]:
    """Return the files of a valid bundle by name: documents, and data as bytes."""
    link = {"process": PROCESS, "inputs": [CELL], "outputs": [SEQUENCES], "protocols": []}
    return {
        "project_0.json": document("type/project/1.0.0/project", project_core={}),
        "cell_0.json": document("type/biomaterial/1.0.0/cell", CELL, biomaterial_core={"taxon": 9606}),
        "process_0.json": document("type/process/1.0.0/process", PROCESS),
        "sequence_file_0.json": document("type/file/1.0.0/sequence_file", SEQUENCES, file_core={"file_name": "r1.gz"}),
        "links.json": document("system/1.0.0/links", links=[link]),
        "r1.gz": b"ACGT",
    }


def encoded(content: Any) -> bytes:
    """Return the bytes of a file."""
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def write(directory: Path, files: dict[str, Any]) -> Path:
    """Write files by name; return the directory."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(content))
    return directory


def write_schemas(directory: Path, more: dict[str, Any] | None = None) -> Path:
    """Write the schemas, and more of them by the path of their URL; return the directory."""
    return write(directory, {f"{name}.json": schema for name, schema in {**SCHEMAS, **(more or {})}.items()})
