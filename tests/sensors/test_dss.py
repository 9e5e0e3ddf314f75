from __future__ import annotations

import inspect
import runpy
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException, Context
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_hca.exceptions import DSSResponseError
from airflow_provider_hca.links import dss as links
from airflow_provider_hca.operators.base import DSSDeferrableOperator
from airflow_provider_hca.operators.dss import (
    DSSCheckoutBundleOperator,
    DSSPutFileOperator,
    DSSUploadDirectoryOperator,
)
from airflow_provider_hca.sensors.dss import DSSBundleSensor, DSSFileSensor
from airflow_provider_hca.triggers import wait
from tests.local.server import VERSION, LocalDSS, new_uuid, sums
from tests.running import connection, ending, execute, new_context, new_dag, requests_of, run, states, tries, xcom

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


def sensor(uuid: str, **options: Any) -> DSSBundleSensor:
    return DSSBundleSensor(task_id="wait", bundle_uuid=uuid, **{"poke_interval": 0.1, "timeout": 600, **options})


# Results do not depend on these.
WAYS = pytest.mark.parametrize("way", [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}], ids=str)


def name_of(options: dict[str, Any]) -> str:
    return "_".join(f"{name}_{value}" for name, value in options.items()) or "plain"


def new_bundle(dss: LocalDSS, uuid: str = "") -> str:
    uuid = uuid or new_uuid()
    assert dss.put_bundle([dss.entry("a")], uuid).status_code == 201
    return uuid


def test_bundle_sensor_returns_uuid_and_version(dss: LocalDSS) -> None:
    uuid = new_bundle(dss)
    with new_dag("sensor_there") as dag:
        sensor(uuid.upper())
    dag_run = run(dag)
    assert states(dag_run) == {"wait": "success"}
    assert xcom(dag_run, "wait") == {"uuid": uuid, "version": VERSION, "versions": {"aws": VERSION}}
    assert xcom(dag_run, "wait", "version") == VERSION


@WAYS
def test_bundle_sensor_waits_while_the_dss_answers_404(dss: LocalDSS, way: dict[str, Any]) -> None:
    uuid = new_bundle(dss)
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status", "status": 404, "times": 2}
    dss.control("POST", "faults", fault)
    with new_dag(f"sensor_waits_{name_of(way)}") as dag:
        sensor(uuid, retries=0, **way)
    dag_run = run(dag)
    assert states(dag_run) == {"wait": "success"}
    assert xcom(dag_run, "wait") == {"uuid": uuid, "version": VERSION, "versions": {"aws": VERSION}}
    assert xcom(dag_run, "wait", "version") == VERSION
    assert requests_of(dss, "GET", f"/v1/bundles/{uuid}") == 3


def test_file_sensor_of_too_many_files_for_a_trigger_waits_in_the_worker(
    dss: LocalDSS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "_MAX_SIZE", 100)
    file = dss.new_file()
    fault = {"method": "HEAD", "path": f"/files/{file}", "action": "status", "status": 404, "times": 2}
    dss.control("POST", "faults", fault)
    task = DSSFileSensor(task_id="wait", files=[{"uuid": file}] * 3, poke_interval=0.1, timeout=600, deferrable=True)
    assert execute(task) == {"file_count": 3, "byte_count": 21}


def test_bundle_sensor_with_a_version_ignores_others(dss: LocalDSS) -> None:
    uuid = new_bundle(dss)
    other = "2025-01-01T000000.000000Z"
    assert not sensor(uuid, bundle_version=other).poke(Context()).is_done
    assert sensor(uuid, bundle_version=VERSION).poke(Context()).is_done


