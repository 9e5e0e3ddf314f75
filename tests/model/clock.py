"""A clock for client, engines and local DSS that only the model puts forward: waiting costs no real time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

_PACKAGES = tuple(f"airflow_provider_hca.{name}." for name in ("client", "upload", "local"))
_EPOCH = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    """Replaces the module `time` in all modules that use it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._stamps = 0

    def time(self) -> float:
        """Seconds since the epoch."""
        return _EPOCH.timestamp() + self.now

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self.now

    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return int(self.time() * 1e9)

    def sleep(self, seconds: float) -> None:
        """Put the clock forward."""
        self.now += seconds

    def version(self) -> str:
        """Return a new DSS_VERSION of this moment."""
        self._stamps += 1
        moment = _EPOCH + timedelta(seconds=int(self.now), microseconds=self._stamps % 1_000_000)
        return moment.strftime("%Y-%m-%dT%H%M%S.%fZ")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Replace `time` in the modules of client, upload and local DSS that are imported."""
        modules = [module for name, module in sys.modules.items() if name.startswith(_PACKAGES)]
        replaced: list[Any] = [module for module in modules if getattr(module, "time", None) is time]
        for module in replaced:
            module.time = self
        try:
            yield
        finally:
            for module in replaced:
                module.time = time
