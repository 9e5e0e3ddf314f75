"""Sensors for the Data Storage System (DSS)."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.links.dss import DSSBundleLink, show_bundle
from airflow_provider_hca.triggers.wait import DSSWaitTrigger, wait_result
from airflow_provider_hca.utils.fail_fast import fail_fast, report_errors
from airflow_provider_hca.utils.validation import mappings

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_hca.client.waiters import Waiter

_FIRST_POKE = 10.0  # seconds that the first poke of a deferrable sensor may take, however many files it waits for


class DSSSensor(BaseSensorOperator):
    """Base sensor: opens the hook, waits in the worker or in the triggerer, ends retries that cannot help.

    With `deferrable=True` the sensor waits in the triggerer, which frees the worker slot; `mode="reschedule"` takes a
    slot for each poke. `timeout`, `soft_fail`, `never_fail`, `silent_fail` and retries work the same in all modes;
    `exponential_backoff` has no effect on a trigger, which polls every `poke_interval`.

    Invalid arguments and permanent errors fail immediately, without retries. A DSS that is unavailable for longer than
    the connection's `retry_seconds` fails the try.

    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
    :param deferrable: Whether to wait in the triggerer; `[operators] default_deferrable` by default
    :param multiple_outputs: Whether to push each item of the result as a separate XCom too
    """

    template_fields: Sequence[str] = ("dss_conn_id",)
    ui_color = "#e8f4dc"

    _waiter: Waiter | None = None

    def __init__(
        self,
        *,
        dss_conn_id: str = DSSHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.dss_conn_id = dss_conn_id
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> DSSHook:
        """Hook of the running task."""
        return DSSHook(self.dss_conn_id)

    @abstractmethod
    def _new_waiter(self) -> Waiter:
        """Return the condition to wait for."""

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Return whether the condition is met."""
        return self._poke(max(self.timeout, _FIRST_POKE))

    def _poke(self, seconds: float) -> PokeReturnValue:
        from airflow_provider_hca.client.waiters import within

        with fail_fast():
            # One for all pokes: it does not look up files again that it has seen.
            waiter = self._waiter = self._waiter or self._new_waiter()
            with self.hook as hook:
                result = hook.get_conn().run(within(waiter.check(hook.api), seconds))
        if result is None:
            self.log.info("%s: not available yet", waiter)
            return PokeReturnValue(is_done=False)
        self.log.info("%s: available", waiter)
        return PokeReturnValue(is_done=True, xcom_value=result)

    def execute(self, context: Context) -> Any:
        """Wait in the worker or in the triggerer."""
        with report_errors():
            return self._wait(context)

    def resume_execution(self, *args: Any, **kwargs: Any) -> Any:
        """Continue after the wait in the triggerer; see `BaseOperator`."""
        with report_errors(), self._named_timeout():
            return super().resume_execution(*args, **kwargs)

    def _wait(self, context: Context) -> Any:
        self._waiter = None
        if not self.deferrable:
            return self._wait_in_worker(context)
        deadline = time.time() + self.timeout
        with self._handle_errors(silent=self.silent_fail):
            poke = self._poke(_FIRST_POKE)
            if poke:
                return poke.xcom_value
        waiter = self._new_waiter()
        if not DSSWaitTrigger.can_hold(waiter):
            self.log.warning("waiting for %s in the worker: these are too many for a trigger", waiter)
            return self._wait_in_worker(context)
        trigger = DSSWaitTrigger.for_waiter(
            waiter,
            dss_conn_id=self.dss_conn_id,
            poll_interval=self.poke_interval,
            deadline=deadline,
            silent=self.silent_fail,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=trigger.timeout)
        return None

    def _wait_in_worker(self, context: Context) -> Any:
        with self._named_timeout():
            return super().execute(context)

    @contextmanager
    def _named_timeout(self) -> Iterator[None]:
        """Name the condition in a time-out of Airflow, and in the skip that `soft_fail` makes of it."""
        try:
            yield
        except AirflowSensorTimeout:
            raise self._timed_out() from None
        except AirflowSkipException as error:
            # Airflow skips after a time-out in the worker, and because of each error of a trigger and of its result.
            if isinstance(error.__cause__, AirflowSkipException):
                raise error.__cause__ from None
            by_airflow = error.__cause__ is None and self.soft_fail  # and not by `poke` of a subclass
            if by_airflow or isinstance(error.__cause__, AirflowSensorTimeout):
                raise AirflowSkipException(f"Skipped because of soft_fail: {self._timed_out()}") from None
            raise

    def _timed_out(self) -> AirflowSensorTimeout:
        return AirflowSensorTimeout(f"{self._new_waiter()}: not within the timeout of {self.timeout:.10g} s")

    def execute_complete(self, context: Context, event: Any) -> Any:  # noqa: ARG002 - Airflow's signature
        """Return the result after the wait in the triggerer."""
        with self._handle_errors():
            result, _ = wait_result(event)
            if result is None:
                raise self._timed_out()
            self.log.info("%s: available", self._new_waiter())
            return result

    @contextmanager
    def _handle_errors(self, *, silent: bool = False) -> Iterator[None]:
        """Fail, skip or ignore an error as `BaseSensorOperator.execute` does."""
        try:
            yield
        except (AirflowSensorTimeout, AirflowTaskTimeout, AirflowFailException) as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(f"Skipped because of soft_fail or never_fail: {error}") from error
            raise
        except Exception as error:
            if silent:
                self.log.exception("ignored because of silent_fail; still waiting")
            elif self.never_fail:
                raise AirflowSkipException(f"Skipped because of never_fail: {error}") from error
            else:
                raise


