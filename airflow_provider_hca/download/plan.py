"""What to download: choose files of a manifest, and refuse names that a file system cannot hold or must not.

A manifest comes from a server, so nothing in it is believed. Everything wrong with its names is told at once, before
anything is written.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import Bundle
from airflow_provider_hca.exceptions import InvalidManifestError

_LONGEST_PART = 255  # bytes of one part of a path, on the usual file systems
_LONGEST = 3072  # bytes of all of it; of the usual 4,096 the rest is for the directory
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file of the bundle that is to be downloaded.

    :ivar parts: of its path below the directory; the last one is the file's own name
    :ivar size: in bytes
    """

    uuid: str
    version: str
    parts: tuple[str, ...]
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Its name in the bundle."""
        return "/".join(self.parts)

    @property
    def partial_name(self) -> str:
        """What it is called, in its directory, until it is whole; a second try finds the first one's by it."""
        # With the name in it: one file may be in a bundle under several.
        return f".{self.uuid}.{self.sha256[:16]}.{hashlib.sha256(self.name.encode()).hexdigest()[:8]}.part"


def plan_download(
    bundle: Bundle,
    *,
    data_files: Sequence[str] = ("*",),
    metadata_files: Sequence[str] = ("*",),
    ignores_case: bool = False,
) -> list[WantedFile]:
    """Return the files of a bundle that are wanted, in its order.

    Patterns are shell globs, matched with the whole name; `*` matches `/` too.

    :param bundle: a manifest, as `GET /bundles/{uuid}` gives it
    :param data_files: patterns of the files to take of those that are not indexed
    :param metadata_files: patterns of the files to take of those that are
    :param ignores_case: whether the names `a` and `A` are the same file where they are to be written
    :raises InvalidManifestError: when a name leaves the directory, or two need the same place, or a file is not
        described; it lists them all
    """
    for what, patterns in (("data_files", data_files), ("metadata_files", metadata_files)):
        # Of a string the letters would be taken for patterns, and `*` for everything.
        if not isinstance(patterns, Sequence) or isinstance(patterns, str):
            raise ValueError(f"{what} must be a list of patterns such as ['*.json'], not {patterns!r}")
    wanted: list[WantedFile] = []
    offenders: list[tuple[str, str]] = []
    for file in bundle["files"]:
        name = file.get("name")
        if not isinstance(name, str):
            offenders.append((repr(name)[:100], "is no name"))
        elif any(fnmatchcase(name, pattern) for pattern in (metadata_files if file.get("indexed") else data_files)):
            try:
                wanted.append(_wanted(name, file))
            except ValueError as error:
                offenders.append((name, str(error)))
    offenders += _collisions(wanted, ignores_case=ignores_case)
    if offenders:
        raise InvalidManifestError(f"{bundle['uuid']}.{bundle['version']}", offenders)
    return wanted


def _wanted(name: str, file: Mapping[str, Any]) -> WantedFile:
    parts = tuple(name.split("/"))
    if any(part in {"", ".", ".."} for part in parts):
        raise ValueError("is not a relative path, or has '.', '..' or an empty part")
    if "\0" in name or "\\" in name:
        raise ValueError("contains a backslash or a NUL")
    try:
        lengths = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    if max(lengths) > _LONGEST_PART or sum(lengths) + len(lengths) > _LONGEST:
        raise ValueError(f"is too long: more than {_LONGEST_PART} bytes in one part, or {_LONGEST:,} together")
    size, sha256 = file.get("size"), str(file.get("sha256")).lower()
    if not isinstance(size, int) or size < 0 or not _SHA256.fullmatch(sha256):
        raise ValueError("has no size and sha256 to check it by")
    return WantedFile(
        check_uuid(file.get("uuid", ""), "uuid"), check_version(file.get("version", ""), "version"), parts, size, sha256
    )


def _collisions(wanted: list[WantedFile], *, ignores_case: bool) -> Iterator[tuple[str, str]]:
    """Find the files for whose place there is another one, or a directory."""

    def place(*parts: str) -> tuple[str, ...]:
        if not ignores_case:
            return parts
        # What ignores case often takes the two ways to write an accent for the same, too.
        return tuple(unicodedata.normalize("NFD", unicodedata.normalize("NFD", part).casefold()) for part in parts)

    directories = {place(*file.parts[:depth]): file.name for file in wanted for depth in range(1, len(file.parts))}
    partials = {place(*file.parts[:-1], file.partial_name): file.name for file in wanted}
    files: dict[tuple[str, ...], str] = {}
    for file in wanted:
        where = place(*file.parts)
        if where in files:
            same = files[where] == file.name
            yield file.name, "is there twice" if same else f"cannot be told from {files[where]!r} on this file system"
        elif where in directories:
            yield file.name, f"is a file, and a directory of {directories[where]!r}"
        files[where] = file.name
    for where, name in partials.items():
        taken = files.get(where) or directories.get(where)
        if taken is not None:
            yield taken, f"is where {name!r} is kept until it is complete"
