"""Limit the requests per second of all threads together, and slow down when a service asks for it."""

from __future__ import annotations

import threading
import time

from airflow_provider_hca.client.forks import call_after_fork

_MIN_RATE = 4.0  # per second: a thread must not wait longer for its turn than a request is retried
_SAME_INCIDENT = 1.0  # seconds within which several threads report the same incident
_DOUBLING_TIME = 5.0  # seconds without an incident after which the rate doubles again


class RateLimiter:
    """Gives out turns at a limited rate; a request of a service to slow down applies to all threads.

    :param limit: Turns per second; unlimited if None
    """

    def __init__(self, limit: float | None = None) -> None:
        self.after_fork()
        call_after_fork(self)
        self._next = 0.0  # time of the next turn
        self._slowed_at, self._slowed_rate = float("-inf"), float("inf")
        self._second, self._count, self._rate = time.monotonic(), 0.0, 0.0
        self.limit(limit)

    def after_fork(self) -> None:
        """Replace the lock; see `forks`."""
        self._lock = threading.Lock()

    def limit(self, limit: float | None) -> None:
        """Set the number of turns per second.

        :raises ValueError: if it is not above 0
        """
        if limit is not None and not limit > 0:
            raise ValueError(f"a limit per second must be above 0, got {limit}")
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
        """Take a turn and return the time until it, in seconds.

        :param amount: Number of turns to take
        """
        with self._lock:
            now = time.monotonic()
            self._count_turns(now, amount)
            turn = max(now, self._next)
            self._next = turn + amount / self._allowed_rate(now)
        return turn - now

    def slow_down(self, seconds: float | None) -> None:
        """Pause all turns and halve their rate afterwards.

        :param seconds: Length of the pause in seconds; no pause if None
        """
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now + (seconds or 0.0))
            if now < self._slowed_at + _SAME_INCIDENT:
                return
            self._slowed_rate = max(_MIN_RATE, min(self._allowed_rate(now), self._rate or self._count) / 2)
            self._slowed_at = now

    def _allowed_rate(self, now: float) -> float:
        quiet = max(0.0, now - self._slowed_at)
        if quiet > 32 * _DOUBLING_TIME:
            return self._limit
        return min(self._limit, self._slowed_rate * 2 ** (quiet / _DOUBLING_TIME))

    def _count_turns(self, now: float, amount: float) -> None:
        """Measure the rate of the last full second."""
        if now >= self._second + 1.0:
            self._rate = self._count / (now - self._second)
            self._second, self._count = now, 0.0
        self._count += amount
