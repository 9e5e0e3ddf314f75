"""The S3 server of the local DSS; the tests that use `bucket` run against SeaweedFS too, an independent server."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import requests
from botocore.exceptions import ClientError

from tests.stores import BUCKET, SeaweedFS

from .server import MIB, LocalDSS, new_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART = 5 * MIB  # the smallest part that S3 accepts, except for the last


class Bucket:
    """A bucket and a prefix that no other test uses."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name, self.prefix = client, name, f"{new_uuid()}/"

    def key(self, name: str) -> str:
        """Return a key under the prefix."""
        return self.prefix + name

    def put(self, name: str, content: bytes = b"content", **options: Any) -> Any:
        """Put an object."""
        return self.client.put_object(Bucket=self.name, Key=self.key(name), Body=content, **options)

    def get(self, name: str, **options: Any) -> Any:
        """Get an object."""
        return self.client.get_object(Bucket=self.name, Key=self.key(name), **options)

    def read(self, name: str, **options: Any) -> bytes:
        """Return the content of an object."""
        content: bytes = self.get(name, **options)["Body"].read()
        return content

    def at(self, name: str) -> dict[str, str]:
        """Return bucket and key as arguments of boto3."""
        return {"Bucket": self.name, "Key": self.key(name)}

    def names(self, **options: Any) -> list[str]:
        """Return the names of all objects under the prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.prefix, **options)
        return [item["Key"].removeprefix(self.prefix) for page in pages for item in page.get("Contents", [])]


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    store = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    yield store
    store.stop()


@pytest.fixture(
    params=["local", pytest.param("seaweedfs", marks=[pytest.mark.system, pytest.mark.xdist_group("stores")])]
)
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """Return a bucket of the local DSS's store or of SeaweedFS."""
    if request.param == "seaweedfs":
        return Bucket(request.getfixturevalue("seaweedfs").endpoint.client(), BUCKET)
    dss: LocalDSS = request.getfixturevalue("dss")
    return Bucket(dss.s3, dss.bucket)


@pytest.fixture
def local(dss: LocalDSS) -> Bucket:
    """Return a bucket of the local DSS's store."""
    return Bucket(dss.s3, dss.bucket)


