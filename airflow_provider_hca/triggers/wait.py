"""Trigger that waits for a bundle, files or a checkout."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_hca.exceptions import DSSError, DSSWaitError

if TYPE_CHECKING:
    from airflow_provider_hca.client.async_transport import AiohttpTransport
    from airflow_provider_hca.client.sansio import Call
    from airflow_provider_hca.client.waiters import Waiter

# Of the arguments, about 6,000 files: Airflow stores them as one value, and the triggerer reads them on its event loop.
_MAX_SIZE = 1024 * 1024  # bytes
_MAX_MESSAGE = 4000  # characters
_MIN_INTERVAL = 1.0  # seconds
_LAST_POLL = 60.0  # seconds that a poll may take after the deadline; less than the grace
# Airflow's own timeout is for triggers that no triggerer runs: the trigger itself ends before.
_GRACE = timedelta(minutes=5)


class DSSWaitTrigger(BaseTrigger):
    """Poll a DSS until a condition is met, for a deferred task.

    Yields one event, a dictionary with `status` and `carried`, and depending on the status `result` (`success`),
    `message` and `permanent` (`failed`), or nothing else (`timeout`). `wait_result` reads it.

    As in a sensor, each poll retries temporary errors for the connection's `retry_seconds`. Longer ones end the wait,
    unless `silent`; permanent errors end it immediately.

    :param dss_conn_id: Airflow connection of type `hca_dss`; its credentials are not used
    :param kind: Kind of waiter (`airflow_provider_hca.client.waiters`)
    :param wait: Arguments of the waiter
    :param poll_interval: Time between two polls, in seconds; at least one
    :param deadline: End of the wait, in seconds since the epoch
    :param carried: Data for the task, returned with the event
    :param silent: Whether to ignore temporary errors until the deadline
    """

    def __init__(
        self,
        *,
        dss_conn_id: str,
        kind: str,
        wait: dict[str, Any],
        poll_interval: float,
        deadline: float,
        carried: dict[str, Any] | None = None,
        silent: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow does not type it
        self.dss_conn_id = dss_conn_id
        self.kind = kind
        self.wait = wait
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.carried = carried or {}
        self.silent = silent

    @classmethod
    def for_waiter(cls, waiter: Waiter, **arguments: Any) -> DSSWaitTrigger:
        """Return a trigger for a waiter.

        :param waiter: Condition to wait for
        :param arguments: Other arguments of the trigger
        """
        return cls(kind=waiter.kind, wait=waiter.as_json(), **arguments)

    @staticmethod
    def can_hold(waiter: Waiter) -> bool:
        """Return whether a waiter is small enough for a trigger, at most 1 MiB: about 6,000 files.

        :param waiter: Condition to wait for
        """
        return len(json.dumps(waiter.as_json())) <= _MAX_SIZE

    @property
    def timeout(self) -> timedelta:
        """Time after which Airflow fails a task whose trigger does not run."""
        return timedelta(seconds=max(0.0, self.deadline - time.time())) + _GRACE

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path and the arguments of the trigger."""
        return "airflow_provider_hca.triggers.dss.DSSWaitTrigger", {
            "dss_conn_id": self.dss_conn_id,
            "kind": self.kind,
            "wait": self.wait,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
            "carried": self.carried,
            "silent": self.silent,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event."""
        try:
            event = await self._event()
        except (DSSError, ValueError) as error:
            permanent = error.permanent if isinstance(error, DSSError) else isinstance(error, ValueError)
            event = {"status": "failed", "message": str(error)[:_MAX_MESSAGE], "permanent": permanent}
        yield TriggerEvent({**event, "carried": self.carried})  # type: ignore[no-untyped-call]  # Airflow does not type it

    async def _event(self) -> dict[str, Any]:
        from airflow_provider_hca.client.waiters import open_waiter, within
        from airflow_provider_hca.hooks.connection import connected

        waiter, interval = open_waiter(self.kind, self.wait), max(_MIN_INTERVAL, self.poll_interval)
        async with connected(self.dss_conn_id) as (dss, transport):
            self.log.info("waiting for %s, polling every %.0f s", waiter, interval)
            # The task has just polled; and a triggerer that restarts starts thousands of triggers at once.
            pause = interval * random.random()  # noqa: S311 - spreads load
            while True:
                # Not beyond the deadline, at which it polls once more.
                await asyncio.sleep(max(0.0, min(pause, self.deadline - time.time())))
                seconds = max(0.0, self.deadline - time.time()) + _LAST_POLL
                result = await self._poll(transport, within(waiter.check(dss), seconds))
                if result is not None:
                    return {"status": "success", "result": result}
                if time.time() >= self.deadline:
                    return {"status": "timeout"}
                pause = interval * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load

    async def _poll(self, transport: AiohttpTransport, call: Call[dict[str, Any] | None]) -> dict[str, Any] | None:
        try:
            return await transport.run(call)
        except DSSError as error:
            if error.permanent or not self.silent:
                raise
            self.log.warning("%s. Ignored because of silent_fail; still waiting", error)
            return None


def wait_result(event: Any) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the result of a wait, None after a timeout, and the data carried by the trigger.

    :param event: Event of a `DSSWaitTrigger`
    :raises AirflowFailException: if the wait failed permanently
    :raises DSSWaitError: if it failed temporarily
    :raises ValueError: if the event is not from a `DSSWaitTrigger`
    """
    match event:
        case {"status": "success", "result": dict(result), "carried": dict(carried)}:
            return result, carried
        case {"status": "timeout", "carried": dict(carried)}:
            return None, carried
        case {"status": "failed", "message": str(message), "permanent": bool(permanent)}:
            raise AirflowFailException(message) if permanent else DSSWaitError(message)
    raise ValueError(f"unexpected event, not from a DSSWaitTrigger: {event!r:.200}")
