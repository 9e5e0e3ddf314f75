"""The links in collections; their targets must exist."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jsonpointer import JsonPointerException, resolve_pointer

from airflow_provider_hca.local.documents import read_json
from airflow_provider_hca.local.errors import ProblemError

if TYPE_CHECKING:
    from airflow_provider_hca.local.dependencies import Services


def deduplicated(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the links without exact duplicates."""
    return list({identity(item): item for item in items}.values())


def identity(item: dict[str, Any]) -> str:
    """Return a string that is the same for links with the same fields."""
    return json.dumps(item, sort_keys=True)


def check_links(services: Services, replica: str, items: list[dict[str, Any]]) -> None:
    """Raise 422 if the target of a link does not exist in the replica."""
    for item in items:
        problem = _problem(services, replica, item)
        if problem:
            raise ProblemError(422, "invalid_link", f"The link {json.dumps(item)} is invalid: {problem}")


def _problem(services: Services, replica: str, item: dict[str, Any]) -> str | None:
    target = (replica, item["uuid"], item["version"])
    if item["type"] == "bundle":
        return None if services.store.has_bundle(*target) else "the bundle does not exist"
    if item["type"] == "collection":
        return None if services.collections.exists(*target) else "the collection does not exist"
    file = services.store.file(*target)
    if file is None:
        return "the file does not exist"
    if item["type"] == "file":
        return None
    if "fragment" not in item:
        return "links of other types than file, bundle and collection need a fragment"
    try:
        resolve_pointer(read_json(services.blobs, file.sha256, file.size), item["fragment"])
    except (ValueError, JsonPointerException) as error:
        return f"the fragment does not exist: {error}"
    return None
