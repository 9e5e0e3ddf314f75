from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.auth import ServiceAccountKey, StaticToken, UserToken
from airflow_provider_hca.hooks.connection import Settings

OAUTH = {"refresh_token": "r", "token_uri": "https://login.example.org/token", "client_id": "c", "client_secret": "s"}
KEY = {"client_email": "a@example.org", "private_key": "PRIVATE-STUFF", "private_key_id": "1"}


class Connection:
    """The attributes of an Airflow connection that the hook reads."""

    def __init__(self, *, host: str = "https://dss.example.org/v1", password: str = "", extra: Any = None) -> None:
        self.host, self.password = host, password
        self.extra = extra if isinstance(extra, str) else json.dumps(extra or {})


def settings(**fields: Any) -> Settings:
    return Settings.from_connection(Connection(**fields), "my_dss")


def test_host_alone_gives_documented_defaults() -> None:
    found = settings()
    assert (found.url, found.auth, found.verify, found.creator_uid) == ("https://dss.example.org/v1", None, True, 0)
    assert (found.connect_timeout, found.read_timeout) == (10, 40)
    assert (found.retry.attempts, found.retry.seconds) == (10, 50)


def test_credentials_give_their_token_source(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(KEY))
    assert isinstance(settings(password="token").auth, StaticToken)
    assert isinstance(settings(extra={"key_path": str(path)}).auth, ServiceAccountKey)
    assert isinstance(settings(extra={"keyfile_dict": KEY}).auth, ServiceAccountKey)
    assert isinstance(settings(extra={"keyfile_dict": json.dumps(KEY)}).auth, ServiceAccountKey)
    assert isinstance(settings(extra=OAUTH).auth, UserToken)
    assert isinstance(settings(extra=OAUTH, password="first-token").auth, UserToken)


def test_all_settings_are_read(tmp_path: Path) -> None:
    """The form of Airflow's UI passes numbers as strings; an empty field is ignored."""
    extra = {
        "audience": "https://dss.example.org/",
        "group": "",
        "keyfile_dict": KEY,
        "connect_timeout": "1.5",
        "read_timeout": 2,
        "retry_attempts": "3",
        "retry_seconds": 4,
        "creator_uid": "5",
        "verify": str(tmp_path),
    }
    found = settings(extra=extra)
    assert isinstance(found.auth, ServiceAccountKey)
    assert found.auth.audience == "https://dss.example.org/"
    assert found.auth.group == "hca"
    assert (found.connect_timeout, found.read_timeout, found.creator_uid) == (1.5, 2, 5)
    assert (found.retry.attempts, found.retry.seconds, found.verify) == (3, 4, str(tmp_path))


@pytest.mark.parametrize("value", [False, "false", "False"])
def test_verify_can_be_false(value: Any) -> None:
    assert settings(extra={"verify": value}).verify is False


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"host": "dss.example.org/v1"}, "host must be the full URL .* such as 'https://dss.example.org/v1'"),
        ({"host": ""}, "host must be the full URL"),
        ({"host": "me:PRIVATE-STUFF@dss.example.org/v1"}, "got one with a user in it"),
        ({"extra": "{not json"}, "extra must be a JSON object"),
        ({"extra": "[1]"}, "extra must be a JSON object"),
        ({"extra": {"key_path": "/no/such/key.json"}}, "key_path '/no/such/key.json' cannot be read on this machine"),
        ({"extra": {"keyfile_dict": "not json"}}, "service account key is not JSON"),
        ({"extra": {"keyfile_dict": {"client_email": "a"}}}, "has no private_key, private_key_id"),
        ({"extra": {"keyfile_dict": KEY, "key_path": "x"}}, "keyfile_dict and key_path: keep one"),
        ({"extra": {"keyfile_dict": KEY}, "password": "p"}, "a password and a service account key: keep one"),
        ({"extra": {**OAUTH, "keyfile_dict": KEY}}, "the OAuth2 fields and keyfile_dict: keep one"),
        ({"extra": {"refresh_token": "r"}}, "lacks token_uri, client_id, client_secret"),
        ({"extra": {"read_timeout": "soon"}}, "'read_timeout' must be a number"),
        ({"extra": {"retry_seconds": -1}}, "'retry_seconds' must be a number, 0 or more"),
        ({"extra": {"creator_uid": True}}, "'creator_uid' must be a number"),
        ({"extra": '{"creator_uid": 1e999}'}, "'creator_uid' must be a number"),
        ({"extra": {"retry_seconds": "nan"}}, "'retry_seconds' must be a number"),
        ({"extra": {**OAUTH, "token_uri": 5}}, "extra 'token_uri' must be text"),
        ({"extra": {**OAUTH, "token_uri": "login"}}, "token_uri must be a full URL"),
        (
            {"extra": {**OAUTH, "token_uri": "https://u:s3cr3t@login.example/t?k=s3cr3t"}},
            "token_uri must be a full URL",
        ),
        ({"extra": {"client_id": "c"}}, "lacks refresh_token, token_uri, client_secret"),
        ({"extra": {"key_path": 5}}, "extra 'key_path' must be text"),
        ({"extra": {"verify": "/no/such.pem"}}, "'verify' must be true, false or the path of a CA bundle"),
        ({"extra": OAUTH, "password": "to\nken"}, "token"),
    ],
)
def test_invalid_setting_names_connection_and_field_without_secret(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        settings(**fields)
    assert str(caught.value).startswith("connection 'my_dss': ")
    assert "PRIVATE-STUFF" not in str(caught.value)


def test_unknown_extra_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    settings(extra={"audence": "x"})
    assert "audence" in caplog.text


@pytest.mark.parametrize(
    ("host", "password", "warned"),
    [
        ("http://dss.example.org/v1", "tok", True),
        ("http://10.0.0.1:8080/v1", "tok", True),
        ("http://dss.example.org/v1", "", False),
        ("https://dss.example.org/v1", "tok", False),
        ("http://localhost:8080/v1", "tok", False),
        ("http://127.0.0.1:8080/v1", "tok", False),
        ("http://[::1]:8080/v1", "tok", False),
    ],
)
def test_token_without_encryption_is_logged(
    host: str, password: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    settings(host=host, password=password)
    assert ("without encryption" in caplog.text) is warned


def test_repr_of_settings_holds_no_secret() -> None:
    assert "hidden-token" not in repr(settings(password="hidden-token"))
    assert "PRIVATE-STUFF" not in repr(settings(extra={"keyfile_dict": KEY}))
