"""The documents built from a bundle: the search index, and the content of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .strict_json import load_json

if TYPE_CHECKING:
    from .blob_store import BlobStore

_MAX_JSON_SIZE = 64 * 1024 * 1024  # bytes
_MAX_INDEXED_FILES = 20_000  # the files of a longer manifest are not searched


def read_json(blobs: BlobStore, sha256: str, size: int) -> Any:
    """Return the parsed content of a JSON file.

    :param sha256: checksum of the content
    :param size: size of the content in bytes
    :raises ValueError: when it is not JSON, or is larger than 64 MiB
    """
    if size > _MAX_JSON_SIZE:
        raise ValueError(f"the file has more than {_MAX_JSON_SIZE} bytes")
    return load_json(blobs.path(sha256).read_bytes())


def index_document(blobs: BlobStore, uuid: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the search document of a bundle."""
    indexed = [file for file in manifest["files"] if file["indexed"]]
    if len(manifest["files"]) > _MAX_INDEXED_FILES:
        manifest = manifest | {"files": []}
    return {"uuid": uuid, "state": "new", "manifest": manifest, "files": _contents(blobs, indexed)}


def index_tombstone(uuid: str, version: str, reason: str) -> dict[str, Any]:
    """Return the search document of a deleted bundle."""
    return {"uuid": uuid, "manifest": {"version": version}, "reason": reason, "admin_deleted": True}


def created_event(blobs: BlobStore, uuid: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a CREATE event: the manifest, and all JSON files, indexed or not."""
    return {
        "event_type": "CREATE",
        "bundle_info": {"uuid": uuid, "version": manifest["version"]},
        "manifest": manifest,
        "files": _contents(blobs, manifest["files"]),
    }


def deleted_event(uuid: str, version: str, reason: str) -> dict[str, Any]:
    """Return the document of a TOMBSTONE event."""
    info = {"uuid": uuid, "version": version}
    return {"event_type": "TOMBSTONE", "bundle_info": info, "reason": reason, "admin_deleted": True}


def _contents(blobs: BlobStore, files: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the contents of the JSON files by key; files that cannot be parsed are left out."""
    contents: dict[str, list[Any]] = {}
    for file in files:
        if file["content-type"].startswith("application/json"):
            try:
                content = read_json(blobs, file["sha256"], file["size"])
            except ValueError:
                continue
            contents.setdefault(key_of(file["name"]), []).append(content)
    return contents


def key_of(name: str) -> str:
    """Return the key of a file's content in a document, as a DSS does.

    Dots become underscores. The part of a JSON file's name after the last underscore is removed; that is meant for
    numbers, but removes words too: `cell_suspension_0.json` becomes `cell_suspension_json`, and `cell_suspension.json`
    becomes `cell_json`.

    :param name: name of the file in the bundle
    """
    name = name.replace(".", "_")
    if not name.endswith("_json"):
        return name
    stem = name.removesuffix("_json")
    return f"{stem.rpartition('_')[0] if '_' in stem else stem}_json"
