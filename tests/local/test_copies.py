"""Copies made after the answer."""

from __future__ import annotations

import io
import time

import pytest
from boto3.s3.transfer import TransferConfig

from .server import MIB, LocalDSS, code_of, new_uuid, sums

COPY_DELAY = 0.4  # seconds, of the shared DSS


def _content(size: int = 150_000) -> bytes:
    return (new_uuid().encode() * (size // 36 + 1))[:size]


def test_accepted_then_copied(dss: LocalDSS) -> None:
    """A large file answers 202 with a task, HEAD 404 while it is copied and then 200; the PUT again: 202, then 200."""
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


def test_content_already_there(dss: LocalDSS) -> None:
    """Content the replica has already is stored at once, under whatever uuid."""
    file, source = new_uuid(), dss.stage(_content())
    dss.put_file(source, file)
    dss.wait_for_head(file, 200)
    assert dss.put_file(source).status_code == 201
    assert code_of(dss.put_file(source, file, creator_uid=9)) == (409, "file_already_exists")


def test_conflict_is_dropped(dss: LocalDSS) -> None:
    """A large PUT that conflicts answers 202 all the same, and HEAD shows the first content for ever."""
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
def test_wrong_sum_shows_in_head(dss: LocalDSS, name: str) -> None:
    """A wrong checksum of a large file is accepted with 202, and HEAD answers 422 from then on."""
    file, content = new_uuid(), _content()
    label = f"hca-dss-{name}"
    source = dss.stage(content, labels=sums(content) | {label: sums(b"other")[label]})
    assert dss.put_file(source, file).status_code == 202
    assert dss.wait_for_head(file, 422).content == b""


def test_failed_then_right(dss: LocalDSS) -> None:
    """After a failed copy the same uuid and version can be put again."""
    file, content = new_uuid(), _content()
    dss.put_file(dss.stage(content, labels=sums(b"other")), file)
    dss.wait_for_head(file, 422)
    started = time.monotonic()
    dss.put_file(dss.stage(content), file)
    head = dss.call("HEAD", f"/files/{file}", replica="aws")
    assert head.status_code == 404 or time.monotonic() - started > COPY_DELAY
    dss.wait_for_head(file, 200)


@pytest.mark.parametrize("status", [422, 500, 404])
def test_copy_made_to_fail(dss: LocalDSS, status: int) -> None:
    """A fault makes the copy of a PUT fail, with the status HEAD shall give for ever after."""
    file = new_uuid()
    dss.control("POST", "faults", {"method": "PUT", "path": file, "action": "fail_copy", "status": status})
    assert dss.put_file(dss.stage(_content()), file).status_code == 202
    marker = new_uuid()
    dss.put_file(dss.stage(_content()), marker)
    dss.wait_for_head(marker, 200)
    dss.wait_for_head(file, status)


def test_staged_object_gone(dss: LocalDSS) -> None:
    """When the staged object is deleted before the copy is made, HEAD stays at 404."""
    while True:
        file, source = new_uuid(), dss.stage(_content())
        started = time.monotonic()
        dss.put_file(source, file)
        dss.s3.delete_object(Bucket=dss.bucket, Key=source.split("/", 3)[3])
        if time.monotonic() - started < COPY_DELAY:
            break  # else it may have been copied: the machine is busy
    marker = new_uuid()
    dss.put_file(dss.stage(_content()), marker)
    dss.wait_for_head(marker, 200)
    assert dss.call("HEAD", f"/files/{file}", replica="aws").status_code == 404


def test_bundle_waits_for_a_copy(dss: LocalDSS) -> None:
    """PUT bundle finds a file whose copy is under way."""
    file = new_uuid()
    dss.put_file(dss.stage(_content()), file)
    assert dss.put_bundle([dss.entry("a", file)]).status_code == 201


@pytest.mark.parametrize(("part", "status"), [(32 * MIB, 422), (64 * MIB, 200)])
def test_parts_of_large_objects(dss: LocalDSS, part: int, status: int) -> None:
    """An S3 object above 64 MiB must have been staged in parts of 64 MiB; otherwise its copy fails."""
    file, content = new_uuid(), _content(64 * MIB + 1)
    key = f"staged/{file}"
    upload = dss.s3.create_multipart_upload(
        Bucket=dss.bucket, Key=key, Metadata=sums(content), ContentType="application/gzip"
    )["UploadId"]
    common = {"Bucket": dss.bucket, "Key": key, "UploadId": upload}
    parts = []
    for number, start in enumerate(range(0, len(content), part), 1):
        answer = dss.s3.upload_part(**common, PartNumber=number, Body=content[start : start + part])
        parts.append({"ETag": answer["ETag"], "PartNumber": number})
    dss.s3.complete_multipart_upload(**common, MultipartUpload={"Parts": parts})
    assert dss.put_file(f"s3://{dss.bucket}/{key}", file).status_code == 202
    dss.wait_for_head(file, status)


def test_small_object_in_parts(dss: LocalDSS) -> None:
    """An object up to 64 MiB may have been staged in parts: its checksum is the MD5 of the content all the same."""
    content = _content(6 * MIB)
    key = f"staged/{new_uuid()}"
    config = TransferConfig(multipart_threshold=MIB, multipart_chunksize=5 * MIB)
    with_labels = {"Metadata": sums(content)}
    dss.s3.upload_fileobj(io.BytesIO(content), dss.bucket, key, ExtraArgs=with_labels, Config=config)
    file = new_uuid()
    dss.put_file(f"s3://{dss.bucket}/{key}", file)
    dss.wait_for_head(file, 200)
