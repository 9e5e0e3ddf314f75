"""The benchmarks run, in short forms, and their null services answer as real ones would. Nothing is said of time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from scripts.benchmarks.null_s3 import piece_key

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).parents[1]
PIECES = [os.urandom(100), os.urandom(20), os.urandom(100_000)]


def _bench(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "scripts.benchmarks", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return done.stdout.splitlines()


def _objects(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _bench(*arguments, "--json")]


def test_upload() -> None:
    """Each workload tells the time, memory and requests of both clients, or of ours where the other cannot do it."""
    results = {result["workload"]: result for result in _objects("upload", "--short")}
    assert list(results) == ["a", "b", "c", "d", "e", "f"]
    for name, result in results.items():
        of_both = {"hca_s", "ratio", "hca_rss_mb"}
        assert {"workload", "ours_s", "ours_rss_mb", "requests", *of_both} <= set(result)
        assert all((result[each] is None) == (name == "f") for each in of_both)
        assert result["ours_rss_mb"] < 150
    # Two a file: one to stage it with tags and metadata, one to register it. The rest is the same for any number.
    assert results["f"]["requests"] - results["a"]["requests"] == 2 * (200 - 20)


def test_upload_as_a_table() -> None:
    """For people there is a table, with a line for each workload asked for."""
    head, line = _bench("upload", "--short", "a")
    assert head.split()[0] == "workload"
    assert line.startswith("a: 20 x 4 KiB")


def test_upload_of_what_is_not_there() -> None:
    """A workload that is none is refused, and the others are named."""
    command = [sys.executable, "-m", "scripts.benchmarks", "upload", "z"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no such workload: z; there are a, b, c, d, e, f" in done.stderr


def test_checksums() -> None:
    """What `hashlib` allows and what the package does are both told, for one file and for one a core."""
    results = _objects("checksums", "--mib", "66", "--runs", "1")
    assert len(results) == 2
    assert all(result["hashlib_mb_per_s"] > 0 and result["ours_mb_per_s"] > 0 for result in results)


def test_parse() -> None:
    """What importing each part adds to Airflow's own imports is told, and is a fraction of them."""
    airflow, *ours, total = _objects("parse", "--runs", "1")
    assert [result["imported"].removeprefix("airflow_provider_hca.") for result in ours] == [
        "operators.dss",
        "sensors.dss",
        "triggers.dss",
        "hooks.dss",
    ]
    assert total["modules"] == sum(result["modules"] for result in ours)
    assert total["ms"] < airflow["ms"]


@pytest.mark.parametrize("name", ["triggers", "sensor"])
def test_triggers(name: str) -> None:
    """Waits in one process tell what they take of a core, of memory and of the DSS."""
    results = _objects(name, "--count", "20", "40", "--interval", "1", "--seconds", "3")
    assert [result["waits"] for result in results] == [20, 40]
    for result in results:
        assert result["requests_per_s"] > 0
        assert result["rss_mb"] > 0
        assert result["core"] > 0


# The null services


class NullServices:
    """The null services, for a few pieces of content, in a process of their own.

    :ivar about: their URLs
    """

    def __init__(self, directory: Path) -> None:
        pieces = directory / "pieces.json"
        known = {
            piece_key(piece, len(piece)): hashlib.md5(piece, usedforsecurity=False).hexdigest() for piece in PIECES
        }
        pieces.write_text(json.dumps(known))
        command = [sys.executable, "-m", "scripts.benchmarks.null_server", str(pieces)]
        self._process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout
        self.about: dict[str, str] = json.loads(self._process.stdout.readline())

    @property
    def running(self) -> bool:
        """Whether they were not ended yet."""
        return self._process.returncode is None

    def stop(self) -> dict[str, dict[str, int]]:
        """End them; return the requests they counted."""
        written, _ = self._process.communicate(timeout=60)
        return cast("dict[str, dict[str, int]]", json.loads(written))


@pytest.fixture
def null(tmp_path: Path) -> Iterator[NullServices]:
    """Start the null services."""
    services = NullServices(tmp_path)
    yield services
    if services.running:
        services.stop()


@pytest.fixture
def s3(null: NullServices) -> Any:
    """Make a client of the null S3."""
    return boto3.client(
        "s3",
        endpoint_url=null.about["s3_url"],
        aws_access_key_id="none",
        aws_secret_access_key="none",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


@pytest.mark.parametrize("content", [*PIECES, b""], ids=len)
def test_null_object(s3: Any, content: bytes) -> None:
    """The null S3 answers with the MD5 of a piece that it knows, whatever its size."""
    expected = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
    assert s3.put_object(Bucket="b", Key="a b/ü", Body=content)["ETag"] == expected
    assert s3.head_object(Bucket="b", Key="a b/ü")["ETag"] == expected
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="b", Prefix="a ")["Contents"]] == ["a b/ü"]
    s3.delete_object(Bucket="b", Key="a b/ü")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket="b", Key="a b/ü")


def test_null_unknown(s3: Any, null: NullServices) -> None:
    """Content that is no piece of the benchmark's files is refused: a client that sent it would not be measured."""
    with pytest.raises(ClientError, match="100001 bytes that are no piece"):
        s3.put_object(Bucket="b", Key="k", Body=PIECES[2] + b"x")
    assert null.stop()["s3"]["PUT 400"] == 1


def test_null_multipart(s3: Any) -> None:
    """A multipart upload can be listed, completed with the ETag that S3 would give, and aborted."""
    at = {"Bucket": "b", "Key": "large"}
    upload = s3.create_multipart_upload(**at)["UploadId"]
    other = s3.create_multipart_upload(**at)["UploadId"]
    etags = [
        s3.upload_part(**at, UploadId=upload, PartNumber=number, Body=piece)["ETag"]
        for number, piece in enumerate(PIECES, 1)
    ]
    listed = s3.list_parts(**at, UploadId=upload)["Parts"]
    assert [(each["PartNumber"], each["ETag"], each["Size"]) for each in listed] == [
        (number, etag, len(piece)) for number, (etag, piece) in enumerate(zip(etags, PIECES, strict=True), 1)
    ]
    open_ = s3.list_multipart_uploads(Bucket="b", Prefix="large")["Uploads"]
    assert [each["UploadId"] for each in open_] == [upload, other]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    done = s3.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts})
    digests = b"".join(hashlib.md5(piece, usedforsecurity=False).digest() for piece in PIECES)
    assert done["ETag"] == f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-3"'
    assert s3.head_object(**at)["ETag"] == done["ETag"]
    s3.abort_multipart_upload(**at, UploadId=other)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="b")


def test_null_dss(null: NullServices) -> None:
    """The null DSS makes what is put, has nothing to get, and takes any token."""
    at = f"{null.about['dss_url']}/bundles/some"
    made = requests.put(at, params={"version": "v", "replica": "aws"}, json={"files": []}, timeout=5)
    assert (made.status_code, made.json()) == (201, {"version": "v"})
    missing = requests.get(at, timeout=5)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert requests.get(f"{null.about['dss_url']}/collections", timeout=5).ok
    assert null.stop()["dss"] == {"PUT 201": 1, "GET 404": 1, "GET 200": 1}
