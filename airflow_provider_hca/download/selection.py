"""Select bundles to download: from a list, a collection, or a manifest in TSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.identifiers import check_sha256, check_uuid, check_version
from airflow_provider_hca.client.models import FQID
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.tables import parse_table, read_file

MAX_ITEMS = 100_000
_MAX_COLLECTIONS = 1000  # each is a request, one after another
_BUNDLE, _COLLECTION = "bundle", "collection"


@dataclass(frozen=True, slots=True)
class Choice:
    """A bundle to download.

    :ivar version: Version of the bundle; the latest if None
    :ivar data_files: Data files by name, with their SHA-256 or an empty text; all if None
    """

    uuid: str
    version: str | None = None
    data_files: Mapping[str, str] | None = field(default=None, hash=False)

    @property
    def name(self) -> str:
        """FQID, or the UUID if the version is not given."""
        return str(FQID(self.uuid, self.version)) if self.version else self.uuid


@dataclass(frozen=True, slots=True)
class Selection:
    """Bundles and single files to download.

    :ivar bundles: Different bundles
    :ivar files: Different files of collections
    """

    bundles: list[Choice] = field(default_factory=list)
    files: list[FQID] = field(default_factory=list)


def select(
    dss: DSSAPI,
    transport: RequestsTransport,
    *,
    replica: str,
    bundles: Any = None,
    collection_uuid: str | None = None,
    collection_version: str | None = None,
    manifest: str | None = None,
) -> Selection:
    """Return the bundles of a list, a collection or a manifest.

    :param dss: API of the DSS
    :param transport: Driver that runs the calls
    :param replica: Replica of the collection
    :param bundles: List for `select_listed`
    :param collection_uuid: UUID of a collection for `select_collection`
    :param collection_version: Version of the collection; the latest if None
    :param manifest: Path for `select_manifest`
    :raises ValueError: if not exactly one of them is given, or it is not valid
    :raises DSSError: if a collection cannot be read
    """
    if sum(given is not None for given in (bundles, collection_uuid, manifest)) != 1:
        raise ValueError("give one of bundles, collection_uuid and manifest")
    if manifest is not None:
        return select_manifest(manifest)
    if collection_uuid is not None:
        return select_collection(collection_uuid, collection_version, dss, transport, replica=replica)
    return select_listed(bundles)


def select_listed(bundles: Any) -> Selection:
    """Return the bundles of a list.

    :param bundles: UUIDs, FQIDs, or dictionaries with `uuid` and `version`, `fqid` or `bundle_fqid`, such as the
        results of a search
    :raises ValueError: if it is not such a list
    """
    if not isinstance(bundles, Iterable) or isinstance(bundles, str | bytes | Mapping):
        raise ValueError(f"bundles must be a list of UUIDs or FQIDs, got {bundles!r:.200}")
    found: dict[Choice, None] = {}
    for number, item in enumerate(bundles, 1):
        try:
            found[_choice(item)] = None
        except ValueError as error:
            raise ValueError(f"bundles, item {number}: {error}") from None
    _check_count(len(found))
    return Selection(list(found))


def select_manifest(path: str) -> Selection:
    """Return the bundles of a manifest of the original client, a TSV with a column `bundle_uuid`.

    With a column `file_name`, it selects these data files of a bundle and all metadata files. Their content is compared
    with `file_sha256`. Without a `bundle_version` it selects the latest version.

    :param path: Path of the manifest on this machine
    :raises ValueError: if it is not such a table
    """
    files: dict[Choice, dict[str, str] | None] = {}
    for number, row in enumerate(parse_table(read_file(path), path, column="bundle_uuid", delimiter="\t"), 2):
        try:
            choice = _choice({"uuid": row["bundle_uuid"], "version": row.get("bundle_version")})
            names = files.setdefault(choice, {} if "file_name" in row else None)
            if names is not None and row["file_name"]:
                sha256 = row.get("file_sha256")
                names[row["file_name"]] = check_sha256(sha256) if sha256 else ""
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}") from None
    _check_count(len(files))
    return Selection([replace(choice, data_files=names) for choice, names in files.items()])


def select_collection(
    uuid: str, version: str | None, dss: DSSAPI, transport: RequestsTransport, *, replica: str
) -> Selection:
    """Return the bundles and files of a collection, also of the collections in it.

    A link to a fragment of a metadata file selects the file.

    :param uuid: UUID of the collection
    :param version: Version of the collection; the latest if None
    :param dss: API of the DSS
    :param transport: Driver that runs the calls
    :param replica: Replica of the collection
    :raises ValueError: if there are too many collections or links
    :raises DSSError: if a collection cannot be read
    """
    bundles: dict[Choice, None] = {}
    files: dict[FQID, None] = {}
    pending, seen = [(uuid, version)], {(uuid, version)}
    while pending:
        current, at = pending.pop()
        contents = transport.run(dss.get_collection(current, replica=replica, version=at))["contents"]
        for link in contents:
            where = FQID(check_uuid(link.get("uuid", "")), check_version(link.get("version", "")))
            if link.get("type") == _BUNDLE:
                bundles[Choice(*where)] = None
            elif link.get("type") != _COLLECTION:
                files[where] = None
            elif where not in seen:
                seen.add(where)
                pending.append(where)
        if len(seen) > _MAX_COLLECTIONS:
            raise ValueError(f"collection {uuid} contains more than {_MAX_COLLECTIONS:,} collections")
        _check_count(len(bundles) + len(files))
    return Selection(list(bundles), list(files))


def _choice(item: Any) -> Choice:
    uuid: Any
    version: Any
    if isinstance(item, Mapping):
        fqid = item.get("fqid") or item.get("bundle_fqid")
        uuid, version = (item.get("uuid"), item.get("version")) if fqid is None else _parts(fqid)
    else:
        uuid, version = _parts(item)
    return Choice(check_uuid(uuid, "bundle uuid"), check_version(version, "bundle version") if version else None)


def _parts(fqid: Any) -> tuple[Any, Any]:
    if not isinstance(fqid, str):
        return fqid, None
    uuid, _, version = fqid.partition(".")
    return uuid, version


def _check_count(count: int) -> None:
    if count > MAX_ITEMS:
        raise ValueError(f"a download has at most {MAX_ITEMS:,} bundles and files, got {count:,}: divide it")
