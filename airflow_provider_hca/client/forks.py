"""Objects that a forked process must not share with its parent.

On shared connections each process would receive the other's responses; a lock may be held by a thread of the parent.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class NotForkSafe(Protocol):
    """An object with state that does not survive a fork."""

    def after_fork(self) -> None:
        """Replace that state in the forked process."""
        ...


_objects: weakref.WeakSet[NotForkSafe] = weakref.WeakSet()


def call_after_fork(target: NotForkSafe) -> None:
    """Call the object's `after_fork` in each process that is forked while it exists."""
    _objects.add(target)


def _after_fork() -> None:
    for target in list(_objects):
        target.after_fork()


os.register_at_fork(after_in_child=_after_fork)
