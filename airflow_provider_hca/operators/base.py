"""Base classes of the DSS operators."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.triggers.wait import DSSWaitTrigger
from airflow_provider_hca.utils.fail_fast import fail_fast, report_errors
from airflow_provider_hca.utils.validation import integer, seconds

if TYPE_CHECKING:
    from airflow_provider_hca.client.waiters import Waiter


class DSSOperator(BaseOperator):
    """Base operator: opens the hook, stops on kill, ends retries that cannot help.

    Invalid arguments and permanent errors, such as a refused token or a conflict, fail immediately, without retries:
    they are raised as `AirflowFailException`. Other errors are raised as `DSSError`.

    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
    :param multiple_outputs: Whether to push each item of the result as a separate XCom too
    """

    template_fields: Sequence[str] = ("dss_conn_id",)
    ui_color = "#dcecf7"

    _stop: threading.Event | None = None

    def __init__(
        self, *, dss_conn_id: str = DSSHook.default_conn_name, multiple_outputs: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.dss_conn_id = dss_conn_id

    @cached_property
    def hook(self) -> DSSHook:
        """Hook of the running task; `on_kill` stops its calls."""
        self._stop = threading.Event()
        return DSSHook(self.dss_conn_id, pool_size=self._pool_size, stop=self._stop)

    @property
    def _pool_size(self) -> int:
        return 2

    def on_kill(self) -> None:
        """Stop the task: requests in progress finish, no further ones are sent."""
        if self._stop is not None:
            self._stop.set()

    @contextmanager
    def _open_hook(self) -> Iterator[DSSHook]:
        """Close the hook at the end, and end retries after permanent errors."""
        try:
            with fail_fast(), self.hook as hook:
                yield hook
        finally:
            # Airflow copies and pickles operators, also after they ran; an event can be neither copied nor pickled.
            self.__dict__.pop("hook", None)
            self._stop = None


class DSSDeferrableOperator(DSSOperator):
    """Base operator for tasks that wait, in the worker or in the triggerer.

    :param deferrable: Whether to wait in the triggerer, which frees the worker slot; `[operators] default_deferrable`
        of Airflow's configuration by default
    :param poll_interval: Time between two polls while waiting, in seconds or as a `timedelta`
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

    def resume_execution(self, *args: Any, **kwargs: Any) -> Any:
        """Continue after the wait in the triggerer; see `BaseOperator`."""
        with report_errors():
            return super().resume_execution(*args, **kwargs)

    def _may_defer(self, waiter: Waiter) -> bool:
        """Return whether to wait in the triggerer; log if the operator is deferrable and the waiter too large."""
        if self.deferrable and not DSSWaitTrigger.can_hold(waiter):
            self.log.warning("waiting for %s in the worker: these are too many for a trigger", waiter)
            return False
        return self.deferrable

    def _defer_wait(self, waiter: Waiter, deadline: float, carried: dict[str, Any]) -> NoReturn:
        """Wait in the triggerer, which then calls `execute_complete`.

        :param waiter: Condition to wait for
        :param deadline: End of the wait, in seconds since the epoch
        :param carried: Data for `execute_complete`, returned with the event
        """
        trigger = DSSWaitTrigger.for_waiter(
            waiter,
            dss_conn_id=self.dss_conn_id,
            poll_interval=self.poll_interval,
            deadline=deadline,
            carried=carried,
        )
        self.log.info("waiting for %s in the triggerer", waiter)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=trigger.timeout)
        raise AssertionError("defer() raises")


def identity(uuid: str, version: str | None, replica: str) -> dict[str, Any]:
    """Return the items that all results begin with: `uuid`, `version`, `fqid`, `replica`.

    :param uuid: UUID of the file, bundle or collection
    :param version: Version; None if the task has no single version
    :param replica: `aws` or `gcp`
    """
    return {"uuid": uuid, "version": version, "fqid": version and f"{uuid}.{version}", "replica": replica}


def exceeds(max_failed: float, failed: int, total: int) -> bool:
    """Return whether more items of a batch failed than allowed.

    :param max_failed: Number of items, or as a float their share
    :param failed: Number of items that failed
    :param total: Number of items
    """
    return failed > (max_failed * total if isinstance(max_failed, float) else max_failed)


def resolve_creator_uid(given: int | str | None, hook: DSSHook) -> int:
    """Return the `creator_uid` of an operator, or that of the connection if None.

    :param given: Argument of the operator
    :param hook: Hook of the task
    :raises ValueError: if it is not an integer
    """
    return hook.creator_uid if given is None else integer("creator_uid", given)
