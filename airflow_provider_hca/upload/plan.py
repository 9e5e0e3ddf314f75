"""What to upload: walk a directory, filter, name, type, decide `indexed`, derive uuids. Changes nothing anywhere.

Everything that would go wrong later and can be known now is found here, all of it at once, in one error.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

from airflow_provider_hca.client.identifiers import check_uuid, check_version, derive_uuid
from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.access import GCSAccess, S3Access
from airflow_provider_hca.upload.entries import EVERY_NAME, Names, PlannedFile
from airflow_provider_hca.upload.sources import open_source
from airflow_provider_hca.upload.sources.base import Listing, Source, is_url
from airflow_provider_hca.upload.sources.local import Hidden, Symlinks, Walk

DEFAULT_INDEXED = ("*.json",)
_UNKNOWN_TYPE = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[!-.0-:<-~]+/[!-.0-:<-~]+( *;[ -~]*)?")  # in printable ASCII, perhaps with parameters
_ENCODED_TYPES = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": "application/x-brotli",
}
# Python's own table, not the machine's: a retry on another worker must give the same types, else it is a conflict.
_TYPES = mimetypes.MimeTypes(filenames=())


@dataclass(frozen=True, slots=True)
class Plan:
    """A directory, or those of its files whose names are in a range, that is to be a bundle.

    :ivar files: in the order they will have in the bundle: by name, since another order would be another bundle
    :ivar skipped: how many files were left out by `include`, `exclude`, `hidden` and `symlinks`
    :ivar names: that were planned
    :ivar source: that the files are objects of; None if they are on this machine
    """

    bundle_uuid: str
    bundle_version: str
    files: tuple[PlannedFile, ...]
    skipped: int
    names: Names = EVERY_NAME
    source: Source | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """What tells whether another plan makes the same bundle: a sha256 over its name and its members."""
        digest = hashlib.sha256(f"{self.bundle_uuid}.{self.bundle_version}".encode())
        for file in self.files:
            digest.update(json.dumps(file.as_member()).encode())
        return digest.hexdigest()


def plan_directory(
    directory: str | Path,
    *,
    bundle_uuid: str,
    bundle_version: str,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    hidden: Hidden = "skip",
    symlinks: Symlinks = "error",
    indexed: Sequence[str] = DEFAULT_INDEXED,
    content_types: Mapping[str, str] | None = None,
    names: Names = EVERY_NAME,
    access: S3Access | GCSAccess | None = None,
) -> Plan:
    """Return the plan that makes a bundle of a directory, or of what is under a prefix in a bucket.

    Patterns are shell globs that are matched, case-sensitively, with the whole path relative to the directory; `*`
    matches `/` too, so `*.json` means all JSON files.

    :param directory: the files in it and below it become the members; or `s3://bucket/prefix` or `gs://bucket/prefix`
    :param bundle_uuid: of the bundle; the files' uuids derive from it and from their names
    :param bundle_version: of the bundle and of all its files
    :param include: patterns of the files to take
    :param exclude: patterns of the files to leave out of those
    :param hidden: whether files and directories whose names begin with a dot are left out
    :param symlinks: whether a symbolic link is an error, is followed, or is left out
    :param indexed: patterns of the files whose content the DSS is to index
    :param content_types: types by pattern, the first that matches counts, as in
        `{"*.gz": "application/gzip; dcp-type=data"}`; other files have their type guessed from their names
    :param names: which files to plan, as if there were no others; a range may be without files
    :param access: how to enter a bucket; with the cloud SDK's own credentials and endpoint if None
    :raises StagingError: when a bucket cannot be listed
    :raises InvalidDirectoryError: when there is nothing to upload, or a file that cannot be read, or a name that a
        DSS refuses; it lists them all
    :raises ValueError: when an argument is not well-formed
    """
    types = content_types or {}
    check_options(
        include=include, exclude=exclude, hidden=hidden, symlinks=symlinks, indexed=indexed, content_types=types
    )
    bundle_uuid = check_uuid(bundle_uuid, "bundle_uuid")
    bundle_version = check_version(bundle_version, "bundle_version")
    if not str(directory).strip():  # which would be the worker's current directory
        raise ValueError("directory is empty: give a path")
    walk: Walk | Listing
    if is_url(directory):
        root = str(directory).rstrip("/")
        walk = Listing(root, open_source(root, access), hidden=hidden, names=names)
    else:
        walk = Walk(Path(directory), hidden=hidden, symlinks=symlinks, names=names)
    files = []
    for name, found in walk.files():
        if not _matches(name, include) or _matches(name, exclude):
            walk.skipped += 1
            continue
        problem = found.problem()
        if problem:
            walk.offenders.append((name, problem))
            continue
        typed = next((types[each] for each in types if fnmatchcase(name, each)), None)
        file = PlannedFile(
            directory=walk.root,
            name=name,
            size=found.size,
            mtime_ns=found.mtime_ns,
            content_type=typed or guess_type(name),
            indexed=_matches(name, indexed),
            uuid=derive_uuid(bundle_uuid, name),
            version=bundle_version,
            revision=found.revision,
        )
        files.append(file)
    # A link or a directory is stumbled over before the patterns are asked.
    offenders = [
        (name, problem)
        for name, problem in walk.offenders
        if not _is_excluded(name, exclude) and (name in walk.directories or _matches(name, include))
    ]
    walk.skipped += len(walk.offenders) - len(offenders)
    if offenders:
        raise InvalidDirectoryError(walk.root, sorted(offenders))
    if not files and names == EVERY_NAME:
        left_out = f" ({walk.skipped} were left out: see include, exclude, hidden, symlinks)" if walk.skipped else ""
        raise InvalidDirectoryError(walk.root, [("", f"it has no files to upload{left_out}")])
    in_order = tuple(sorted(files, key=lambda file: file.name))
    return Plan(bundle_uuid, bundle_version, in_order, walk.skipped, names, walk.source)


def check_options(
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    hidden: str = "skip",
    symlinks: str = "error",
    indexed: Sequence[str] = (),
    content_types: Mapping[str, str] | None = None,
) -> None:
    """Raise if what says which files become what in `plan_directory` is not well-formed; nothing is looked at.

    :raises ValueError: then
    """
    _check_choice("hidden", hidden, get_args(Hidden))
    _check_choice("symlinks", symlinks, get_args(Symlinks))
    _check_patterns(include=include, exclude=exclude, indexed=indexed)
    _check_types(content_types or {})


def guess_type(name: str) -> str:
    """Return the media type that a file's name suggests; that of the compression for a compressed file."""
    # "./", since otherwise "data:x.csv" would be taken for a URL.
    content_type, encoding = _TYPES.guess_type(f"./{name}", strict=False)
    if encoding:
        return _ENCODED_TYPES.get(encoding, _UNKNOWN_TYPE)
    return content_type or _UNKNOWN_TYPE


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_excluded(name: str, exclude: Sequence[str]) -> bool:
    """Return whether what may be a directory is left out, itself or with everything in it."""
    bare = name.rstrip("/")
    return _matches(bare, exclude) or _matches(f"{bare}/", exclude)


def _check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{what} must be one of {', '.join(choices)}, not {value!r}")


def _check_patterns(**arguments: Sequence[str]) -> None:
    for what, patterns in arguments.items():
        # Of a string the letters would be taken for patterns, and `*` for everything.
        if not isinstance(patterns, Sequence) or isinstance(patterns, str):
            raise ValueError(f"{what} must be a list of patterns, such as ['*.json'], not {patterns!r}")


def _check_types(types: Mapping[str, str]) -> None:
    if not isinstance(types, Mapping):
        raise ValueError(
            f"content_types must map patterns to media types, as in {{'*.csv': 'text/csv'}}, not {types!r}"
        )
    for pattern, content_type in types.items():
        if not isinstance(content_type, str) or not _MEDIA_TYPE.fullmatch(content_type):
            raise ValueError(
                f"content_types[{pattern!r}] must be a media type such as 'text/csv', not {content_type!r}"
            )
