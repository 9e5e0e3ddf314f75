"""The start-up information: URLs and credentials for terminals, programs and the original client `hca`."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

from .blob_store import write_atomically
from .keys import key_file
from .s3.bucket_operations import REGION

if TYPE_CHECKING:
    from pathlib import Path

    from .keys import Secrets


def startup_info(
    state: Path, urls: dict[str, str | None], bucket: str, audience: str, secrets: Secrets
) -> dict[str, Any]:
    """Return the information that a program needs to use this DSS.

    :param state: state directory
    :param urls: `dss_url`, `s3_url`, `objects_url` and `gcs_url`
    :param bucket: staging bucket
    :param audience: audience that tokens must have
    :param secrets: secrets of the state directory
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


def write_files(state: Path, info: dict[str, Any]) -> None:
    """Write the shell file `env` and the configuration of the original client.

    :param state: state directory
    :param info: result of `startup_info`
    """
    write_atomically(state / "env", (_shell_exports(info) + "\n").encode())
    write_atomically(state / "hca-config.json", json.dumps(_client_config(info), indent=2).encode())


def _shell_exports(info: dict[str, Any]) -> str:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in info["env"].items()]
    original = {
        "HCA_CONFIG_FILE": info["hca_config_file"],
        "GOOGLE_APPLICATION_CREDENTIALS": info["key_file"],
        "OAUTHLIB_INSECURE_TRANSPORT": "1",
    }
    # A configured proxy cannot reach this machine's loopback address.
    lines += [f"export {name}=127.0.0.1,localhost${{{name}:+,${name}}}" for name in ("NO_PROXY", "no_proxy")]
    lines += ["# Only for the original command-line client, `hca`:"]
    lines += [f"# export {name}={shlex.quote(value)}" for name, value in original.items()]
    return "\n".join(lines)


def _client_config(info: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with which the original client does not contact its services, which no longer exist."""
    base = info["dss_url"].removesuffix("/v1")
    oauth2 = info["oauth2"]
    installed = {name: oauth2[name] for name in ("client_id", "client_secret", "token_uri")}
    return {
        "DSSClient": {"swagger_url": f"{info['dss_url']}/swagger.json"},
        "AuthClient": {"swagger_url": f"{base}/_local/auth-swagger.json"},
        "application_secrets": {"installed": {**installed, "auth_uri": oauth2["token_uri"]}},
        "oauth2_token": {
            "access_token": "none-yet",
            "refresh_token": oauth2["refresh_token"],
            "expires_at": 1,
            "token_type": "Bearer",
        },
    }


def startup_text(info: dict[str, Any]) -> str:
    """Return the start-up information as text for a terminal.

    :param info: result of `startup_info`
    """
    lines = [
        f"The local DSS is ready at {info['dss_url']} (process {info['pid']}, stop it with Ctrl-C).",
        f"  S3 staging: {info['s3_url']}, bucket {info['bucket']}",
        f"  GCS staging: {info['gcs_url'] or 'off (start with --gcs)'}",
        f"  state: {info['state']}; the lines below are also in {info['state']}/env",
        "",
        _shell_exports(info),
    ]
    return "\n".join(lines)
