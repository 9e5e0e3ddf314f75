"""Test staging with Airflow connections to Amazon and Google, through their providers' hooks and real stores."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from moto.server import ThreadedMotoServer

from airflow_provider_hca.exceptions import DSSCredentialsError
from airflow_provider_hca.operators.dss import DSSPutFileOperator, DSSUploadDirectoryOperator, DSSUploadTaskGroup
from airflow_provider_hca.upload.access import GCSAccess, S3Access
from airflow_provider_hca.upload.checksums import checksum_bytes
from airflow_provider_hca.upload.staging import open_staging
from airflow_provider_hca.utils.credentials import cloud_access
from tests.local.server import LocalDSS, new_uuid
from tests.running import connection, new_context, new_dag, requests_of, run, states, xcom
from tests.stores import BUCKET, FakeGCS, LocalDSSWithStores, S3Endpoint, SeaweedFS

ACCOUNT = "stager@project-x.iam.gserviceaccount.com"
CONTENT = b"ACGT" * 10


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalDSS, S3Endpoint]]:
    """Start stores that check signatures, and a DSS that copies asynchronously above 1,000 bytes."""
    with ExitStack() as stack:
        seaweed = SeaweedFS(tmp_path_factory.mktemp("seaweed"))
        stack.callback(seaweed.stop)
        gcs = FakeGCS(tmp_path_factory.mktemp("gcs"))
        stack.callback(gcs.stop)
        options = ("--sync-delay", "off", "--async-above", "1000", "--copy-delay", "0.2")
        state = tmp_path_factory.mktemp("dss")
        dss = stack.enter_context(LocalDSSWithStores(state, *options, s3=seaweed.endpoint, gcs_url=gcs.url))
        yield dss, seaweed.endpoint


@pytest.fixture
def dss(started: tuple[LocalDSS, S3Endpoint], monkeypatch: pytest.MonkeyPatch) -> LocalDSS:
    """Return the DSS, with the credentials of its S3 store only in the connection `minio`."""
    dss, s3 = started
    dss.control("DELETE", "requests")
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", dss.about["env"]["STORAGE_EMULATOR_HOST"])
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    set_aws(monkeypatch, "minio", s3, {"endpoint_url": s3.url, "region_name": "us-east-1"})
    return dss


def set_aws(monkeypatch: pytest.MonkeyPatch, conn_id: str, s3: S3Endpoint, extra: dict[str, Any]) -> None:
    settings = {"conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(settings))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "cells"
    root.mkdir()
    (root / "a.json").write_text("{}")
    (root / "b.bin").write_bytes(os.urandom(5_000))  # new to the DSS, so that it copies them
    return root


def upload(directory: Path, **options: Any) -> DSSUploadDirectoryOperator:
    return DSSUploadDirectoryOperator(
        task_id="upload", directory=str(directory), **{"staging_bucket": BUCKET, "deferrable": False, **options}
    )


@pytest.mark.usefixtures("airflow_db")
def test_deferred_upload_in_a_dag_uses_the_connection_and_logs_no_key(
    dss: LocalDSS, directory: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with new_dag("aws_conn") as dag:
        upload(directory, aws_conn_id="{{ 'minio' }}", deferrable=True, poll_interval=1, delete_staged=True)
    dag_run = run(dag)
    out, err = capfd.readouterr()
    output = out + err + caplog.text + json.dumps(xcom(dag_run, "upload"))
    assert states(dag_run) == {"upload": "success"}
    assert xcom(dag_run, "upload", "file_count") == 2
    assert xcom(dag_run, "upload", "statistics")["copied_file_count"] == 1
    assert "only-for-tests" not in output.replace("only-for-tests-", "")  # which is in Airflow's test settings


def test_upload_uses_the_connection(dss: LocalDSS, directory: Path) -> None:
    result = upload(directory, aws_conn_id="minio", delete_staged=True).execute(new_context())
    assert (result["file_count"], result["statistics"]["copied_file_count"]) == (2, 1)


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_source_prefix_is_read_with_the_connection(
    dss: LocalDSS, started: tuple[LocalDSS, S3Endpoint], google_accounts: list[str], replica: str
) -> None:
    prefix = f"incoming/{replica}"
    if replica == "aws":
        started[1].client().put_object(Bucket=BUCKET, Key=f"{prefix}/a.json", Body=b"{}")
    else:
        access = cloud_access("gcp", gcp_conn_id="google")
        open_staging("gcp", BUCKET, access=access).put(f"{prefix}/a.json", b"{}", checksum_bytes(b"{}"), "text/plain")
    task = DSSUploadDirectoryOperator(
        task_id="upload",
        bundle_uuid=new_uuid(),
        directory=f"{'s3' if replica == 'aws' else 'gs'}://{BUCKET}/{prefix}",
        staging_bucket=BUCKET,
        replica=replica,
        deferrable=False,
        aws_conn_id="minio",
        gcp_conn_id="google",
    )
    assert task.execute(new_context())["statistics"]["staged_file_count"] == 1


def test_group_passes_the_connection_to_all_tasks() -> None:
    with new_dag("aws_conn_group") as dag:
        DSSUploadTaskGroup(directory="/data", staging_bucket=BUCKET, aws_conn_id="minio")
    tasks: Any = (dag.get_task(f"upload.{name}") for name in ("plan", "shard", "bundle"))
    plan, shard, bundle = tasks
    connections = [plan.aws_conn_id, shard.partial_kwargs["aws_conn_id"], bundle.aws_conn_id]
    assert connections == ["minio"] * 3


def test_without_a_connection_the_sdk_finds_no_credentials(dss: LocalDSS, directory: Path) -> None:
    with pytest.raises(AirflowFailException, match=r"no AWS credentials.*aws_conn_id"):
        upload(directory).execute(new_context())
    assert requests_of(dss, "PUT", "/v1/") == 0


def test_service_config_overrides_the_endpoint(
    dss: LocalDSS, started: tuple[LocalDSS, S3Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = started[1]
    extra = {
        "endpoint_url": "http://127.0.0.1:1",
        "service_config": {"s3": {"endpoint_url": s3.url}},
        "config_kwargs": {"s3": {"addressing_style": "path"}, "user_agent_extra": "of-the-connection"},
    }
    set_aws(monkeypatch, "service", s3, extra)
    access = cloud_access("aws", aws_conn_id="service")
    staging: Any = open_staging("aws", BUCKET, access=access)
    staging.put("k", CONTENT, checksum_bytes(CONTENT), "text/plain")
    assert s3.client().get_object(Bucket=BUCKET, Key="k")["Body"].read() == CONTENT
    assert staging.bucket.client.meta.config.s3["addressing_style"] == "path"
    assert "of-the-connection" in staging.bucket.client.meta.config.user_agent_extra
    assert s3.secret_key not in repr(access)


def test_put_file_reads_the_checksum_with_the_connection(dss: LocalDSS) -> None:
    put: dict[str, Any] = {"source_url": f"s3://{BUCKET}/staged.bin", "aws_conn_id": "minio"}
    content = b"\5" * 5_000
    open_staging("aws", BUCKET, access=cloud_access("aws", aws_conn_id="minio")).put(
        "staged.bin", content, checksum_bytes(content), "text/plain"
    )
    with pytest.raises(TaskDeferred) as deferred:
        DSSPutFileOperator(task_id="put", deferrable=True, **put).execute(new_context())
    assert "only-for-tests" not in repr(deferred.value.trigger.serialize())
    assert DSSPutFileOperator(task_id="put", deferrable=False, **put).execute(new_context())["name"] == "staged.bin"


def test_assumed_role_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        extra = {
            "region_name": "us-east-1",
            "endpoint_url": url,
            "service_config": {"sts": {"endpoint_url": url}},
            "role_arn": "arn:aws:iam::123456789012:role/stager",
            "assume_role_kwargs": {"DurationSeconds": 900},  # so short that botocore renews them at each use
        }
        set_aws(monkeypatch, "role", S3Endpoint(url), extra)
        access = cloud_access("aws", aws_conn_id="role")
        assert isinstance(access, S3Access)
        staging: Any = open_staging("aws", "bucket", access=access)
        staging.bucket.client.create_bucket(Bucket="bucket")
        keys = {access.session.get_credentials().get_frozen_credentials().access_key for _ in range(3)}
        staging.put("k", CONTENT, checksum_bytes(CONTENT), "text/plain")
    finally:
        server.stop()
    assert len(keys) == 3


@pytest.mark.parametrize(("code", "permanent"), [("Throttling", False), ("AccessDenied", True)])
def test_throttled_role_is_temporary(monkeypatch: pytest.MonkeyPatch, code: str, permanent: bool) -> None:
    """Amazon answers 400 to throttled and to refused requests."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>".encode()

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        extra = {
            "region_name": "us-east-1",
            "service_config": {"sts": {"endpoint_url": url}},
            "role_arn": "arn:aws:iam::123456789012:role/x",
        }
        set_aws(monkeypatch, "role", S3Endpoint(url), extra)
        try:
            with pytest.raises(DSSCredentialsError, match=code) as caught:
                cloud_access("aws", aws_conn_id="role")
        finally:
            server.shutdown()
            thread.join()
    assert caught.value.permanent is permanent


