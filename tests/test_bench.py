"""Run each benchmark in a short form, without judging times, and check the null services that they use."""

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
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    return done.stdout.splitlines()


def _objects(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _bench(*arguments, "--json")]


def test_upload_reports_time_memory_and_requests_of_both_clients() -> None:
    results = {result["workload"]: result for result in _objects("upload", "--short")}
    assert list(results) == ["a", "b", "c", "d", "e", "f"]
    for name, result in results.items():
        of_both = {"hca_s", "ratio", "hca_rss_mb"}
        assert {"workload", "ours_s", "ours_rss_mb", "requests", *of_both} <= set(result)
        assert all((result[key] is None) == (name == "f") for key in of_both)  # the original client cannot do f
        assert result["ours_rss_mb"] < 150
    # Two per file: stage it with tags and metadata, register it. Other requests do not depend on the number of files.
    assert results["f"]["requests"] - results["a"]["requests"] == 2 * (200 - 20)


def test_download_reports_time_memory_and_requests_of_both_clients() -> None:
    results = {result["workload"]: result for result in _objects("download", "--short")}
    assert list(results) == ["a", "b", "c"]
    for result in results.values():
        assert result["requests"] == result["hca_requests"]
        assert all(result[name] > 0 for name in ("ours_s", "hca_s", "ratio", "of_sha256", "of_loop"))
        assert result["ours_rss_mb"] < 150
    assert results["a"]["requests"] == 1 + 2 * 20  # the manifest; two for each file


def test_batch_writes_only_what_changed() -> None:
    results = {(result["batch"], result["night"]): result for result in _objects("batch", "d", "--short")}
    assert [night for _, night in results] == ["cold", "changed", "nothing"]
    counts = {night: result["counts"] for (_, night), result in results.items()}
    assert counts["cold"]["created"] == counts["nothing"]["unchanged"] == 12
    assert counts["changed"]["created"] > 0
    written = {method: count for method, count in results["d", "changed"]["requests"]["dss"].items() if "PUT" in method}
    assert written == {"PUT 201": 2}  # a file and a bundle
    # A page of versions and a manifest per directory.
    assert results["d", "nothing"]["requests"] == {"s3": {}, "dss": {"GET 200": 2 * 12}}


def test_upload_without_json_prints_a_table() -> None:
    head, line = _bench("upload", "--short", "a")
    assert head.split()[0] == "workload"
    assert line.startswith("a: 20 x 4 KiB")


def test_upload_of_an_unknown_workload_names_the_known_ones() -> None:
    command = [sys.executable, "-m", "scripts.benchmarks", "upload", "z"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert "no such workload: z; there are a, b, c, d, e, f" in done.stderr


def test_checksums_reports_hashlib_and_the_package() -> None:
    """Two results: one file, and one file per core."""
    results = _objects("checksums", "--mib", "66", "--runs", "1")
    assert len(results) == 2
    assert all(result["hashlib_mb_per_s"] > 0 and result["ours_mb_per_s"] > 0 for result in results)


def test_parse_reports_what_each_part_adds_to_airflow() -> None:
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
def test_triggers_reports_cpu_memory_and_requests(name: str) -> None:
    results = _objects(name, "--count", "20", "40", "--interval", "1", "--seconds", "3")
    assert [result["waits"] for result in results] == [20, 40]
    for result in results:
        assert result["requests_per_s"] > 0
        assert result["rss_mb"] > 0
        assert result["core"] > 0


# The null services


class NullServices:
    """Run the null services, which know a few pieces of content, in a process.

    :ivar about: URLs of the services
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
        """True until the process has ended."""
        return self._process.returncode is None

    def stop(self) -> dict[str, dict[str, int]]:
        """Stop the services; return the number of requests by method and status."""
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
def test_null_s3_put_of_a_known_piece_returns_its_md5(s3: Any, content: bytes) -> None:
    expected = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
    assert s3.put_object(Bucket="b", Key="a b/ü", Body=content)["ETag"] == expected
    assert s3.head_object(Bucket="b", Key="a b/ü")["ETag"] == expected
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="b", Prefix="a ")["Contents"]] == ["a b/ü"]
    s3.delete_object(Bucket="b", Key="a b/ü")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket="b", Key="a b/ü")


def test_null_s3_put_of_unknown_content_is_refused(s3: Any, null: NullServices) -> None:
    with pytest.raises(ClientError, match="100001 bytes that are not a piece"):
        s3.put_object(Bucket="b", Key="k", Body=PIECES[2] + b"x")
    assert null.stop()["s3"]["PUT 400"] == 1


def test_null_s3_multipart_upload_is_listed_completed_and_aborted(s3: Any) -> None:
    at = {"Bucket": "b", "Key": "large"}
    upload = s3.create_multipart_upload(**at)["UploadId"]
    other = s3.create_multipart_upload(**at)["UploadId"]
    etags = [
        s3.upload_part(**at, UploadId=upload, PartNumber=number, Body=piece)["ETag"]
        for number, piece in enumerate(PIECES, 1)
    ]
    listed = s3.list_parts(**at, UploadId=upload)["Parts"]
    assert [(part["PartNumber"], part["ETag"], part["Size"]) for part in listed] == [
        (number, etag, len(piece)) for number, (etag, piece) in enumerate(zip(etags, PIECES, strict=True), 1)
    ]
    open_ = s3.list_multipart_uploads(Bucket="b", Prefix="large")["Uploads"]
    assert [entry["UploadId"] for entry in open_] == [upload, other]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    done = s3.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts})
    digests = b"".join(hashlib.md5(piece, usedforsecurity=False).digest() for piece in PIECES)
    assert done["ETag"] == f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-3"'
    assert s3.head_object(**at)["ETag"] == done["ETag"]
    s3.abort_multipart_upload(**at, UploadId=other)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="b")


def test_null_dss_accepts_every_put_and_has_nothing_to_get(null: NullServices) -> None:
    at = f"{null.about['dss_url']}/bundles/some"
    made = requests.put(at, params={"version": "v", "replica": "aws"}, json={"files": []}, timeout=5)
    assert (made.status_code, made.json()) == (201, {"version": "v"})
    missing = requests.get(at, timeout=5)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert requests.get(f"{null.about['dss_url']}/collections", timeout=5).ok
    assert null.stop()["dss"] == {"PUT 201": 1, "GET 404": 1, "GET 200": 1}
