"""Options of an upload, the same for operator, task group and command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from airflow_provider_hca.client.models import check_replica

Hidden = Literal["skip", "include"]
Symlinks = Literal["error", "follow", "skip"]
Compare = Literal["checksum", "size-mtime"]

_MEDIA_TYPE = re.compile(r"[!-.0-:<-~]+/[!-.0-:<-~]+( *;[ -~]*)?")  # printable ASCII, perhaps with parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions:
    """Select the files that become members of a bundle, and set how they are uploaded.

    Patterns are shell globs, matched against the name in the bundle; `*` matches `/` too.

    :ivar replica: replica to upload to, `aws` or `gcp`
    :ivar staging_prefix: prefix of the keys of staged objects
    :ivar include: patterns of the files to upload
    :ivar exclude: patterns of files to exclude from those
    :ivar hidden: `skip` or `include` files and directories whose names begin with a dot
    :ivar symlinks: `error` on symbolic links, `follow` or `skip` them
    :ivar indexed: patterns of the files that the DSS indexes
    :ivar content_types: content types by pattern; guessed from the name otherwise
    :ivar compare: `checksum` reads each file to compare it with the latest version; `size-mtime` compares its size, and
        its modification time with the time of the version
    :ivar max_workers: maximum number of files in progress, which together take 64 MiB of memory
    :ivar max_bytes_per_second: maximum rate of sending to the bucket; unlimited if None
    :ivar max_requests_per_second: maximum rate of requests to the DSS; unlimited if None
    :ivar delete_staged: whether to delete what was staged for this version and earlier ones after the bundle is created
    :ivar copy_timeout: time to wait for the asynchronous copies of the DSS, in seconds
    :raises ValueError: if a value is invalid
    """

    replica: str = "aws"
    staging_prefix: str | None = None
    include: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()
    hidden: Hidden = "skip"
    symlinks: Symlinks = "error"
    indexed: Sequence[str] = ("*.json",)
    content_types: Mapping[str, str] | None = None
    compare: Compare = "checksum"
    max_workers: int = 64
    max_bytes_per_second: float | None = None
    max_requests_per_second: float | None = None
    delete_staged: bool = False
    copy_timeout: float = 3600.0

    def __post_init__(self) -> None:
        check_replica(self.replica)
        check_choice("hidden", self.hidden, get_args(Hidden))
        check_choice("symlinks", self.symlinks, get_args(Symlinks))
        check_choice("compare", self.compare, get_args(Compare))
        for name in ("include", "exclude", "indexed"):
            _check_patterns(name, getattr(self, name))
        _check_types(self.content_types or {})
        if not isinstance(self.max_workers, int) or self.max_workers < 1:
            raise ValueError(f"max_workers must be an integer of at least 1, got {self.max_workers!r}")
        for name in ("max_bytes_per_second", "max_requests_per_second"):
            rate = getattr(self, name)
            if rate is not None and not rate > 0:
                raise ValueError(f"{name} must be above 0, got {rate!r}")

    def selects(self, name: str) -> bool:
        """Return whether `include` and `exclude` select a file."""
        return matches(name, self.include) and not matches(name, self.exclude)

    def excludes(self, name: str) -> bool:
        """Return whether `exclude` matches a file or directory, or everything in that directory."""
        bare = name.rstrip("/")
        return matches(bare, self.exclude) or matches(f"{bare}/", self.exclude)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a name matches one of some patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise a ValueError if an argument is not one of some texts."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _check_patterns(name: str, patterns: Any) -> None:
    # The letters of a string would be patterns, and `*` would match everything.
    if not isinstance(patterns, Sequence) or isinstance(patterns, str):
        raise ValueError(f"{name} must be a list of patterns, such as ['*.json'], got {patterns!r}")


def _check_types(types: Any) -> None:
    if not isinstance(types, Mapping):
        raise ValueError(
            f"content_types must map patterns to media types, as in {{'*.csv': 'text/csv'}}, got {types!r}"
        )
    for pattern, content_type in types.items():
        if not isinstance(content_type, str) or not _MEDIA_TYPE.fullmatch(content_type):
            raise ValueError(
                f"content_types[{pattern!r}] must be a media type such as 'text/csv', got {content_type!r}"
            )
