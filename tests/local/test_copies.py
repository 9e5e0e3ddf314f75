"""Copies after the response of PUT file."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig

from tests.upload.support import write_sparse

from .server import MIB, LocalDSS, code_of, new_uuid, sums

COPY_DELAY = 0.4  # seconds, of the shared DSS


def _content(size: int = 150_000) -> bytes:
    return (new_uuid().encode() * (size // 36 + 1))[:size]


def test_put_large_file_returns_202_until_copied(dss: LocalDSS) -> None:
    file, content = new_uuid(), _content()
    source = dss.stage(content)
    started = time.monotonic()
    first, second = dss.put_file(source, file), dss.put_file(source, file)
    head = dss.call("HEAD", f"/files/{file}", replica="aws")
    assert first.status_code == 202
    assert first.json().keys() == {"version", "task_id"}
    if time.monotonic() - started < COPY_DELAY:
        assert (second.status_code, head.status_code) == (202, 404)
    assert dss.wait_for_head(file, 200).headers["X-DSS-SHA256"] == sums(content)["hca-dss-sha256"]
    assert dss.put_file(source, file).status_code == 200


def test_put_of_existing_content_returns_201(dss: LocalDSS) -> None:
    file, source = new_uuid(), dss.stage(_content())
    dss.put_file(source, file)
    dss.wait_for_head(file, 200)
    assert dss.put_file(source).status_code == 201
    assert code_of(dss.put_file(source, file, creator_uid=9)) == (409, "file_already_exists")


def test_conflicting_copy_keeps_first_content(dss: LocalDSS) -> None:
    """The conflicting PUT returns 202 all the same, as in a DSS."""
    file, content = new_uuid(), _content()
    dss.put_file(dss.stage(content), file)
    dss.wait_for_head(file, 200)
    other = dss.stage(_content())
    assert dss.put_file(other, file).status_code == 202
    marker = new_uuid()  # copied after the one that conflicts
    dss.put_file(dss.stage(_content()), marker)
    dss.wait_for_head(marker, 200)
    assert dss.wait_for_head(file, 200).headers["X-DSS-SHA256"] == sums(content)["hca-dss-sha256"]


@pytest.mark.parametrize("name", ["sha256", "sha1", "s3_etag", "crc32c"])
def test_copy_with_wrong_checksum_fails_with_422(dss: LocalDSS, name: str) -> None:
    file, content = new_uuid(), _content()
    label = f"hca-dss-{name}"
    source = dss.stage(content, labels=sums(content) | {label: sums(b"other")[label]})
    assert dss.put_file(source, file).status_code == 202
    assert dss.wait_for_head(file, 422).content == b""


def test_put_after_failed_copy_succeeds(dss: LocalDSS) -> None:
    file, content = new_uuid(), _content()
    dss.put_file(dss.stage(content, labels=sums(b"other")), file)
    dss.wait_for_head(file, 422)
    started = time.monotonic()
    dss.put_file(dss.stage(content), file)
    head = dss.call("HEAD", f"/files/{file}", replica="aws")
    assert head.status_code == 404 or time.monotonic() - started > COPY_DELAY
    dss.wait_for_head(file, 200)


@pytest.mark.parametrize("status", [422, 500, 404])
def test_fault_fails_copy_with_status(dss: LocalDSS, status: int) -> None:
    file = new_uuid()
    dss.control("POST", "faults", {"method": "PUT", "path": file, "action": "fail_copy", "status": status})
    assert dss.put_file(dss.stage(_content()), file).status_code == 202
    marker = new_uuid()
    dss.put_file(dss.stage(_content()), marker)
    dss.wait_for_head(marker, 200)
    dss.wait_for_head(file, status)


def test_copy_of_deleted_object_stays_404(dss: LocalDSS) -> None:
    while True:
        file, source = new_uuid(), dss.stage(_content())
        started = time.monotonic()
        dss.put_file(source, file)
        dss.s3.delete_object(Bucket=dss.bucket, Key=source.split("/", 3)[3])
        if time.monotonic() - started < COPY_DELAY:
            break  # otherwise a busy machine may have copied it before
    marker = new_uuid()
    dss.put_file(dss.stage(_content()), marker)
    dss.wait_for_head(marker, 200)
    assert dss.call("HEAD", f"/files/{file}", replica="aws").status_code == 404


def test_put_bundle_waits_for_pending_copy(dss: LocalDSS) -> None:
    file = new_uuid()
    dss.put_file(dss.stage(_content()), file)
    assert dss.put_bundle([dss.entry("a", file)]).status_code == 201


def _part(path: Path, target: Path, start: int, size: int) -> Path:
    """Write a part of a file as a file, since boto3 holds several copies of a body in memory."""
    with path.open("rb") as source, target.open("wb") as written:
        source.seek(start)
        while left := size - written.tell():
            if not (chunk := source.read(min(MIB, left))):
                break
            written.write(chunk)
    return target


@pytest.mark.parametrize(("part", "status"), [(32 * MIB, 422), (64 * MIB, 200)])
def test_large_object_must_be_staged_in_64_mib_parts(dss: LocalDSS, tmp_path: Path, part: int, status: int) -> None:
    file, path = new_uuid(), write_sparse(tmp_path / "content", 64 * MIB + 1)
    with path.open("r+b") as content:  # a DSS does not copy content again
        content.write(file.encode())
    key = f"staged/{file}"
    upload = dss.s3.create_multipart_upload(
        Bucket=dss.bucket, Key=key, Metadata=sums(path), ContentType="application/gzip"
    )["UploadId"]
    common = {"Bucket": dss.bucket, "Key": key, "UploadId": upload}
    parts = []
    for number, start in enumerate(range(0, 64 * MIB + 1, part), 1):
        with _part(path, tmp_path / f"{number}", start, part).open("rb") as body:
            response = dss.s3.upload_part(**common, PartNumber=number, Body=body)
        parts.append({"ETag": response["ETag"], "PartNumber": number})
    dss.s3.complete_multipart_upload(**common, MultipartUpload={"Parts": parts})
    assert dss.put_file(f"s3://{dss.bucket}/{key}", file).status_code == 202
    dss.wait_for_head(file, status)


def test_small_object_staged_in_parts_is_copied(dss: LocalDSS) -> None:
    """The checksum of an object up to 64 MiB is the MD5 of its content, even if it was staged in parts."""
    content = _content(6 * MIB)
    key = f"staged/{new_uuid()}"
    config = TransferConfig(multipart_threshold=MIB, multipart_chunksize=5 * MIB)
    with_labels = {"Metadata": sums(content)}
    dss.s3.upload_fileobj(io.BytesIO(content), dss.bucket, key, ExtraArgs=with_labels, Config=config)
    file = new_uuid()
    dss.put_file(f"s3://{dss.bucket}/{key}", file)
    dss.wait_for_head(file, 200)
