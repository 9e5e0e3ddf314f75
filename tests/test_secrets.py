from __future__ import annotations

import json
import logging
import os
import pickle
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import redact

from airflow_provider_hca.client.identifiers import derive_uuid
from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator
from airflow_provider_hca.sensors.dss import DSSBundleSensor
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.running import connection, new_dag, output, run, states, xcom

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
    """Return a connection with each kind of credentials."""
    key = json.loads(Path(dss.about["key_file"]).read_text())
    return {
        "token": connection(dss, password=dss.token(), key_path=None, retry_seconds=1),
        "key": connection(dss, key_path=None, keyfile_dict=key, retry_seconds=1),
        "user": connection(dss, key_path=None, audience=None, retry_seconds=1, **dss.about["oauth2"]),
    }


@pytest.fixture
def conn_ids(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of connections with each kind of credentials."""
    for kind, settings in _kinds(dss).items():
        monkeypatch.setenv(f"AIRFLOW_CONN_DSS_{kind.upper()}", settings)
    return ["dss_token", "dss_key", "dss_user"]


@pytest.mark.parametrize("kind", ["token", "key", "user"])
def test_no_secret_in_logs_errors_or_reprs(
    dss: LocalDSS, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", _kinds(dss)[kind])
    output: list[str] = []
    with DSSHook() as hook:
        api, transport = hook.api, hook.get_conn()
        token = transport.run(_token_of(api))
        for fault in ({"action": "status", "status": 503}, {"action": "drop"}, {"action": "status", "status": 401}):
            dss.control("POST", "faults", {"method": "PUT", "path": "/files/", "times": 99, **fault})
            with pytest.raises(DSSError) as caught:
                hook.put_file(new_uuid(), VERSION, source_url=dss.stage(b"secret"))
            output += [repr(caught.value), str(caught.value), str(vars(caught.value)), repr(pickle.dumps(caught.value))]
            dss.control("DELETE", "faults")
        output += [repr(hook), str(vars(hook)), repr(api), str(vars(api)), repr(transport), repr(api.auth)]
    output.append(caplog.text)
    for secret in (token, *_secrets(dss).values()):
        assert secret not in "\n".join(output)


def _token_of(api: Any) -> Any:
    return (yield from api.auth.token())


def test_no_secret_in_logs_xcoms_or_the_database(
    dss: LocalDSS, conn_ids: list[str], tmp_path: Path, capfd: Any
) -> None:
    (tmp_path / "a.json").write_text("{}")
    refused = new_uuid()
    path = f"/files/{derive_uuid(refused, 'a.json')}"
    dss.control("POST", "faults", {"method": "PUT", "path": path, "action": "status", "status": 409, "times": 9})
    with new_dag("canary") as dag:
        for conn_id in conn_ids:
            options: dict[str, Any] = {
                "directory": str(tmp_path),
                "staging_bucket": dss.bucket,
                "dss_conn_id": conn_id,
            }
            upload = DSSUploadDirectoryOperator(task_id=f"up_{conn_id}", **options)
            upload >> DSSBundleSensor(
                task_id=f"wait_{conn_id}",
                bundle_uuid=output(upload, "uuid"),
                dss_conn_id=conn_id,
                poke_interval=0.1,
            )
            DSSUploadDirectoryOperator(task_id=f"fail_{conn_id}", bundle_uuid=refused, **options)
    dag_run = run(dag)
    ended = states(dag_run)
    assert ended == {name: "failed" if name.startswith("fail") else "success" for name in ended}
    assert len(ended) == 9
    out, err = capfd.readouterr()
    outputs = [out, err, *(repr(xcom(dag_run, task_id)) for task_id in ended), _whole_database()]
    for secret in _secrets(dss).values():
        assert not [text for text in outputs if secret in text]
    assert not [token for text in outputs for token in re.findall(r"eyJ[\w-]{10,}\.eyJ", text)]


def _whole_database() -> str:
    """Return everything that Airflow has written to its database."""
    path = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    # By another process: a file that is closed takes with it all locks that its process holds on it, SQLite's too, and
    # the database is corrupted.
    return subprocess.check_output(["cat", *path.parent.glob(f"{path.name}*")]).decode("latin-1")


@pytest.mark.parametrize("kind", ["token", "key", "user"])
def test_new_tokens_are_masked_in_logs(dss: LocalDSS, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, other = _kinds(dss)[kind], dss.token()
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", settings)
    with DSSHook() as hook:
        token = hook.get_conn().run(_token_of(hook.api))
    assert token != other
    assert redact(f"the token is {token}") == "the token is ***"
    assert redact(f"the token is {other}") == f"the token is {other}"
