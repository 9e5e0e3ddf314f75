"""Arguments and results of the calls: files, bundles, collections, replicas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict
from urllib.parse import urlsplit

from airflow_provider_hca.client.identifiers import check_uuid, check_version

Replica = Literal["aws", "gcp"]
REPLICAS: tuple[Replica, ...] = ("aws", "gcp")
# The server's own pattern is stricter than its description, but accepts the empty name and "dir//b", which a file
# system cannot hold.
_REFUSED_NAMES = {
    r"^~?/": "that start with '/' or '~/'",
    r"//|/$|^$": "with an empty segment",
    r"(^|/)\.\.?(/|$)": "with a segment '.' or '..'",
    r"\\": "with a backslash",
    r"[\n\r\0]": "with a line break or a NUL",
    r"\./": "with a segment that ends with a dot",
    r"/\.": "with a segment, other than the first, that starts with a dot",
}
_REFUSED_NAME = re.compile("|".join(_REFUSED_NAMES))
_BY_SCHEME: dict[str, Replica] = {"s3": "aws", "gs": "gcp"}

CHECKOUT_STATUSES = ("RUNNING", "SUCCEEDED", "FAILED", "UNKNOWN_JOB_ID")
MAX_CHANGES = 1000  # items of each list in a PATCH, and contents in the PUT of a collection
_LINK_TYPES = frozenset({"file", "bundle", "collection"})


class FQID(NamedTuple):
    """A version of a bundle, file or collection; `uuid.version` as text."""

    uuid: str
    version: str

    def __str__(self) -> str:
        return f"{self.uuid}.{self.version}"


class BundleFile(TypedDict):
    """A file of a bundle, as sent by `put_bundle` and returned by a put-file task."""

    uuid: str
    version: str
    name: str
    indexed: bool


class Bundle(TypedDict):
    """The manifest of a bundle; its files also have `size`, `sha256`, `sha1`, `s3_etag`, `crc32c`, `content-type`."""

    uuid: str
    version: str
    creator_uid: int
    files: list[dict[str, Any]]


class CollectionItem(TypedDict):
    """A link in a collection.

    `type` is `file`, `bundle`, `collection`, or your own name for a fragment of a metadata file; `fragment` is then the
    JSON pointer to it.
    """

    type: str
    uuid: str
    version: str
    fragment: NotRequired[str]


@dataclass(frozen=True, slots=True)
class PutFile:
    """The result of `PUT /files`.

    :ivar outcome: `created` (201), `identical` (200, it existed), or `copying` (202, not stored yet)
    """

    uuid: str
    version: str
    outcome: Literal["created", "identical", "copying"]


@dataclass(frozen=True, slots=True)
class PutBundle:
    """The result of `PUT /bundles`.

    :ivar outcome: `created` (201), or `identical` (200, it existed)
    """

    uuid: str
    version: str
    outcome: Literal["created", "identical"]


@dataclass(frozen=True, slots=True)
class Checkout:
    """The status of a checkout.

    :ivar cause: Reason of a failure
    :ivar location: Location of the files, if the DSS returns it
    """

    job_id: str
    status: Literal["RUNNING", "SUCCEEDED", "FAILED", "UNKNOWN_JOB_ID"]
    cause: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """The result of a change of a bundle or collection.

    :ivar version: Version with all changes
    :ivar count: Number of files or links in it
    :ivar patches: Number of PATCH requests of this attempt; 0 if earlier ones, or another client, made all changes
    """

    uuid: str
    version: str
    count: int
    patches: int


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """The metadata of a file.

    :ivar size: Size in bytes
    :ivar crc32c: CRC32C, eight hexadecimal digits
    :ivar s3_etag: MD5 up to 64 MiB, multipart ETag above
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
    """Return the replica, or raise.

    :raises ValueError: if it is not `aws` or `gcp`
    """
    for known in REPLICAS:
        if replica == known:
            return known
    raise ValueError(f"replica must be {' or '.join(map(repr, REPLICAS))}, got {replica!r}")


def check_name(name: str) -> str:
    """Return the name of a file in a bundle, or raise if a DSS or a file system would refuse it.

    :param name: Relative path with forward slashes
    :raises ValueError: if it would be refused
    """
    if not isinstance(name, str):
        raise ValueError(f"the name of a file must be text, got {name!r}")
    if problem := name_problem(name):
        raise ValueError(f"{problem}, got {name!r}")
    return name


