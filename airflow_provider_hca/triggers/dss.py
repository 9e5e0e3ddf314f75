"""The trigger that waits in the triggerer for what sensors and operators of the DSS wait for."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_hca.exceptions import DSSError, DSSWaitError

if TYPE_CHECKING:
    from airflow_provider_hca.client.sansio import Call
    from airflow_provider_hca.client.transport import AiohttpTransport
    from airflow_provider_hca.client.waiters import Waiter

_SHORTEST_INTERVAL = 1.0  # seconds
_LAST_LOOK = 60.0  # seconds after the deadline that a look may take; less than the grace
# How much later than the trigger itself Airflow gives up on it: only when no triggerer runs it.
_GRACE = timedelta(minutes=5)


class DSSWaitTrigger(BaseTrigger):
    """Look at a DSS again and again until something has come, for a deferred task.

    Its one event is a dictionary with `status` and `carried`, and with `result` (`success`: what has come), with
    `message` and `permanent` (`failed`), or with nothing more (`timeout`). `wait_result` reads it.

    As in a sensor's poke, trouble of the DSS is ridden out within a look for the connection's `retry_seconds`; what
    lasts longer ends the wait, unless it is silent, and so does at once what would not pass, such as a refusal.

    :param dss_conn_id: the Airflow connection; its credentials are not used
    :param kind: of the wait (`airflow_provider_hca.client.waiters`)
    :param wait: its arguments
    :param poll_interval: seconds between two looks, at least one
    :param deadline: until when to wait, in seconds since the epoch
    :param carried: what the task has to know when it goes on; comes back with the event
    :param silent: whether to go on after trouble that may pass, until the deadline
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
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow ships it so
        self.dss_conn_id = dss_conn_id
        self.kind = kind
        self.wait = wait
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.carried = carried or {}
        self.silent = silent

    @classmethod
    def on(cls, wait: Waiter, **arguments: Any) -> DSSWaitTrigger:
        """Return a trigger for a wait.

        :param wait: what for
        :param arguments: the others
        """
        return cls(kind=wait.kind, wait=wait.as_json(), **arguments)

    @property
    def timeout(self) -> timedelta:
        """After which Airflow is to give up on the trigger itself."""
        return timedelta(seconds=max(0.0, self.deadline - time.time())) + _GRACE

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of the class and its arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "dss_conn_id": self.dss_conn_id,
            "kind": self.kind,
            "wait": self.wait,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
            "carried": self.carried,
            "silent": self.silent,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        try:
            event = await self._event()
        except (DSSError, ValueError, AirflowNotFoundException) as error:
            permanent = error.permanent if isinstance(error, DSSError) else isinstance(error, ValueError)
            event = {"status": "failed", "message": str(error), "permanent": permanent}
        yield TriggerEvent({**event, "carried": self.carried})  # type: ignore[no-untyped-call]  # Airflow ships it so

    async def _event(self) -> dict[str, Any]:
        from airflow_provider_hca.client.waiters import open_waiter, within
        from airflow_provider_hca.hooks.connection import connected

        wait, interval = open_waiter(self.kind, self.wait), max(_SHORTEST_INTERVAL, self.poll_interval)
        async with connected(self.dss_conn_id) as (dss, transport):
            self.log.info("waiting for %s, looking every %.0f s", wait, interval)
            # The task has just looked; and when a triggerer starts anew, thousands begin at once.
            pause = interval * random.random()  # noqa: S311 - spreads load
            while True:
                # Not beyond the deadline; then for a last look.
                await asyncio.sleep(max(0.0, min(pause, self.deadline - time.time())))
                seconds = max(0.0, self.deadline - time.time()) + _LAST_LOOK
                result = await self._look(transport, within(wait.check(dss), seconds))
                if result is not None:
                    return {"status": "success", "result": result}
                if time.time() >= self.deadline:
                    return {"status": "timeout"}
                pause = interval * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load

    async def _look(self, transport: AiohttpTransport, look: Call[dict[str, Any] | None]) -> dict[str, Any] | None:
        try:
            return await transport.run(look)
        except DSSError as error:
            if error.permanent or not self.silent:
                raise
            self.log.warning("%s. Ignored because of silent_fail; the sensor goes on", error)
            return None


def wait_result(event: Any) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return what has come, None if it did not come in time, and what the trigger carried.

    :param event: of a `DSSWaitTrigger`
    :raises AirflowFailException: when the wait failed, and would again
    :raises DSSWaitError: when it failed
    :raises ValueError: when it is not an event of that trigger
    """
    match event:
        case {"status": "success", "result": dict(result), "carried": dict(carried)}:
            return result, carried
        case {"status": "timeout", "carried": dict(carried)}:
            return None, carried
        case {"status": "failed", "message": str(message), "permanent": bool(permanent)}:
            raise AirflowFailException(message) if permanent else DSSWaitError(message)
    raise ValueError(f"the trigger of the DSS sends no such event: {event!r:.200}")