class DSSBundleSensor(DSSSensor):
    """Wait until a bundle is available in one or more replicas (`GET /bundles/{uuid}`).

    Returns, also as separate XComs: `uuid`, `version` and `versions`, the version by replica. For `deferrable` and
    `mode` see `DSSSensor`.

    :param bundle_uuid: UUID of the bundle. (templated)
    :param bundle_version: Version of the bundle, a DSS_VERSION; any version if None. (templated)
    :param replicas: Replicas that must all have the bundle, such as `["aws", "gcp"]`. (templated)
    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
    :param deferrable: Whether to wait in the triggerer; `[operators] default_deferrable` by default
    """

    template_fields: Sequence[str] = ("bundle_uuid", "bundle_version", "replicas", *DSSSensor.template_fields)
    operator_extra_links = (DSSBundleLink(),)

    def __init__(
        self,
        *,
        bundle_uuid: str,
        bundle_version: str | None = None,
        replicas: Sequence[str] = ("aws",),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.replicas = replicas

    def execute(self, context: Context) -> Any:
        """Wait in the worker or in the triggerer."""
        if isinstance(self.replicas, Sequence) and self.replicas:
            with self.hook as hook:
                show_bundle(context, hook, replica=self.replicas[0], uuid=self.bundle_uuid, version=self.bundle_version)
        return super().execute(context)

    def _new_waiter(self) -> Waiter:
        from airflow_provider_hca.client.waiters import BundleWaiter

        return BundleWaiter(self.bundle_uuid, self.bundle_version, self.replicas)


class DSSFileSensor(DSSSensor):
    """Wait until files are available in one or more replicas (`HEAD /files/{uuid}`).

    Returns, also as separate XComs: `file_count` and `byte_count`; for a single file also `uuid`, `version`, `size`,
    `sha256` and `content_type`. Failed asynchronous copies, and content that differs from `sha256`, are errors. For
    `deferrable` and `mode` see `DSSSensor`.

    :param files: Files, each with `uuid` and optionally `version` (any version otherwise) and `sha256`, for example the
        output of mapped `DSSPutFileOperator` tasks, or the `files` of a bundle. (templated)
    :param replicas: Replicas that must all have the files, such as `["aws", "gcp"]`. (templated)
    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
    :param deferrable: Whether to wait in the triggerer; `[operators] default_deferrable` by default
    """

    template_fields: Sequence[str] = ("files", "replicas", *DSSSensor.template_fields)

    def __init__(
        self,
        *,
        files: Iterable[Mapping[str, Any]] | XComArg,
        replicas: Sequence[str] = ("aws",),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.files = files
        self.replicas = replicas

    def _new_waiter(self) -> Waiter:
        from airflow_provider_hca.client.waiters import FilesWaiter

        return FilesWaiter(mappings("files", self.files), self.replicas)
