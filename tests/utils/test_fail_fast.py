from __future__ import annotations

import itertools
import json
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_hca.operators.dss import (
    DSSDeleteBundleOperator,
    DSSOperator,
    DSSPutBundleOperator,
)
from airflow_provider_hca.sensors.dss import DSSBundleSensor
from airflow_provider_hca.utils.fail_fast import fail_fast
from airflow_provider_hca.utils.ui_links import ERROR_KEY
from tests.local.server import UNUSED_UUID, VERSION
from tests.running import new_dag, run, states, xcom

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = itertools.count()

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


def _reason(make_task: Callable[[], Any], state: str = "failed") -> Any:
    """Return the reason that a task reported."""
    with new_dag(f"reason_{next(_NUMBERS)}") as dag:
        make_task()
    dag_run = run(dag)
    (task_id,) = states(dag_run)
    assert states(dag_run) == {task_id: state}
    return xcom(dag_run, task_id, ERROR_KEY)


def _delete(uuid: str = UNUSED_UUID, connection: str = "hca_dss_default") -> DSSDeleteBundleOperator:
    return DSSDeleteBundleOperator(task_id="t", bundle_uuid=uuid, reason="test", dss_conn_id=connection)


def test_unknown_connection_is_reported() -> None:
    assert "connection 'unknown' is not defined" in _reason(lambda: _delete(connection="unknown"))


def test_connection_without_host_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HOSTLESS", json.dumps({"conn_type": "hca_dss"}))
    assert "host" in _reason(lambda: _delete(connection="hostless"))


def test_invalid_argument_is_reported() -> None:
    assert "bundle_uuid must be" in _reason(lambda: _delete("x"))


def test_failed_wait_in_the_triggerer_is_reported() -> None:
    file = {"uuid": UNUSED_UUID, "version": VERSION, "name": "a", "indexed": False}
    options: dict[str, Any] = {"deferrable": True, "file_missing_timeout": 1, "poll_interval": 0.2}
    reason = _reason(lambda: DSSPutBundleOperator(task_id="t", files=[file], **options))
    assert "after file_missing_timeout" in reason


def test_timeout_of_a_sensor_is_reported() -> None:
    options: dict[str, Any] = {"timeout": 0.5, "poke_interval": 0.2}
    reason = _reason(lambda: DSSBundleSensor(task_id="t", bundle_uuid=UNUSED_UUID, **options))
    assert "timed out" in reason.lower() or "timeout" in reason.lower()


class _Broken(DSSOperator):
    """Operator that raises an error of another package, or waits, or skips."""

    def __init__(self, *, error: Exception | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error = error

    def execute(self, context: Any) -> None:  # noqa: ARG002 - Airflow's signature
        """Raise the error, or exceed the timeout."""
        import time

        with self._open_hook():
            if self.error is not None:
                raise self.error
            time.sleep(10)


def test_message_of_another_package_is_not_reported() -> None:
    reason = _reason(lambda: _Broken(task_id="t", error=KeyError("a-secret")))
    assert reason == "KeyError: the log of the task has the message"


def test_execution_timeout_is_reported() -> None:
    with new_dag(f"reason_{next(_NUMBERS)}") as dag:
        _Broken(task_id="t", error=None, execution_timeout=timedelta(seconds=0.5))
    if AIRFLOW_V_3_0_PLUS:
        dag_run = run(dag)
    else:
        with pytest.raises(AirflowTaskTimeout):  # not an Exception, so that `dag.test()` of Airflow 2 raises it
            run(dag)
        dag_run = dag.get_last_dagrun(include_externally_triggered=True)  # type: ignore[attr-defined]  # Airflow 2
    assert xcom(dag_run, "t", ERROR_KEY) == "The task exceeded its execution_timeout"


def test_skip_is_not_reported() -> None:
    assert _reason(lambda: _Broken(task_id="t", error=AirflowSkipException("nothing to do")), "skipped") is None


def test_permanent_error_is_raised_once_with_its_traceback_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG, "airflow_provider_hca.utils.fail_fast"),
        pytest.raises(AirflowFailException, match="wrong") as raised,
        fail_fast(),
    ):
        raise ValueError("wrong")
    assert raised.value.__suppress_context__
    assert [record.levelname for record in caplog.records if record.exc_info] == ["DEBUG"]
