"""Saying where everything is: to people, to programs, and to the original client."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

from .blob_store import write_atomically
from .keys import key_file
from .s3_server import REGION

if TYPE_CHECKING:
    from pathlib import Path

    from .keys import Secrets


def describe(state: Path, urls: dict[str, str | None], bucket: str, audience: str, secrets: Secrets) -> dict[str, Any]:
    """Return all a program needs to know to use this DSS.

    :param state: the state directory
    :param urls: dss_url, s3_url, objects_url and gcs_url
    :param bucket: the staging bucket
    :param audience: what tokens must be made for
    :param secrets: for the OAuth2 client
    """
    extra = {"key_path": str(key_file(state)), "audience": audience}
    connection = json.dumps({"conn_type": "hca_dss", "host": urls["dss_url"], "extra": extra})
    environment = {
        "AIRFLOW_CONN_HCA_DSS_DEFAULT": connection,
        "AWS_ENDPOINT_URL_S3": urls["s3_url"],
        "AWS_ACCESS_KEY_ID": "dss-local",
        "AWS_SECRET_ACCESS_KEY": "dss-local",
        "AWS_DEFAULT_REGION": REGION,
    }
    if urls["gcs_url"]:
        environment["STORAGE_EMULATOR_HOST"] = urls["gcs_url"]
    return {
        **urls,
        "bucket": bucket,
        "state": str(state),
        "key_file": str(key_file(state)),
        "audience": audience,
        "connection": connection,
        "env": environment,
        "hca_config_file": str(state / "hca-config.json"),
        "oauth2": {
            "token_uri": _token_uri(str(urls["dss_url"])),
            "client_id": secrets.client_id,
            "client_secret": secrets.client_secret,
            "refresh_token": secrets.refresh_token,
        },
        "pid": os.getpid(),
    }


def _token_uri(dss_url: str) -> str:
    return f"{dss_url.removesuffix('/v1')}/_local/oauth/token"


def write_files(state: Path, about: dict[str, Any]) -> None:
    """Write the file to be sourced and the configuration of the original client.

    :param state: the state directory
    :param about: what `describe` gave
    """
    write_atomically(state / "env", (exports(about) + "\n").encode())
    write_atomically(state / "hca-config.json", json.dumps(_client_config(about), indent=2).encode())


def exports(about: dict[str, Any]) -> str:
    """Return the lines for a shell.

    :param about: what `describe` gave
    """
    lines = [f"export {name}={shlex.quote(value)}" for name, value in about["env"].items()]
    original = {
        "HCA_CONFIG_FILE": about["hca_config_file"],
        "GOOGLE_APPLICATION_CREDENTIALS": about["key_file"],
        "OAUTHLIB_INSECURE_TRANSPORT": "1",
    }
    # A proxy for the rest of the world must not be asked for this machine.
    lines += [f"export {name}=127.0.0.1,localhost${{{name}:+,${name}}}" for name in ("NO_PROXY", "no_proxy")]
    lines += ["# Only the original command-line client, `hca`, needs these too:"]
    lines += [f"# export {name}={shlex.quote(value)}" for name, value in original.items()]
    return "\n".join(lines)


def _client_config(about: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with which the original client fetches nothing from where its services once were."""
    base = about["dss_url"].removesuffix("/v1")
    oauth2 = about["oauth2"]
    installed = {name: oauth2[name] for name in ("client_id", "client_secret", "token_uri")}
    return {
        "DSSClient": {"swagger_url": f"{about['dss_url']}/swagger.json"},
        "AuthClient": {"swagger_url": f"{base}/_local/auth-swagger.json"},
        "application_secrets": {"installed": {**installed, "auth_uri": oauth2["token_uri"]}},
        "oauth2_token": {
            "access_token": "none-yet",
            "refresh_token": oauth2["refresh_token"],
            "expires_at": 1,
            "token_type": "Bearer",
        },
    }


def for_people(about: dict[str, Any]) -> str:
    """Return the text for a terminal.

    :param about: what `describe` gave
    """
    lines = [
        f"The local DSS is ready at {about['dss_url']} (process {about['pid']}, end it with Ctrl-C).",
        f"  S3 staging: {about['s3_url']}, bucket {about['bucket']}",
        f"  GCS staging: {about['gcs_url'] or 'off (--gcs switches it on)'}",
        f"  state: {about['state']}; the lines below are also in {about['state']}/env",
        "",
        exports(about),
    ]
    return "\n".join(lines)
