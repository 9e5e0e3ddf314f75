"""Test the trigger that waits, against a running DSS."""

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
from airflow_provider_hca.triggers import wait as wait_module
from airflow_provider_hca.triggers.dss import DSSWaitTrigger
from airflow_provider_hca.triggers.wait import wait_result
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.running import connection, event_of, requests_of

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


@pytest.fixture(autouse=True)
def _short_retries(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure a connection with few retries."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=2, retry_seconds=600))


def trigger(wait: Any, **options: Any) -> DSSWaitTrigger:
    options = {"dss_conn_id": "hca_dss_default", "poll_interval": 1, "deadline": time.time() + 600, **options}
    return DSSWaitTrigger.for_waiter(wait, **options)


def test_serialize_restores_the_trigger() -> None:
    original = trigger(BundleWaiter(new_uuid(), VERSION, ["aws"]), carried={"a": 1}, silent=True)
    path, arguments = original.serialize()
    encoded = json.dumps(BaseSerialization.serialize(arguments))
    assert BaseSerialization.deserialize(json.loads(encoded)) == arguments
    assert path == "airflow_provider_hca.triggers.dss.DSSWaitTrigger"
    assert DSSWaitTrigger(**json.loads(json.dumps(arguments))).serialize() == original.serialize()


@pytest.mark.parametrize(("count", "can_hold"), [(1, True), (5_000, True), (100_000, False)])
def test_trigger_holds_about_6000_files(count: int, can_hold: bool) -> None:
    wait = FilesWaiter([{"uuid": new_uuid(), "version": VERSION, "sha256": "ab" * 32}] * count, ["aws", "gcp"])
    assert DSSWaitTrigger.can_hold(wait) is can_hold
    if can_hold:
        assert len(json.dumps(trigger(wait).serialize())) < 1.1 * 1024 * 1024


def test_success_returns_the_result_and_carried_data(dss: LocalDSS) -> None:
    file = dss.new_file()
    event = event_of(trigger(FilesWaiter([{"uuid": file}], ["aws"]), carried={"name": "a"}))
    result, carried = wait_result(event)
    assert result is not None
    assert (result["uuid"], result["file_count"], carried) == (file, 1, {"name": "a"})


def test_many_files_take_one_request_each(dss: LocalDSS) -> None:
    stored = dss.new_file()
    files = [{"uuid": stored, "version": VERSION}] * 499
    late = new_uuid()
    fault = {"method": "HEAD", "path": f"/files/{stored}", "action": "status", "status": 404, "times": 2}
    dss.control("POST", "faults", fault)
    assert dss.put_file(dss.stage(b"late"), late).status_code == 201
    result, _ = wait_result(event_of(trigger(FilesWaiter([*files, {"uuid": late}], ["aws"]))))
    assert result == {"file_count": 500, "byte_count": 499 * len(b"content") + len(b"late")}
    assert requests_of(dss, "HEAD", "/v1/files/") == 502


def test_deadline_ends_the_wait_after_a_last_poll(dss: LocalDSS) -> None:
    uuid, deadline = new_uuid(), time.time() + 0.5
    event = event_of(trigger(BundleWaiter(uuid, None, ["aws"]), poll_interval=600, deadline=deadline))
    assert event == {"status": "timeout", "carried": {}}
    assert time.time() >= deadline
    assert requests_of(dss, "GET", f"/v1/bundles/{uuid}") == 1


def test_past_deadline_polls_once(dss: LocalDSS) -> None:
    uuid = new_uuid()
    assert event_of(trigger(BundleWaiter(uuid, None, ["aws"]), deadline=time.time() - 60))["status"] == "timeout"
    assert requests_of(dss, "GET", f"/v1/bundles/{uuid}") == 1


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("method", "wait"),
    [("GET", BundleWaiter(new_uuid(), None, ["aws"])), ("HEAD", FilesWaiter([{"uuid": new_uuid()}], ["aws"]))],
)
def test_refusal_ends_the_wait_after_one_request(dss: LocalDSS, method: str, wait: Any, status: int) -> None:
    dss.control("POST", "faults", {"method": method, "path": "/v1/", "action": "status", "status": status, "times": 99})
    event = event_of(trigger(wait))
    assert (event["status"], event["permanent"]) == ("failed", True)
    assert str(status) in event["message"]
    assert "hca_dss_default" in event["message"]
    assert sum(requests_of(dss, verb, "/v1/") for verb in ("GET", "HEAD")) == 1
    with pytest.raises(AirflowFailException, match=str(status)):
        wait_result(event)


