"""How fast many threads may go, all together: as a setting says, and slower where a service asks for that."""

from __future__ import annotations

import threading
import time

_LEAST = 4.0  # a second: whoever waits for a turn must not wait longer than a request is tried
_ONE_TROUBLE = 1.0  # seconds in which many threads meet the same trouble
_DOUBLES_IN = 5.0  # seconds without trouble in which the speed doubles again


class RateLimiter:
    """Gives out turns, so many a second; what a service asks of one thread, all of them do.

    :param limit: how many a second at most; as many as there are if None
    """

    def __init__(self, limit: float | None = None) -> None:
        self._lock = threading.Lock()
        self._next = 0.0  # when there is a turn again
        self._slowed, self._allowed = float("-inf"), float("inf")
        self._since, self._taken, self._rate = time.monotonic(), 0.0, 0.0
        self.limit(limit)

    def limit(self, limit: float | None) -> None:
        """Set how many a second there are at most.

        :raises ValueError: when that is none
        """
        if limit is not None and not limit > 0:
            raise ValueError(f"a limit per second must be above 0, not {limit}")
        self._limit = limit or float("inf")

    def wait(self, stop: threading.Event, amount: float = 1.0) -> None:
        """Wait for a turn, or until the stop event is set.

        :param stop: Event that ends the wait
        :param amount: Number of turns to take
        """
        seconds = self.reserve(amount)
        if seconds > 0:
            stop.wait(seconds)

    def reserve(self, amount: float = 1.0) -> float:
        """Take a turn and return the seconds until it comes.

        :param amount: Number of turns to take
        """
        with self._lock:
            now = time.monotonic()
            self._count(now, amount)
            turn = max(now, self._next)
            self._next = turn + amount / self._most(now)
        return turn - now

    def slow_down(self, seconds: float | None) -> None:
        """Give out no turn for a while and half as many afterwards, since a service said it is asked too much.

        :param seconds: how long it asked to wait, if it did
        """
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now + (seconds or 0.0))
            if now < self._slowed + _ONE_TROUBLE:
                return
            self._allowed = max(_LEAST, min(self._most(now), self._rate or self._taken) / 2)
            self._slowed = now

    def _most(self, now: float) -> float:
        quiet = max(0.0, now - self._slowed)
        if quiet > 32 * _DOUBLES_IN:
            return self._limit
        return min(self._limit, self._allowed * 2 ** (quiet / _DOUBLES_IN))

    def _count(self, now: float, amount: float) -> None:
        """Keep how many turns there were in the last full second."""
        if now >= self._since + 1.0:
            self._rate = self._taken / (now - self._since)
            self._since, self._taken = now, 0.0
        self._taken += amount
