"""JSON as the standard has it: Python's parser lets more through, and what it let through could not be given back."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_MOST_LEVELS = 100
_DOUBTFUL = re.compile(rb"\\u[dD][89abAB]|NaN|Infinity")  # half a character, and numbers JSON has not


def check(value: Any) -> Any:
    """Return `value` unchanged if it is plain JSON of a reasonable depth, or raise.

    :param value: what a parser made of JSON
    :raises ValueError: with what is wrong in it
    """
    level, found = 0, [value]
    while found:
        level += 1
        if level > _MOST_LEVELS:
            raise ValueError(f"the JSON is nested more than {_MOST_LEVELS} levels deep")
        found = [inner for outer in found for inner in _inside(outer)]
    return value


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no JSON number")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{value!r} holds half a character") from None
    return []


def is_doubtful(content: bytes) -> bool:
    """Tell whether JSON needs a closer look: that of every large body would cost more than the body.

    :param content: JSON that Python's parser accepts
    """
    return _DOUBTFUL.search(content) is not None


def load(content: bytes) -> Any:
    """Return what JSON says.

    :param content: the JSON
    :raises ValueError: when it is none
    """
    try:
        return check(json.loads(content))
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
