"""Texts that a DSS chooses, as the page shows them."""

from __future__ import annotations

from typing import Any


def plain_text(value: Any, length: int = 2000) -> str:
    """Return a text or number as text of bounded length without lone surrogates; empty for other values.

    :param value: Value from JSON; a list or an object is not converted, since its text could have megabytes
    :param length: Maximum length in characters
    """
    text = value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""
    return text[:length].encode("utf-8", "replace").decode()
