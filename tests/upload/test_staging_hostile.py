"""Stores and settings that break the rules of their protocol: each ends with an error with advice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from airflow_provider_hca.exceptions import DSSConnectionError, StagingError
from airflow_provider_hca.upload.checksums import checksum_bytes
from airflow_provider_hca.upload.staging import open_staging
from airflow_provider_hca.upload.staging.base import Staging
from tests.client.drivers import DRIVERS, call, driver, get
from tests.client.server import Reply, Server

CONTENT = b"content"
LISTING = b"<ListBucketResult><Contents><Key>p/key</Key><Size>1</Size></Contents></ListBucketResult>"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server([Reply(body=b"")]) as server:
        address = server.url.removesuffix("/v1")
        for name in ("AWS_ENDPOINT_URL_S3", "STORAGE_EMULATOR_HOST"):
            monkeypatch.setenv(name, address)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "key")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield server


def _put(staging: Staging) -> None:
    staging.put("key", CONTENT, checksum_bytes(CONTENT), "text/plain")


def _put_with_boto3(staging: Staging) -> None:
    staging._store = None  # type: ignore[attr-defined]  # noqa: SLF001 - as after a failure of obstore
    _put(staging)


def _find(staging: Staging) -> None:
    staging.find("p/")


@pytest.mark.parametrize(
    ("action", "body", "name"), [(_put, b"", "ETag"), (_put_with_boto3, b"", "ETag"), (_find, LISTING, "ETag")]
)
def test_s3_response_without_etag_is_error(
    store: Server, action: Callable[[Staging], None], body: bytes, name: str
) -> None:
    store.replies = [Reply(body=body)]
    with pytest.raises(
        StagingError, match=f"the store's response has no {name}: the store is not compatible"
    ) as caught:
        action(open_staging("aws", "bucket"))
    assert caught.value.permanent


@pytest.mark.parametrize("action", [_put_with_boto3, _find])
def test_s3_redirect_without_region_is_error(store: Server, action: Callable[[Staging], None]) -> None:
    store.replies = [Reply(307, [("Location", f"{store.url}/bucket/key")], b"")]
    with pytest.raises(StagingError, match="the store redirects to no region"):
        action(open_staging("aws", "bucket"))
    assert [request.method for request in store.asked].count("HEAD") == 1


def test_s3_redirect_to_region_is_followed(store: Server) -> None:
    redirect, region = (
        Reply(307, [("Location", store.url)], b""),
        Reply(200, [("x-amz-bucket-region", "eu-west-1")], b""),
    )
    store.replies = [redirect, region, Reply(200, [("ETag", f'"{checksum_bytes(CONTENT).s3_etag}"')], b"")]
    _put_with_boto3(open_staging("aws", "bucket"))
    assert [request.method for request in store.asked] == ["PUT", "HEAD", "PUT"]
    assert "/eu-west-1/s3/" in store.asked[-1].headers["Authorization"]


@pytest.mark.parametrize("proxy", ["http://user:s3cr3t@proxy:port", "http://[::1", "proxy:99999999", "http://:80"])
def test_invalid_proxy_is_named_and_not_quoted(store: Server, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    message = "the address of the proxy is invalid: check HTTP_PROXY"
    for replica in ("aws", "gcp"):
        with pytest.raises(StagingError, match=message) as refused:
            _put(open_staging(replica, "bucket"))
        assert proxy not in str(refused.value)
    for name in DRIVERS:
        with driver(name) as run, pytest.raises(DSSConnectionError, match=message) as caught:
            run(call(get(store.url)))
        assert proxy not in str(caught.value)
    assert store.asked == []
