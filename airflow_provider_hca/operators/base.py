"""What the DSS operators have in common."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.triggers.dss import DSSWaitTrigger
from airflow_provider_hca.utils.fail_fast import fail_fast

if TYPE_CHECKING:
    from airflow_provider_hca.client.waiters import Waiter


class DSSOperator(BaseOperator):
    """What the DSS operators have in common: a connection, a creator, an end when killed, errors that end retries.

    An error that would come again (a wrong argument, a refused token, a conflict) is raised as an
    `AirflowFailException`, which spends no retry; any other as the `DSSError` that it is.

    :param dss_conn_id: the Airflow connection (templated)
    :param creator_uid: who creates; the connection's `creator_uid` if None (templated)
    """

    template_fields: Sequence[str] = ("dss_conn_id", "creator_uid")
    ui_color = "#dcecf7"

    _stop: threading.Event | None = None

    def __init__(
        self, *, dss_conn_id: str = DSSHook.default_conn_name, creator_uid: int | str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.dss_conn_id = dss_conn_id
        self.creator_uid = creator_uid

    def on_kill(self) -> None:
        """Tell the work to stop: nothing more is begun; a request under way is the last."""
        if self._stop is not None:
            self._stop.set()

    @contextmanager
    def _running(self, *, pool_size: int = 2) -> Iterator[tuple[DSSHook, int]]:
        """Give the hook and the creator's uid to the work inside, and sort its errors."""
        self._stop = threading.Event()
        try:
            with fail_fast(), DSSHook(self.dss_conn_id, pool_size=pool_size, stop=self._stop) as hook:
                yield hook, hook.creator_uid if self.creator_uid is None else integer("creator_uid", self.creator_uid)
        finally:
            self._stop = None  # an operator is copied and pickled, an event cannot be


class DSSWaitingOperator(DSSOperator):
    """A DSS operator that may have to wait, in its worker or in the triggerer.

    :param deferrable: whether to wait in the triggerer, so that no worker slot is held; by default as Airflow's
        `[operators] default_deferrable` says
    :param poll_interval: between two looks there, in seconds or as a `timedelta`
    """

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | timedelta = 30.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable
        self.poll_interval = seconds("poll_interval", poll_interval)

    def _wait_in_triggerer(self, wait: Waiter, deadline: float, carried: dict[str, Any]) -> NoReturn:
        """Leave the worker until something has come; `execute_complete` goes on then.

        :param wait: what for
        :param deadline: in seconds since the epoch
        :param carried: what `execute_complete` has to know
        """
        trigger = DSSWaitTrigger.on(
            wait,
            dss_conn_id=self.dss_conn_id,
            poll_interval=self.poll_interval,
            deadline=deadline,
            carried=carried,
        )
        self.log.info("waiting for %s in the triggerer", wait)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=trigger.timeout)
        raise AssertionError("defer() raises")


def integer(what: str, value: int | str) -> int:
    """Return a whole number, which a template gives as text.

    :param what: what it is, for the error message
    """
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be a whole number, not {value!r}") from None


def boolean(what: str, value: bool | str) -> bool:
    """Return a truth value, which a template gives as text.

    :param what: what it is, for the error message
    """
    text = str(value).strip().lower()
    if text not in {"true", "false"}:
        raise ValueError(f"{what} must be true or false, not {value!r}")
    return text == "true"


def seconds(what: str, value: float | timedelta) -> float:
    """Return a time in seconds.

    :param what: what it is, for the error message
    """
    try:
        return value.total_seconds() if isinstance(value, timedelta) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be a number of seconds or a timedelta, not {value!r}") from None


def mappings(what: str, value: Any) -> list[Mapping[str, Any]]:
    """Return a list of mappings, such as mapped tasks give one by one.

    :param what: what it is, for the error message
    """
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise ValueError(f"{what} must be a list, not {value!r:.200}")
    items = list(value)
    odd = next((item for item in items if not isinstance(item, Mapping)), None)
    if odd is not None:
        raise ValueError(f"{what} must be a list of mappings; {odd!r:.200} is none")
    return items
