"""Group failures by cause, for logs, XComs and the page in the Airflow UI."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

MAX_NAMES = 5  # of a cause, in results for programs and in the log of a batch
_MAX_CAUSE = 500  # characters
_MAX_CAUSES = 20  # in results for programs; the log has all
_VERSION = r"\d{4}-\d{2}-\d{2}T\d{6}\.\d{6}Z"
# Differences between the messages of two files that failed for the same reason.
_OF_ONE_FILE = (
    (re.compile(r" \(request id [^)]*\)|, request id [^),]*"), ""),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "..."),
    (re.compile(rf"\.\.\.\.{_VERSION}"), "..."),
    (re.compile(r"\b[0-9a-f]{64}\b"), "..."),
    (re.compile(r"\b(s3|gs)://([^/\s]+)/[^\s:'\"]+"), r"\1://\2/..."),
)


def group_errors(failures: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Return causes, the most frequent first, with the names of the files that each of them hit.

    A cause that hit one file keeps its whole message, with UUID and request id.

    :param failures: pairs of a file's name and its error, as in an `UploadError`
    """
    alike: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, reason in failures:
        common = reason
        for pattern, replacement in _OF_ONE_FILE:
            common = pattern.sub(replacement, common)
        alike[common].append((name, reason))
    causes = [(common if len(hit) > 1 else hit[0][1], sorted(name for name, _ in hit)) for common, hit in alike.items()]
    return sorted(causes, key=lambda cause: -len(cause[1]))


def cause_text(error: Exception | str) -> str:
    """Return the message of an error, of a bounded length."""
    text = str(error)
    return text if len(text) <= _MAX_CAUSE else f"{text[: _MAX_CAUSE - 3]}..."


def most_frequent(failures: Iterable[tuple[str, str]], items: str) -> list[dict[str, Any]]:
    """Return the most frequent causes for programs, each with its `count` and some of the items.

    :param failures: pairs of an item and its cause
    :param items: key of the items in the result
    """
    return [
        {"cause": cause, "count": len(names), items: names[:MAX_NAMES]}
        for cause, names in group_errors(failures)[:_MAX_CAUSES]
    ]


def names_text(names: list[str], count: int) -> str:
    """Return some names as text, such as `a, b and 3 more`.

    :param names: the first names
    :param count: number of all names
    """
    shown = names[:MAX_NAMES]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