def _code(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_put_object_keeps_content_headers_metadata_and_tags(bucket: Bucket) -> None:
    name = "a b/ü+%&?#=.txt"
    response = bucket.put(name, b"x" * 10, ContentType="text/x", Metadata={"One": "1"}, Tagging="k=v%20w&l=")
    assert response["ETag"] == f'"{hashlib.md5(b"x" * 10).hexdigest()}"'  # noqa: S324 - what S3 calls an ETag
    found = bucket.get(name)
    assert found["Body"].read() == b"x" * 10
    assert (found["ContentType"], found["ContentLength"], found["ETag"]) == ("text/x", 10, response["ETag"])
    assert found["Metadata"] == {"one": "1"}
    tags = bucket.client.get_object_tagging(**bucket.at(name))["TagSet"]
    assert sorted((tag["Key"], tag["Value"]) for tag in tags) == [("k", "v w"), ("l", "")]
    assert bucket.names() == [name]


def test_put_object_replaces_content_metadata_and_tags(bucket: Bucket) -> None:
    bucket.put("a", b"old", Metadata={"one": "1"}, Tagging="k=v")
    bucket.put("a", b"new")
    assert (bucket.read("a"), bucket.get("a")["Metadata"]) == (b"new", {})
    assert bucket.client.get_object_tagging(**bucket.at("a"))["TagSet"] == []


def test_put_object_if_none_match_rejects_existing_key(bucket: Bucket) -> None:
    bucket.put("a", b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as error:
        bucket.put("a", b"second", IfNoneMatch="*")
    assert _code(error) == (412, "PreconditionFailed")
    assert bucket.read("a") == b"first"


@pytest.mark.parametrize("size", [0, 3 * MIB + 1])
def test_get_object_returns_any_size(bucket: Bucket, size: int) -> None:
    content = os.urandom(size)
    bucket.put("a", content)
    assert bucket.read("a") == content


@pytest.mark.parametrize(
    ("section", "expected"), [("bytes=0-1", b"01"), ("bytes=3-", b"34"), ("bytes=-2", b"34"), ("bytes=4-99", b"4")]
)
def test_get_object_returns_a_range(bucket: Bucket, section: str, expected: bytes) -> None:
    bucket.put("a", b"01234")
    found = bucket.get("a", Range=section)
    assert found["Body"].read() == expected
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert found["ContentRange"].endswith("/5")


def test_get_object_rejects_range_behind_end(bucket: Bucket) -> None:
    bucket.put("a", b"01234")
    with pytest.raises(ClientError) as error:
        bucket.get("a", Range="bytes=5-")
    assert _code(error) == (416, "InvalidRange")


def test_get_object_if_match_compares_the_etag(bucket: Bucket) -> None:
    etag = bucket.put("a")["ETag"]
    assert bucket.read("a", IfMatch=etag) == b"content"
    with pytest.raises(ClientError) as error:
        bucket.get("a", IfMatch='"0123"')
    assert _code(error) == (412, "PreconditionFailed")


def test_missing_objects_buckets_and_uploads_return_404(bucket: Bucket) -> None:
    with pytest.raises(ClientError) as error:
        bucket.get("none")
    assert _code(error) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as error:
        bucket.client.head_object(**bucket.at("none"))
    assert _code(error)[0] == 404
    with pytest.raises(ClientError) as error:
        bucket.client.get_object(Bucket="no-such-bucket", Key="a")
    assert _code(error) == (404, "NoSuchBucket")
    with pytest.raises(ClientError) as error:
        bucket.client.list_parts(**bucket.at("a"), UploadId="none")
    assert _code(error) == (404, "NoSuchUpload")


def test_delete_objects_skips_missing_keys(bucket: Bucket) -> None:
    for name in ("a", "b&c", "d"):
        bucket.put(name)
    keys = [{"Key": bucket.key(name)} for name in ("a", "b&c", "none")]
    response = bucket.client.delete_objects(Bucket=bucket.name, Delete={"Objects": keys})
    assert {item["Key"] for item in response["Deleted"]} == {item["Key"] for item in keys}
    bucket.client.delete_object(**bucket.at("none"))
    assert bucket.names() == ["d"]


def test_list_objects_pages_in_order_of_keys(bucket: Bucket) -> None:
    names = sorted(["a", "a/b", "a/c", "b", "é", "z&<"], key=str.encode)
    for name in reversed(names):
        bucket.put(name)
    assert bucket.names(PaginationConfig={"PageSize": 2}) == names
    assert bucket.names(StartAfter=bucket.key("a/b")) == names[2:]


def test_list_objects_groups_by_delimiter(bucket: Bucket) -> None:
    for name in ("a", "b/1", "b/2", "c", "d/1/2"):
        bucket.put(name)
    options = {"Bucket": bucket.name, "Prefix": bucket.prefix, "Delimiter": "/", "PaginationConfig": {"PageSize": 2}}
    pages = list(bucket.client.get_paginator("list_objects_v2").paginate(**options))
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    prefixes = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
    assert keys == [bucket.key("a"), bucket.key("c")]
    assert prefixes == [bucket.key("b/"), bucket.key("d/")]


def test_put_object_tagging_replaces_the_tags(bucket: Bucket) -> None:
    bucket.put("a", Tagging="old=1")
    tags = [{"Key": "new", "Value": "2"}]
    bucket.client.put_object_tagging(**bucket.at("a"), Tagging={"TagSet": tags})
    assert bucket.client.get_object_tagging(**bucket.at("a"))["TagSet"] == tags
    bucket.client.delete_object_tagging(**bucket.at("a"))
    assert bucket.client.get_object_tagging(**bucket.at("a"))["TagSet"] == []
    assert bucket.read("a") == b"content"


def test_copy_object_keeps_or_replaces_metadata_and_tags(bucket: Bucket) -> None:
    etag = bucket.put("a", Metadata={"m": "1"}, Tagging="t=1", ContentType="text/x")["ETag"]
    source = {"CopySource": bucket.at("a"), "CopySourceIfMatch": etag}
    bucket.client.copy_object(**bucket.at("same"), **source)
    replaced = {"MetadataDirective": "REPLACE", "TaggingDirective": "REPLACE", "Metadata": {"m": "2"}, "Tagging": "t=2"}
    response = bucket.client.copy_object(**bucket.at("other"), **source, **replaced, ContentType="text/y")
    assert response["CopyObjectResult"]["ETag"].strip('"') == etag.strip('"')
    bucket.client.delete_object(**bucket.at("a"))
    for name, metadata, tag, kind in (("same", "1", "1", "text/x"), ("other", "2", "2", "text/y")):
        found = bucket.get(name)
        assert (found["Body"].read(), found["Metadata"], found["ContentType"]) == (b"content", {"m": metadata}, kind)
        tags = bucket.client.get_object_tagging(**bucket.at(name))["TagSet"]
        assert tags == [{"Key": "t", "Value": tag}]


def _upload(bucket: Bucket, name: str, parts: list[bytes], **options: Any) -> tuple[str, list[dict[str, Any]]]:
    """Upload parts; return the upload id and the parts for `_complete`."""
    upload: str = bucket.client.create_multipart_upload(**bucket.at(name), **options)["UploadId"]
    sent = []
    for number, content in enumerate(parts, 1):
        response = bucket.client.upload_part(**bucket.at(name), UploadId=upload, PartNumber=number, Body=content)
        sent.append({"PartNumber": number, "ETag": response["ETag"]})
    return upload, sent


def _complete(bucket: Bucket, name: str, upload: str, parts: list[dict[str, Any]], **options: Any) -> Any:
    return bucket.client.complete_multipart_upload(
        **bucket.at(name), UploadId=upload, MultipartUpload={"Parts": parts}, **options
    )


def test_completed_upload_creates_object(bucket: Bucket) -> None:
    contents = [os.urandom(_PART), os.urandom(_PART), b"end"]
    upload, sent = _upload(bucket, "a", contents, ContentType="text/x", Metadata={"m": "1"})
    listed = bucket.client.list_parts(**bucket.at("a"), UploadId=upload)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, _PART), (2, _PART), (3, 3)]
    response = _complete(bucket, "a", upload, sent)
    digests = b"".join(hashlib.md5(content).digest() for content in contents)  # noqa: S324 - what S3 calls an ETag
    assert response["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'  # noqa: S324 - same
    found = bucket.get("a")
    assert found["Body"].read() == b"".join(contents)
    assert (found["ContentType"], found["Metadata"]) == ("text/x", {"m": "1"})
    between = f"bytes={_PART - 2}-{_PART + 1}"
    assert bucket.read("a", Range=between) == contents[0][-2:] + contents[1][:2]


def test_open_upload_is_listed_until_aborted(bucket: Bucket) -> None:
    upload, _ = _upload(bucket, "a b", [b"part"])
    listed = bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=bucket.prefix)["Uploads"]
    assert [(item["Key"], item["UploadId"]) for item in listed] == [(bucket.key("a b"), upload)]
    bucket.client.abort_multipart_upload(**bucket.at("a b"), UploadId=upload)
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=bucket.prefix)
    assert bucket.names() == []


