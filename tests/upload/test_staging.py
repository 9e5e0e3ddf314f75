"""Staging in S3 and in Google Cloud Storage."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.exceptions import StagingError
from airflow_provider_hca.upload.checksums import MIB, checksum_bytes
from airflow_provider_hca.upload.local_files import ContentChangedError, OpenFile
from airflow_provider_hca.upload.staging import open_staging, stage_file, staged_sha256
from airflow_provider_hca.upload.staging.base import Staging
from airflow_provider_hca.upload.staging.gcs import GCSStaging
from airflow_provider_hca.upload.staging.s3 import S3Staging
from tests.local.server import LocalDSS, new_uuid, sums
from tests.upload.support import upload_threads, write_sparse

PROJECT_TYPE = 'application/json; dcp-type="metadata/project"'
CONTENT = b'{"project": 1}'
SECRET = "canary/Secret+Key"


def _nothing(_: int) -> None:
    pass


def _key() -> str:
    return f"staging tests/{new_uuid()}.2024-01-31T235959.000001Z"


class _EndedError(Exception):
    pass


def _failing_after(count: int) -> Callable[[int], None]:
    calls = iter(range(count))

    def on_sent(_: int) -> None:
        if next(calls, None) is None:
            raise _EndedError

    return on_sent


# S3


@pytest.mark.parametrize("kind", ["bytes", "file"])
@pytest.mark.parametrize("content", [CONTENT, b""], ids=["some", "empty"])
def test_s3_object(dss: LocalDSS, tmp_path: Path, kind: str, content: bytes) -> None:
    """An object in S3 has the content, its type with parameters, and its sums both as tags and as metadata."""
    key, sent = _key(), list[int]()
    path = tmp_path / "file"
    path.write_bytes(content)
    staging = S3Staging(dss.bucket)
    staging.put(key, content if kind == "bytes" else OpenFile(path), checksum_bytes(content), PROJECT_TYPE, sent.append)
    answer = dss.s3.get_object(Bucket=dss.bucket, Key=key)
    assert answer["Body"].read() == content
    assert answer["ContentType"] == PROJECT_TYPE
    assert answer["Metadata"] == sums(content)
    assert answer["ETag"].strip('"') == sums(content)["hca-dss-s3_etag"]
    tags = dss.s3.get_object_tagging(Bucket=dss.bucket, Key=key)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == sums(content)
    assert sum(sent) == (len(content) if kind == "file" else 0)
    assert staging.sha256(key) == sums(content)["hca-dss-sha256"]
    assert staged_sha256(staging.url(key)) == sums(content)["hca-dss-sha256"]


@pytest.mark.parametrize(("size", "parts"), [(64 * MIB, 0), (129 * MIB, 3)])
def test_s3_parts(dss: LocalDSS, tmp_path: Path, size: int, parts: int) -> None:
    """Up to 64 MiB a file is one piece with tags and metadata, above it has parts of exactly 64 MiB, and tags."""
    path, key, sent = write_sparse(tmp_path / "file", size), _key(), list[int]()
    expected = sums(path)
    assert stage_file(S3Staging(dss.bucket), key, path, PROJECT_TYPE, sent.append).as_metadata() == expected
    head = dss.s3.head_object(Bucket=dss.bucket, Key=key)
    assert head["ContentLength"] == size == sum(sent)
    assert head["ETag"].strip('"') == expected["hca-dss-s3_etag"]
    assert head["ETag"].strip('"').endswith(f"-{parts}") == bool(parts)
    assert (head["ContentType"], head["Metadata"]) == (PROJECT_TYPE, {} if parts else expected)
    tags = dss.s3.get_object_tagging(Bucket=dss.bucket, Key=key)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == expected
    assert S3Staging(dss.bucket).sha256(key) == expected["hca-dss-sha256"]
    dss.s3.delete_object(Bucket=dss.bucket, Key=key)


def test_s3_missing_bucket(dss: LocalDSS, tmp_path: Path) -> None:
    """A bucket that is not there is a permanent mistake, whatever is tried with it, and the setting is named."""
    staging = S3Staging("no-such-bucket")
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    for call in (
        staging.check,
        lambda: staging.put("key", CONTENT, checksum_bytes(CONTENT), "text/plain", _nothing),
        lambda: staging.put("key", OpenFile(path), checksum_bytes(CONTENT), "text/plain", _nothing),
        lambda: staging.sha256("key"),
    ):
        with pytest.raises(StagingError, match=r"staging_bucket|source_url") as caught:
            call()
        assert caught.value.permanent
        assert caught.value.url.startswith("s3://no-such-bucket/")


def test_s3_there(dss: LocalDSS) -> None:
    """A bucket that is there passes the check."""
    S3Staging(dss.bucket).check()


def test_s3_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials the message names the variables."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StagingError, match="AWS_ACCESS_KEY_ID") as caught:
        S3Staging("bucket")
    assert caught.value.permanent


def test_s3_refused(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An endpoint where nothing listens may be back later; the message names it and the setting."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    staging = S3Staging(dss.bucket)
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    for content in (CONTENT, OpenFile(path)):
        with pytest.raises(StagingError, match=r"http://127.0.0.1:1.*AWS_ENDPOINT_URL_S3") as caught:
            staging.put("key", content, checksum_bytes(CONTENT), "text/plain", _nothing)
        assert not caught.value.permanent
        assert SECRET not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("endpoint", ["not a url", "http://", "127.0.0.1:9000"])
def test_s3_malformed_endpoint(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """An endpoint that is no URL is a permanent mistake, and quoted."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    with pytest.raises(StagingError) as caught:
        S3Staging(dss.bucket).check()
    assert caught.value.permanent
    assert endpoint in str(caught.value)


