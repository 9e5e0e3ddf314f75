"""Routes of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

from .server import VERSION, code_of, new_uuid, sums

if TYPE_CHECKING:
    from .server import LocalDSS

CONTENT = b"some content"


def test_put_file_repeated_returns_201_then_200(dss: LocalDSS) -> None:
    file, source = new_uuid(), dss.stage(CONTENT)
    first, second = dss.put_file(source, file), dss.put_file(source, file)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json() == {"version": VERSION}


def test_head_file_returns_properties(dss: LocalDSS) -> None:
    file = new_uuid()
    dss.put_file(dss.stage(CONTENT, kind="text/x-special; charset=utf-8"), file, creator_uid=7)
    response = dss.call("HEAD", f"/files/{file}", replica="aws")
    assert {name.upper(): value for name, value in response.headers.items() if name.startswith("x-dss")} == {
        "X-DSS-CREATOR-UID": "7",
        "X-DSS-VERSION": VERSION,
        "X-DSS-CONTENT-TYPE": "text/x-special; charset=utf-8",
        "X-DSS-SIZE": str(len(CONTENT)),
        "X-DSS-CRC32C": sums(CONTENT)["hca-dss-crc32c"],
        "X-DSS-S3-ETAG": sums(CONTENT)["hca-dss-s3_etag"],
        "X-DSS-SHA1": sums(CONTENT)["hca-dss-sha1"],
        "X-DSS-SHA256": sums(CONTENT)["hca-dss-sha256"],
    }


def test_head_unknown_file_returns_404(dss: LocalDSS) -> None:
    response = dss.call("HEAD", f"/files/{new_uuid()}", replica="aws")
    assert (response.status_code, response.content) == (404, b"")


@pytest.mark.parametrize("other", ["content", "creator", "content type"])
def test_put_file_with_different_properties_returns_409(dss: LocalDSS, other: str) -> None:
    file = new_uuid()
    dss.put_file(dss.stage(CONTENT), file)
    source = dss.stage(
        b"other" if other == "content" else CONTENT, kind="a/b" if other == "content type" else "text/plain"
    )
    response = dss.put_file(source, file, creator_uid=1 if other == "creator" else 8008)
    assert code_of(response) == (409, "file_already_exists")


def test_latest_version_is_greatest_string(dss: LocalDSS) -> None:
    file, source = new_uuid(), dss.stage(CONTENT)
    for version in ("2024-01-01T000000.000000Z", "2024-01-03T000000.000000Z", "2024-01-02T000000.000000Z"):
        dss.put_file(source, file, version)
    response = dss.call("HEAD", f"/files/{file}", replica="aws")
    assert response.headers["X-DSS-VERSION"] == "2024-01-03T000000.000000Z"


def test_upper_case_uuid_is_lowered_by_put_and_unknown_to_get(dss: LocalDSS) -> None:
    file = new_uuid()
    assert dss.put_file(dss.stage(CONTENT), file.upper()).status_code == 201
    assert dss.call("HEAD", f"/files/{file}", replica="aws").status_code == 200
    assert dss.call("HEAD", f"/files/{file.upper()}", replica="aws").status_code == 404
    assert code_of(dss.call("GET", f"/files/{file.upper()}", replica="aws")) == (404, "not_found")


def test_tags_override_metadata(dss: LocalDSS) -> None:
    key = f"staged/{new_uuid()}"
    labels = sums(CONTENT)
    wrong = {"hca-dss-sha256": "0" * 64, "hca-dss-sha1": labels["hca-dss-sha1"]}
    source = dss.stage(CONTENT, key, wrong)
    tags = {name: value for name, value in labels.items() if name != "hca-dss-sha1"}
    dss.s3.put_object_tagging(
        Bucket=dss.bucket, Key=key, Tagging={"TagSet": [{"Key": k, "Value": v} for k, v in tags.items()]}
    )
    assert dss.put_file(source).status_code == 201


@pytest.mark.parametrize("name", ["sha256", "sha1", "s3_etag", "crc32c"])
def test_put_file_with_bad_checksum_returns_422_or_500(dss: LocalDSS, name: str) -> None:
    label = f"hca-dss-{name}"
    labels = sums(CONTENT)
    missing = {key: value for key, value in labels.items() if key != label}
    wrong = labels | {label: sums(b"other")[label]}
    assert code_of(dss.put_file(dss.stage(CONTENT, labels=missing))) == (422, "missing_checksum")
    assert code_of(dss.put_file(dss.stage(CONTENT, labels=labels | {label: "xyz"}))) == (422, "invalid_checksum")
    response = dss.put_file(dss.stage(CONTENT, labels=wrong))
    assert (response.status_code, response.headers["Retry-After"]) == (500, "10")
    assert name in response.json()["title"]


@pytest.mark.parametrize("source", ["s3://dss-staging/no/such", "s3://no-such-bucket/key", "gs://dss-staging/no/such"])
def test_put_file_of_missing_object_returns_500(dss: LocalDSS, source: str) -> None:
    response = dss.put_file(source)
    assert (response.status_code, response.headers["Retry-After"]) == (500, "10")
    assert response.json()["title"] == f"Could not find {source}"


def test_put_file_without_key_returns_500(dss: LocalDSS) -> None:
    response = dss.put_file("s3://dss-staging")
    assert (response.status_code, response.headers["Retry-After"]) == (500, "10")


@pytest.mark.parametrize(
    ("source", "code"),
    [("wasb://a/b", "unknown_source_schema"), ("http://a/b", "illegal_arguments"), (7, "illegal_arguments")],
)
def test_put_file_with_other_scheme_returns_400(dss: LocalDSS, source: str, code: str) -> None:
    assert code_of(dss.put_file(source)) == (400, code)


@pytest.mark.parametrize(
    "version",
    [
        "",
        "2024-01-31",
        "2024-01-31T235959.00001Z",
        "2024-02-30T000000.000000Z",
        "0999-01-31T235959.000001Z",
        "2024-01-31T23:59:59.000001Z",
    ],
)
def test_illegal_version_returns_400_on_put_and_404_on_head(dss: LocalDSS, version: str) -> None:
    assert code_of(dss.put_file(dss.stage(CONTENT), version=version)) == (400, "illegal_version")
    assert dss.call("HEAD", f"/files/{new_uuid()}", replica="aws", version=version).status_code == 404


@pytest.mark.parametrize(
    "body", [None, {}, {"source_url": "s3://a/b"}, {"source_url": "s3://a/b", "creator_uid": "1"}, []]
)
def test_put_file_with_malformed_body_returns_400(dss: LocalDSS, body: object) -> None:
    response = dss.call("PUT", f"/files/{new_uuid()}", body, version=VERSION)
    assert code_of(response) == (400, "illegal_arguments")


def test_missing_or_invalid_parameter_returns_400(dss: LocalDSS) -> None:
    body = {"source_url": "s3://a/b", "creator_uid": 1}
    assert code_of(dss.call("PUT", f"/files/{new_uuid()}", body)) == (400, "illegal_arguments")
    assert code_of(dss.call("GET", f"/files/{new_uuid()}")) == (400, "illegal_arguments")
    assert code_of(dss.call("GET", f"/files/{new_uuid()}", replica="azure")) == (400, "illegal_arguments")
    assert code_of(dss.call("GET", "/files/short", replica="aws")) == (400, "illegal_arguments")


def test_file_staged_in_gcs_is_in_gcp_only(dss: LocalDSS) -> None:
    file = new_uuid()
    assert dss.put_file(dss.stage_gcs(CONTENT, sums(CONTENT)), file).status_code == 201
    assert dss.call("HEAD", f"/files/{file}", replica="aws").status_code == 404
    response = dss.call("HEAD", f"/files/{file}", replica="gcp")
    assert response.headers["X-DSS-SHA256"] == sums(CONTENT)["hca-dss-sha256"]
    assert response.headers["X-DSS-CONTENT-TYPE"] == "text/plain"


def test_gcs_object_without_metadata_returns_500(dss: LocalDSS) -> None:
    response = dss.put_file(dss.stage_gcs(CONTENT, None))
    assert (response.status_code, response.headers["Retry-After"]) == (500, "10")
    assert code_of(dss.put_file(dss.stage_gcs(CONTENT, {"hca-dss-sha1": "0" * 40}))) == (422, "missing_checksum")


def test_get_file_redirects_to_presigned_url(dss: LocalDSS) -> None:
    """The first response is a 301 to the same URL with a token, until the content is checked out."""
    content = new_uuid().encode() * 10
    url = f"{dss.url}/files/{dss.new_file(content)}?version={VERSION}&replica=aws"
    first = requests.get(url, allow_redirects=False, timeout=10)
    assert (first.status_code, first.headers["Retry-After"]) == (301, "1")
    assert first.headers["Location"].startswith(f"{url}&token=")
    assert first.headers["Content-Type"].startswith("text/html")
    response = first
    while response.status_code == 301:
        response = requests.get(response.headers["Location"], allow_redirects=False, timeout=10)
    assert response.status_code == 302
    assert response.headers["X-DSS-SIZE"] == str(len(content))
    location = response.headers["Location"]
    assert location.startswith(dss.about["objects_url"])
    assert requests.get(location, timeout=10).content == content
    part = requests.get(location, headers={"Range": "bytes=5-9"}, timeout=10)
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (
        206,
        content[5:10],
        f"bytes 5-9/{len(content)}",
    )
    assert requests.get(url, allow_redirects=False, timeout=10).status_code == 302


def _location(dss: LocalDSS, **query: str) -> str:
    file = dss.new_file()
    response = dss.call("GET", f"/files/{file}", replica="aws", **query)
    while response.status_code == 301:
        response = requests.get(response.headers["Location"], allow_redirects=False, timeout=10)
    return response.headers["Location"]


def test_presigned_url_with_authorization_returns_400(dss: LocalDSS) -> None:
    response = requests.get(_location(dss), headers={"Authorization": "Bearer x"}, timeout=10)
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("application/xml")
    assert "<Code>InvalidArgument</Code>" in response.text


def test_changed_presigned_url_returns_403(dss: LocalDSS) -> None:
    location = _location(dss)
    changed = [location.replace("Expires=1", "Expires=2"), location[:-1] + "z", location.partition("?")[0]]
    for url in changed:
        response = requests.get(url, timeout=10)
        assert response.status_code == 403
        assert "<Code>SignatureDoesNotMatch</Code>" in response.text


def test_content_disposition_is_returned_with_content(dss: LocalDSS) -> None:
    response = requests.get(_location(dss, content_disposition="attachment; filename=a b.txt"), timeout=10)
    assert response.headers["Content-Disposition"] == "attachment; filename=a b.txt"
    assert response.headers["Content-Type"].startswith("text/plain")


def test_direct_url_redirects_to_bucket_url(dss: LocalDSS) -> None:
    response = dss.call("GET", f"/files/{dss.new_file()}", replica="aws", directurl="true")
    assert (response.status_code, response.headers["Location"][:5]) == (302, "s3://")


def test_get_file_with_malformed_token_returns_400(dss: LocalDSS) -> None:
    response = dss.call("GET", f"/files/{dss.new_file()}", replica="aws", token="made-up")
    assert code_of(response) == (400, "illegal_token")