def name_problem(name: str) -> str | None:
    """Return the rule that the name of a file in a bundle breaks, if there is one.

    :param name: Relative path with forward slashes
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return "a DSS refuses names that are not UTF-8"
    if not _REFUSED_NAME.search(name):
        return None
    kind = next(kind for pattern, kind in _REFUSED_NAMES.items() if re.search(pattern, name))
    return f"a DSS refuses names {kind}"


def replica_of(url: str) -> Replica:
    """Return the replica that a staged object is registered in: aws for `s3://`, gcp for `gs://` (`PUT /files`).

    :raises ValueError: if it has another scheme, no bucket or no key
    """
    parts = urlsplit(url)
    replica = _BY_SCHEME.get(parts.scheme)
    if replica is None or not parts.netloc or len(url) <= len(f"{parts.scheme}://{parts.netloc}/"):
        raise ValueError(f"the URL of a staged object must be 's3://bucket/key' or 'gs://bucket/key', got {url!r}")
    return replica


def bundle_file(file: Mapping[str, Any]) -> BundleFile:
    """Return a file for `PUT /bundles`, with its four keys checked and others removed.

    :param file: File with at least these keys, such as the result of a put-file task or a file of a manifest
    :raises ValueError: if a key is missing or invalid
    """
    missing = [key for key in ("uuid", "version", "name", "indexed") if key not in file]
    if missing:
        raise ValueError(f"a file of a bundle needs uuid, version, name and indexed; {', '.join(missing)} is missing")
    if not isinstance(file["indexed"], bool):
        raise ValueError(f"indexed of file {file['name']!r} must be true or false, got {file['indexed']!r}")
    return {
        "uuid": check_uuid(file["uuid"], f"uuid of file {file['name']!r}"),
        "version": check_version(file["version"], f"version of file {file['name']!r}"),
        "name": check_name(file["name"]),
        "indexed": file["indexed"],
    }


def collection_item(item: Mapping[str, Any]) -> CollectionItem:
    """Return a link for `PUT /collections`, checked.

    :param item: Link with `type`, `uuid`, `version`, and `fragment` for a type of your own
    :raises ValueError: if a key is missing, invalid or unknown
    """
    unknown = sorted(set(item) - {"type", "uuid", "version", "fragment"})
    if unknown:
        raise ValueError(
            f"a collection item may have type, uuid, version and fragment; {', '.join(unknown)} is unknown in "
            f"{dict(item)!r}"
        )
    checked = existing_item(item)
    kind, fragment = checked["type"], checked.get("fragment")
    if kind not in _LINK_TYPES and not isinstance(fragment, str):
        raise ValueError(
            f"a collection item of type {kind!r} needs a fragment, a JSON pointer such as '/cells/0'; only items of "
            "type file, bundle and collection need no fragment"
        )
    return checked


def existing_item(item: Mapping[str, Any]) -> CollectionItem:
    """Return a link for removal by `PATCH /collections`, with all its other keys, which must match too.

    :param item: Link with `type`, `uuid`, `version` and its other keys
    :raises ValueError: if a key is missing or invalid
    """
    missing = [key for key in ("type", "uuid", "version") if not item.get(key)]
    if missing:
        raise ValueError(f"a collection item needs type, uuid and version; {', '.join(missing)} is missing in {item!r}")
    kind = str(item["type"])
    checked: dict[str, Any] = {
        **{key: value for key, value in item.items() if (key, value) != ("fragment", None)},
        "type": kind,
        "uuid": check_uuid(item["uuid"], f"uuid of a {kind} in the collection"),
        "version": check_version(item["version"], f"version of {kind} {item['uuid']}"),
    }
    return checked  # type: ignore[return-value]  # may have more keys


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raise if a list is longer than a DSS accepts in one call.

    :param changes: Lists by their names in the request
    :raises ValueError: if a list is too long
    """
    for name, value in changes.items():
        if isinstance(value, list) and len(value) > MAX_CHANGES:
            raise ValueError(f"a DSS accepts {MAX_CHANGES:,} {name} in one call, got {len(value):,}")
