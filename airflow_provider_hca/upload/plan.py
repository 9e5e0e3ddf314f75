"""What to upload: walk a directory, filter, name, type, decide `indexed`, derive uuids. Changes nothing anywhere.

Everything that would go wrong later and can be known now is found here, all of it at once, in one error.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar, Literal, get_args

from airflow_provider_hca.client.identifiers import check_uuid, check_version, derive_uuid
from airflow_provider_hca.client.models import BundleFile, check_name
from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.sources.base import Listing, Source, is_url
from airflow_provider_hca.upload.staging.base import GCSAccess, S3Access

Hidden = Literal["skip", "include"]
Symlinks = Literal["error", "follow", "skip"]

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
class PlannedFile:
    """A file that is to be a member of the bundle.

    :ivar directory: that is uploaded, or prefix of a bucket; the same text for all, since there may be a hundred
        thousand
    :ivar name: its name in the bundle: the path relative to the directory, with `/`
    :ivar size: in bytes
    :ivar mtime_ns: its modification time; content that changes afterwards is refused
    :ivar revision: of an object in a bucket, by which it is known to be the same; empty for a file
    """

    directory: str
    name: str
    size: int
    mtime_ns: int
    content_type: str
    indexed: bool
    uuid: str
    version: str
    revision: str = ""

    @property
    def path(self) -> Path:
        """Where its content is."""
        return Path(self.location)

    @property
    def location(self) -> str:
        """Where its content is, as text: a `Path` takes as long to make as the file to open."""
        return f"{self.directory}/{self.name}"

    def as_member(self) -> BundleFile:
        """Return it as `PUT /bundles` wants it."""
        return {"uuid": self.uuid, "version": self.version, "name": self.name, "indexed": self.indexed}


@dataclass(frozen=True, slots=True)
class Names:
    """A range of names.

    :ivar first: which it begins with
    :ivar before: which it ends before; None if it has no end
    """

    first: str = ""
    before: str | None = None

    def __contains__(self, name: str) -> bool:
        return self.first <= name and (self.before is None or name < self.before)

    def may_begin_with(self, prefix: str) -> bool:
        """Return whether names that begin so can be in it."""
        return (prefix >= self.first or self.first.startswith(prefix)) and (self.before is None or prefix < self.before)


EVERY_NAME = Names()


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
    walk: _Walk | Listing
    if is_url(directory):
        walk = Listing(str(directory).rstrip("/"), access, hidden=hidden, names=names)
    else:
        walk = _Walk(Path(directory), hidden=hidden, symlinks=symlinks, names=names)
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


@dataclass(frozen=True, slots=True)
class _FoundFile:
    """What a walk came to."""

    name: str
    path: str
    status: os.stat_result
    revision: ClassVar[str] = ""

    @property
    def size(self) -> int:
        return self.status.st_size

    @property
    def mtime_ns(self) -> int:
        return self.status.st_mtime_ns

    def problem(self) -> str | None:
        """Return why it cannot be a file of a bundle, if so."""
        return _problem(self.name, self.path, self.status)


class _Walk:
    """A walk through a directory, which remembers what it left out and what it stumbled over."""

    source = None

    def __init__(self, directory: Path, *, hidden: Hidden, symlinks: Symlinks, names: Names) -> None:
        _check_directory(directory)
        self.root = str(directory)
        self.directories: set[str] = set()  # of the offenders
        self._hidden, self._symlinks, self._names = hidden, symlinks, names
        self.offenders: list[tuple[str, str]] = []
        self.skipped = 0

    def files(self) -> Iterator[tuple[str, _FoundFile]]:
        """Yield everything that is not a directory, and its name."""
        status = os.stat(self.root)  # noqa: PTH116 - as text, as all below it
        ancestors: tuple[tuple[int, int], ...] = ((status.st_dev, status.st_ino),)
        waiting = [("", self.root, ancestors)]
        while waiting:
            prefix, directory, ancestors = waiting.pop()
            for entry in self._entries(prefix, directory):
                name = prefix + entry.name
                below = self._names.may_begin_with(f"{name}/")
                if not (below or name in self._names) or not self._is_wanted(entry, name):
                    continue
                try:
                    status = entry.stat()
                except OSError as error:
                    self.offenders.append((name, f"cannot be read: {error.strerror}"))
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    if name in self._names:
                        yield name, _FoundFile(name, entry.path, status)
                elif not below:
                    continue
                elif (status.st_dev, status.st_ino) in ancestors:
                    self.directories.add(name)
                    self.offenders.append((name, "is a symbolic link to a directory that it lies in"))
                else:
                    inner = (*ancestors, (status.st_dev, status.st_ino))
                    waiting.append((f"{name}/", entry.path, inner))

    def _entries(self, prefix: str, directory: str) -> Iterator[os.DirEntry[str]]:
        """Yield what is in a directory, one by one: each of them, with its status, takes a KiB."""
        try:
            with os.scandir(directory) as entries:
                yield from entries
        except OSError as error:
            self.directories.add(prefix or ".")
            self.offenders.append((prefix or ".", f"the directory cannot be read: {error.strerror}"))

    def _is_wanted(self, entry: os.DirEntry[str], name: str) -> bool:
        if self._hidden == "skip" and entry.name.startswith("."):
            self.skipped += 1
            return False
        if not entry.is_symlink() or self._symlinks == "follow":
            return True
        if self._symlinks == "skip":
            self.skipped += 1
        else:
            if entry.is_dir():
                self.directories.add(name)
            self.offenders.append((name, "is a symbolic link: say symlinks='follow' or symlinks='skip'"))
        return False


def _problem(name: str, path: str, status: os.stat_result) -> str | None:
    try:
        check_name(name)
    except ValueError as error:
        return str(error)
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if not os.access(path, os.R_OK):
        return "cannot be read: permission denied"
    return None


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


def _check_directory(root: Path) -> None:
    try:
        reason = "it is not a directory" if root.exists() else "there is no such directory on this worker"
        if not root.is_dir():
            raise InvalidDirectoryError(str(root), [("", reason)])
    except OSError as error:  # one above it may not be entered
        raise InvalidDirectoryError(str(root), [("", f"cannot be read: {error.strerror}")]) from None
