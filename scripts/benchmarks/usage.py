"""Measure the resources of a process."""

from __future__ import annotations

import resource
import sys


def usage() -> dict[str, float]:
    """Return this process's processor time in seconds and the most memory it had, in MB.

    A process counts what its parent had when it was made, so that the parent has to be a small one.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return {"cpu_seconds": used.ru_utime + used.ru_stime, "rss_mb": used.ru_maxrss * unit / 1e6}
