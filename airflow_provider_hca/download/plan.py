"""Select files of a manifest and refuse names that are unsafe or that a file system cannot store.

Manifests are not trusted. All problems are reported in one error, before anything is written.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_hca.client.identifiers import SHA256, check_uuid, check_version
from airflow_provider_hca.client.models import Bundle
from airflow_provider_hca.exceptions import InvalidManifestError

_MAX_PART = 255  # bytes of one path component on common file systems
_MAX_PATH = 3072  # bytes; the rest of the common limit of 4,096 is for the directory


@dataclass(frozen=True, slots=True)
class WantedFile:
    """File to download.

    :ivar parts: Parts of the path below the directory; the last one is the file name
    :ivar size: Size in bytes
    """

    uuid: str
    version: str
    parts: tuple[str, ...]
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Name in the bundle."""
        return "/".join(self.parts)

    @property
    def partial_name(self) -> str:
        """File name of the incomplete download, which a retry finds and resumes."""
        # Contains the name: a bundle can have one file under several names.
        return f".{self.uuid}.{self.sha256[:16]}.{hashlib.sha256(self.name.encode()).hexdigest()[:8]}.part"


def plan_download(
    bundle: Bundle,
    *,
    data_files: Sequence[str] = ("*",),
    metadata_files: Sequence[str] = ("*",),
    ignores_case: bool = False,
) -> list[WantedFile]:
    """Return the files of a bundle that match the patterns, in the order of the manifest.

    Patterns are shell globs that match the whole name; `*` matches `/` too.

    :param bundle: Manifest from `GET /bundles/{uuid}`
    :param data_files: Patterns for files that are not indexed
    :param metadata_files: Patterns for indexed files
    :param ignores_case: Whether the target file system treats `a` and `A` as the same name
    :raises InvalidManifestError: if names leave the directory or collide, or files lack checksums; lists all of them
    :raises ValueError: if patterns are not a list
    """
    check_patterns(data_files, metadata_files)
    wanted: list[WantedFile] = []
    offenders: list[tuple[str, str]] = []
    for file in bundle["files"]:
        name = file.get("name")
        if not isinstance(name, str):
            offenders.append((repr(name)[:100], "is not a name"))
        elif any(fnmatchcase(name, pattern) for pattern in (metadata_files if file.get("indexed") else data_files)):
            try:
                wanted.append(_wanted(name, file))
            except ValueError as error:
                offenders.append((name, str(error)))
    offenders += _collisions(wanted, ignores_case=ignores_case)
    if offenders:
        raise InvalidManifestError(f"{bundle['uuid']}.{bundle['version']}", offenders)
    return wanted


def check_patterns(data_files: Any, metadata_files: Any) -> None:
    """Check the patterns of files to download.

    :raises ValueError: if they are not lists
    """
    for parameter, patterns in (("data_files", data_files), ("metadata_files", metadata_files)):
        # The letters of a string would each be a pattern, and `*` would match everything.
        if not isinstance(patterns, Sequence) or isinstance(patterns, str):
            raise ValueError(f"{parameter} must be a list of patterns such as ['*.json'], got {patterns!r}")


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
    if max(lengths) > _MAX_PART or sum(lengths) + len(lengths) > _MAX_PATH:
        raise ValueError(f"is too long: more than {_MAX_PART} bytes in one part, or {_MAX_PATH:,} bytes in total")
    size, sha256 = file.get("size"), str(file.get("sha256")).lower()
    if not isinstance(size, int) or size < 0 or not SHA256.fullmatch(sha256):
        raise ValueError("has no size and sha256 to verify it with")
    return WantedFile(
        check_uuid(file.get("uuid", ""), "uuid"), check_version(file.get("version", ""), "version"), parts, size, sha256
    )


def _collisions(wanted: list[WantedFile], *, ignores_case: bool) -> Iterator[tuple[str, str]]:
    """Yield names that collide with another file, a directory or a partial file."""

    def place(*parts: str) -> tuple[str, ...]:
        if not ignores_case:
            return parts
        # Such file systems often treat both Unicode forms of an accent as the same, too.
        return tuple(unicodedata.normalize("NFD", unicodedata.normalize("NFD", part).casefold()) for part in parts)

    directories = {place(*file.parts[:depth]): file.name for file in wanted for depth in range(1, len(file.parts))}
    partials = {place(*file.parts[:-1], file.partial_name): file.name for file in wanted}
    files: dict[tuple[str, ...], str] = {}
    for file in wanted:
        where = place(*file.parts)
        if where in files:
            same = files[where] == file.name
            yield file.name, "occurs twice" if same else f"is the same name as {files[where]!r} on this file system"
        elif where in directories:
            yield file.name, f"is a file and also a directory of {directories[where]!r}"
        files[where] = file.name
    for where, name in partials.items():
        taken = files.get(where) or directories.get(where)
        if taken is not None:
            yield taken, f"is the name of the incomplete download of {name!r}"