def test_s3_endpoint_of_something_else(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that is the DSS instead of a store is a permanent mistake."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", dss.url.removesuffix("/v1"))
    with pytest.raises(StagingError, match="AWS") as caught:
        S3Staging(dss.bucket).put("key", CONTENT, checksum_bytes(CONTENT), "text/plain", _nothing)
    assert caught.value.permanent


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str], None]]:
    """Start a store that answers every request with the same error, as S3 words it."""
    answer: list[Any] = [500, ""]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _refuse(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            body = f"<?xml version='1.0'?><Error><Code>{answer[1]}</Code><Message>No: {SECRET}</Message></Error>"
            self.send_response(answer[0])
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _refuse  # noqa: N815 - names http.server calls

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)

    def set_answer(status: int, code: str) -> None:
        answer[:] = status, code

    yield set_answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "permanent", "message"),
    [
        (403, "AccessDenied", True, "s3:PutObjectTagging"),
        (403, "InvalidAccessKeyId", True, "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", True, "AWS_SECRET_ACCESS_KEY"),
        (400, "ExpiredToken", False, "the AWS credentials have expired"),
        (400, "ExpiredTokenException", False, "the AWS credentials have expired"),
        (403, "RequestExpired", False, "the AWS credentials have expired"),
        (403, "RequestTimeTooSkewed", False, "the clock of this worker is wrong"),
        (400, "Strange", True, "400 Strange"),
        (409, "OperationAborted", False, "409 OperationAborted"),
        (503, "SlowDown", False, "503 SlowDown"),
    ],
)
def test_s3_refusals(
    refusing: Callable[[int, str], None], status: int, code: str, permanent: bool, message: str
) -> None:
    """Errors of the store have advice, and only temporary ones are retried."""
    refusing(status, code)
    with pytest.raises(StagingError, match=message) as caught:
        S3Staging("bucket").put("key", CONTENT, checksum_bytes(CONTENT), "text/plain", _nothing)
    assert caught.value.permanent == permanent
    assert caught.value.url == "s3://bucket/key"
    assert SECRET not in str(caught.value)


def test_s3_may_not_look(refusing: Callable[[int, str], None]) -> None:
    """Credentials that may write objects but not look at the bucket pass the check."""
    refusing(403, "AccessDenied")
    S3Staging("bucket").check()


def test_s3_other_content(dss: LocalDSS, tmp_path: Path) -> None:
    """Content with other checksums is detected by its ETag."""
    path = write_sparse(tmp_path / "file", 20)
    others = checksum_bytes(path.read_bytes())
    with path.open("r+b") as file:
        file.write(b"other")
    with pytest.raises(StagingError, match="ETag") as caught:
        S3Staging(dss.bucket).put(_key(), OpenFile(path), others, "text/plain", _nothing)
    assert not caught.value.permanent


def test_s3_part_that_changes_while_it_is_sent_is_refused(dss: LocalDSS, tmp_path: Path) -> None:
    """The part is refused when it is sent, not at the end of the upload."""
    path, calls = write_sparse(tmp_path / "file", 65 * MIB), list[None]()

    def change(_: int) -> None:
        calls.append(None)
        if len(calls) == 2:  # the part was hashed
            with path.open("r+b") as writable:
                writable.seek(64 * MIB)
                writable.write(b"other")

    with OpenFile(path) as file:
        transfer = S3Staging(dss.bucket).begin(_key(), "text/plain", file, 65 * MIB)
        transfer.send(0, _nothing)
        with pytest.raises(StagingError, match="the file changed meanwhile") as caught:
            transfer.send(1, change)
    transfer.abort()
    assert not caught.value.permanent


