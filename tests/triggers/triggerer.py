"""Simulated triggerer: delays between events and their storage, and kills at any step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_hca.triggers import new_bundles

if TYPE_CHECKING:
    from airflow_provider_hca.triggers.dss import DSSNewBundleTrigger

STORED_AFTER = 1.0  # seconds
Script = dict[float, Callable[[], object]]


class KilledError(BaseException):
    """The triggerer was killed."""


class OverError(BaseException):
    """The test has reached its end."""


class Store:
    """Persistent data: events and the asset's state, in files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._events, self._state = folder / "events", folder / "state"

    @property
    def events(self) -> list[dict[str, str]]:
        """Payloads of the stored events, in order."""
        return [json.loads(line) for line in self._events.read_text().splitlines()] if self._events.exists() else []

    @property
    def fqids(self) -> list[str]:
        """FQIDs of the stored events, in order."""
        return [event["fqid"] for event in self.events]

    def keep(self, event: dict[str, str]) -> None:
        """Store an event."""
        with self._events.open("a") as file:
            file.write(json.dumps(event) + "\n")

    @property
    def state(self) -> dict[str, Any]:
        """State of the asset."""
        return json.loads(self._state.read_text()) if self._state.exists() else {}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.replace(self._state)


class Triggerer:
    """Run a trigger with a simulated clock, which advances only while the trigger sleeps.

    :ivar now: Seconds since the start of the test, also across triggerers
    :ivar script: Calls to make, by second
    :ivar kill_at: Step to kill at: an event yielded or stored, a state read or written, a sleep ended
    """

    def __init__(
        self,
        store: Store,
        patch: pytest.MonkeyPatch,
        *,
        script: Script | None = None,
        now: float = 0.0,
        kill_at: int | None = None,
    ) -> None:
        self.store, self.now, self.kill_at = store, now, kill_at
        self.script = {} if script is None else script
        self.steps = 0
        self.slept: list[float] = []
        self._until = 0.0
        self._yielded: list[tuple[float, dict[str, str]]] = []
        patch.setattr(new_bundles, "sleep", self._sleep)
        patch.setattr(new_bundles, "datetime", _Clock(self))

    def run(self, trigger: DSSNewBundleTrigger, until: float, *, state: Any = ...) -> bool:
        """Run a trigger until a time of the clock; return whether it was not killed before.

        :param trigger: Trigger to run
        :param until: Seconds since the start of the test
        :param state: State store of the asset, which may be None; this triggerer by default
        """
        self._until = until
        trigger.asset_state_store = self if state is ... else state  # type: ignore[assignment]  # it has the methods
        try:
            asyncio.run(self._consume(trigger))
        except OverError:
            return True
        except KilledError:
            return False
        raise AssertionError("the trigger ended by itself")

    async def _consume(self, trigger: DSSNewBundleTrigger) -> None:
        async for event in trigger.run():
            self._yielded.append((self.now + STORED_AFTER, event.payload))
            self._step()

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            raise KilledError

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        end = self.now + seconds
        while True:
            moments = [moment for moment, _ in self._yielded] + list(self.script)
            self.now = max(self.now, min([end, *moments]))
            if self.now >= self._until:
                raise OverError
            while self._yielded and self._yielded[0][0] <= self.now:
                self.store.keep(self._yielded.pop(0)[1])
                self._step()
            for moment in sorted(moment for moment in self.script if moment <= self.now):
                self.script.pop(moment)()
            if self.now == end:
                break
        self._step()
        await asyncio.sleep(0)

    async def aget(self, key: str) -> Any:
        """Return a value of the asset's state."""
        self._step()
        return self.store.state.get(key)

    async def aset(self, key: str, value: Any) -> None:
        """Set a value of the asset's state."""
        self._step()
        self.store.state = {**self.store.state, key: value}
        self._step()


class _Clock:
    """Replacement for `datetime` in the trigger."""

    def __init__(self, triggerer: Triggerer) -> None:
        self._triggerer = triggerer

    def now(self, zone: tzinfo) -> datetime:
        """Return the time of the triggerer's clock."""
        return datetime.now(zone) + timedelta(seconds=self._triggerer.now)