def test_upload_part_copy_takes_a_range(bucket: Bucket) -> None:
    content = os.urandom(_PART + 10)
    bucket.put("source", content)
    upload = bucket.client.create_multipart_upload(**bucket.at("a"))["UploadId"]
    sent = []
    for number, section in enumerate((f"bytes=0-{_PART - 1}", f"bytes={_PART}-{_PART + 9}"), 1):
        where = {**bucket.at("a"), "UploadId": upload, "PartNumber": number}
        response = bucket.client.upload_part_copy(**where, CopySource=bucket.at("source"), CopySourceRange=section)
        sent.append({"PartNumber": number, "ETag": response["CopyPartResult"]["ETag"]})
    _complete(bucket, "a", upload, sent)
    assert bucket.read("a") == content


@pytest.mark.parametrize(
    ("contents", "change", "code"),
    [
        ([b"small", b"end"], lambda parts: parts, "EntityTooSmall"),
        ([b"end"], lambda parts: [{**parts[0], "ETag": '"00000000000000000000000000000000"'}], "InvalidPart"),
        ([bytes(_PART), b"end"], lambda parts: parts[::-1], "InvalidPartOrder"),
    ],
)
def test_complete_upload_rejects_wrong_parts(bucket: Bucket, contents: list[bytes], change: Any, code: str) -> None:
    upload, sent = _upload(bucket, "a", contents)
    with pytest.raises(ClientError) as error:
        _complete(bucket, "a", upload, change(sent))
    assert _code(error) == (400, code)
    assert bucket.names() == []


