"""What goes in and out of the calls: files, bundles, replicas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict
from urllib.parse import urlsplit

from airflow_provider_hca.client.identifiers import check_uuid, check_version

Replica = Literal["aws", "gcp"]
REPLICAS: tuple[Replica, ...] = ("aws", "gcp")
# Absolute, a "." or ".." or "~/" segment, a back-slash, a line break, "a/.hidden", "a./b". The server's own pattern is
# stricter than its description, and lets the empty name and "dir//b" pass, which no file system can hold.
_REFUSED_NAME = re.compile(r"^/|^~/|\\|[\n\r\0]|\./|/\.|//|/$|^\.{0,2}$")
_BY_SCHEME: dict[str, Replica] = {"s3": "aws", "gs": "gcp"}


class BundleFile(TypedDict):
    """A file as a member of a bundle: what `put_bundle` sends, and what a put-file task hands on."""

    uuid: str
    version: str
    name: str
    indexed: bool


class Bundle(TypedDict):
    """A bundle's manifest. Its files also have `size`, `sha256`, `sha1`, `s3_etag`, `crc32c` and `content-type`."""

    uuid: str
    version: str
    creator_uid: int
    files: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class PutFile:
    """The answer to `PUT /files`.

    :ivar outcome: `created` (201), `identical` (200: it was there), or `copying` (202: not there yet)
    """

    uuid: str
    version: str
    outcome: Literal["created", "identical", "copying"]


@dataclass(frozen=True, slots=True)
class PutBundle:
    """The answer to `PUT /bundles`.

    :ivar outcome: `created` (201), or `identical` (200: it was there)
    """

    uuid: str
    version: str
    outcome: Literal["created", "identical"]


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """What the DSS knows of a file.

    :ivar size: in bytes
    :ivar crc32c: eight hexadecimal digits
    :ivar s3_etag: the MD5 up to 64 MiB, the multipart ETag above
    """

    uuid: str
    version: str
    content_type: str
    size: int
    creator_uid: int
    sha256: str
    sha1: str
    s3_etag: str
    crc32c: str


def check_replica(replica: str) -> Replica:
    """Return the replica if there is one of that name.

    :raises ValueError: when there is none
    """
    for known in REPLICAS:
        if replica == known:
            return known
    raise ValueError(f"replica must be one of {', '.join(REPLICAS)}, not {replica!r}")


def check_name(name: str) -> str:
    """Return the name of a file in a bundle unchanged if a DSS takes it and a file system can hold it, or raise.

    :param name: a relative path with forward slashes
    :raises ValueError: when it is refused
    """
    if not isinstance(name, str):
        raise ValueError(f"the name of a file must be text, not {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("the name is not UTF-8") from None
    if _REFUSED_NAME.search(name):
        raise ValueError(
            f"a DSS refuses the name {name!r}: it wants relative paths with '/', without '\\\\', line breaks, "
            "'.', '..' or '~/' segments, and without dots at the start (but for the first) or end of a segment"
        )
    return name


def replica_of(url: str) -> Replica:
    """Return the replica that a staged object is registered in: `s3://` in aws, `gs://` in gcp (`PUT /files`).

    :raises ValueError: when it is neither, or names no bucket or no key
    """
    parts = urlsplit(url)
    replica = _BY_SCHEME.get(parts.scheme)
    if replica is None or not parts.netloc or len(url) <= len(f"{parts.scheme}://{parts.netloc}/"):
        raise ValueError(f"a staged object is 's3://bucket/key' or 'gs://bucket/key', not {url!r}")
    return replica


def bundle_file(file: Mapping[str, Any]) -> BundleFile:
    """Return a file as `PUT /bundles` wants it: the four keys, checked, and no other.

    :param file: with at least those keys, such as what a put-file task returns, or a file of a manifest
    :raises ValueError: when one is missing or is not well-formed
    """
    missing = [key for key in ("uuid", "version", "name", "indexed") if key not in file]
    if missing:
        raise ValueError(f"a bundle's file needs uuid, version, name and indexed; {', '.join(missing)} is missing")
    if not isinstance(file["indexed"], bool):
        raise ValueError(f"indexed of file {file['name']!r} must be true or false, not {file['indexed']!r}")
    return {
        "uuid": check_uuid(file["uuid"], f"uuid of file {file['name']!r}"),
        "version": check_version(file["version"], f"version of file {file['name']!r}"),
        "name": check_name(file["name"]),
        "indexed": file["indexed"],
    }
