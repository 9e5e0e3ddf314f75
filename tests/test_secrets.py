from __future__ import annotations

import json
import logging
import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator
from airflow_provider_hca.sensors.dss import DSSBundleSensor
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.running import connection, new_dag, run, states, xcom

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


def _secrets(dss: LocalDSS) -> dict[str, str]:
    key = json.loads(Path(dss.about["key_file"]).read_text())
    body = key["private_key"].splitlines()[3]
    return {
        "key": body,
        "refresh": dss.about["oauth2"]["refresh_token"],
        "client": dss.about["oauth2"]["client_secret"],
    }


def _kinds(dss: LocalDSS) -> dict[str, str]:
    """Return a connection of each kind of credentials."""
    key = json.loads(Path(dss.about["key_file"]).read_text())
    return {
        "token": connection(dss, password=dss.token(), key_path=None),
        "key": connection(dss, key_path=None, keyfile_dict=key),
        "user": connection(dss, key_path=None, audience=None, **dss.about["oauth2"]),
    }


@pytest.mark.parametrize("kind", ["token", "key", "user"])
def test_no_secret_in_logs_errors_or_reprs(
    dss: LocalDSS, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Through success, retries, refusals and dropped connections, nothing that is said holds a token or a key."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", _kinds(dss)[kind])
    said: list[str] = []
    with DSSHook() as hook:
        api, transport = hook.api, hook.get_conn()
        token = transport.run(_token_of(api))
        for fault in ({"action": "status", "status": 503}, {"action": "drop"}, {"action": "status", "status": 401}):
            dss.control("POST", "faults", {"method": "PUT", "path": "/files/", "times": 99, **fault})
            with pytest.raises(DSSError) as caught:
                hook.put_file(new_uuid(), VERSION, source_url=dss.stage(b"secret"))
            said += [repr(caught.value), str(caught.value), str(vars(caught.value)), repr(pickle.dumps(caught.value))]
            dss.control("DELETE", "faults")
        said += [repr(hook), str(vars(hook)), repr(api), str(vars(api)), repr(transport), repr(api.auth)]
    said.append(caplog.text)
    for secret in (token, *_secrets(dss).values()):
        assert secret not in "\n".join(said)


def _token_of(api: Any) -> Any:
    return (yield from api.auth.token())


@pytest.mark.parametrize("kind", ["token", "key", "user"])
@pytest.mark.parametrize("fails", [False, True])
def test_no_secret_in_what_a_task_leaves(
    dss: LocalDSS, kind: str, fails: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any
) -> None:
    """Neither the log of an upload and a sensor, nor their XComs and rendered fields, hold a token or a key."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", _kinds(dss)[kind])
    (tmp_path / "a.json").write_text("{}")
    if fails:
        dss.control("POST", "faults", {"method": "PUT", "path": "/files/", "action": "status", "status": 409})
    with new_dag(f"canary_{kind}_{fails}") as dag:
        upload = DSSUploadDirectoryOperator(task_id="up", directory=str(tmp_path), staging_bucket=dss.bucket)
        sensor = DSSBundleSensor(task_id="wait", bundle_uuid="{{ ti.xcom_pull('up')['uuid'] }}", poke_interval=0.1)
        upload >> sensor
    dag_run = run(dag)
    assert states(dag_run)["up"] == ("failed" if fails else "success")
    out, err = capfd.readouterr()
    left = [out, err, repr(xcom(dag_run, "up")), repr(xcom(dag_run, "wait")), _whole_database()]
    for secret in _secrets(dss).values():
        assert not [text for text in left if secret in text]
    assert not [found for text in left for found in re.findall(r"eyJ[\w-]{10,}\.eyJ", text)]


def _whole_database() -> str:
    """Return all that Airflow has written into its database."""
    path = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    # By another process: a file that is closed takes with it all locks that its process holds on it, SQLite's too, and
    # the database is corrupted.
    return subprocess.check_output(["cat", *path.parent.glob(f"{path.name}*")]).decode("latin-1")


_TASK = """
import os
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG, redact, task
from airflow_provider_hca.hooks.dss import DSSHook

with DAG("leak", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    @task
    def leak():
        hook = DSSHook()
        api = hook.api
        def token():
            return (yield from api.auth.token())
        made = hook.get_conn().run(token())
        print(redact(f"the token is {made}"))  # what Airflow does with every line of a task's log
        open(os.environ["TOKEN_FILE"], "w").write(made)
    leak()

if __name__ == "__main__":
    dag.test()
"""


@pytest.mark.parametrize("kind", ["token", "key", "user"])
def test_tokens_are_masked_when_made(dss: LocalDSS, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Airflow has been told to mask every token that is made, so that even a task that logs it does not show it."""
    (tmp_path / "leak.py").write_text(textwrap.dedent(_TASK))
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", _kinds(dss)[kind])
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path))
    monkeypatch.setenv("TOKEN_FILE", str(tmp_path / "token"))
    done = subprocess.run([sys.executable, str(tmp_path / "leak.py")], capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert re.search(r"the token is \S{0,4}\*\*\*", output)
    assert (tmp_path / "token").read_text() not in output
