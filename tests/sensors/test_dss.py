from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Context

from airflow_provider_hca.operators import links
from airflow_provider_hca.sensors.dss import DSSBundleSensor, DSSFileSensor
from tests.local.server import VERSION, LocalDSS, new_uuid, sums
from tests.running import connection, new_dag, requests_of, run, states, tries, xcom

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


def sensor(uuid: str, **options: Any) -> DSSBundleSensor:
    return DSSBundleSensor(task_id="wait", bundle_uuid=uuid, **{"poke_interval": 0.2, "timeout": 5, **options})


# The ways to wait, in which everything else is to be the same.
WAYS = pytest.mark.parametrize("way", [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}], ids=str)


def name_of(options: dict[str, Any]) -> str:
    return "_".join(f"{name}_{value}" for name, value in options.items()) or "plain"


def new_bundle(dss: LocalDSS, uuid: str = "") -> str:
    uuid = uuid or new_uuid()
    assert dss.put_bundle([dss.entry("a")], uuid).status_code == 201
    return uuid


def test_a_bundle_that_is_there_ends_the_wait(dss: LocalDSS) -> None:
    """A bundle of any version is found by its uuid in either case, and its version is handed on."""
    uuid = new_bundle(dss)
    with new_dag("sensor_there") as dag:
        sensor(uuid.upper())
    dag_run = run(dag)
    assert states(dag_run) == {"wait": "success"}
    assert xcom(dag_run, "wait") == {"uuid": uuid, "version": VERSION, "versions": {"aws": VERSION}}
    assert xcom(dag_run, "wait", "version") == VERSION


@WAYS
def test_it_waits_until_the_bundle_is_there(dss: LocalDSS, way: dict[str, Any]) -> None:
    """While the DSS answers 404 it goes on waiting, in each way, and is not counted as a failure."""
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


def test_another_version_is_not_the_one_waited_for(dss: LocalDSS) -> None:
    """With a version given, only that version will do."""
    uuid = new_bundle(dss)
    other = "2025-01-01T000000.000000Z"
    assert not sensor(uuid, bundle_version=other).poke(Context()).is_done
    assert sensor(uuid, bundle_version=VERSION).poke(Context()).is_done


def test_all_replicas_must_have_it(dss: LocalDSS) -> None:
    """With two replicas given, one that has the bundle is not enough."""
    uuid = new_bundle(dss)
    both = sensor(uuid, replicas=["aws", "gcp"])
    assert not both.poke(Context()).is_done
    file, content = new_uuid(), b"in gcp too"
    assert dss.put_file(dss.stage_gcs(content, sums(content)), file).status_code == 201
    assert dss.put_bundle([dss.entry("a", file)], uuid, replica="gcp").status_code == 201
    found = both.poke(Context())
    assert found.is_done
    assert found.xcom_value == {"uuid": uuid, "version": VERSION, "versions": {"aws": VERSION, "gcp": VERSION}}


@WAYS
@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({}, "failed"),
        ({"soft_fail": True}, "skipped"),
        ({"never_fail": True}, "failed"),
        ({"silent_fail": True}, "failed"),
    ],
)
def test_a_wait_has_an_end(dss: LocalDSS, way: dict[str, Any], options: dict[str, Any], state: str) -> None:
    """A bundle that never comes fails the task when its timeout is over, whatever its retries, or skips a soft one."""
    if way.get("deferrable") and options.get("never_fail"):
        state = "skipped"  # as Airflow does it with every deferred sensor
    with new_dag(f"sensor_timeout_{name_of(way)}_{name_of(options)}") as dag:
        sensor(new_uuid(), timeout=0.5, retries=2, retry_delay=timedelta(0), **way, **options)
    dag_run = run(dag)
    assert (states(dag_run), tries(dag_run, "wait")) == ({"wait": state}, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uuid": "no-uuid"}, "bundle uuid must be a uuid"),
        ({"bundle_version": "yesterday"}, "bundle version must be a DSS_VERSION"),
        ({"replicas": ["azure"]}, "replica must be one of"),
        ({"replicas": "aws"}, r"replicas must be a list such as"),
        ({"replicas": []}, "replicas must be a list such as"),
        ({"dss_conn_id": "unknown_conn"}, "unknown_conn"),
    ],
)
def test_what_never_comes_true_fails_at_once(options: dict[str, Any], message: str) -> None:
    """Waiting for what cannot be ends at the first poke, and says what to change."""
    options = {"uuid": new_uuid(), **options}
    with pytest.raises(Exception, match=message):
        sensor(**options).poke(Context())


