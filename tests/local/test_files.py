"""PUT, HEAD and GET of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

from .server import VERSION, code_of, new_uuid, sums

if TYPE_CHECKING:
    from .server import LocalDSS

CONTENT = b"some content"


def test_stored_then_repeated(dss: LocalDSS) -> None:
    """The first PUT answers 201 and the identical repeat 200, both with the version."""
    file, source = new_uuid(), dss.stage(CONTENT)
    first, second = dss.put_file(source, file), dss.put_file(source, file)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json() == {"version": VERSION}


def test_head_gives_the_properties(dss: LocalDSS) -> None:
    """HEAD answers with creator, version, content type, size and the four checksums as headers."""
    file = new_uuid()
    dss.put_file(dss.stage(CONTENT, kind="text/x-special; charset=utf-8"), file, creator_uid=7)
    answer = dss.call("HEAD", f"/files/{file}", replica="aws")
    assert {name.upper(): value for name, value in answer.headers.items() if name.startswith("x-dss")} == {
        "X-DSS-CREATOR-UID": "7",
        "X-DSS-VERSION": VERSION,
        "X-DSS-CONTENT-TYPE": "text/x-special; charset=utf-8",
        "X-DSS-SIZE": str(len(CONTENT)),
        "X-DSS-CRC32C": sums(CONTENT)["hca-dss-crc32c"],
        "X-DSS-S3-ETAG": sums(CONTENT)["hca-dss-s3_etag"],
        "X-DSS-SHA1": sums(CONTENT)["hca-dss-sha1"],
        "X-DSS-SHA256": sums(CONTENT)["hca-dss-sha256"],
    }


def test_head_of_an_unknown_file(dss: LocalDSS) -> None:
    """HEAD of a file that is not there answers 404 with nothing else."""
    answer = dss.call("HEAD", f"/files/{new_uuid()}", replica="aws")
    assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize("other", ["content", "creator", "content type"])
def test_conflict(dss: LocalDSS, other: str) -> None:
    """A PUT of the same uuid and version that differs in content, creator or content type answers 409."""
    file = new_uuid()
    dss.put_file(dss.stage(CONTENT), file)
    source = dss.stage(
        b"other" if other == "content" else CONTENT, kind="a/b" if other == "content type" else "text/plain"
    )
    answer = dss.put_file(source, file, creator_uid=1 if other == "creator" else 8008)
    assert code_of(answer) == (409, "file_already_exists")


def test_latest_is_the_greatest_version(dss: LocalDSS) -> None:
    """Without a version the greatest one is meant, whichever came last."""
    file, source = new_uuid(), dss.stage(CONTENT)
    for version in ("2024-01-01T000000.000000Z", "2024-01-03T000000.000000Z", "2024-01-02T000000.000000Z"):
        dss.put_file(source, file, version)
    answer = dss.call("HEAD", f"/files/{file}", replica="aws")
    assert answer.headers["X-DSS-VERSION"] == "2024-01-03T000000.000000Z"


def test_upper_case_uuid(dss: LocalDSS) -> None:
    """PUT lower-cases a uuid; HEAD and GET of the upper-case one answer 404."""
    file = new_uuid()
    assert dss.put_file(dss.stage(CONTENT), file.upper()).status_code == 201
    assert dss.call("HEAD", f"/files/{file}", replica="aws").status_code == 200
    assert dss.call("HEAD", f"/files/{file.upper()}", replica="aws").status_code == 404
    assert code_of(dss.call("GET", f"/files/{file.upper()}", replica="aws")) == (404, "not_found")


def test_tags_win_over_metadata(dss: LocalDSS) -> None:
    """Checksums are read from user metadata and from tags, and a tag wins."""
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
def test_checksums_must_be_there_well_formed_and_right(dss: LocalDSS, name: str) -> None:
    """A missing sum is 422 missing_checksum, a malformed one 422 invalid_checksum, a wrong one 500 naming it."""
    label = f"hca-dss-{name}"
    labels = sums(CONTENT)
    missing = {key: value for key, value in labels.items() if key != label}
    wrong = labels | {label: sums(b"other")[label]}
    assert code_of(dss.put_file(dss.stage(CONTENT, labels=missing))) == (422, "missing_checksum")
    assert code_of(dss.put_file(dss.stage(CONTENT, labels=labels | {label: "xyz"}))) == (422, "invalid_checksum")
    answer = dss.put_file(dss.stage(CONTENT, labels=wrong))
    assert (answer.status_code, answer.headers["Retry-After"]) == (500, "10")
    assert name in answer.json()["title"]


@pytest.mark.parametrize("source", ["s3://dss-staging/no/such", "s3://no-such-bucket/key", "gs://dss-staging/no/such"])
def test_nothing_staged(dss: LocalDSS, source: str) -> None:
    """A staged object or bucket that is not there is 500 with Retry-After and a title that names it."""
    answer = dss.put_file(source)
    assert (answer.status_code, answer.headers["Retry-After"]) == (500, "10")
    assert answer.json()["title"] == f"Could not find {source}"


def test_no_key(dss: LocalDSS) -> None:
    """A source without a key is 500 with Retry-After too."""
    answer = dss.put_file("s3://dss-staging")
    assert (answer.status_code, answer.headers["Retry-After"]) == (500, "10")


@pytest.mark.parametrize(
    ("source", "code"),
    [("wasb://a/b", "unknown_source_schema"), ("http://a/b", "illegal_arguments"), (7, "illegal_arguments")],
)
def test_other_sources(dss: LocalDSS, source: str, code: str) -> None:
    """A source that is no s3:// or gs:// URL is 400."""
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
def test_versions(dss: LocalDSS, version: str) -> None:
    """A version that is no DSS_VERSION is 400 illegal_version on PUT and simply unknown on GET."""
    assert code_of(dss.put_file(dss.stage(CONTENT), version=version)) == (400, "illegal_version")
    assert dss.call("HEAD", f"/files/{new_uuid()}", replica="aws", version=version).status_code == 404


