"""Changes whose process is killed, against a running DSS."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.models import Bundle
from airflow_provider_hca.client.transport import RequestsTransport
from tests.local.server import VERSION, LocalDSS, new_uuid

pytestmark = pytest.mark.system

# Fault of the third PATCH: the DSS asks to retry later, or applies it without a response.
MOMENTS: dict[str, dict[str, Any]] = {
    "between two": {"action": "status", "status": 503, "retry_after": 30},
    "within one": {"action": "slow", "seconds": 30, "after": True},
}
ITEMS = 3500


def start(wish: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a change in a process of its own."""
    command = [sys.executable, "-m", "tests.client.change_process"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    process.stdin.write(json.dumps(wish))
    process.stdin.close()
    return process


def output_of(process: subprocess.Popen[str]) -> list[str]:
    """Return the lines that a process wrote until it ended."""
    assert process.stdout
    with process.stdout:
        lines = process.stdout.read().splitlines()
    process.wait(60)
    return lines


def kill_in_the_middle(dss: LocalDSS, wish: dict[str, Any], moment: str, count: Callable[[], int]) -> list[str]:
    """Kill the process after its third PATCH, and return its output.

    :param count: Number of items in the newest version
    """
    patches = {"method": "PATCH", "path": wish["uuid"]}
    dss.control("POST", "faults", {**patches, "action": "slow", "seconds": 0, "times": 2})
    dss.control("POST", "faults", {**patches, **MOMENTS[moment]})
    process = start(wish)
    end = time.monotonic() + 300
    while not (requests_of(dss, wish["uuid"], 503) if moment == "between two" else count() == 3001):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    lines = output_of(process)
    assert process.returncode == -signal.SIGKILL
    return lines


def requests_of(dss: LocalDSS, uuid: str, status: int) -> int:
    seen = dss.control("GET", "requests")
    return sum(each["count"] for each in seen if uuid in each["path"] and each["status"] == status)


def wish_for(dss: LocalDSS, what: str, add: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "what": what,
        "url": dss.url,
        "token": dss.token(),
        "uuid": new_uuid(),
        "version": VERSION,
        "add": add,
        "reached": None,
    }


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("hint", [True, False])
def test_collection_change_after_kill_is_completed(dss: LocalDSS, moment: str, hint: bool) -> None:
    numbers = dss.new_file(json.dumps([*range(ITEMS + 1)]).encode())
    items = [
        {"type": "number", "uuid": numbers, "version": VERSION, "fragment": f"/{number}"} for number in range(ITEMS + 1)
    ]
    wish = wish_for(dss, "collection", items[1:])
    api = DSSAPI(dss.url, auth=StaticToken(wish["token"]))
    with RequestsTransport() as transport:

        def found(version: str | None = None) -> dict[str, Any]:
            return transport.run(api.get_collection(wish["uuid"], replica="aws", version=version))

        fields: dict[str, Any] = {"name": "n", "description": "d"}
        transport.run(api.put_collection(wish["uuid"], VERSION, replica="aws", contents=items[:1], **fields))
        made = kill_in_the_middle(dss, wish, moment, lambda: len(found()["contents"]))
        assert len(made) == 2
        *versions, result = output_of(start({**wish, "reached": made[-1] if hint else None}))
        assert len(versions) == json.loads(result)["patches"] == (2 if hint else 4)
        assert json.loads(result)["version"] == versions[-1]
        for version in (versions[-1], None):
            assert found(version)["contents"] == items
            assert (found(version)["name"], found(version)["description"]) == ("n", "d")


@pytest.mark.parametrize("moment", MOMENTS)
def test_bundle_change_after_kill_creates_each_version_once(dss: LocalDSS, moment: str) -> None:
    file = dss.new_file()
    wish = wish_for(dss, "bundle", [dss.entry(str(number), file) for number in range(ITEMS)])
    assert dss.put_bundle([dss.entry("first", file)], wish["uuid"]).status_code == 201
    api = DSSAPI(dss.url)
    with RequestsTransport() as transport:

        def found() -> Bundle:
            return transport.run(api.get_bundle(wish["uuid"], replica="aws"))

        kill_in_the_middle(dss, wish, moment, lambda: len(found()["files"]))
        (result,) = map(json.loads, output_of(start(wish)))
        listed = transport.run(api.get_bundles_all(replica="aws", prefix=wish["uuid"]))
        assert result["patches"] == (2 if moment == "between two" else 1)
        assert found()["version"] == result["version"] == listed[-1]["version"]
        assert [file["name"] for file in found()["files"]] == ["first", *map(str, range(ITEMS))]
        assert len(listed) == 5
