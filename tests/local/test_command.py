"""The command `dss-local`: options, output, shutdown."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
import requests

from airflow_provider_hca.local.faults import Fault

from .server import LocalDSS, new_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "airflow_provider_hca.local"]
FREE = ["--port", "0", "--s3-port", "0", "--objects-port", "0", "--gcs-port", "0"]


def _error(*options: str) -> str:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--port", "x"],
        ["--port", "70000"],
        ["--file-wait", "-1"],
        ["--sync-delay", "never"],
        ["--async-above", "-1"],
        ["--bucket", "A"],
        ["--nonsense"],
    ],
)
def test_invalid_option_exits_2_with_one_line(options: list[str]) -> None:
    assert options[0] in _error(*options)


def test_options_and_faults_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "local-dss.md").read_text()
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=30, check=True)
    options = set(re.findall(r"--[a-z0-9-]+", done.stdout)) - {"--help"}
    assert len(options) > 10
    faults = get_args(Fault.model_fields["action"].annotation)
    assert [word for word in (*options, *faults) if not re.search(f"`{word}[` ]", page)] == []


@pytest.mark.parametrize("option", ["--port", "--s3-port", "--objects-port", "--gcs-port"])
def test_port_in_use_exits_2_and_names_option(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert option in _error("--state", str(tmp_path), "--gcs", *FREE, option, port)


def test_locked_state_directory_exits_2(dss: LocalDSS) -> None:
    """Two servers would corrupt the directory."""
    assert str(dss.state) in _error("--state", str(dss.state), *FREE)


def test_unusable_state_directory_exits_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file" in _error("--state", str(tmp_path / "file"), *FREE)


@pytest.mark.parametrize("module", ["uvloop", "fastapi"])
def test_missing_extra_exits_2_and_names_it(tmp_path: Path, module: str) -> None:
    code = f"import sys; sys.modules['{module}'] = None; from airflow_provider_hca.local.__main__ import main; main()"
    command = [sys.executable, "-c", code, "--state", str(tmp_path), *FREE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'airflow-provider-hca[local]'" in done.stderr


@pytest.fixture
def text(tmp_path: Path) -> Iterator[list[str]]:
    state = tmp_path / "a state's"
    command = [*COMMAND, "--state", str(state), "--gcs", *FREE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        lines: list[str] = []
        while not lines or "OAUTHLIB" not in lines[-1]:
            lines.append(run.stdout.readline())
            assert lines[-1]
        yield lines
        run.send_signal(signal.SIGINT)
        assert (run.wait(5), run.stderr.read()) == (130, "dss-local: stopped\n")


def test_startup_text_contains_shell_file(text: list[str], tmp_path: Path) -> None:
    file = tmp_path / "a state's" / "env"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() in "".join(text)
    environment = subprocess.run(
        ["bash", "-c", '. "$1" && env -0', "bash", file], capture_output=True, text=True, check=True
    ).stdout
    found = dict(line.split("=", 1) for line in environment.split("\0") if "=" in line)
    connection = json.loads(found["AIRFLOW_CONN_HCA_DSS_DEFAULT"])
    assert connection["conn_type"] == "hca_dss"
    assert requests.get(f"{connection['host']}/bundles/all?replica=aws", timeout=10).ok
    assert Path(connection["extra"]["key_path"]).exists()
    assert requests.get(found["AWS_ENDPOINT_URL_S3"], timeout=10).ok
    assert requests.get(found["STORAGE_EMULATOR_HOST"], timeout=10).ok


def test_json_line_contains_urls_and_connection(dss: LocalDSS) -> None:
    about = dss.about
    assert about["pid"] == dss.process.pid
    assert about["env"]["AIRFLOW_CONN_HCA_DSS_DEFAULT"] == about["connection"]
    assert json.loads(about["connection"]) == {
        "conn_type": "hca_dss",
        "host": about["dss_url"],
        "extra": {"key_path": about["key_file"], "audience": about["audience"]},
    }


def test_secret_files_are_private(dss: LocalDSS) -> None:
    assert dss.state.stat().st_mode & 0o777 == 0o700
    for name in ("secrets.json", "developer-key.json", "env", "hca-config.json"):
        assert (dss.state / name).stat().st_mode & 0o077 == 0


def test_sigterm_completes_running_requests(tmp_path: Path) -> None:
    """A PUT bundle that waits for a file returns 503 at shutdown; one whose file arrives while it waits succeeds."""
    with LocalDSS(tmp_path, "--file-wait", "600") as dss:
        dss.http.get(f"{dss.url}/bundles/all?replica=aws")  # leaves a connection open
        file, slow, waited = new_uuid(), new_uuid(), new_uuid()
        with ThreadPoolExecutor() as pool:
            found = pool.submit(dss.put_bundle, [dss.entry("a", file)])
            time.sleep(0.2)
            assert dss.put_file(dss.stage(b"late"), file).status_code == 201
            assert found.result().status_code == 201
            # A fault is used up when its request is received.
            dss.control("POST", "faults", {"path": slow, "action": "slow", "seconds": 1})
            dss.control("POST", "faults", {"path": waited, "action": "slow", "seconds": 0})
            running = pool.submit(dss.put_bundle, [], slow)
            waiting = pool.submit(dss.put_bundle, [dss.entry("a", new_uuid())], waited)
            while dss.control("GET", "faults"):
                time.sleep(0.02)
            time.sleep(0.1)
            start = time.monotonic()
            assert dss.stop() == 0
            assert time.monotonic() - start < 300  # half of the time that the PUT would wait
            assert (running.result().status_code, waiting.result().status_code) == (201, 503)
