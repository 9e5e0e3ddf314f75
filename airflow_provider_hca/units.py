"""Sizes and counts as text."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_text(size: float) -> str:
    """Return a size with a unit, such as `4.0 KiB`.

    :param size: size in bytes
    """
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:,.1f} {_UNITS[unit]}" if unit else f"{size:,.0f} B"


def count_text(number: int, singular: str, plural: str) -> str:
    """Return a number with its noun, such as `1,000 files`.

    :param number: number of items
    :param singular: noun for one item
    :param plural: noun for another number of items
    """
    return f"{number:,} {singular if number == 1 else plural}"


def amount(files: int, size: int) -> str:
    """Return a number of files and their size, such as `1 file (5 B)`.

    :param files: number of files
    :param size: total size in bytes
    """
    return f"{count_text(files, 'file', 'files')} ({size_text(size)})"