def test_s3_sha256(dss: LocalDSS) -> None:
    """The sum an object was staged with is read from its tags, else from its metadata, as a DSS reads it."""
    staging, key = S3Staging(dss.bucket), _key()
    where = {"Bucket": dss.bucket, "Key": key}
    dss.s3.put_object(**where, Body=b"", Metadata={"hca-dss-sha256": "metadata"})
    assert staging.sha256(key) == "metadata"
    dss.s3.put_object(**where, Body=b"", Metadata={"hca-dss-sha256": "metadata"}, Tagging="hca-dss-sha256=tag")
    assert staging.sha256(key) == "tag"
    dss.s3.put_object(**where, Body=b"", Metadata={"other": "x"})
    with pytest.raises(StagingError, match="no hca-dss-sha256 in its tags or metadata") as caught:
        staging.sha256(key)
    assert caught.value.permanent
    with pytest.raises(StagingError, match="source_url") as caught:
        staging.sha256("no such key")
    assert caught.value.permanent


@pytest.mark.parametrize("key", ["k with space#?%.txt", "a%20b", "a//b", "ü/ñ+&=", "?", "#"])
def test_s3_strange_keys(dss: LocalDSS, key: str) -> None:
    """Whatever signs the key of a `source_url` has, exactly that object is asked; its sum is lower-cased."""
    dss.s3.put_object(Bucket=dss.bucket, Key=key, Body=b"", Metadata={"hca-dss-sha256": "RIGHT"})
    assert staged_sha256(f"s3://{dss.bucket}/{key}") == "right"


@pytest.mark.parametrize("after", [0, 129])
def test_s3_ended(dss: LocalDSS, tmp_path: Path, after: int) -> None:
    """An error of the callback ends a multipart upload at once, and leaves no parts in the bucket."""
    path, key = write_sparse(tmp_path / "file", 66 * MIB), _key()
    with pytest.raises(_EndedError):
        stage_file(S3Staging(dss.bucket), key, path, "text/plain", _failing_after(after))
    assert upload_threads() == []
    assert not dss.s3.list_multipart_uploads(Bucket=dss.bucket, Prefix=key).get("Uploads")
    assert dss.s3.list_objects_v2(Bucket=dss.bucket, Prefix=key)["KeyCount"] == 0


# Google Cloud Storage


@pytest.mark.parametrize(("kind", "size"), [("bytes", 0), ("bytes", 20), ("file", 20), ("file", 9 * MIB)])
def test_gcs_object(dss: LocalDSS, tmp_path: Path, kind: str, size: int) -> None:
    """An object in GCS has the content, its type with parameters, and its sums as metadata."""
    key, sent = _key(), list[int]()
    path = write_sparse(tmp_path / "file", size)
    content = path.read_bytes()
    staging = GCSStaging(dss.bucket)
    staging.check()
    staging.put(key, content if kind == "bytes" else OpenFile(path), checksum_bytes(content), PROJECT_TYPE, sent.append)
    blob = _gcs_bucket(dss).get_blob(key)
    assert blob.download_as_bytes() == content
    # Of a small object the emulator keeps no parameters of the type; Google's own store does.
    assert blob.content_type == (PROJECT_TYPE if size > 8 * MIB else "application/json")
    assert blob.metadata == sums(content)
    assert sum(sent) == (size if kind == "file" else 0)
    assert staging.sha256(key) == staged_sha256(staging.url(key)) == sums(content)["hca-dss-sha256"]


def _gcs_bucket(dss: LocalDSS) -> Any:
    from google.cloud import storage

    return storage.Client().bucket(dss.bucket)


def test_gcs_missing_bucket(dss: LocalDSS, tmp_path: Path) -> None:
    """A bucket that is not there is a permanent mistake, whatever is tried with it, and the setting is named."""
    staging = GCSStaging("no-such-bucket")
    path = write_sparse(tmp_path / "file", 20)
    for call in (
        staging.check,
        lambda: staging.put("key", CONTENT, checksum_bytes(CONTENT), "text/plain", _nothing),
        lambda: staging.put("key", OpenFile(path), checksum_bytes(CONTENT), "text/plain", _nothing),
        lambda: staging.sha256("key"),
    ):
        with pytest.raises(StagingError, match=r"staging_bucket|source_url") as caught:
            call()
        assert caught.value.permanent