@pytest.fixture
def google_accounts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Define the connection `google` with a service account; return the accounts that requested tokens."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    asked: list[str] = []

    class Tokens(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            claims = jwt.decode(form["assertion"][0], private.public_key(), ["RS256"], options={"verify_aud": False})
            asked.append(claims["iss"])
            body = json.dumps({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Tokens) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key = {
            "type": "service_account",
            "project_id": "project-x",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": f"http://127.0.0.1:{server.server_address[1]}/token",
        }
        set_google(monkeypatch, {"keyfile_dict": json.dumps(key)})
        yield asked
        server.shutdown()
        thread.join()


def set_google(monkeypatch: pytest.MonkeyPatch, extra: Any, kind: str = "google_cloud_platform") -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE", json.dumps({"conn_type": kind, "extra": extra}))


def test_upload_to_google_uses_the_connection(dss: LocalDSS, directory: Path, google_accounts: list[str]) -> None:
    task = upload(directory, replica="gcp", gcp_conn_id="google", aws_conn_id="not_there")
    assert task.execute(new_context())["file_count"] == 2
    assert set(google_accounts) == {ACCOUNT}
    access = cloud_access("gcp", gcp_conn_id="google")
    assert isinstance(access, GCSAccess)
    assert "PRIVATE" not in repr(access)


BAD = [
    ("aws", None, r"connection 'bad' is not defined.*aws_conn_id"),
    ("aws", {"conn_type": "http"}, r"'bad' \(aws_conn_id\) must be of type 'aws', got 'http'"),
    ("aws", {"conn_type": "aws", "extra": '{"secret": canary'}, "extra must be a JSON object"),
    ("aws", {"conn_type": "aws", "extra": {"profile_name": "canary"}}, r"'bad' \(aws_conn_id\).*ProfileNotFound"),
    ("aws", {"conn_type": "aws", "extra": {"config_kwargs": {"canary": 1}}}, r"'bad' \(aws_conn_id\).*TypeError"),
    ("gcp", None, r"connection 'bad' is not defined.*gcp_conn_id"),
    ("gcp", {"conn_type": "aws"}, r"must be of type 'google_cloud_platform', got 'aws'"),
    ("gcp", {"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": "canary"}}, r"'bad' \(gcp_conn_id\)"),
    (
        "gcp",
        {"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": '{"private_key": "canary"}'}},
        r"'bad' \(gcp_conn_id\)",
    ),
]


