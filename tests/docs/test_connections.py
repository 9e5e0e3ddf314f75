"""Use the connections of the pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.upload.access import GCSAccess, S3Access
from airflow_provider_hca.utils.credentials import cloud_access
from tests.local.server import LocalDSS

_DOCS = Path(__file__).parents[2] / "docs"
_EXPORT = re.compile(r"export AIRFLOW_CONN_(\w+)='(.*?)'", re.DOTALL)
_KINDS = dict(re.findall(r"\n## ([^\n]+)\n\n```bash\n(.*?)```", (_DOCS / "authentication.md").read_text(), re.DOTALL))

pytestmark = pytest.mark.usefixtures("airflow_db")


def _with_values_of(dss: LocalDSS, settings: Any) -> Any:
    """Replace the placeholders of a connection."""
    key = json.loads(Path(dss.about["key_file"]).read_text())
    values = {
        "host": dss.url,
        "audience": dss.about["audience"],
        "key_path": dss.about["key_file"],
        "password": dss.token(),
        **dss.about["oauth2"],
        **{name: key[name] for name in ("client_email", "private_key_id", "private_key")},
    }

    def replace(node: dict[str, Any]) -> dict[str, Any]:
        return {
            name: replace(value) if isinstance(value, dict) else values.get(name, value) for name, value in node.items()
        }

    return replace(settings)


def test_page_has_an_example_of_each_kind() -> None:
    headings = re.findall(r"^## (.+)", (_DOCS / "authentication.md").read_text(), re.MULTILINE)
    assert list(_KINDS) == headings[:5]


@pytest.mark.parametrize("kind", _KINDS)
def test_example_of_credentials_is_accepted(kind: str, dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    ((name, example),) = _EXPORT.findall(_KINDS[kind])
    monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(_with_values_of(dss, json.loads(example))))
    accepted, message = DSSHook().test_connection()
    assert accepted
    expected = "has no credentials, so it can only read" if kind == "No credentials" else "accepts the token"
    assert message.endswith(expected)


@pytest.mark.parametrize("page", ["../README.md", "connection.md", "install.md"])
def test_connection_of_page_is_accepted(page: str, dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (_DOCS / page).read_text()
    example = re.findall(r"(?:AIRFLOW_CONN_HCA_DSS_DEFAULT=|hca_dss_default --conn-json )'(.*?)'", text, re.DOTALL)[0]
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps(_with_values_of(dss, json.loads(example))))
    accepted, message = DSSHook().test_connection()
    assert (accepted, message.endswith("accepts the token")) == (True, True)


def test_examples_for_staging_buckets_are_accepted(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (_DOCS / "connection.md").read_text().partition("## The staging bucket")[2]
    page = page.replace("https://minio.example.org", dss.about["s3_url"])
    examples = dict(_EXPORT.findall(page.replace("/etc/dss/staging.json", dss.about["key_file"])))
    assert set(examples) == {"AWS_KEY", "AWS_ROLE", "GOOGLE_KEY", "MINIO"}
    for name, example in examples.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", example)
    for name in ("AWS_KEY", "MINIO"):
        access = cloud_access("aws", aws_conn_id=name)
        assert isinstance(access, S3Access)
        client = access.session.client("s3", endpoint_url=access.endpoint_url)
        assert client.head_bucket(Bucket=dss.bucket)
        assert access.session.get_credentials().access_key == "ACCESS_KEY"
    role = AwsBaseHook(aws_conn_id="AWS_ROLE").conn_config.role_arn
    assert role == "arn:aws:iam::123456789012:role/staging"
    access = cloud_access("gcp", gcp_conn_id="GOOGLE_KEY")
    assert isinstance(access, GCSAccess)
    assert access.credentials.service_account_email