# The following tests run against the local DSS only: SeaweedFS differs from S3, or does not support it.


def test_copy_of_multipart_object_has_etag_of_one_part(local: Bucket) -> None:
    upload, sent = _upload(local, "a", [bytes(_PART), b"end"])
    _complete(local, "a", upload, sent)
    response = local.client.copy_object(**local.at("copy"), CopySource=local.at("a"))
    etag = hashlib.md5(bytes(_PART) + b"end").hexdigest()  # noqa: S324 - what S3 calls an ETag
    assert response["CopyObjectResult"]["ETag"] == f'"{etag}"'
    assert local.read("copy") == bytes(_PART) + b"end"


def test_copy_object_if_match_compares_the_etag(local: Bucket) -> None:
    local.put("a")
    with pytest.raises(ClientError) as error:
        local.client.copy_object(**local.at("b"), CopySource=local.at("a"), CopySourceIfMatch='"0123"')
    assert _code(error) == (412, "PreconditionFailed")


def _crc32(content: bytes) -> str:
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256", "SHA512"])
def test_put_object_verifies_checksums(local: Bucket, algorithm: str) -> None:
    response = local.put("a", b"content", ChecksumAlgorithm=algorithm)
    value = response[f"Checksum{algorithm}"]
    assert local.get("a", ChecksumMode="ENABLED")[f"Checksum{algorithm}"] == value
    with pytest.raises(ClientError) as error:
        local.put("b", b"other", **{f"Checksum{algorithm}": value})
    assert _code(error) == (400, "BadDigest")
    assert local.names() == ["a"]


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("content-md5", base64.b64encode(bytes(16)).decode(), "BadDigest"),
        ("x-amz-content-sha256", "0" * 64, "XAmzContentSHA256Mismatch"),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=", "NotImplemented"),
    ],
)
def test_put_object_rejects_wrong_and_unsupported_checksums(
    dss: LocalDSS, local: Bucket, header: str, value: str, code: str
) -> None:
    url = f"{dss.about['s3_url']}/{local.name}/{local.key('a')}"
    response = requests.put(url, data=b"content", headers={header: value}, timeout=10)
    assert f"<Code>{code}</Code>" in response.text
    assert local.names() == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"4;chunk-signature=0\r\ncont\r\n3\r\nent\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n", 200),
        (b"7\r\ncontent\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", 400),
        (b"7\r\ncontent\r\n", 400),
        (b"9\r\ncontent", 400),
        (b"x\r\ncontent\r\n0\r\n\r\n", 400),
        (b"7" * 5000, 400),
        (b"5\r\nconte\r\n0\r\n\r\n", 400),
    ],
)
def test_put_object_decodes_aws_chunked(dss: LocalDSS, local: Bucket, body: bytes, expected: int) -> None:
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "7",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    url = f"{dss.about['s3_url']}/{local.name}/{local.key('a')}"
    sent = body.replace(b"%s", _crc32(b"content").encode())
    response = requests.put(url, data=sent, headers=headers, timeout=10)
    assert response.status_code == expected, response.text
    if expected == 200:
        assert local.read("a") == b"content"
        assert "ContentEncoding" not in local.get("a")
    else:
        assert local.names() == []


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "{bucket}?acl", (501, "NotImplemented")),
        ("PATCH", "{bucket}/a", (405, "MethodNotAllowed")),
        ("PUT", "A_B", (400, "InvalidBucketName")),
        ("PUT", "{bucket}/" + "k" * 1025, (400, "KeyTooLongError")),
        ("PUT", "{bucket}/%ff", (400, "InvalidURI")),
        ("GET", "{bucket}?list-type=2&max-keys=x", (400, "InvalidArgument")),
        ("POST", "{bucket}?delete", (400, "MalformedXML")),
        ("PUT", "{bucket}/a?partNumber=0&uploadId=x", (400, "InvalidArgument")),
    ],
)
def test_invalid_request_returns_s3_error(dss: LocalDSS, method: str, path: str, expected: tuple[int, str]) -> None:
    url = f"{dss.about['s3_url']}/{path.format(bucket=dss.bucket)}"
    response = requests.request(method, url, timeout=10)
    assert response.status_code == expected[0]
    assert f"<Code>{expected[1]}</Code>" in response.text


