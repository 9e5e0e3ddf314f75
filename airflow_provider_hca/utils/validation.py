"""Validate arguments that may be rendered from templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any


def integer(name: str, value: int | str) -> int:
    """Return an integer, which a template renders as text.

    :param name: Name of the argument, for the error message
    :param value: Value of the argument
    :raises ValueError: if it is not an integer
    """
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an integer, got {value!r}") from None


def boolean(name: str, value: bool | str) -> bool:
    """Return a boolean, which a template renders as text.

    :param name: Name of the argument, for the error message
    :param value: Value of the argument
    :raises ValueError: if it is not a boolean
    """
    text = str(value).strip().lower()
    if text not in {"true", "false"}:
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return text == "true"


def seconds(name: str, value: float | timedelta) -> float:
    """Return a duration in seconds.

    :param name: Name of the argument, for the error message
    :param value: Value of the argument
    :raises ValueError: if it is not a duration
    """
    try:
        return value.total_seconds() if isinstance(value, timedelta) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number of seconds or a timedelta, got {value!r}") from None


def mappings(name: str, value: Any) -> list[Mapping[str, Any]]:
    """Return a list of mappings, such as the output of mapped tasks, which is read lazily.

    :param name: Name of the argument, for the error message
    :param value: Value of the argument
    :raises ValueError: if it is not a list, or an item is not a mapping
    """
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise ValueError(f"{name} must be a list of mappings, got {value!r:.200}")
    items = list(value)
    for item in items:
        if not isinstance(item, Mapping):
            raise ValueError(f"{name} must be a list of mappings, got the item {item!r:.200}")
    return items
