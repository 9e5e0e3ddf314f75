"""Which names a DSS accepts for the files of a bundle."""

from __future__ import annotations


def refusal(name: str) -> str | None:
    """Return why a DSS refuses `name`, or None when it accepts it.

    The rules are not those of a file system: `a./b` and `a/.hidden` are refused, `dir//b` and the empty name are not.

    :param name: the name of a file in a bundle
    """
    if name.startswith(("/", "~/")):
        return "starts with '/' or '~/'"
    if name in {".", ".."}:
        return "is '.' or '..'"
    for part in ("./", "/.", "\\", "\n"):
        if part in name:
            return f"contains {part!r}"
    return None
