"""What goes in and out of the calls: files, bundles, replicas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict
from urllib.parse import urlsplit

from airflow_provider_hca.client.identifiers import check_uuid, check_version

Replica = Literal["aws", "gcp"]
REPLICAS: tuple[Replica, ...] = ("aws", "gcp")
# Absolute, a "." or ".." or "~/" segment, a back-slash, a line break, "a/.hidden", "a./b". The server's own pattern is
# stricter than its description, and lets the empty name and "dir//b" pass, which no file system can hold.
_REFUSED_NAME = re.compile(r"^/|^~/|\\|[\n\r\0]|\./|/\.|//|/$|^\.{0,2}$")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BY_SCHEME: dict[str, Replica] = {"s3": "aws", "gs": "gcp"}


CHECKOUT_STATUSES = ("RUNNING", "SUCCEEDED", "FAILED", "UNKNOWN_JOB_ID")
MOST_CHANGES = 1000  # what a DSS takes of each kind in one PATCH, and of contents in a PUT of a collection
_LINKED = frozenset({"file", "bundle", "collection"})


class FQID(NamedTuple):
    """A version of a bundle, file or collection. As text it is `uuid.version`."""

    uuid: str
    version: str

    def __str__(self) -> str:
        return f"{self.uuid}.{self.version}"


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


class CollectionItem(TypedDict):
    """A link in a collection.

    `type` is `file`, `bundle`, `collection`, or a name of your own for a fragment of a metadata file, which
    `fragment`, a JSON pointer, then names.
    """

    type: str
    uuid: str
    version: str
    fragment: NotRequired[str]


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
class Checkout:
    """How a checkout is going.

    :ivar cause: why it failed
    :ivar location: where the files are, if the DSS says so
    """

    job_id: str
    status: Literal["RUNNING", "SUCCEEDED", "FAILED", "UNKNOWN_JOB_ID"]
    cause: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of a bundle or collection came to.

    :ivar version: that has all of it
    :ivar count: how many files or links it has
    :ivar patches: how many PATCHes it took this time; none if an earlier try, or somebody else, had done it all
    """

    uuid: str
    version: str
    count: int
    patches: int


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


def check_sha256(value: str) -> str:
    """Return a sha256 in lower case, as the DSS tells it, or raise.

    :param value: 64 hexadecimal digits, in either case
    :raises ValueError: when it is something else
    """
    lowered = value.lower() if isinstance(value, str) else ""
    if not _SHA256.fullmatch(lowered):
        raise ValueError(f"sha256 must be 64 hexadecimal digits, not {value!r:.200}")
    return lowered


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


def collection_item(item: Mapping[str, Any]) -> CollectionItem:
    """Return a link as `PUT /collections` wants it, checked.

    :param item: with `type`, `uuid`, `version`, and `fragment` where the type is a name of your own
    :raises ValueError: when one is missing or is not well-formed, or another key is there
    """
    unknown = sorted(set(item) - {"type", "uuid", "version", "fragment"})
    if unknown:
        raise ValueError(
            f"a collection's item has type, uuid, version and maybe fragment; {', '.join(unknown)} means nothing in "
            f"{dict(item)!r}"
        )
    checked = existing_item(item)
    kind, fragment = checked["type"], checked.get("fragment")
    if kind not in _LINKED and not isinstance(fragment, str):
        raise ValueError(
            f"an item of type {kind!r} needs a fragment, a JSON pointer such as '/cells/0'; only file, bundle and "
            "collection go without"
        )
    return checked


def existing_item(item: Mapping[str, Any]) -> CollectionItem:
    """Return a link as `PATCH /collections` wants it to remove it: with whatever else it has, which must match.

    :param item: with `type`, `uuid`, `version`, and what else it has
    :raises ValueError: when one is missing or is not well-formed
    """
    missing = [key for key in ("type", "uuid", "version") if not item.get(key)]
    if missing:
        raise ValueError(f"a collection's item has type, uuid and version; {', '.join(missing)} is missing in {item!r}")
    kind = str(item["type"])
    checked: dict[str, Any] = {
        **{key: value for key, value in item.items() if (key, value) != ("fragment", None)},
        "type": kind,
        "uuid": check_uuid(item["uuid"], f"uuid of a {kind} in the collection"),
        "version": check_version(item["version"], f"version of {kind} {item['uuid']}"),
    }
    return checked  # type: ignore[return-value]  # with more than that


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raise if a list in it is longer than a DSS takes in one call.

    :param changes: lists by what they are called there
    :raises ValueError: when one is
    """
    for name, value in changes.items():
        if isinstance(value, list) and len(value) > MOST_CHANGES:
            raise ValueError(f"a DSS takes {MOST_CHANGES:,} {name} in one call, not {len(value):,}")