def test_bundle_sensor_waits_for_all_replicas(dss: LocalDSS) -> None:
    uuid = new_bundle(dss)
    both = sensor(uuid, replicas=["aws", "gcp"])
    assert not both.poke(Context()).is_done
    file, content = new_uuid(), b"in gcp too"
    assert dss.put_file(dss.stage_gcs(content, sums(content)), file).status_code == 201
    assert dss.put_bundle([dss.entry("a", file)], uuid, replica="gcp").status_code == 201
    poke = both.poke(Context())
    assert poke.is_done
    assert poke.xcom_value == {"uuid": uuid, "version": VERSION, "versions": {"aws": VERSION, "gcp": VERSION}}


@WAYS
def test_sensor_past_its_timeout_fails_without_retry(dss: LocalDSS, way: dict[str, Any]) -> None:
    with new_dag(f"sensor_timeout_{name_of(way)}") as dag:
        sensor(new_uuid(), timeout=0.3, retries=2, retry_delay=timedelta(0), **way)
    dag_run = run(dag)
    assert (states(dag_run), tries(dag_run, "wait")) == ({"wait": "failed"}, 1)


@pytest.mark.parametrize("deferrable", [False, True])
def test_sensor_skipped_after_its_timeout_names_the_bundle(dss: LocalDSS, *, deferrable: bool) -> None:
    uuid = new_uuid()
    with pytest.raises(AirflowSkipException, match=f"soft_fail.*{uuid}.*: not within the timeout of 0.1 s"):
        execute(sensor(uuid, timeout=0.1, soft_fail=True, deferrable=deferrable))


if AIRFLOW_V_3_0_PLUS:  # Airflow 2 has no error of its own for this

    @pytest.mark.parametrize(("soft_fail", "error"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
    def test_sensor_whose_trigger_timed_out_names_the_bundle(
        dss: LocalDSS, soft_fail: bool, error: type[Exception]
    ) -> None:
        """As after a triggerer that was down, when Airflow itself ends the wait."""
        uuid = new_uuid()
        waiting = sensor(uuid, timeout=60, soft_fail=soft_fail, deferrable=True)
        with pytest.raises(error, match=f"{uuid}.*: not within the timeout of 60 s"):
            waiting.resume_execution("__fail__", {"error": "Trigger timeout"}, new_context())


@pytest.mark.parametrize("deferrable", [False, True])
def test_sensor_past_its_timeout_names_the_bundle(dss: LocalDSS, *, deferrable: bool) -> None:
    uuid = new_uuid()
    with pytest.raises(AirflowSensorTimeout, match=f"{uuid}.*: not within the timeout of 0.1 s"):
        execute(sensor(uuid, timeout=0.1, deferrable=deferrable))


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("options", "state"),
    [({"soft_fail": True}, "skipped"), ({"never_fail": True}, ""), ({"silent_fail": True}, "failed")],
)
def test_sensor_past_its_timeout_ends_as_configured(
    dss: LocalDSS, deferrable: bool, options: dict[str, Any], state: str
) -> None:
    # Airflow's own poke does not count a timeout as a failure that never_fail skips, its deferred sensors do.
    state = state or ("skipped" if deferrable else "failed")
    assert ending(sensor(new_uuid(), timeout=0.1, deferrable=deferrable, **options)) == state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uuid": "no-uuid"}, "bundle uuid must be a UUID"),
        ({"bundle_version": "yesterday"}, "bundle version must be a DSS_VERSION"),
        ({"replicas": ["azure"]}, "replica must be 'aws' or 'gcp'"),
        ({"replicas": "aws"}, r"replicas must be a list such as"),
        ({"replicas": []}, "replicas must be a list such as"),
        ({"dss_conn_id": "unknown_conn"}, "unknown_conn"),
    ],
)
def test_invalid_arguments_fail_at_the_first_poke(options: dict[str, Any], message: str) -> None:
    options = {"uuid": new_uuid(), **options}
    with pytest.raises(Exception, match=message):
        sensor(**options).poke(Context())


REFUSED = pytest.mark.parametrize(
    ("options", "state"), [({}, "failed"), ({"soft_fail": True}, "skipped"), ({"never_fail": True}, "skipped")], ids=str
)


