"""Acknowledged writes survive restarts and kills."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from .server import MIB, LocalDSS, new_uuid, sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def module_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    state = tmp_path_factory.mktemp("restarted")
    with LocalDSS(state, "--gcs", "--async-above", "8000000", "--copy-delay", "1", "--sync-delay", "off") as dss:
        yield dss


@pytest.fixture
def dss(module_dss: LocalDSS) -> LocalDSS:
    """Return a server that tests may restart."""
    return module_dss


def _staged(dss: LocalDSS, key: str) -> dict[str, Any]:
    item = dss.s3.get_object(Bucket=dss.bucket, Key=key)
    tags = dss.s3.get_object_tagging(Bucket=dss.bucket, Key=key)["TagSet"]
    return {
        "body": item["Body"].read(),
        "etag": item["ETag"],
        "metadata": item["Metadata"],
        "type": item["ContentType"],
        "modified": item["LastModified"],
        "tags": {tag["Key"]: tag["Value"] for tag in tags},
    }


def test_staged_objects_are_unchanged_after_restart(dss: LocalDSS) -> None:
    dss.stage(b"small", "a/b c/ü+%&?#.txt", {"hca-dss-sha1": "0" * 40}, "text/x-special")
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    content = os.urandom(6 * MIB)
    dss.s3.upload_fileobj(io.BytesIO(content), dss.bucket, "large", Config=config)
    keys = ["a/b c/ü+%&?#.txt", "large", "//slashes//"]
    dss.stage(b"slashes", keys[2])
    for key in keys:
        tags = [{"Key": "hca-dss-sha256", "Value": "1" * 64}]
        dss.s3.put_object_tagging(Bucket=dss.bucket, Key=key, Tagging={"TagSet": tags})
    before = [_staged(dss, key) for key in keys]
    assert before[1]["etag"].endswith('-2"')
    dss.restart()
    assert [_staged(dss, key) for key in keys] == before


def test_deleted_and_replaced_objects_stay_so_after_restart(dss: LocalDSS) -> None:
    bucket = "another"
    contents = dss.state / "s3" / "contents"
    before = len(list(contents.iterdir()))
    dss.s3.create_bucket(Bucket=bucket)
    dss.s3.create_bucket(Bucket="short-lived")
    dss.s3.delete_bucket(Bucket="short-lived")
    for key, content in (("one", b"old"), ("two", b""), ("three", b""), ("four", b"4"), ("one", b"new")):
        dss.s3.put_object(Bucket=bucket, Key=key, Body=content)
    dss.s3.delete_object(Bucket=bucket, Key="two")
    dss.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "three"}, {"Key": "none"}]})
    dss.s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "one"})
    dss.restart()
    listed = [found["Key"] for found in dss.s3.list_objects_v2(Bucket=bucket)["Contents"]]
    found = {key: dss.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in listed}
    assert found == {"copy": b"new", "four": b"4", "one": b"new"}
    assert [found["Name"] for found in dss.s3.list_buckets()["Buckets"]] == [bucket, dss.bucket]
    assert len(list(contents.iterdir())) == before + 3  # replaced and deleted contents are removed


def test_records_tokens_and_copies_survive_restart(dss: LocalDSS) -> None:
    file, bundle = dss.new_file(), new_uuid()
    gone = new_uuid()
    source = dss.stage_gcs(b"gcs", sums(b"gcs"))
    dss.put_bundle([dss.entry("a", file)], bundle)
    dss.put_bundle([], gone)
    dss.call("DELETE", f"/bundles/{gone}", {"reason": "test"}, replica="aws")
    large, content = new_uuid(), os.urandom(8_000_001)
    assert dss.put_file(dss.stage(content), large).status_code == 202
    before, token = dss.control("GET", "store"), dss.token()
    dss.restart()
    assert dss.call("HEAD", f"/files/{large}", replica="aws").status_code == 404
    assert dss.control("GET", "store") == before
    headers = {"Authorization": f"Bearer {token}"}
    assert requests.get(f"{dss.url}/collections", headers=headers, timeout=10).status_code == 200
    assert dss.put_file(source).status_code == 201
    location = dss.call("GET", f"/files/{file}", replica="aws").headers["Location"]
    assert dss.wait_for_head(large, 200).headers["X-DSS-SHA256"] == sums(content)["hca-dss-sha256"]
    time.sleep(1)
    assert requests.get(location, timeout=10).content == b"content"


def _load(dss: LocalDSS, acknowledged: list[tuple[str, str, str, bytes]], stop: threading.Event) -> None:
    """Stage, register and bundle files until the server is stopped."""
    while not stop.is_set():
        content, key, file, bundle = os.urandom(2000), new_uuid(), new_uuid(), new_uuid()
        source = dss.stage(content, key)
        acknowledged.append((key, "", "", content))
        if dss.put_file(source, file).status_code != 201:
            return
        acknowledged[-1] = (key, file, "", content)
        if dss.put_bundle([dss.entry("a", file)], bundle).status_code != 201:
            return
        acknowledged[-1] = (key, file, bundle, content)


def _until_stopped(work: Callable[[], None]) -> None:
    with contextlib.suppress(requests.RequestException, BotoCoreError, ClientError):
        work()


def test_acknowledged_writes_survive_kill_under_load(tmp_path: Path) -> None:
    with LocalDSS(tmp_path) as dss:
        dss.authorization  # noqa: B018 - created before the threads need it
        stop = threading.Event()
        lists: list[list[tuple[str, str, str, bytes]]] = [[] for _ in range(8)]
        threads = [
            threading.Thread(target=_until_stopped, args=(lambda mine=mine: _load(dss, mine, stop),)) for mine in lists
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while sum(1 for mine in lists for item in mine if item[2]) <= 20:
            assert time.monotonic() < deadline, "the threads created too few bundles"
            time.sleep(0.05)
        dss.stop(signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join()
        dss.start()
        acknowledged = [item for mine in lists for item in mine]
        store = dss.control("GET", "store")
        files = {file["uuid"]: file["sha256"] for file in store["files"]}
        bundles = {bundle["uuid"] for bundle in store["bundles"]}
        for key, file, bundle, content in acknowledged:
            staged = _staged(dss, key)
            assert (staged["body"], staged["metadata"]) == (content, sums(content))
            if file:
                assert files[file] == sums(content)["hca-dss-sha256"]
                blob = tmp_path / "blobs" / files[file][:2] / files[file]
                assert blob.read_bytes() == content
            assert not bundle or bundle in bundles
