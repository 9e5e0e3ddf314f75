"""Differences from the interface definition that were measured on the original server, one test or row for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from .server import VERSION, LocalDSS, User, code_of, new_uuid, sums

FRAMEWORK = {"type", "title", "detail", "status"}
GATEWAY = {"Code", "Message"}


@pytest.fixture(scope="module")
def dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS with the default Retry-After, whose copies are asynchronous."""
    options = ("--gcs", "--async-above", "1000", "--file-wait", "0", "--checkout-delay", "600", "--retry-after", "10")
    with LocalDSS(tmp_path_factory.mktemp("differences"), *options) as started:
        yield started


@pytest.fixture
def bundle(dss: LocalDSS) -> str:
    uuid = new_uuid()
    assert dss.put_bundle([dss.entry(str(number), dss.new_file()) for number in range(11)], uuid).ok
    return uuid


def send(dss: LocalDSS, method: str, path: str, **options: Any) -> requests.Response:
    options = {"headers": dss.authorization, "timeout": 30, "allow_redirects": False, **options}
    return requests.request(method, dss.url + path, **options)  # noqa: S113 - in the options


# Errors


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "keys"),
    [
        ("PUT", "/bundles/{uuid}?replica=aws&version=v", {"data": "{", "json_type": True}, 400, FRAMEWORK),
        ("PATCH", "/bundles/{uuid}?replica=aws&version=v", {"data": b"\xff", "json_type": True}, 400, FRAMEWORK),
        ("POST", "/files/{uuid}", {}, 405, GATEWAY),
        ("POST", "/collections", {}, 405, GATEWAY),
        ("PUT", "/bundles/{uuid}?replica=aws&version=v", {"data": "{}"}, 415, GATEWAY),
    ],
)
def test_refused_request_has_the_status_and_keys_of_a_dss(
    dss: LocalDSS, method: str, path: str, options: dict[str, Any], status: int, keys: set[str]
) -> None:
    kind = "application/json" if options.pop("json_type", False) else "text/plain"
    headers = dss.authorization | {"Content-Type": kind}
    response = send(dss, method, path.format(uuid=new_uuid()), headers=headers, **options)
    assert (response.status_code, response.json().keys()) == (status, keys)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [(None, "OAuthProblem"), ("Basic dXNlcjpwYXNz", "Unauthorized"), ("Bearer x", "Unauthorized")],
)
def test_missing_token_and_other_scheme_have_different_codes(
    dss: LocalDSS, authorization: str | None, code: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    path = f"/bundles/{new_uuid()}?replica=aws&version={VERSION}"
    assert code_of(send(dss, "PUT", path, json={}, headers=headers)) == (401, code)


def test_patch_with_missing_file_is_an_undefined_code(dss: LocalDSS, bundle: str) -> None:
    add = [{"uuid": new_uuid(), "version": VERSION, "name": "x", "indexed": False}]
    response = send(dss, "PATCH", f"/bundles/{bundle}?replica=aws&version={VERSION}", json={"add_files": add})
    assert (response.status_code, response.json().keys()) == (500, FRAMEWORK)
    assert "'file_missing' is not one of" in response.json()["detail"]
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_collection_of_another_owner_is_an_undefined_code(dss: LocalDSS, method: str) -> None:
    uuid, query = new_uuid(), {"replica": "aws", "version": VERSION}
    body = {"name": "n", "description": "d", "details": {}, "contents": []}
    assert User(dss).call("PUT", "/collections", body, uuid=uuid, **query).status_code == 201
    response = User(dss).call(method, f"/collections/{uuid}", {} if method == "PATCH" else None, **query)
    assert (response.status_code, response.json().keys()) == (500, FRAMEWORK)
    assert "'forbidden' is not one of" in response.json()["detail"]
    assert response.headers["Retry-After"] == "10"


def test_checkout_needs_a_body_and_a_known_id(dss: LocalDSS, bundle: str) -> None:
    checkout = send(dss, "POST", f"/bundles/{bundle}/checkout?replica=aws")
    assert code_of(checkout) == (400, "illegal_arguments")
    unknown = dss.call("GET", f"/bundles/checkout/{new_uuid()}", replica="aws")
    assert code_of(unknown) == (404, "not_found")


def test_collection_item_with_object_is_500(dss: LocalDSS) -> None:
    item = {"type": "file", "uuid": dss.new_file(), "version": VERSION, "note": {"a": 1}}
    body = {"name": "n", "description": "d", "details": {}, "contents": [item]}
    response = dss.call("PUT", "/collections", body, uuid=new_uuid(), replica="aws", version=VERSION)
    assert response.status_code == 500


# Successes


def test_options_returns_200(dss: LocalDSS) -> None:
    for path in (f"/files/{new_uuid()}", f"/bundles/{new_uuid()}", "/bundles/all"):
        assert send(dss, "OPTIONS", path).status_code == 200


def test_upper_case_checksums_are_stored_in_lower_case(dss: LocalDSS) -> None:
    content, file = new_uuid().encode(), new_uuid()
    labels = sums(content)
    source = dss.stage(content, labels={name: value.upper() for name, value in labels.items()})
    assert dss.put_file(source, file).status_code == 201
    headers = dss.call("HEAD", f"/files/{file}", replica="aws").headers
    assert {
        f"hca-dss-{name}": headers[f"X-DSS-{name.replace('_', '-')}"]
        for name in ("sha256", "sha1", "s3_etag", "crc32c")
    } == labels


def test_upper_case_uuid_is_accepted_by_get_and_patch(dss: LocalDSS, bundle: str) -> None:
    """PATCH writes a version that cannot be read."""
    query = {"replica": "aws", "version": VERSION}
    path = f"/bundles/{bundle.upper()}"
    assert dss.call("GET", path, **query).json()["bundle"]["uuid"] == bundle.upper()
    new = dss.call("PATCH", path, {}, **query)
    assert new.status_code == 200
    for uuid in (bundle, bundle.upper()):
        response = dss.call("GET", f"/bundles/{uuid}", replica="aws", version=new.json()["version"])
        assert code_of(response) == (404, "not_found")


@pytest.mark.parametrize(("status", "expected"), [(422, (500, "10")), (500, (500, "10")), (404, (404, None))])
def test_get_file_after_failed_copy_returns_500_if_its_record_exists(
    dss: LocalDSS, status: int, expected: tuple[int, str | None]
) -> None:
    file = new_uuid()
    dss.control("POST", "faults", {"action": "fail_copy", "status": status})
    assert dss.put_file(dss.stage(new_uuid().encode() * 40), file).status_code == 202
    dss.wait_for_head(file, status)
    if status == 404:
        dss.wait_for_head(file, 404)
    response = dss.call("GET", f"/files/{file}", replica="aws", version=VERSION)
    assert (response.status_code, response.headers.get("Retry-After")) == expected


@pytest.mark.parametrize("case", ["200", "404", "400"])
def test_head_response_has_a_content_type(dss: LocalDSS, case: str) -> None:
    file = dss.new_file() if case == "200" else new_uuid()
    response = dss.call("HEAD", f"/files/{file}", replica="azure" if case == "400" else "aws")
    assert (str(response.status_code), "Content-Type" in response.headers) == (case, True)


def test_list_of_bundles_names_the_dss(dss: LocalDSS, bundle: str) -> None:
    listed = dss.call("GET", "/bundles/all", replica="aws", prefix=bundle).json()
    assert listed["dss_api"] == dss.url.removesuffix("/v1")


# URLs


@pytest.mark.parametrize(("kind", "given"), [("file", "content_disposition=a%20b"), ("bundle", "presignedurls=true")])
def test_redirect_during_checkout_is_html_and_keeps_the_query(
    dss: LocalDSS, bundle: str, kind: str, given: str
) -> None:
    path = f"/files/{dss.new_file(new_uuid().encode())}" if kind == "file" else f"/bundles/{bundle}"
    response = send(dss, "GET", f"{path}?replica=aws&{given}", headers={})
    assert (response.status_code, response.headers["Retry-After"]) == (301, "10")
    assert response.headers["Content-Type"].startswith("text/html")
    location = urlsplit(response.headers["Location"])
    assert (location.path, "href=" in response.text) == (f"/v1{path}", True)
    assert [name for name, _ in parse_qsl(location.query)] == ["replica", given.partition("=")[0], "token"]


@pytest.mark.parametrize(("given", "kept"), [("", None), ("&per_page=10", "10")])
def test_next_page_of_a_bundle_has_per_page_only_if_given(dss: LocalDSS, given: str, kept: str | None) -> None:
    bundle = new_uuid()
    file = dss.new_file()
    assert dss.put_bundle([dss.entry(str(number), file) for number in range(501)], bundle).ok
    link = send(dss, "GET", f"/bundles/{bundle}?replica=aws{given}").headers["Link"]
    query = dict(parse_qsl(urlsplit(link.partition(">")[0][1:]).query))
    expected = {"replica": "aws", "start_at": kept or "500", "version": VERSION, "token": "None"}
    assert query == expected | ({"per_page": kept} if kept else {})


@pytest.mark.parametrize(("replica", "parameter"), [("aws", "AWSAccessKeyId"), ("gcp", "GoogleAccessId")])
def test_presigned_url_names_its_signer_as_the_store_does(
    tmp_path_factory: pytest.TempPathFactory, replica: str, parameter: str
) -> None:
    with LocalDSS(tmp_path_factory.mktemp("signed"), "--gcs", "--checkout-delay", "0", "--sync-delay", "0") as dss:
        file = dss.new_file()
        dss.wait_for_head(file, 200, replica)
        url = dss.call("GET", f"/files/{file}", replica=replica).headers["Location"]
        assert parameter in dict(parse_qsl(urlsplit(url).query))
        assert requests.get(url, timeout=10).content == b"content"
