"""Failures of many files, by what they have in common."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

_VERSION = r"\d{4}-\d{2}-\d{2}T\d{6}\.\d{6}Z"
# What makes the messages of two files differ that failed for the same reason.
_OF_ONE_FILE = (
    (re.compile(r" \(request id [^)]*\)|, request id [^),]*"), ""),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "..."),
    (re.compile(rf"\.\.\.\.{_VERSION}"), "..."),
    (re.compile(r"\b[0-9a-f]{64}\b"), "..."),
    (re.compile(r"\b(s3|gs)://([^/\s]+)/[^\s:'\"]+"), r"\1://\2/..."),
)


def by_cause(failures: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Return the causes, the most frequent first, each with the names of the files that it hit.

    A cause that hit one file alone keeps its whole message, with uuid and request id.

    :param failures: pairs of a file's name and why it failed, as an `UploadError` has them
    """
    alike: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, reason in failures:
        common = reason
        for pattern, instead in _OF_ONE_FILE:
            common = pattern.sub(instead, common)
        alike[common].append((name, reason))
    causes = [(common if len(hit) > 1 else hit[0][1], sorted(name for name, _ in hit)) for common, hit in alike.items()]
    return sorted(causes, key=lambda cause: -len(cause[1]))
