"""Routes of bundles."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from .server import VERSION, code_of, new_uuid, sums

if TYPE_CHECKING:
    from .server import LocalDSS


def _get(dss: LocalDSS, bundle: str, **query: Any) -> requests.Response:
    return dss.call("GET", f"/bundles/{bundle}", **{"replica": "aws", **query})


def test_put_bundle_repeated_returns_201_then_200(dss: LocalDSS) -> None:
    """The manifest in the response spells `s3-etag`."""
    bundle, file = new_uuid(), dss.new_file(b"abc")
    files = [dss.entry("a.txt", file, indexed=True)]
    first, second = dss.put_bundle(files, bundle), dss.put_bundle(files, bundle)
    assert (first.status_code, second.status_code) == (201, 200)
    labels = sums(b"abc")
    manifest = {
        "format": "0.0.1",
        "version": VERSION,
        "creator_uid": 8008,
        "files": [
            {
                "name": "a.txt",
                "uuid": file,
                "version": VERSION,
                "content-type": "text/plain",
                "size": 3,
                "indexed": True,
                "crc32c": labels["hca-dss-crc32c"],
                "s3-etag": labels["hca-dss-s3_etag"],
                "sha1": labels["hca-dss-sha1"],
                "sha256": labels["hca-dss-sha256"],
            }
        ],
    }
    assert first.json() == second.json() == {"version": VERSION, "manifest": manifest}


def test_get_bundle_spells_s3_etag_with_underscore(dss: LocalDSS) -> None:
    bundle, files = new_uuid(), [dss.entry("a")]
    manifest = dss.put_bundle(files, bundle).json()["manifest"]
    expected = {name.replace("s3-etag", "s3_etag"): value for name, value in manifest["files"][0].items()}
    assert _get(dss, bundle).json() == {
        "bundle": {"uuid": bundle, "version": VERSION, "creator_uid": 8008, "files": [expected]}
    }


@pytest.mark.parametrize("change", ["order", "indexed", "creator", "fewer"])
def test_put_bundle_with_different_manifest_returns_409(dss: LocalDSS, change: str) -> None:
    bundle, files = new_uuid(), [dss.entry("a"), dss.entry("b")]
    assert dss.put_bundle(files, bundle).status_code == 201
    other = {
        "order": files[::-1],
        "indexed": [files[0], files[1] | {"indexed": True}],
        "fewer": files[:1],
        "creator": files,
    }[change]
    response = dss.put_bundle(other, bundle, creator_uid=1 if change == "creator" else 8008)
    assert code_of(response) == (409, "bundle_already_exists")


@pytest.mark.parametrize(
    "name",
    ["a", "a/b.txt", ".hidden", "Größe µ", "with space", "dir//b", "", "~a", "a~/b", "a.b", "...a", "..a/b", "a/b~"],
)
def test_put_bundle_with_unusual_name_succeeds(dss: LocalDSS, name: str) -> None:
    """A DSS accepts more names than a file system."""
    assert dss.put_bundle([dss.entry(name)]).status_code == 201


@pytest.mark.parametrize(
    "name",
    ["/a", ".", "..", "./a", "../a", "a/./b", "a/../b", "~/a", "a\\b", "a\nb", "a\n", "a/.hidden", "a./b", "a/.."],
)
def test_put_bundle_with_invalid_name_returns_400(dss: LocalDSS, name: str) -> None:
    file = {"uuid": new_uuid(), "version": VERSION, "name": name, "indexed": False}
    assert code_of(dss.put_bundle([file])) == (400, "illegal_arguments")
    response = dss.call("PATCH", f"/bundles/{new_uuid()}", {"add_files": [file]}, version=VERSION, replica="aws")
    assert code_of(response) == (400, "illegal_arguments")


def test_put_bundle_with_duplicate_name_returns_400(dss: LocalDSS) -> None:
    """Names that differ in case only are different."""
    file = dss.new_file()
    assert code_of(dss.put_bundle([dss.entry("a", file), dss.entry("a", file)])) == (400, "duplicate_filename")
    assert dss.put_bundle([dss.entry("a", file), dss.entry("A", file)]).status_code == 201


def test_put_bundle_with_missing_file_waits_then_returns_400(dss: LocalDSS) -> None:
    """The uuid of a file is case-sensitive."""
    start = time.monotonic()
    file = dss.new_file()
    response = dss.put_bundle([dss.entry("a", file.upper())])
    assert code_of(response) == (400, "file_missing")
    assert time.monotonic() - start > 0.9


def test_bundle_with_illegal_version_returns_400(dss: LocalDSS) -> None:
    entry = dss.entry("a")
    bad = entry | {"version": "1"}
    assert code_of(dss.put_bundle([entry], version="1")) == (400, "illegal_version")
    assert code_of(dss.put_bundle([bad])) == (400, "illegal_version")
    for version, body in (("1", {}), (VERSION, {"add_files": [bad]}), (VERSION, {"remove_files": [bad]})):
        response = dss.call("PATCH", f"/bundles/{new_uuid()}", body, version=version, replica="aws")
        assert code_of(response) == (400, "illegal_version")


def test_upper_case_uuid_is_lowered_by_put(dss: LocalDSS) -> None:
    bundle = new_uuid()
    assert dss.put_bundle([], bundle.upper()).status_code == 201
    assert _get(dss, bundle).status_code == 200


def test_get_unknown_bundle_returns_404(dss: LocalDSS) -> None:
    bundle = new_uuid()
    dss.put_bundle([], bundle)
    assert code_of(_get(dss, new_uuid())) == (404, "not_found")
    assert code_of(_get(dss, bundle, version="no version")) == (404, "not_found")
    assert code_of(_get(dss, bundle, replica="gcp")) == (404, "not_found")


def _all_files(dss: LocalDSS, url: str) -> tuple[list[str], list[int]]:
    names, statuses = [], []
    while url:
        response = requests.get(url, timeout=10)
        assert response.headers["X-OpenAPI-Paginated-Content-Key"] == "bundle.files"
        names += [file["name"] for file in response.json()["bundle"]["files"]]
        statuses.append(response.status_code)
        link = re.fullmatch(r"<(.*)>; rel='next'", response.headers.get("Link", "<>; rel='next'"))
        assert link
        url = link[1]
        assert not url or parse_qs(urlsplit(url).query)["token"] == ["None"]
    return names, statuses


def test_get_bundle_returns_pages_of_files(dss: LocalDSS) -> None:
    """Pages are 206 with a Link in single quotes; the last page is 200."""
    bundle, file = new_uuid(), dss.new_file()
    names = [f"{number:03}" for number in range(25)]
    dss.put_bundle([dss.entry(name, file) for name in names], bundle)
    url = f"{dss.url}/bundles/{bundle}?replica=aws"
    assert _all_files(dss, f"{url}&per_page=10") == (names, [206, 206, 200])
    assert _all_files(dss, f"{url}&per_page=25") == (names, [200])
    assert _all_files(dss, url) == (names, [200])
    for size in (9, 501):
        assert code_of(_get(dss, bundle, per_page=size)) == (400, "illegal_arguments")


def test_get_bundle_with_presigned_urls_returns_301_until_checked_out(dss: LocalDSS) -> None:
    content, bundle = new_uuid().encode(), new_uuid()
    dss.put_bundle([dss.entry("a", dss.new_file(content))], bundle)
    response = _get(dss, bundle, presignedurls="true")
    assert (response.status_code, response.headers["Retry-After"]) == (301, "1")
    while response.status_code == 301:
        response = requests.get(response.headers["Location"], allow_redirects=False, timeout=10)
    assert requests.get(response.json()["bundle"]["files"][0]["url"], timeout=10).content == content
    assert _get(dss, bundle, directurls="true").json()["bundle"]["files"][0]["url"].startswith("s3://")
    assert code_of(_get(dss, bundle, presignedurls="true", directurls="true")) == (400, "only_one_urltype")


def _patch(dss: LocalDSS, bundle: str, body: Any, version: str = VERSION) -> requests.Response:
    return dss.call("PATCH", f"/bundles/{bundle}", body, version=version, replica="aws")


def test_patch_bundle_adds_and_removes_files_in_new_version(dss: LocalDSS) -> None:
    """Files are removed by name, uuid and version; the old version remains unchanged."""
    bundle, a, b, c = new_uuid(), dss.entry("a"), dss.entry("b"), dss.entry("c")
    dss.put_bundle([a, b], bundle)
    response = _patch(dss, bundle, {"add_files": [c], "remove_files": [a, b | {"name": "other"}]})
    assert response.status_code == 200
    assert response.json().keys() == {"uuid", "version"}
    names = [file["name"] for file in _get(dss, bundle, version=response.json()["version"]).json()["bundle"]["files"]]
    assert names == ["b", "c"]
    assert len(_get(dss, bundle, version=VERSION).json()["bundle"]["files"]) == 2
    assert _get(dss, bundle).json()["bundle"]["version"] == response.json()["version"] > VERSION


def test_patch_bundle_without_changes_creates_version(dss: LocalDSS) -> None:
    bundle = new_uuid()
    dss.put_bundle([], bundle)
    versions = {_patch(dss, bundle, {}).json()["version"] for _ in range(3)}
    assert len(versions) == 3


def test_patch_bundle_with_invalid_changes_returns_errors(dss: LocalDSS) -> None:
    bundle, a = new_uuid(), dss.entry("a")
    dss.put_bundle([a], bundle)
    many = [a | {"name": str(number)} for number in range(1001)]
    assert code_of(_patch(dss, bundle, {"add_files": many})) == (400, "illegal_arguments")
    assert code_of(_patch(dss, bundle, {"remove_files": many})) == (400, "illegal_arguments")
    assert code_of(_patch(dss, bundle, {"add_files": [a]})) == (400, "duplicate_filename")
    assert code_of(_patch(dss, new_uuid(), {})) == (404, "not_found")


def test_patch_bundle_with_1000_files_succeeds(dss: LocalDSS) -> None:
    bundle, file = new_uuid(), dss.new_file()
    dss.put_bundle([], bundle)
    response = _patch(dss, bundle, {"add_files": [dss.entry(str(number), file) for number in range(1000)]})
    assert response.status_code == 200


def _delete(dss: LocalDSS, bundle: str, body: Any = None, **query: str) -> requests.Response:
    return dss.call(
        "DELETE", f"/bundles/{bundle}", {"reason": "test"} if body is None else body, replica="aws", **query
    )


def test_delete_bundle_repeated_with_same_reason_succeeds(dss: LocalDSS) -> None:
    bundle = new_uuid()
    dss.put_bundle([], bundle)
    assert code_of(_delete(dss, bundle, {})) == (400, "illegal_arguments")
    for _ in range(2):
        response = _delete(dss, bundle)
        assert (response.status_code, response.json()) == (200, {})
    assert code_of(_delete(dss, bundle, {"reason": "other"})) == (409, "bundle_tombstone_already_exists")
    assert code_of(_delete(dss, new_uuid())) == (404, "not_found")
    assert code_of(_delete(dss, bundle, version="no version")) == (404, "not_found")


def test_deleted_uuid_returns_404_even_after_put(dss: LocalDSS) -> None:
    """PUTs into a deleted uuid succeed, as in a DSS."""
    bundle = new_uuid()
    dss.put_bundle([], bundle)
    _delete(dss, bundle)
    assert code_of(_get(dss, bundle)) == (404, "not_found")
    assert code_of(_get(dss, bundle, version=VERSION)) == (404, "not_found")
    assert dss.put_bundle([], bundle).status_code == 200
    assert dss.put_bundle([], bundle, "2025-01-01T000000.000000Z").status_code == 201
    assert code_of(_get(dss, bundle)) == (404, "not_found")


def test_deleted_version_returns_404_and_previous_is_latest(dss: LocalDSS) -> None:
    bundle, newer = new_uuid(), "2025-01-01T000000.000000Z"
    dss.put_bundle([], bundle)
    dss.put_bundle([], bundle, newer)
    _delete(dss, bundle, version=newer)
    assert code_of(_get(dss, bundle, version=newer)) == (404, "not_found")
    assert _get(dss, bundle).json()["bundle"]["version"] == VERSION


def test_list_bundles_returns_pages_ordered_by_uuid(dss: LocalDSS) -> None:
    """A full last page is followed by an empty one."""
    prefix = new_uuid()[:8]
    uuids = sorted(f"{prefix}{new_uuid()[8:]}" for _ in range(21))
    for bundle in uuids:
        dss.put_bundle([], bundle)
    _delete(dss, uuids.pop(3))
    url = f"{dss.url}/bundles/all?replica=aws&prefix={prefix.upper()}&per_page=10"
    listed, pages = [], []
    while url:
        response = requests.get(url, timeout=10)
        body = response.json()
        listed += [bundle["uuid"] for bundle in body["bundles"]]
        pages.append((response.status_code, body["page_count"], body["has_more"]))
        url = body.get("link", "")
        assert response.headers.get("Link", "") == (f"<{url}>; rel='next'" if url else "")
        assert ("search_after" in body, "token" in body) == (bool(url), bool(url))
    assert listed == uuids
    assert pages == [(206, 10, True), (206, 10, True), (200, 0, False)]


def test_list_bundles_with_invalid_parameters_returns_400(dss: LocalDSS) -> None:
    for query in ({"per_page": 9}, {"per_page": 501}, {"prefix": "a*"}):
        assert code_of(dss.call("GET", "/bundles/all", replica="aws", **query)) == (400, "illegal_arguments")
