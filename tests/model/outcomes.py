"""Record of a call: its exchanges, their faults and its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_hca.client.sansio import Request

from .faults import SURVIVED, Fault, Seen
from .server import HOME

_SURVIVED = [replace(fault, only="") for fault in SURVIVED]


class KilledError(BaseException):
    """The client was killed."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what the client saw of its response."""

    request: Request
    seen: Seen
    fault: Fault | None
    processed: bool
    at: float

    @property
    def is_home(self) -> bool:
        """True if it was sent to the DSS, not to an object store."""
        return self.request.url.startswith(HOME)


@dataclass(slots=True)
class Outcome:
    """The end of a call.

    :ivar killed: Whether the client was killed before
    :ivar effects: Number of requests of the call that changed something
    """

    value: Any = None
    error: Exception | None = None
    killed: bool = False
    log: list[Exchange] = field(default_factory=list)
    seconds: float = 0.0
    effects: int = 0

    @property
    def last(self) -> Exchange:
        """Last exchange."""
        return self.log[-1]

    @property
    def unclear(self) -> bool:
        """True if the DSS may have applied a request, as far as the client knows."""
        return any(exchange.seen.is_unclear for exchange in self.log)

    @property
    def must_succeed(self) -> bool:
        """True if a valid call survives the faults."""
        faults = [replace(one.fault, only="") for one in self.log if one.fault]
        return not self.killed and (not faults or (len(faults) == 1 and faults[0] in _SURVIVED))

    @property
    def is_disturbed(self) -> bool:
        """True if a request had a fault."""
        return any(exchange.fault is not None for exchange in self.log)

    def sent(self, method: str) -> list[Exchange]:
        """Return the exchanges with a method."""
        return [exchange for exchange in self.log if exchange.request.method == method]

    def __str__(self) -> str:
        lines = [
            f"| {one.at:9.2f} {one.request.method} {one.request.url.removeprefix(HOME)} "
            f"{(one.request.body or b'')!r:.200} -> "
            f"{one.seen.status or one.seen.connection} {one.seen.code} {one.fault.kind if one.fault else ''}"
            for one in self.log
        ]
        return f"{self.value!r} {self.error!r} killed={self.killed}\n" + "\n".join(lines)


class FaultQueue:
    """Faults of the next requests.

    :param faults: Faults; a None lets a request pass
    """

    def __init__(self, faults: Sequence[Fault | None]) -> None:
        self._faults = [fault for fault in faults for _ in range(fault.times if fault else 1)]

    def next(self, method: str) -> Fault | None:
        """Return the fault of the next request."""
        if not self._faults:
            return None
        first = self._faults[0]
        if first is not None and first.only not in {"", method}:
            return None
        return self._faults.pop(0)
