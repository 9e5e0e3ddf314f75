"""Sensors for the Data Storage System (DSS): wait until a bundle, or files, are available."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from airflow_provider_hca.triggers.dss import DSSWaitTrigger, wait_result
from airflow_provider_hca.utils.fail_fast import fail_fast

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_hca.client.waiters import Waiter

_FIRST_LOOK = 10.0  # seconds that a deferrable sensor may hold its worker, however many files it waits for


class DSSSensor(BaseSensorOperator):
    """What the sensors of the DSS have in common.

    With `deferrable=True` the wait goes on in the triggerer, and no worker slot is held; `mode="reschedule"` holds one
    for each look. `timeout`, `soft_fail`, `never_fail`, `silent_fail` and retries mean the same in each of them;
    `exponential_backoff` is for the others, a trigger looks every `poke_interval`.
    What would never come true, such as a refused request or a uuid that is none, fails at once and spends no retry. A
    DSS that is down for longer than the connection's `retry_seconds` fails the try.

    :param dss_conn_id: the Airflow connection (templated)
    :param deferrable: whether to wait in the triggerer; by default as Airflow's `[operators] default_deferrable` says
    """

    template_fields: Sequence[str] = ("dss_conn_id",)
    ui_color = "#e8f4dc"

    _waiting: Waiter | None = None

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

    @abstractmethod
    def _wait(self) -> Waiter:
        """Return what to wait for."""

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Return whether it has come."""
        return self._poke(max(self.timeout, _FIRST_LOOK))

    def _poke(self, seconds: float) -> PokeReturnValue:
        from airflow_provider_hca.client.waiters import within

        with fail_fast():
            # One for all pokes: it remembers which of its files have come.
            wait = self._waiting = self._waiting or self._wait()
            with DSSHook(self.dss_conn_id) as hook:
                result = hook.get_conn().run(within(wait.check(hook.api), seconds))
        if result is None:
            self.log.info("%s: not yet", wait)
            return PokeReturnValue(is_done=False)
        self.log.info("%s: there", wait)
        return PokeReturnValue(is_done=True, xcom_value=result)

    def execute(self, context: Context) -> Any:
        """Wait, in the way that is wanted; return what has come."""
        self._waiting = None
        if not self.deferrable:
            return super().execute(context)
        deadline = time.time() + self.timeout
        with self._failing_as_told(silent=self.silent_fail):
            found = self._poke(_FIRST_LOOK)
            if found:
                return found.xcom_value
        trigger = DSSWaitTrigger.on(
            self._wait(),
            dss_conn_id=self.dss_conn_id,
            poll_interval=self.poke_interval,
            deadline=deadline,
            silent=self.silent_fail,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=trigger.timeout)
        return None

    def execute_complete(self, context: Context, event: Any) -> Any:  # noqa: ARG002 - Airflow's signature
        """Take up the task after its wait in the triggerer; return what has come."""
        with self._failing_as_told():
            result, _ = wait_result(event)
            if result is None:
                raise AirflowSensorTimeout(f"{self._wait()}: not within the timeout of {self.timeout:.0f} s")
            self.log.info("%s: there", self._wait())
            return result

    @contextmanager
    def _failing_as_told(self, *, silent: bool = False) -> Iterator[None]:
        """Fail, skip, or go on after an error as `BaseSensorOperator.execute` does."""
        try:
            yield
        except (AirflowSensorTimeout, AirflowTaskTimeout, AirflowFailException) as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(f"Skipped because of soft_fail or never_fail: {error}") from error
            raise
        except Exception as error:
            if silent:
                self.log.exception("ignored because of silent_fail; the sensor goes on")
            elif self.never_fail:
                raise AirflowSkipException(f"Skipped because of never_fail: {error}") from error
            else:
                raise


class DSSBundleSensor(DSSSensor):
    """Wait until a bundle is available in one or more replicas (`GET /bundles/{uuid}`).

    Returns, also as an XCom each, `uuid`, `version` and `versions`, the version found in each replica. How it waits is
    told by `deferrable` and `mode`; see `DSSSensor`.

    :param bundle_uuid: of the bundle (templated)
    :param bundle_version: of the bundle, a DSS_VERSION; any version will do if None (templated)
    :param replicas: those that must all have it, of `aws` and `gcp` (templated)
    :param dss_conn_id: the Airflow connection (templated)
    :param deferrable: whether to wait in the triggerer; by default as Airflow's `[operators] default_deferrable` says
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
        """Wait, in the way that is wanted; return what has come."""
        if isinstance(self.replicas, Sequence) and self.replicas:
            with DSSHook(self.dss_conn_id) as hook:
                show_bundle(context, hook, replica=self.replicas[0], uuid=self.bundle_uuid, version=self.bundle_version)
        return super().execute(context)

    def _wait(self) -> Waiter:
        from airflow_provider_hca.client.waiters import BundleWaiter

        return BundleWaiter(self.bundle_uuid, self.bundle_version, self.replicas)


class DSSFileSensor(DSSSensor):
    """Wait until files, one or many, are available in one or more replicas (`HEAD /files/{uuid}`).

    Returns, also as an XCom each, `file_count` and `byte_count`; of a single file also `uuid`, `version`, `size`,
    `sha256` and `content_type`. An asynchronous copy that failed, and other content than `sha256` says, are errors.
    How it waits is told by `deferrable` and `mode`; see `DSSSensor`.

    :param files: each with `uuid`, and maybe `version` (any will do without) and `sha256`, such as what mapped
        put-file tasks return or the `files` of a bundle (templated)
    :param replicas: those that must all have them, of `aws` and `gcp` (templated)
    :param dss_conn_id: the Airflow connection (templated)
    :param deferrable: whether to wait in the triggerer; by default as Airflow's `[operators] default_deferrable` says
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

    def _wait(self) -> Waiter:
        from airflow_provider_hca.client.waiters import FilesWaiter

        if not isinstance(self.files, Iterable) or isinstance(self.files, str | Mapping):
            raise ValueError(f"files must be a list of files, each with a uuid, not {self.files!r:.200}")
        return FilesWaiter(self.files, self.replicas)