@pytest.mark.parametrize(("replica", "settings", "message"), BAD)
def test_invalid_connection_fails_without_retries_and_quotes_no_secret(
    dss: LocalDSS, directory: Path, monkeypatch: pytest.MonkeyPatch, replica: str, settings: Any, message: str,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    if settings is not None:
        monkeypatch.setenv("AIRFLOW_CONN_BAD", json.dumps(settings))
    bad: dict[str, Any] = {"aws": {"aws_conn_id": "bad"}, "gcp": {"gcp_conn_id": "bad"}}[replica]
    url = f"{'s3' if replica == 'aws' else 'gs'}://{BUCKET}/k"
    for task in (upload(directory, replica=replica, **bad), DSSPutFileOperator(task_id="p", source_url=url, **bad)):
        with pytest.raises(AirflowFailException, match=message) as caught:
            task.execute(new_context())
        out, err = capfd.readouterr()
        assert "canary" not in str(caught.value) + out + err + caplog.text
    assert requests_of(dss, "PUT", "/v1/") == 0


@pytest.mark.parametrize(
    ("replica", "module", "extra"),
    [
        ("aws", "airflow.providers.amazon.aws.hooks.base_aws", "amazon"),
        ("gcp", "airflow.providers.google.common.hooks.base_google", "google"),
    ],
)
def test_missing_provider_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, replica: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"airflow-provider-hca\[{extra}\]"):
        cloud_access(replica, aws_conn_id="any", gcp_conn_id="any")
    assert cloud_access(replica) is None


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_access_to_another_cloud_is_an_error(replica: str) -> None:
    access = GCSAccess(None) if replica == "aws" else S3Access(None)
    with pytest.raises(ValueError, match=f"replica {replica} is staged in"):
        open_staging(replica, "b", access=access)