def test_message_of_a_failed_wait_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_module, "_MAX_MESSAGE", 30)
    event = event_of(trigger(BundleWaiter(new_uuid(), None, ["aws"]), dss_conn_id="no_such_dss"))
    assert event["message"] == "connection 'no_such_dss' is not"[:30]


def test_unavailable_dss_ends_the_wait_temporarily(dss: LocalDSS) -> None:
    uuid = new_uuid()
    dss.control("POST", "faults", {"method": "GET", "path": uuid, "action": "status", "status": 503, "times": 99})
    event = event_of(trigger(BundleWaiter(uuid, None, ["aws"])))
    assert (event["status"], event["permanent"]) == ("failed", False)
    assert requests_of(dss, "GET", f"/v1/bundles/{uuid}") == 2
    with pytest.raises(DSSWaitError, match="503"):
        wait_result(event)


def test_temporary_errors_do_not_end_the_wait(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=5, retry_seconds=600))
    uuid = new_uuid()
    assert dss.put_bundle([dss.entry("a")], uuid).status_code == 201
    for failure in ({"action": "status", "status": 503}, {"action": "drop"}):
        dss.control("POST", "faults", {"method": "GET", "path": uuid, "times": 1, **failure})
    assert event_of(trigger(BundleWaiter(uuid, None, ["aws"])))["result"]["version"] == VERSION


def test_unreachable_host_ends_the_wait_after_retry_seconds(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_invalid_connection_ends_the_wait_permanently(
    dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], message: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, **fields))
    event = event_of(trigger(BundleWaiter(new_uuid(), None, ["aws"])))
    assert (event["status"], event["permanent"]) == ("failed", True)
    assert message in event["message"]


def test_invalid_ca_bundle_ends_the_wait_temporarily(
    dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may be repaired before the next try."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("nothing")
    wrong = connection(dss, host="https://127.0.0.1:1/v1", verify=str(bundle), retry_seconds=1)
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", wrong)
    event = event_of(trigger(BundleWaiter(new_uuid(), None, ["aws"])))
    assert (event["status"], event["permanent"]) == ("failed", False)
    assert f"the CA bundle {str(bundle)!r} is not a file of certificates in PEM format" in event["message"]
    assert "hca_dss_default" in event["message"]


def test_credentials_are_not_read(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = connection(dss, key_path="/not/on/this/machine.json", retry_seconds=1)
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", gone)
    assert event_of(trigger(FilesWaiter([{"uuid": dss.new_file()}], ["aws"])))["status"] == "success"


def test_undefined_connection_ends_the_wait_permanently() -> None:
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
def test_wait_result_rejects_other_events(event: Any) -> None:
    with pytest.raises(ValueError, match="unexpected event"):
        wait_result(event)


def test_cancelled_trigger_ends_without_an_event(dss: LocalDSS) -> None:

    async def run() -> list[Any]:
        async def collect() -> list[Any]:
            return [event async for event in trigger(BundleWaiter(new_uuid(), None, ["aws"]), poll_interval=60).run()]

        task = asyncio.create_task(collect())
        await asyncio.sleep(0.2)
        task.cancel()
        return list(await asyncio.gather(task, return_exceptions=True))

    (ended,) = asyncio.run(run())
    assert isinstance(ended, asyncio.CancelledError)
