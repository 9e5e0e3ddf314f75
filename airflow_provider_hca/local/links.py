"""The links a collection consists of: each must lead to something."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jsonpointer import JsonPointerException, resolve_pointer

from .documents import read_json
from .errors import ProblemError

if TYPE_CHECKING:
    from .services import Services


def deduplicated(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items without those that are exactly like an earlier one.

    :param items: links
    """
    return list({identity(item): item for item in items}.values())


def identity(item: dict[str, Any]) -> str:
    """Return what two links have in common when they are the same in every field.

    :param item: a link
    """
    return json.dumps(item, sort_keys=True)


def check_links(services: Services, replica: str, items: list[dict[str, Any]]) -> None:
    """Refuse a link that leads nowhere.

    :param services: where to look
    :param replica: where the links must lead to something
    :param items: the links
    :raises ProblemError: 422 `invalid_link` for the first that does not
    """
    for item in items:
        why = _fault(services, replica, item)
        if why:
            raise ProblemError(422, "invalid_link", f"The link {json.dumps(item)} is invalid: {why}")


def _fault(services: Services, replica: str, item: dict[str, Any]) -> str | None:
    place = (replica, item["uuid"], item["version"])
    if item["type"] == "bundle":
        return None if services.store.has_bundle(*place) else "there is no such bundle"
    if item["type"] == "collection":
        return None if services.collections.exists(*place) else "there is no such collection"
    file = services.store.file(*place)
    if file is None:
        return "there is no such file"
    if item["type"] == "file":
        return None
    if "fragment" not in item:
        return "links of other types than file, bundle and collection need a fragment"
    try:
        resolve_pointer(read_json(services.blobs, file.sha256, file.size), item["fragment"])
    except (ValueError, JsonPointerException) as error:
        return f"the fragment cannot be found: {error}"
    return None
