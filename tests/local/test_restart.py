"""Nothing that was acknowledged is lost, however the process ends."""

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
    """Give a server that tests may restart."""
    return module_dss


def _staged(dss: LocalDSS, key: str) -> dict[str, Any]:
    found = dss.s3.get_object(Bucket=dss.bucket, Key=key)
    tags = dss.s3.get_object_tagging(Bucket=dss.bucket, Key=key)["TagSet"]
    return {
        "body": found["Body"].read(),
        "etag": found["ETag"],
        "metadata": found["Metadata"],
        "type": found["ContentType"],
        "modified": found["LastModified"],
        "tags": {tag["Key"]: tag["Value"] for tag in tags},
    }


def test_staged_objects_survive_a_restart(dss: LocalDSS) -> None:
    """Staged objects are the same after a restart: content, metadata, type, tags, time and ETag, also of parts."""
    dss.stage(b"small", "a/b c/ü+%&?#.txt", {"hca-dss-sha1": "0" * 40}, "text/x-special")
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    content = os.urandom(6 * MIB)
    dss.s3.upload_fileobj(io.BytesIO(content), dss.bucket, "large", Config=config)
    keys = ["a/b c/ü+%&?#.txt", "large", "//odd//"]
    dss.stage(b"odd", keys[2])
    for key in keys:
        tags = [{"Key": "hca-dss-sha256", "Value": "1" * 64}]
        dss.s3.put_object_tagging(Bucket=dss.bucket, Key=key, Tagging={"TagSet": tags})
    before = [_staged(dss, key) for key in keys]
    assert before[1]["etag"].endswith('-2"')
    dss.restart()
    assert [_staged(dss, key) for key in keys] == before


def test_removed_objects_stay_removed(dss: LocalDSS) -> None:
    """Overwritten, deleted and copied objects, buckets made and deleted are so after a restart too."""
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
    assert len(list(contents.iterdir())) == before + 3  # none is left of what was replaced or deleted


def test_everything_survives_a_restart(dss: LocalDSS) -> None:
    """Files, bundles, tombstones and GCS objects are there after a restart, tokens are good, and copies go on."""
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
    """Stage, register and bundle one file after the other until the server is gone."""
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


def _until_gone(work: Callable[[], None]) -> None:
    with contextlib.suppress(requests.RequestException, BotoCoreError, ClientError):
        work()


def test_kill_under_load(tmp_path: Path) -> None:
    """After a kill -9 in the midst of many requests everything acknowledged is there, and whole."""
    with LocalDSS(tmp_path) as dss:
        dss.authorization  # noqa: B018 - made before the threads ask for it
        stop = threading.Event()
        lists: list[list[tuple[str, str, str, bytes]]] = [[] for _ in range(8)]
        threads = [
            threading.Thread(target=_until_gone, args=(lambda mine=mine: _load(dss, mine, stop),)) for mine in lists
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