def test_connection_is_usable_after_error_before_body(local: Bucket) -> None:
    """boto3 waits for `100 Continue` before it sends a body; the server must not wait for one that is never sent."""
    for _ in range(3):
        with pytest.raises(ClientError) as error:
            local.client.put_object(Bucket="no-such-bucket", Key="a", Body=b"content")
        assert _code(error) == (404, "NoSuchBucket")
    local.put("a")
    assert local.read("a") == b"content"


def test_delete_bucket_with_objects_is_rejected(local: Bucket) -> None:
    name = new_uuid()
    local.client.create_bucket(Bucket=name)
    local.client.put_object(Bucket=name, Key="a")
    with pytest.raises(ClientError) as error:
        local.client.delete_bucket(Bucket=name)
    assert _code(error) == (409, "BucketNotEmpty")
    local.client.delete_object(Bucket=name, Key="a")
    local.client.delete_bucket(Bucket=name)
    assert name not in [found["Name"] for found in local.client.list_buckets()["Buckets"]]


@pytest.mark.parametrize("server", ["dss_url", "s3_url", "gcs_url", "objects_url"])
@pytest.mark.parametrize(
    "headers", [{"Origin": "http://127.0.0.1"}, {"Host": "evil.example"}, {"Host": "evil.example:80"}]
)
def test_requests_from_web_pages_are_rejected(dss: LocalDSS, server: str, headers: dict[str, str]) -> None:
    """A web page cannot read or change anything, neither from its own origin nor by DNS rebinding."""
    response = requests.get(dss.about[server], headers=headers, timeout=10)
    assert response.status_code == 403
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("path", ["/wipe", "/wipe?keep-buckets=true", "/moto-api/reset"])
@pytest.mark.parametrize("server", ["dss_url", "s3_url", "gcs_url", "objects_url"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_request_deletes_everything(dss: LocalDSS, server: str, path: str, method: str) -> None:
    """Servers for tests often have such a route; it would delete what other programs have staged."""
    origin = dss.about[server].removesuffix("/v1")
    assert requests.request(method, origin + path, timeout=10).status_code in {403, 404, 405, 501}