@WAYS
@pytest.mark.parametrize(
    ("options", "state"), [({}, "failed"), ({"soft_fail": True}, "skipped"), ({"never_fail": True}, "skipped")]
)
@pytest.mark.parametrize("looks", [0, 1])
def test_a_refusal_ends_it_at_once_and_spends_no_retry(
    dss: LocalDSS, way: dict[str, Any], options: dict[str, Any], state: str, looks: int
) -> None:
    """A 4xx other than 404 is permanent, at the first look and later, in each way."""
    uuid = new_uuid()
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status"}
    if looks:
        dss.control("POST", "faults", {**fault, "status": 404, "times": looks})
    dss.control("POST", "faults", {**fault, "status": 403, "times": 99})
    with new_dag(f"sensor_refused_{name_of(way)}_{name_of(options)}_{looks}") as dag:
        sensor(uuid, retries=3, retry_delay=timedelta(0), **way, **options)
    dag_run = run(dag)
    assert (states(dag_run), tries(dag_run, "wait")) == ({"wait": state}, 1)
    assert requests_of(dss, "GET", "/v1/bundles/") == looks + 1


@WAYS
@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({"retries": 1}, ("success", 2)),
        ({"retries": 0}, ("failed", 1)),
        ({"retries": 0, "soft_fail": True}, ("failed", 1)),
        ({"retries": 0, "never_fail": True}, ("skipped", 1)),
        ({"retries": 0, "silent_fail": True}, ("success", 1)),
    ],
)
def test_trouble_that_lasts_fails_the_try(
    dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, way: dict[str, Any], options: dict[str, Any], ends: tuple[str, int]
) -> None:
    """A DSS that is down for longer than retry_seconds fails the try, which may be tried again, in each way alike."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    uuid = new_bundle(dss)
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status", "times": 1}
    for status in (404, 503):
        dss.control("POST", "faults", {**fault, "status": status})
    with new_dag(f"sensor_trouble_{name_of(way)}_{name_of(options)}") as dag:
        sensor(uuid, retry_delay=timedelta(0), **way, **options)
    dag_run = run(dag)
    assert (states(dag_run)["wait"], tries(dag_run, "wait")) == ends


@WAYS
@pytest.mark.parametrize(
    ("options", "state"), [({}, "failed"), ({"soft_fail": True}, "skipped"), ({"never_fail": True}, "skipped")]
)
@pytest.mark.parametrize("to_page", [True, False], ids=["link to the page", "link to the DSS"])
def test_a_malformed_connection_ends_it_at_once(
    monkeypatch: pytest.MonkeyPatch, way: dict[str, Any], options: dict[str, Any], state: str, to_page: bool
) -> None:
    """A host that is no URL is permanent, in each way and whatever the link to the bundle is made of."""
    monkeypatch.setattr(links, "AIRFLOW_V_3_1_PLUS", to_page)
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", '{"conn_type": "hca_dss", "host": "dss"}')
    with new_dag(f"sensor_malformed_{name_of(way)}_{name_of(options)}_{to_page}") as dag:
        sensor(new_uuid(), retries=3, retry_delay=timedelta(0), **way, **options)
    dag_run = run(dag)
    assert (states(dag_run), tries(dag_run, "wait")) == ({"wait": state}, 1)


@WAYS
def test_silence_has_an_end_too(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, way: dict[str, Any]) -> None:
    """A silent sensor goes on after every error that may pass, and ends when its timeout is over all the same."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    uuid = new_uuid()
    dss.control("POST", "faults", {"method": "GET", "path": uuid, "action": "status", "status": 503, "times": 999})
    with new_dag(f"sensor_silent_{name_of(way)}") as dag:
        sensor(uuid, timeout=2, silent_fail=True, retries=2, retry_delay=timedelta(0), **way)
    dag_run = run(dag)
    assert (states(dag_run), tries(dag_run, "wait")) == ({"wait": "failed"}, 1)
    assert 2 <= requests_of(dss, "GET", f"/v1/bundles/{uuid}") < 20


def test_waiting_in_the_triggerer_is_airflows_default_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """`deferrable` is what `[operators] default_deferrable` says, unless it is given."""
    code = (
        "from airflow_provider_hca.sensors.dss import DSSBundleSensor, DSSFileSensor\n"
        "from airflow_provider_hca.operators.dss import DSSPutFileOperator, DSSCheckoutBundleOperator\n"
        "from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator\n"
        "print(DSSBundleSensor(task_id='a', bundle_uuid='u').deferrable,\n"
        "      DSSFileSensor(task_id='b', files=[]).deferrable,\n"
        "      DSSPutFileOperator(task_id='c', source_url='s3://b/k').deferrable,\n"
        "      DSSCheckoutBundleOperator(task_id='d', bundle_uuid='u').deferrable,\n"
        "      DSSUploadDirectoryOperator(task_id='e', directory='/', staging_bucket='b').deferrable)\n"
    )
    for said in ("True", "False"):
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", said)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == " ".join([said] * 5)