@pytest.mark.parametrize(
    "body", [None, {}, {"source_url": "s3://a/b"}, {"source_url": "s3://a/b", "creator_uid": "1"}, []]
)
def test_bodies(dss: LocalDSS, body: object) -> None:
    """A body without one of its parts, or with one of the wrong type, is 400 illegal_arguments."""
    answer = dss.call("PUT", f"/files/{new_uuid()}", body, version=VERSION)
    assert code_of(answer) == (400, "illegal_arguments")


def test_missing_parameters(dss: LocalDSS) -> None:
    """A missing version or replica, an unknown replica or no uuid at all is 400 illegal_arguments."""
    body = {"source_url": "s3://a/b", "creator_uid": 1}
    assert code_of(dss.call("PUT", f"/files/{new_uuid()}", body)) == (400, "illegal_arguments")
    assert code_of(dss.call("GET", f"/files/{new_uuid()}")) == (400, "illegal_arguments")
    assert code_of(dss.call("GET", f"/files/{new_uuid()}", replica="azure")) == (400, "illegal_arguments")
    assert code_of(dss.call("GET", "/files/short", replica="aws")) == (400, "illegal_arguments")


def test_replicas_are_separate(dss: LocalDSS) -> None:
    """A file staged at gs:// is in the replica gcp only."""
    file = new_uuid()
    assert dss.put_file(dss.stage_gcs(CONTENT, sums(CONTENT)), file).status_code == 201
    assert dss.call("HEAD", f"/files/{file}", replica="aws").status_code == 404
    answer = dss.call("HEAD", f"/files/{file}", replica="gcp")
    assert answer.headers["X-DSS-SHA256"] == sums(CONTENT)["hca-dss-sha256"]
    assert answer.headers["X-DSS-CONTENT-TYPE"] == "text/plain"


def test_gcs_without_metadata(dss: LocalDSS) -> None:
    """A GCS object without any metadata is 500 with Retry-After, one with some but not all is 422."""
    answer = dss.put_file(dss.stage_gcs(CONTENT, None))
    assert (answer.status_code, answer.headers["Retry-After"]) == (500, "10")
    assert code_of(dss.put_file(dss.stage_gcs(CONTENT, {"hca-dss-sha1": "0" * 40}))) == (422, "missing_checksum")


def test_download(dss: LocalDSS) -> None:
    """GET answers 301 to itself with a token and Retry-After first, then 302 to a presigned URL of another origin."""
    content = new_uuid().encode() * 10
    url = f"{dss.url}/files/{dss.new_file(content)}?version={VERSION}&replica=aws"
    first = requests.get(url, allow_redirects=False, timeout=10)
    assert (first.status_code, first.headers["Retry-After"]) == (301, "1")
    assert first.headers["Location"].startswith(f"{url}&token=")
    assert first.headers["Content-Type"].startswith("text/html")
    answer = first
    while answer.status_code == 301:
        answer = requests.get(answer.headers["Location"], allow_redirects=False, timeout=10)
    assert answer.status_code == 302
    assert answer.headers["X-DSS-SIZE"] == str(len(content))
    location = answer.headers["Location"]
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
    answer = dss.call("GET", f"/files/{file}", replica="aws", **query)
    while answer.status_code == 301:
        answer = requests.get(answer.headers["Location"], allow_redirects=False, timeout=10)
    return answer.headers["Location"]


def test_presigned_url_refuses_authorization(dss: LocalDSS) -> None:
    """The other origin answers 400 in XML to a request that carries an Authorization header too."""
    answer = requests.get(_location(dss), headers={"Authorization": "Bearer x"}, timeout=10)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("application/xml")
    assert "<Code>InvalidArgument</Code>" in answer.text


def test_presigned_url_is_signed(dss: LocalDSS) -> None:
    """Another expiry, content or signature than the signed one is 403 in XML, and so is no signature."""
    location = _location(dss)
    changed = [location.replace("Expires=1", "Expires=2"), location[:-1] + "z", location.partition("?")[0]]
    for url in changed:
        answer = requests.get(url, timeout=10)
        assert answer.status_code == 403
        assert "<Code>SignatureDoesNotMatch</Code>" in answer.text


def test_content_disposition(dss: LocalDSS) -> None:
    """A content_disposition asked for comes with the content, as does the content type."""
    answer = requests.get(_location(dss, content_disposition="attachment; filename=a b.txt"), timeout=10)
    assert answer.headers["Content-Disposition"] == "attachment; filename=a b.txt"
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_direct_url(dss: LocalDSS) -> None:
    """With directurl=true the redirect leads to s3:// or gs://."""
    answer = dss.call("GET", f"/files/{dss.new_file()}", replica="aws", directurl="true")
    assert (answer.status_code, answer.headers["Location"][:5]) == (302, "s3://")


def test_tokens_are_not_made_up(dss: LocalDSS) -> None:
    """A token the server did not make is 400 illegal_token."""
    answer = dss.call("GET", f"/files/{dss.new_file()}", replica="aws", token="made-up")
    assert code_of(answer) == (400, "illegal_token")
