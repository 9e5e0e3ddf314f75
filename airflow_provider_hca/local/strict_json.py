"""Strict JSON: Python's parser accepts more than the standard, such as NaN, which could not be returned to clients."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_MAX_DEPTH = 100
_SUSPICIOUS = re.compile(rb"\\u[dD][89abAB]|NaN|Infinity")  # surrogates, and numbers that JSON does not have


def check_json(value: Any) -> Any:
    """Return a parsed value if it is strict JSON of limited depth.

    :raises ValueError: when it is not
    """
    depth, level = 0, [value]
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"the JSON is nested more than {_MAX_DEPTH} levels deep")
        level = [child for item in level for child in _children(item)]
    return value


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{value!r} contains an unpaired surrogate") from None
    return []


def needs_check(content: bytes) -> bool:
    """Return whether `check_json` is necessary: for large bodies it takes longer than parsing.

    :param content: JSON that Python's parser accepts
    """
    return _SUSPICIOUS.search(content) is not None


def load_json(content: bytes) -> Any:
    """Parse strict JSON.

    :raises ValueError: when the content is not strict JSON
    """
    try:
        return check_json(json.loads(content))
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
