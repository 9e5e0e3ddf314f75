from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Context

from airflow_provider_hca.sensors.dss import DSSBundleSensor
from tests.local.server import VERSION, LocalDSS, new_uuid, sums
from tests.running import connection, new_dag, requests_of, run, states, tries, xcom

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


def sensor(uuid: str, **options: Any) -> DSSBundleSensor:
    return DSSBundleSensor(task_id="wait", bundle_uuid=uuid, **{"poke_interval": 0.2, "timeout": 5, **options})


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


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_it_waits_until_the_bundle_is_there(dss: LocalDSS, mode: str) -> None:
    """While the DSS answers 404 it goes on waiting, in both modes, and is not counted as a failure."""
    uuid = new_bundle(dss)
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status", "status": 404, "times": 2}
    dss.control("POST", "faults", fault)
    with new_dag(f"sensor_waits_{mode}") as dag:
        sensor(uuid, mode=mode, retries=0)
    dag_run = run(dag)
    assert states(dag_run) == {"wait": "success"}
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


def test_a_wait_has_an_end(dss: LocalDSS) -> None:
    """A bundle that never comes fails the task when its timeout is over, or skips it if it is soft."""
    with new_dag("sensor_timeout") as dag:
        sensor(new_uuid(), timeout=0.5)
    with new_dag("sensor_timeout_soft") as soft:
        sensor(new_uuid(), timeout=0.5, soft_fail=True)
    assert states(run(dag)) == {"wait": "failed"}
    assert states(run(soft)) == {"wait": "skipped"}


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


def test_a_refusal_fails_at_once_and_spends_no_retry(dss: LocalDSS) -> None:
    """A 4xx other than 404 is permanent."""
    uuid = new_uuid()
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status", "status": 403, "times": 99}
    dss.control("POST", "faults", fault)
    with new_dag("sensor_refused") as dag:
        sensor(uuid, retries=3, retry_delay=timedelta(0))
    dag_run = run(dag)
    assert (states(dag_run), tries(dag_run, "wait")) == ({"wait": "failed"}, 1)
    assert requests_of(dss, "GET", "/v1/bundles/") == 1


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
