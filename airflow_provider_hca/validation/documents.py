"""Facts about a metadata document: whether it is one, its id, the ids and files that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

LINKS, PROJECT = "links.json", "project_0.json"
# Names that HCA gives to documents, such as cell_suspension_0.json.
_NAME = re.compile(r"[a-z][a-z0-9_]*_[0-9]+\.json")
_MARKS = {"schema_type", "schema_version", "provenance", "hca_ingest", "core"}
_LINKED = {"process", "process_id", "protocol_id", "input_id", "output_id", "entity_id", "file_id"}
_LISTS_OF_IDS = {"inputs", "outputs"}


def is_document(name: str, content: Any) -> bool:
    """Return whether a JSON file is a metadata document, and not data.

    A document has `describedBy`, or the name of a document, or other items that only documents have.

    :param name: name of the file
    :param content: its JSON value
    """
    if name == LINKS or _NAME.fullmatch(name):
        return True
    return isinstance(content, dict) and (
        "describedBy" in content or not _MARKS.isdisjoint(content) or any(key.endswith("_core") for key in content)
    )


def document_id(document: Any) -> str | None:
    """Return the id by which `links.json` names a document, in lower case."""
    for key in ("provenance", "hca_ingest"):
        value = _item(_item(document, key), "document_id")
        if isinstance(value, str):
            return value.lower()
    return None


def data_file(document: Any) -> str | None:
    """Return the name of the data file that a document describes."""
    name = _item(_item(document, "file_core"), "file_name")
    return name if isinstance(name, str) else None


def linked_ids(document: Any) -> Iterator[tuple[str, str]]:
    """Yield the JSON paths and ids of the documents that `links.json` links, in all versions of its schema."""
    yield from _linked(_item(document, "links"), "$.links")


def _linked(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _linked(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in _LINKED and isinstance(item, str):
                yield f"{path}.{key}", item
            elif key in _LISTS_OF_IDS and isinstance(item, list):
                for index, entry in enumerate(item):
                    if isinstance(entry, str):
                        yield f"{path}.{key}[{index}]", entry
                    else:
                        yield from _linked(entry, f"{path}.{key}[{index}]")
            elif isinstance(item, dict | list):
                yield from _linked(item, f"{path}.{key}")


def _item(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