def files_sensor(*files: dict[str, Any], **options: Any) -> DSSFileSensor:
    return DSSFileSensor(task_id="wait", files=list(files), **{"poke_interval": 0.2, "timeout": 20, **options})


@WAYS
def test_files_are_waited_for(dss: LocalDSS, way: dict[str, Any]) -> None:
    """All files have to be there; while one is being copied the wait goes on."""
    there, content = dss.new_file(), b"8" * 150_000 + new_uuid().encode()  # copied later by the tests' DSS
    copied = new_uuid()
    assert dss.put_file(dss.stage(content), copied).status_code == 202
    with new_dag(f"files_{name_of(way)}") as dag:
        files_sensor({"uuid": there}, {"uuid": copied, "sha256": sums(content)["hca-dss-sha256"]}, **way)
    dag_run = run(dag)
    assert states(dag_run) == {"wait": "success"}
    assert xcom(dag_run, "wait") == {"file_count": 2, "byte_count": len(b"content") + len(content)}


@pytest.mark.parametrize("way", [{"mode": "poke"}, {"deferrable": True}], ids=str)
def test_many_files_cost_few_requests(dss: LocalDSS, way: dict[str, Any]) -> None:
    """What has come is not looked at again, in a process that goes on: the worker's, or the triggerer's."""
    first, last = dss.new_file(), dss.new_file()
    fault = {"method": "HEAD", "path": f"/files/{last}", "action": "status", "status": 404, "times": 4}
    dss.control("POST", "faults", fault)
    with new_dag(f"files_few_{name_of(way)}") as dag:
        files_sensor({"uuid": first}, {"uuid": last}, **way)
    assert states(run(dag)) == {"wait": "success"}
    assert requests_of(dss, "HEAD", f"/v1/files/{last}") == 5
    assert requests_of(dss, "HEAD", f"/v1/files/{first}") == (2 if way.get("deferrable") else 1)


def test_a_worker_is_not_held_to_look_at_many_files(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deferrable sensor looks for a while in the worker, and at all the others in the triggerer."""
    monkeypatch.setattr("airflow_provider_hca.sensors.dss._FIRST_LOOK", 0.0)
    files = [dss.new_file() for _ in range(4)]
    with new_dag("files_many") as dag:
        files_sensor(*({"uuid": file} for file in files), deferrable=True)
    dag_run = run(dag)
    assert states(dag_run) == {"wait": "success"}
    assert xcom(dag_run, "wait", "file_count") == 4
    assert [requests_of(dss, "HEAD", f"/v1/files/{file}") for file in files] == [2, 1, 1, 1]


@WAYS
def test_a_copy_that_fails_is_not_waited_out(dss: LocalDSS, way: dict[str, Any]) -> None:
    """A copy that the DSS gave up is an error at once, and spends no retry."""
    dss.control("POST", "faults", {"method": "PUT", "path": "/files/", "action": "fail_copy", "status": 422})
    file = new_uuid()
    assert dss.put_file(dss.stage(b"9" * 150_000 + new_uuid().encode()), file).status_code == 202
    with new_dag(f"files_failed_{name_of(way)}") as dag:
        files_sensor({"uuid": file, "version": VERSION}, retries=2, retry_delay=timedelta(0), **way)
    dag_run = run(dag)
    assert (states(dag_run), tries(dag_run, "wait")) == ({"wait": "failed"}, 1)


@pytest.mark.parametrize("files", ["abc", {"uuid": "u"}, None, [], [{"name": "a"}]])
def test_files_that_are_none(files: Any) -> None:
    """What is no list of files is told at once."""
    with pytest.raises(Exception, match="file"):
        DSSFileSensor(task_id="wait", files=files).poke(Context())


def test_a_dss_in_trouble_is_asked_again(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passing 503 is ridden out within the poke; one that lasts fails the try with the DSS's answer."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_seconds=2))
    uuid = new_bundle(dss)
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status", "status": 503, "times": 1}
    dss.control("POST", "faults", fault)
    assert sensor(uuid).poke(Context()).is_done
    dss.control("POST", "faults", {**fault, "times": 99})
    with pytest.raises(Exception, match="503") as caught:
        sensor(uuid).poke(Context())
    assert type(caught.value).__name__ == "DSSResponseError"
