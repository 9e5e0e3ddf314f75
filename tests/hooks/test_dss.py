from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_hca.client.client import DSSClient
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSConnectionError,
    DSSCredentialsError,
    DSSProtocolError,
)
from airflow_provider_hca.get_provider_info import get_provider_info
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.utils.fail_fast import fail_fast
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.running import connection, requests_of

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


@pytest.fixture
def connect(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that changes the connection and opens the hook."""

    def change(**changes: Any) -> DSSHook:
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, **changes))
        return DSSHook()

    return change


def oauth(dss: LocalDSS, **changes: Any) -> dict[str, Any]:
    return {"key_path": None, "audience": None, **dss.about["oauth2"], **changes}


def test_methods_use_address_token_and_creator_of_the_connection(dss: LocalDSS, connect: Any) -> None:
    file, bundle = new_uuid(), new_uuid()
    with connect() as hook:
        assert hook.put_file(file, VERSION, source_url=dss.stage(b"hook")).outcome == "created"
        assert hook.put_file(file, VERSION, source_url=dss.stage(b"hook")).outcome == "identical"
        assert hook.head_file(file, replica="aws").size == 4
        members = [{"uuid": file, "version": VERSION, "name": "a", "indexed": False}]
        assert hook.find_bundle(bundle, replica="aws") is None
        assert hook.put_bundle(bundle, VERSION, replica="aws", files=members).outcome == "created"
        assert hook.find_bundle(bundle, replica="aws") == VERSION
        assert hook.get_bundle(bundle, replica="aws")["creator_uid"] == 42
        assert {"uuid": bundle, "version": VERSION} in hook.get_bundles_all(replica="aws", prefix=bundle[:8])


def test_wait_for_file_returns_metadata_of_the_copy(dss: LocalDSS, connect: Any) -> None:
    file, content = new_uuid(), b"c" * 150_000
    source = dss.stage(content)
    with connect() as hook:
        assert hook.put_file(file, VERSION, source_url=source).outcome == "copying"
        sha256 = "".join(_sha256(content))
        assert hook.wait_for_file(file, VERSION, replica="aws", sha256=sha256, seconds=20).size == 150_000


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"host": "https://no-such-host.invalid/v1"},
            DSSConnectionError,
            "no such host .*Check the host of connection",
        ),
        (
            {"host": "http://127.0.0.1:9/v1"},
            DSSConnectionError,
            "refused.*Check the host of connection 'hca_dss_default'",
        ),
        (
            {"password": "rubbish", "key_path": None},
            DSSAuthError,
            "401 Unauthorized.*Check the credentials of connection",
        ),
        ({"key_path": None}, DSSAuthError, "401 OAuthProblem.*no credentials in connection 'hca_dss_default'"),
        ({"audience": "https://elsewhere.example.org/"}, DSSAuthError, "401.*and the 'audience' in its extra"),
        ({"group": "none"}, DSSAuthError, "403 Forbidden.*'group' in its extra"),
    ],
)
def test_wrong_connection_names_cause_connection_and_field(
    dss: LocalDSS, connect: Any, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with connect(**changes) as hook, pytest.raises(error, match=message):
        hook.put_file(new_uuid(), VERSION, source_url="s3://bucket/key")


def test_test_connection_of_another_type_is_refused(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = json.loads(connection(dss)) | {"conn_type": "http"}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(settings))
    message = "connection 'other' must be of type 'hca_dss', got 'http'"
    assert DSSHook("other").test_connection() == (False, message.replace("connection 'other'", "this connection"))


def test_test_connection_returns_a_message_and_never_raises(
    dss: LocalDSS, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connect().test_connection() == (True, f"{dss.url} answers and accepts the token")
    assert connect(**oauth(dss)).test_connection() == (True, f"{dss.url} answers and accepts the token")
    ok, message = connect(key_path=None).test_connection()
    assert ok
    assert "no credentials, so it can only read" in message
    for changes, expected in [
        ({"audience": "https://elsewhere.example.org/"}, "audience"),
        ({"host": "https://no-such-host.invalid/v1"}, "no such host"),
        ({"host": "dss.example.org"}, "^this connection: .* such as 'https://dss.example.org/v1'"),
        ({"host": dss.about["s3_url"]}, "Check the host of this connection"),
        (
            {"host": dss.url.removesuffix("/v1")},
            "the address must include the base path of the DSS's API, such as '/v1'",
        ),
        ({"key_path": None, "keyfile_dict": [1]}, "service account key is not JSON"),
        ({"key_path": "/no/such/key"}, "cannot be read on this machine"),
        (oauth(dss, client_secret="wrong"), "log in again"),
    ]:
        ok, message = connect(**changes).test_connection()
        assert not ok
        assert re.search(expected, message), message
    monkeypatch.delenv("AIRFLOW_CONN_HCA_DSS_DEFAULT")
    ok, message = DSSHook().test_connection()
    assert (ok, "hca_dss_default" in message) == (False, True)


def test_undefined_connection_ends_retries_and_explains_how_to_define_it() -> None:
    expected = (
        "connection 'no_such-dss' is not defined. Create a connection of type hca_dss with this ID: in the UI, with "
        "`airflow connections add no_such-dss --conn-type hca_dss --conn-host https://dss.example.org/v1`, or as "
        "environment variable AIRFLOW_CONN_NO_SUCH-DSS"
    )
    with pytest.raises(AirflowFailException) as caught, fail_fast():
        DSSHook("no_such-dss").get_bundle(new_uuid(), replica="aws")
    assert str(caught.value) == expected


def test_get_conn_returns_a_client_with_results(dss: LocalDSS, connect: Any) -> None:
    with connect() as hook:
        client = hook.get_conn()
        assert isinstance(client, DSSClient)
        assert client.find_bundle(new_uuid(), replica="aws") is None
        assert client.run(hook.api.find_bundle(new_uuid(), replica="aws")) is None
        assert hook.get_conn() is client


@pytest.mark.parametrize("path", ["/moto-api", "/no/such/thing"])
def test_other_web_server_is_protocol_error_with_advice(dss: LocalDSS, connect: Any, path: str) -> None:
    with connect(host=dss.about["s3_url"] + path) as hook:
        with pytest.raises(DSSProtocolError, match="Check the host of connection"):
            hook.find_bundle(new_uuid(), replica="aws")
        with pytest.raises(DSSProtocolError, match="Check the host of connection"):
            hook.get_bundle(new_uuid(), replica="aws")


def test_user_token_is_refreshed_before_expiry(dss: LocalDSS, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        """A clock that can be moved forward."""

        ahead = 0.0
        monotonic = time.monotonic

        def time(self) -> float:
            return time.time() + self.ahead

    clock = Clock()
    monkeypatch.setattr("airflow_provider_hca.client.auth.time", clock)
    used = []
    with connect(**oauth(dss)) as hook:
        for clock.ahead in (0, 0, 3599):
            hook.put_file(new_uuid(), VERSION, source_url=dss.stage(b"user"))
            used.append(hook.get_conn().run(hook.api.auth.token()))
    assert used[0] == used[1] != used[2]
    assert not [each for each in dss.control("GET", "requests") if each["status"] == 401]


def test_refused_token_is_renewed_once(dss: LocalDSS, connect: Any) -> None:
    fault = {"method": "PUT", "path": "/files/", "action": "status", "status": 401}
    with connect() as hook:
        dss.control("POST", "faults", fault)
        assert hook.put_file(new_uuid(), VERSION, source_url=dss.stage(b"renewed")).outcome == "created"
        dss.control("POST", "faults", {**fault, "times": 2})
        with pytest.raises(DSSAuthError):
            hook.put_file(new_uuid(), VERSION, source_url=dss.stage(b"renewed"))
    assert requests_of(dss, "PUT", "/v1/files/") == 4


def test_broken_key_names_connection_and_shows_nothing_of_the_key(dss: LocalDSS, connect: Any, tmp_path: Path) -> None:
    key = json.loads(Path(dss.about["key_file"]).read_text())
    key["private_key"] = key["private_key"][:300] + "SECRETPART" + key["private_key"][310:]
    broken = tmp_path / "key.json"
    broken.write_text(json.dumps(key))
    with connect(key_path=str(broken)) as hook, pytest.raises(DSSCredentialsError) as caught:
        hook.put_file(new_uuid(), VERSION, source_url="s3://b/k")
    assert "hca_dss_default" in str(caught.value)
    assert "SECRETPART" not in str(caught.value)


def test_form_of_older_airflow_equals_the_provider_info() -> None:
    declared = get_provider_info()["connection-types"][0]
    behaviour = DSSHook.get_ui_field_behaviour()
    assert behaviour["relabeling"] == declared["ui-field-behaviour"]["relabeling"]
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    assert (DSSHook.conn_type, DSSHook.hook_name) == (declared["connection-type"], declared["hook-name"])