@WAYS
@REFUSED
@pytest.mark.parametrize("looks", [0, 1])
def test_refusal_ends_the_wait_without_retries(
    dss: LocalDSS, way: dict[str, Any], options: dict[str, Any], state: str, looks: int
) -> None:
    uuid = new_uuid()
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status"}
    if looks:
        dss.control("POST", "faults", {**fault, "status": 404, "times": looks})
    dss.control("POST", "faults", {**fault, "status": 403, "times": 99})
    assert ending(sensor(uuid, **way, **options)) == state
    assert requests_of(dss, "GET", "/v1/bundles/") == looks + 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_refusal_in_a_dag_fails_without_retries(dss: LocalDSS, deferrable: bool) -> None:
    uuid = new_uuid()
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status", "times": 1}
    dss.control("POST", "faults", {**fault, "status": 404})
    dss.control("POST", "faults", {**fault, "status": 403})
    with new_dag(f"sensor_refused_{deferrable}") as dag:
        sensor(uuid, retries=3, retry_delay=timedelta(0), deferrable=deferrable)
    dag_run = run(dag)
    assert (states(dag_run), tries(dag_run, "wait")) == ({"wait": "failed"}, 1)


@WAYS
@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({}, "up_for_retry"),
        ({"soft_fail": True}, "up_for_retry"),
        ({"never_fail": True}, "skipped"),
        ({"silent_fail": True}, "success"),
    ],
    ids=str,
)
def test_unavailable_dss_fails_the_try(
    dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, way: dict[str, Any], options: dict[str, Any], state: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    uuid = new_bundle(dss)
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status", "times": 1}
    for status in (404, 503):
        dss.control("POST", "faults", {**fault, "status": status})
    assert ending(sensor(uuid, **way, **options)) == state


@pytest.mark.parametrize("deferrable", [False, True])
def test_unavailable_dss_in_a_dag_is_retried(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, deferrable: bool) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    uuid = new_bundle(dss)
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status", "times": 1}
    for status in (404, 503):
        dss.control("POST", "faults", {**fault, "status": status})
    with new_dag(f"sensor_trouble_{deferrable}") as dag:
        sensor(uuid, retries=1, retry_delay=timedelta(0), deferrable=deferrable)
    dag_run = run(dag)
    assert (states(dag_run)["wait"], tries(dag_run, "wait")) == ("success", 2)


@WAYS
@REFUSED
@pytest.mark.parametrize("to_page", [True, False], ids=["link to the page", "link to the DSS"])
def test_invalid_connection_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch, way: dict[str, Any], options: dict[str, Any], state: str, to_page: bool
) -> None:
    monkeypatch.setattr(links, "AIRFLOW_V_3_1_PLUS", to_page)
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", '{"conn_type": "hca_dss", "host": "dss"}')
    assert ending(sensor(new_uuid(), **way, **options)) == state


