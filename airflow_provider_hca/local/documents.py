"""The documents that are made of a bundle: what is searched, and what its events tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .plain_json import load

if TYPE_CHECKING:
    from .blob_store import Blobs

_LARGEST = 64 * 1024 * 1024  # bytes of a JSON file that is read as a whole
_MOST_FILES = 20_000  # of a manifest that is searched


def read_json(blobs: Blobs, sha256: str, size: int) -> Any:
    """Return what a file of JSON says.

    :param blobs: the contents
    :param sha256: the checksum of the file's content
    :param size: its size in bytes
    :raises ValueError: when it is no JSON, or very large
    """
    if size > _LARGEST:
        raise ValueError(f"the file has more than {_LARGEST} bytes")
    return load(blobs.path(sha256).read_bytes())


def index_document(blobs: Blobs, uuid: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the document by which a bundle is found.

    :param blobs: the contents
    :param uuid: the bundle's uuid
    :param manifest: its manifest
    """
    indexed = [file for file in manifest["files"] if file["indexed"]]
    shown = manifest if len(manifest["files"]) <= _MOST_FILES else manifest | {"files": []}
    return {"uuid": uuid, "state": "new", "manifest": shown, "files": _contents(blobs, indexed)}


def index_tombstone(uuid: str, version: str, reason: str) -> dict[str, Any]:
    """Return the document that is found in the place of a bundle that was deleted.

    :param uuid: the bundle's uuid
    :param version: its version
    :param reason: why it was deleted
    """
    return {"uuid": uuid, "manifest": {"version": version}, "reason": reason, "admin_deleted": True}


def created_event(blobs: Blobs, uuid: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what the event of a new bundle tells: its manifest, and its metadata, indexed or not.

    :param blobs: the contents
    :param uuid: the bundle's uuid
    :param manifest: its manifest
    """
    return {
        "event_type": "CREATE",
        "bundle_info": {"uuid": uuid, "version": manifest["version"]},
        "manifest": manifest,
        "files": _contents(blobs, manifest["files"]),
    }


def deleted_event(uuid: str, version: str, reason: str) -> dict[str, Any]:
    """Return what the event of a deletion tells.

    :param uuid: the bundle's uuid
    :param version: its version
    :param reason: why it was deleted
    """
    info = {"uuid": uuid, "version": version}
    return {"event_type": "TOMBSTONE", "bundle_info": info, "reason": reason, "admin_deleted": True}


def _contents(blobs: Blobs, files: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the content of each file of metadata, under its name; what is no JSON though it says so is left out."""
    found: dict[str, list[Any]] = {}
    for file in files:
        if file["content-type"].startswith("application/json"):
            try:
                content = read_json(blobs, file["sha256"], file["size"])
            except ValueError:
                continue
            found.setdefault(key_of(file["name"]), []).append(content)
    return found


def key_of(name: str) -> str:
    """Return the key under which the content of a file is in a document.

    Dots become underscores, and of JSON files what follows the last underscore is dropped, which is meant for numbers
    but takes words too: `cell_suspension_0.json` is under `cell_suspension_json`, and `cell_suspension.json` under
    `cell_json`.

    :param name: the file's name in the bundle
    """
    name = name.replace(".", "_")
    if not name.endswith("_json"):
        return name
    stem = name.removesuffix("_json")
    return f"{stem.rpartition('_')[0] if '_' in stem else stem}_json"
