"""Plan an upload: list a directory, select files, derive names, types and UUIDs. No writes, no requests to the DSS.

Everything that would fail later is found here, and reported in one error.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self

from airflow_provider_hca.client.identifiers import check_uuid, check_version, derive_uuid
from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.access import GCSAccess, S3Access
from airflow_provider_hca.upload.entries import EVERY_NAME, Names, PlannedFile
from airflow_provider_hca.upload.local_files import LocalDirectory
from airflow_provider_hca.upload.options import UploadOptions, matches
from airflow_provider_hca.upload.sources import open_source
from airflow_provider_hca.upload.sources.base import Listing, PrefixListing, Source, is_url
from airflow_provider_hca.upload.sources.local import DirectoryWalk

_UNKNOWN_TYPE = "application/octet-stream"
_ENCODED_TYPES = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": "application/x-brotli",
}
# Python's own table, not the machine's: other types in a retry on another worker would be a conflict.
_TYPES = mimetypes.MimeTypes(filenames=())


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of a directory, or those in a range of names, that become a bundle.

    :ivar files: files ordered by name; another order would be another bundle
    :ivar skipped: number of files left out by `include`, `exclude`, `hidden` and `symlinks`
    :ivar names: planned range of names
    :ivar base: version of the bundle that it was compared with, empty if the bundle had none; None if not compared
    :ivar source: source of the objects; None for files of this machine
    :ivar directory: the open directory; None for objects
    """

    bundle_uuid: str
    bundle_version: str
    files: tuple[PlannedFile, ...]
    skipped: int
    names: Names = EVERY_NAME
    base: str | None = None
    source: Source | None = field(default=None, compare=False, repr=False)
    directory: LocalDirectory | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Total size in bytes."""
        return sum(file.size for file in self.files)

    def at_version(self, version: str) -> Self:
        """Return the plan of another version of the bundle, without looking at the directory again.

        :param version: version of the bundle and of the files to register, a DSS_VERSION
        """
        files = tuple(file if file.registered else replace(file, version=version) for file in self.files)
        return replace(self, bundle_version=version, files=files)

    def with_registered(self, versions: Mapping[str, str]) -> Self:
        """Return the plan with files that the DSS has in other versions.

        :param versions: versions by name
        """

        def registered(file: PlannedFile) -> PlannedFile:
            version = versions.get(file.name)
            return file if version is None else replace(file, version=version, registered=True)

        return replace(self, files=tuple(map(registered, self.files))) if versions else self

    @property
    def digest(self) -> str:
        """A sha256 of the bundle's name and members: equal for plans that create the same bundle."""
        digest = hashlib.sha256(f"{self.bundle_uuid}.{self.bundle_version}".encode())
        for file in self.files:
            digest.update(json.dumps(file.as_member()).encode())
        return digest.hexdigest()


def plan_directory(
    directory: str | Path,
    options: UploadOptions | None = None,
    *,
    bundle_uuid: str,
    bundle_version: str,
    names: Names = EVERY_NAME,
    access: S3Access | GCSAccess | None = None,
) -> Plan:
    """Return the plan that makes a bundle of a directory.

    :param directory: path, `s3://bucket/prefix` or `gs://bucket/prefix`; the bundle gets all files below it
    :param options: options of the upload; defaults if None
    :param bundle_uuid: UUID of the bundle, from which those of the files are derived
    :param bundle_version: version of the bundle and its files, a DSS_VERSION
    :param names: range of names to plan
    :param access: credentials and endpoint of the bucket; the cloud SDK's own if None
    :raises StagingError: if a bucket cannot be listed
    :raises InvalidDirectoryError: if the directory has no files, unreadable files, or names that a DSS refuses; it
        lists all of them
    :raises ValueError: if an argument is invalid
    """
    options = options or UploadOptions()
    bundle_uuid = check_uuid(bundle_uuid, "bundle_uuid")
    bundle_version = check_version(bundle_version, "bundle_version")
    listing = _list(directory, options, names, access)
    files = []
    for found in listing.files():
        if not options.selects(found.name):
            listing.skipped += 1
        elif problem := listing.problem(found):
            listing.offenders.append((found.name, problem))
        else:
            file = PlannedFile(
                directory=listing.root,
                name=found.name,
                size=found.size,
                mtime_ns=found.mtime_ns,
                content_type=_content_type(found.name, options),
                indexed=matches(found.name, options.indexed),
                uuid=derive_uuid(bundle_uuid, found.name),
                version=bundle_version,
                revision=found.revision,
            )
            files.append(file)
    _check_offenders(listing, options)
    if not files and names == EVERY_NAME:
        left_out = f" ({listing.skipped} are left out by include, exclude, hidden, symlinks)" if listing.skipped else ""
        raise InvalidDirectoryError(listing.root, [("", f"it has no files to upload{left_out}")])
    in_order = tuple(sorted(files, key=lambda file: file.name))
    return Plan(
        bundle_uuid,
        bundle_version,
        in_order,
        listing.skipped,
        names,
        source=listing.source,
        directory=listing.directory,
    )


def guess_type(name: str) -> str:
    """Return the media type for a file name; that of the compression for a compressed file."""
    # With "./", since "data:x.csv" would be parsed as a URL.
    content_type, encoding = _TYPES.guess_type(f"./{name}", strict=False)
    if encoding:
        return _ENCODED_TYPES.get(encoding, _UNKNOWN_TYPE)
    return content_type or _UNKNOWN_TYPE


def _list(directory: str | Path, options: UploadOptions, names: Names, access: S3Access | GCSAccess | None) -> Listing:
    if not str(directory).strip():  # would be the worker's current directory
        raise ValueError("directory is empty: give a path")
    if is_url(directory):
        root = str(directory).rstrip("/")
        return PrefixListing(root, open_source(root, access), hidden=options.hidden, names=names)
    return DirectoryWalk(Path(directory), hidden=options.hidden, symlinks=options.symlinks, names=names)


def _content_type(name: str, options: UploadOptions) -> str:
    types = options.content_types or {}
    return next((types[pattern] for pattern in types if fnmatchcase(name, pattern)), None) or guess_type(name)


def _check_offenders(listing: Listing, options: UploadOptions) -> None:
    """Raise for all offenders, except those that the patterns leave out: the listing does not know the patterns."""
    offenders = [
        (name, problem)
        for name, problem in listing.offenders
        if not options.excludes(name) and (name in listing.directories or matches(name, options.include))
    ]
    listing.skipped += len(listing.offenders) - len(offenders)
    if offenders:
        raise InvalidDirectoryError(listing.root, sorted(offenders))