@pytest.mark.parametrize("deferrable", [False, True])
def test_silent_sensor_ignores_temporary_errors_until_its_timeout(
    dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    uuid = new_bundle(dss)
    fault = {"method": "GET", "path": uuid, "action": "status", "status": 503}
    dss.control("POST", "faults", {**fault, "times": 2})
    assert ending(sensor(uuid, silent_fail=True, deferrable=deferrable)) == "success"
    assert requests_of(dss, "GET", f"/v1/bundles/{uuid}") == 3
    dss.control("POST", "faults", {**fault, "times": 999})
    assert ending(sensor(uuid, timeout=0.5, silent_fail=True, deferrable=deferrable)) == "failed"


def test_deferrable_defaults_to_the_configuration_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is read when the module is imported."""
    assert not sensor(new_uuid()).deferrable
    assert not files_sensor().deferrable
    assert not DSSDeferrableOperator(task_id="t").deferrable
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    sensors = runpy.run_path(inspect.getfile(DSSBundleSensor))
    operators = runpy.run_path(inspect.getfile(DSSDeferrableOperator))
    assert sensors["DSSBundleSensor"](task_id="t", bundle_uuid="u").deferrable
    assert sensors["DSSFileSensor"](task_id="t", files=[]).deferrable
    assert operators["DSSDeferrableOperator"](task_id="t").deferrable
    for operator in (DSSCheckoutBundleOperator, DSSPutFileOperator, DSSUploadDirectoryOperator):
        assert issubclass(operator, DSSDeferrableOperator)
        assert "deferrable" not in inspect.signature(operator.__init__).parameters


def files_sensor(*files: dict[str, Any], **options: Any) -> DSSFileSensor:
    return DSSFileSensor(task_id="wait", files=list(files), **{"poke_interval": 0.1, "timeout": 600, **options})


@WAYS
def test_file_sensor_waits_for_all_files(dss: LocalDSS, way: dict[str, Any]) -> None:
    stored, content = dss.new_file(), b"8" * 150_000 + new_uuid().encode()  # copied asynchronously
    copied = new_uuid()
    assert dss.put_file(dss.stage(content), copied).status_code == 202
    files = {"uuid": stored}, {"uuid": copied, "sha256": sums(content)["hca-dss-sha256"]}
    result = execute(files_sensor(*files, **way))
    assert result == {"file_count": 2, "byte_count": len(b"content") + len(content)}


@pytest.mark.parametrize("way", [{"mode": "poke"}, {"deferrable": True}], ids=str)
def test_file_sensor_does_not_look_up_available_files_again(dss: LocalDSS, way: dict[str, Any]) -> None:
    first, last = dss.new_file(), dss.new_file()
    fault = {"method": "HEAD", "path": f"/files/{last}", "action": "status", "status": 404, "times": 2}
    dss.control("POST", "faults", fault)
    execute(files_sensor({"uuid": first}, {"uuid": last}, **way))
    assert requests_of(dss, "HEAD", f"/v1/files/{last}") == 3
    assert requests_of(dss, "HEAD", f"/v1/files/{first}") == (2 if way.get("deferrable") else 1)


def test_file_sensor_leaves_most_files_to_the_triggerer(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_hca.sensors.dss._FIRST_POKE", 0.0)
    files = [dss.new_file() for _ in range(4)]
    with new_dag("files_many") as dag:
        files_sensor(*({"uuid": file} for file in files), deferrable=True)
    dag_run = run(dag)
    assert states(dag_run) == {"wait": "success"}
    assert xcom(dag_run, "wait", "file_count") == 4
    assert [requests_of(dss, "HEAD", f"/v1/files/{file}") for file in files] == [2, 1, 1, 1]


@WAYS
def test_file_sensor_failed_copy_fails_without_retries(dss: LocalDSS, way: dict[str, Any]) -> None:
    dss.control("POST", "faults", {"method": "PUT", "path": "/files/", "action": "fail_copy", "status": 422})
    file = new_uuid()
    assert dss.put_file(dss.stage(b"9" * 150_000 + new_uuid().encode()), file).status_code == 202
    assert ending(files_sensor({"uuid": file, "version": VERSION}, **way)) == "failed"


@pytest.mark.parametrize("files", ["abc", {"uuid": "u"}, None, [], [{"name": "a"}]])
def test_file_sensor_with_invalid_files_fails(files: Any) -> None:
    with pytest.raises(Exception, match="file"):
        DSSFileSensor(task_id="wait", files=files).poke(Context())


def test_temporary_error_is_retried_within_a_poke(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_seconds=2))
    uuid = new_bundle(dss)
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status", "status": 503, "times": 1}
    dss.control("POST", "faults", fault)
    assert sensor(uuid).poke(Context()).is_done
    dss.control("POST", "faults", {**fault, "times": 99})
    with pytest.raises(DSSResponseError, match="503"):
        sensor(uuid).poke(Context())
