"""The trigger that waits, on an event loop of its own, against a running DSS."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.serialization.serialized_objects import BaseSerialization

from airflow_provider_hca.client.waiters import BundleWaiter, FilesWaiter
from airflow_provider_hca.exceptions import DSSWaitError
from airflow_provider_hca.triggers.dss import DSSWaitTrigger
from airflow_provider_hca.triggers.wait import wait_result
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.running import connection, event_of, requests_of

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


@pytest.fixture(autouse=True)
def _impatient(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a connection that does not retry for long."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_seconds=1))


def trigger(wait: Any, **options: Any) -> DSSWaitTrigger:
    options = {"dss_conn_id": "hca_dss_default", "poll_interval": 1, "deadline": time.time() + 20, **options}
    return DSSWaitTrigger.for_waiter(wait, **options)


def test_it_is_made_again_of_what_it_serializes() -> None:
    """A triggerer makes the same trigger of its path and arguments, which JSON and Airflow's own encoding can hold."""
    made = trigger(BundleWaiter(new_uuid(), VERSION, ["aws"]), carried={"a": 1}, silent=True)
    path, arguments = made.serialize()
    encoded = json.dumps(BaseSerialization.serialize(arguments))
    assert BaseSerialization.deserialize(json.loads(encoded)) == arguments
    assert path == "airflow_provider_hca.triggers.dss.DSSWaitTrigger"
    assert DSSWaitTrigger(**json.loads(json.dumps(arguments))).serialize() == made.serialize()


def test_what_is_there_ends_it(dss: LocalDSS) -> None:
    """It tells what has come, and what it was given to carry."""
    file = dss.new_file()
    event = event_of(trigger(FilesWaiter([{"uuid": file}], ["aws"]), carried={"name": "a"}))
    result, carried = wait_result(event)
    assert result is not None
    assert (result["uuid"], result["file_count"], carried) == (file, 1, {"name": "a"})


def test_one_waits_for_many_files(dss: LocalDSS) -> None:
    """Five hundred files are waited for by one trigger, with one request each and one for each look in vain."""
    there = dss.new_file()
    files = [{"uuid": there, "version": VERSION}] * 499
    late = new_uuid()
    fault = {"method": "HEAD", "path": f"/files/{there}", "action": "status", "status": 404, "times": 2}
    dss.control("POST", "faults", fault)
    assert dss.put_file(dss.stage(b"late"), late).status_code == 201
    result, _ = wait_result(event_of(trigger(FilesWaiter([*files, {"uuid": late}], ["aws"]))))
    assert result == {"file_count": 500, "byte_count": 499 * len(b"content") + len(b"late")}
    assert requests_of(dss, "HEAD", "/v1/files/") == 502


def test_a_deadline_ends_it(dss: LocalDSS) -> None:
    """What does not come is looked for a last time at the deadline, which is then told."""
    uuid, started = new_uuid(), time.time()
    event = event_of(trigger(BundleWaiter(uuid, None, ["aws"]), deadline=started + 1.5))
    assert event == {"status": "timeout", "carried": {}}
    assert time.time() - started > 1.4
    assert 1 <= requests_of(dss, "GET", f"/v1/bundles/{uuid}") <= 4


def test_a_deadline_that_is_over_ends_it_at_once(dss: LocalDSS) -> None:
    """A triggerer that comes back too late looks once."""
    uuid = new_uuid()
    assert event_of(trigger(BundleWaiter(uuid, None, ["aws"]), deadline=time.time() - 60))["status"] == "timeout"
    assert requests_of(dss, "GET", f"/v1/bundles/{uuid}") == 1


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("method", "wait"),
    [("GET", BundleWaiter(new_uuid(), None, ["aws"])), ("HEAD", FilesWaiter([{"uuid": new_uuid()}], ["aws"]))],
)
def test_a_refusal_ends_it_at_once(dss: LocalDSS, method: str, wait: Any, status: int) -> None:
    """401 and 403 are told after one request, with what to check."""
    dss.control("POST", "faults", {"method": method, "path": "/v1/", "action": "status", "status": status, "times": 99})
    event = event_of(trigger(wait))
    assert (event["status"], event["permanent"]) == ("failed", True)
    assert str(status) in event["message"]
    assert "hca_dss_default" in event["message"]
    assert sum(requests_of(dss, each, "/v1/") for each in ("GET", "HEAD")) == 1
    with pytest.raises(AirflowFailException, match=str(status)):
        wait_result(event)