def _without_google(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "STORAGE_", "CLOUDSDK_", "GCLOUD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(home))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def test_gcs_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials, or with a missing key file, the message names the setting."""
    _without_google(monkeypatch, tmp_path)
    for _ in range(2):
        with pytest.raises(StagingError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
            GCSStaging("bucket")
        assert caught.value.permanent
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gone.json"))


def test_gcs_without_project(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials that name no project will do: a bucket is found without."""
    _without_google(monkeypatch, tmp_path)
    key = json.loads(Path(dss.about["key_file"]).read_text())
    key.pop("project_id", None)
    (tmp_path / "key.json").write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    assert GCSStaging("bucket").url("key") == "gs://bucket/key"


def test_gcs_refused(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint where nothing listens may be back later; the error is raised within seconds, not two minutes."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    with pytest.raises(StagingError, match="no answer") as caught:
        GCSStaging(dss.bucket).check()
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("status", "permanent", "message"),
    [(401, True, "refused"), (403, True, "storage.objects.create"), (412, True, "412")],
)
def test_gcs_refusals(refusing: Callable[[int, str], None], status: int, permanent: bool, message: str) -> None:
    """Errors of the store have advice."""
    refusing(status, "")
    with pytest.raises(StagingError, match=message) as caught:
        GCSStaging("bucket").put("key", CONTENT, checksum_bytes(CONTENT), "text/plain", _nothing)
    assert caught.value.permanent == permanent
    assert SECRET not in str(caught.value)


def test_gcs_may_not_look(refusing: Callable[[int, str], None]) -> None:
    """Credentials that may write objects but not look at the bucket pass the check."""
    refusing(403, "")
    GCSStaging("bucket").check()


def test_gcs_other_content(dss: LocalDSS) -> None:
    """Content with other checksums is detected by its crc32c."""
    with pytest.raises(StagingError, match="crc32c") as caught:
        GCSStaging(dss.bucket).put(_key(), b"other", checksum_bytes(CONTENT), "text/plain", _nothing)
    assert not caught.value.permanent


def test_gcs_sha256(dss: LocalDSS) -> None:
    """An object without the sum, and no object at all, are permanent mistakes."""
    key, staging = _key(), GCSStaging(dss.bucket)
    _gcs_bucket(dss).blob(key).upload_from_string(b"x")
    with pytest.raises(StagingError, match="no hca-dss-sha256 in its metadata") as caught:
        staging.sha256(key)
    assert caught.value.permanent
    with pytest.raises(StagingError, match="source_url") as caught:
        staging.sha256("no-such-key")
    assert caught.value.permanent


def test_gcs_truncated(dss: LocalDSS, tmp_path: Path) -> None:
    """A file that becomes shorter while it is sent is an error, and not waited for."""
    path, key = write_sparse(tmp_path / "file", 20 * MIB), _key()
    expected = checksum_bytes(path.read_bytes())
    with pytest.raises(ContentChangedError, match="shorter"):
        GCSStaging(dss.bucket).put(key, OpenFile(path), expected, "text/plain", lambda _: os.truncate(path, 9 * MIB))
    assert _gcs_bucket(dss).get_blob(key) is None


def test_gcs_ended(dss: LocalDSS, tmp_path: Path) -> None:
    """An error of the callback ends an upload, and creates no object."""
    path, key = write_sparse(tmp_path / "file", 20 * MIB), _key()
    with pytest.raises(_EndedError):
        GCSStaging(dss.bucket).put(
            key, OpenFile(path), checksum_bytes(path.read_bytes()), "text/plain", _failing_after(1)
        )
    assert _gcs_bucket(dss).get_blob(key) is None


# Both


@pytest.mark.parametrize("bucket", ["", "s3://bucket", "bucket/path"])
def test_what_is_no_bucket(bucket: str) -> None:
    """A bucket is given by its name alone."""
    with pytest.raises(ValueError, match="staging_bucket"):
        open_staging("aws", bucket)


def test_no_such_replica() -> None:
    """There are two replicas."""
    with pytest.raises(ValueError, match="'aws' or 'gcp'"):
        open_staging("azure", "bucket")


@pytest.mark.parametrize("url", ["bucket/key", "https://bucket/key", "s3://bucket", "s3://bucket/", "s3:///key", ""])
def test_what_is_no_source_url(url: str) -> None:
    """An address that names no object is a ValueError, before anything is asked."""
    with pytest.raises(ValueError, match="s3://bucket/key"):
        staged_sha256(url)


def test_they_are_stagings(dss: LocalDSS) -> None:
    """Each replica has its store."""
    stagings: list[Staging] = [open_staging("aws", dss.bucket), open_staging("gcp", dss.bucket)]
    assert [type(each) for each in stagings] == [S3Staging, GCSStaging]