def test_a_dss_in_trouble_ends_it_after_some_requests(dss: LocalDSS) -> None:
    """503 for longer than the connection's retry_seconds is told, as something that may pass."""
    uuid = new_uuid()
    dss.control("POST", "faults", {"method": "GET", "path": uuid, "action": "status", "status": 503, "times": 99})
    event = event_of(trigger(BundleWaiter(uuid, None, ["aws"])))
    assert (event["status"], event["permanent"]) == ("failed", False)
    assert 1 < requests_of(dss, "GET", f"/v1/bundles/{uuid}") < 8
    with pytest.raises(DSSWaitError, match="503"):
        wait_result(event)


def test_trouble_that_passes_is_ridden_out(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 503 and a dropped connection in between do not end the wait."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_seconds=10))
    uuid = new_uuid()
    assert dss.put_bundle([dss.entry("a")], uuid).status_code == 201
    for what in ({"action": "status", "status": 503}, {"action": "drop"}):
        dss.control("POST", "faults", {"method": "GET", "path": uuid, "times": 1, **what})
    assert event_of(trigger(BundleWaiter(uuid, None, ["aws"])))["result"]["version"] == VERSION


def test_a_host_that_vanished_ends_it(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing listens any more, the wait ends after the connection's retry_seconds, and says so."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        host = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, host=host, retry_seconds=1))
    event = event_of(trigger(BundleWaiter(new_uuid(), None, ["aws"]), deadline=time.time() + 600))
    assert (event["status"], event["permanent"]) == ("failed", False)
    assert "refused" in event["message"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"host": "dss.example.org"}, "its host must be the full URL"), ({"verify": "/no/such/bundle"}, "verify")],
)
def test_a_connection_that_is_wrong_ends_it(
    dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], message: str
) -> None:
    """What is wrong with the connection is told, for good."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, **fields))
    event = event_of(trigger(BundleWaiter(new_uuid(), None, ["aws"])))
    assert (event["status"], event["permanent"]) == ("failed", True)
    assert message in event["message"]


def test_a_ca_bundle_that_is_none_ends_it(dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle without certificates, which may be repaired, is told with its name and that of the connection."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("nothing")
    wrong = connection(dss, host="https://127.0.0.1:1/v1", verify=str(bundle), retry_seconds=1)
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", wrong)
    event = event_of(trigger(BundleWaiter(new_uuid(), None, ["aws"])))
    assert (event["status"], event["permanent"]) == ("failed", False)
    assert f"the CA bundle {str(bundle)!r} is no file of certificates in PEM" in event["message"]
    assert "hca_dss_default" in event["message"]


def test_no_credentials_are_read(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key file need not be where the triggerer is, and what is asked carries no token."""
    gone = connection(dss, key_path="/not/on/this/machine.json", retry_seconds=1)
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", gone)
    assert event_of(trigger(FilesWaiter([{"uuid": dss.new_file()}], ["aws"])))["status"] == "success"


def test_undefined_connection_fails_permanently() -> None:
    event = event_of(trigger(BundleWaiter(new_uuid(), None, ["aws"]), dss_conn_id="no_such_dss"))
    assert (event["status"], event["permanent"]) == ("failed", True)
    assert "airflow connections add no_such_dss --conn-type hca_dss" in event["message"]


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        "success",
        {"status": "success"},
        {"status": "failed", "message": "x", "permanent": "no"},
        {"status": "?"},
    ],
)
def test_other_events_are_refused(event: Any) -> None:
    """An event that is none of the trigger's is an error, and never passes for success."""
    with pytest.raises(ValueError, match="unexpected event"):
        wait_result(event)


def test_a_cancelled_trigger_ends(dss: LocalDSS) -> None:
    """A triggerer that stops ends the wait at once, without an event."""

    async def run() -> list[Any]:
        async def collect() -> list[Any]:
            return [event async for event in trigger(BundleWaiter(new_uuid(), None, ["aws"]), poll_interval=60).run()]

        task = asyncio.create_task(collect())
        await asyncio.sleep(0.2)
        task.cancel()
        return list(await asyncio.gather(task, return_exceptions=True))

    (ended,) = asyncio.run(run())
    assert isinstance(ended, asyncio.CancelledError)
