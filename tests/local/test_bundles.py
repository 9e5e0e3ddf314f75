"""PUT, GET, PATCH and DELETE of bundles, and their list."""

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


def test_created_then_repeated(dss: LocalDSS) -> None:
    """The first PUT answers 201 and the identical repeat 200, both with a manifest that spells s3-etag."""
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


def test_get_spells_the_etag_otherwise(dss: LocalDSS) -> None:
    """GET gives uuid, version, creator and files, and spells s3_etag."""
    bundle, files = new_uuid(), [dss.entry("a")]
    manifest = dss.put_bundle(files, bundle).json()["manifest"]
    expected = {name.replace("s3-etag", "s3_etag"): value for name, value in manifest["files"][0].items()}
    assert _get(dss, bundle).json() == {
        "bundle": {"uuid": bundle, "version": VERSION, "creator_uid": 8008, "files": [expected]}
    }


@pytest.mark.parametrize("change", ["order", "indexed", "creator", "fewer"])
def test_any_difference_is_a_conflict(dss: LocalDSS, change: str) -> None:
    """A PUT whose manifest differs in anything, even the order of files, answers 409."""
    bundle, files = new_uuid(), [dss.entry("a"), dss.entry("b")]
    assert dss.put_bundle(files, bundle).status_code == 201
    other = {
        "order": files[::-1],
        "indexed": [files[0], files[1] | {"indexed": True}],
        "fewer": files[:1],
        "creator": files,
    }[change]
    answer = dss.put_bundle(other, bundle, creator_uid=1 if change == "creator" else 8008)
    assert code_of(answer) == (409, "bundle_already_exists")


@pytest.mark.parametrize(
    "name",
    ["a", "a/b.txt", ".hidden", "Größe µ", "with space", "dir//b", "", "~a", "a~/b", "a.b", "...a", "..a/b", "a/b~"],
)
def test_accepted_names(dss: LocalDSS, name: str) -> None:
    """A DSS accepts more names than a file system does."""
    assert dss.put_bundle([dss.entry(name)]).status_code == 201


@pytest.mark.parametrize(
    "name",
    ["/a", ".", "..", "./a", "../a", "a/./b", "a/../b", "~/a", "a\\b", "a\nb", "a\n", "a/.hidden", "a./b", "a/.."],
)
def test_refused_names(dss: LocalDSS, name: str) -> None:
    """Absolute paths, dot segments, back-slashes, newlines and more are 400 illegal_arguments."""
    file = {"uuid": new_uuid(), "version": VERSION, "name": name, "indexed": False}
    assert code_of(dss.put_bundle([file])) == (400, "illegal_arguments")
    answer = dss.call("PATCH", f"/bundles/{new_uuid()}", {"add_files": [file]}, version=VERSION, replica="aws")
    assert code_of(answer) == (400, "illegal_arguments")


def test_same_name_twice(dss: LocalDSS) -> None:
    """Two files of one name are 400 duplicate_filename; names that differ in case are not the same."""
    file = dss.new_file()
    assert code_of(dss.put_bundle([dss.entry("a", file), dss.entry("a", file)])) == (400, "duplicate_filename")
    assert dss.put_bundle([dss.entry("a", file), dss.entry("A", file)]).status_code == 201


def test_missing_file(dss: LocalDSS) -> None:
    """A file that is not there is waited for and then 400 file_missing; its uuid in upper case is not there."""
    start = time.monotonic()
    file = dss.new_file()
    answer = dss.put_bundle([dss.entry("a", file.upper())])
    assert code_of(answer) == (400, "file_missing")
    assert time.monotonic() - start > 0.9


def test_illegal_versions(dss: LocalDSS) -> None:
    """A version that is no DSS_VERSION is 400, for the bundle, for one of its files, and in a PATCH."""
    entry = dss.entry("a")
    bad = entry | {"version": "1"}
    assert code_of(dss.put_bundle([entry], version="1")) == (400, "illegal_version")
    assert code_of(dss.put_bundle([bad])) == (400, "illegal_version")
    for version, body in (("1", {}), (VERSION, {"add_files": [bad]}), (VERSION, {"remove_files": [bad]})):
        answer = dss.call("PATCH", f"/bundles/{new_uuid()}", body, version=version, replica="aws")
        assert code_of(answer) == (400, "illegal_version")


def test_upper_case_uuid(dss: LocalDSS) -> None:
    """PUT lower-cases the uuid of a bundle; PATCH refuses an upper-case one, which would corrupt a real DSS."""
    bundle = new_uuid()
    assert dss.put_bundle([], bundle.upper()).status_code == 201
    assert _get(dss, bundle).status_code == 200
    answer = dss.call("PATCH", f"/bundles/{bundle.upper()}", {}, version=VERSION, replica="aws")
    assert code_of(answer) == (400, "illegal_arguments")


def test_unknown_bundle(dss: LocalDSS) -> None:
    """An unknown bundle or version is 404 not_found, and so is one of the other replica."""
    bundle = new_uuid()
    dss.put_bundle([], bundle)
    assert code_of(_get(dss, new_uuid())) == (404, "not_found")
    assert code_of(_get(dss, bundle, version="no version")) == (404, "not_found")
    assert code_of(_get(dss, bundle, replica="gcp")) == (404, "not_found")


def _all_files(dss: LocalDSS, url: str) -> tuple[list[str], list[int]]:
    names, statuses = [], []
    while url:
        answer = requests.get(url, timeout=10)
        assert answer.headers["X-OpenAPI-Paginated-Content-Key"] == "bundle.files"
        names += [file["name"] for file in answer.json()["bundle"]["files"]]
        statuses.append(answer.status_code)
        link = re.fullmatch(r"<(.*)>; rel='next'", answer.headers.get("Link", "<>; rel='next'"))
        assert link
        url = link[1]
        assert not url or parse_qs(urlsplit(url).query)["token"] == ["None"]
    return names, statuses


def test_pages(dss: LocalDSS) -> None:
    """A manifest comes in pages of 206 with a Link in single quotes, and the last page is 200."""
    bundle, file = new_uuid(), dss.new_file()
    names = [f"{number:03}" for number in range(25)]
    dss.put_bundle([dss.entry(name, file) for name in names], bundle)
    url = f"{dss.url}/bundles/{bundle}?replica=aws"
    assert _all_files(dss, f"{url}&per_page=10") == (names, [206, 206, 200])
    assert _all_files(dss, f"{url}&per_page=25") == (names, [200])
    assert _all_files(dss, url) == (names, [200])
    for size in (9, 501):
        assert code_of(_get(dss, bundle, per_page=size)) == (400, "illegal_arguments")


def test_presigned_urls(dss: LocalDSS) -> None:
    """presignedurls=true answers 301 until all is checked out, then each file has a URL; not both kinds at once."""
    content, bundle = new_uuid().encode(), new_uuid()
    dss.put_bundle([dss.entry("a", dss.new_file(content))], bundle)
    answer = _get(dss, bundle, presignedurls="true")
    assert (answer.status_code, answer.headers["Retry-After"]) == (301, "1")
    while answer.status_code == 301:
        answer = requests.get(answer.headers["Location"], allow_redirects=False, timeout=10)
    assert requests.get(answer.json()["bundle"]["files"][0]["url"], timeout=10).content == content
    assert _get(dss, bundle, directurls="true").json()["bundle"]["files"][0]["url"].startswith("s3://")
    assert code_of(_get(dss, bundle, presignedurls="true", directurls="true")) == (400, "only_one_urltype")


def _patch(dss: LocalDSS, bundle: str, body: Any, version: str = VERSION) -> requests.Response:
    return dss.call("PATCH", f"/bundles/{bundle}", body, version=version, replica="aws")


def test_patch_makes_a_version(dss: LocalDSS) -> None:
    """PATCH removes by name, uuid and version, adds, and leaves the old version as it was."""
    bundle, a, b, c = new_uuid(), dss.entry("a"), dss.entry("b"), dss.entry("c")
    dss.put_bundle([a, b], bundle)
    answer = _patch(dss, bundle, {"add_files": [c], "remove_files": [a, b | {"name": "other"}]})
    assert answer.status_code == 200
    assert answer.json().keys() == {"uuid", "version"}
    names = [file["name"] for file in _get(dss, bundle, version=answer.json()["version"]).json()["bundle"]["files"]]
    assert names == ["b", "c"]
    assert len(_get(dss, bundle, version=VERSION).json()["bundle"]["files"]) == 2
    assert _get(dss, bundle).json()["bundle"]["version"] == answer.json()["version"] > VERSION


def test_every_patch_makes_a_version(dss: LocalDSS) -> None:
    """A PATCH that changes nothing makes a version all the same, each time another."""
    bundle = new_uuid()
    dss.put_bundle([], bundle)
    versions = {_patch(dss, bundle, {}).json()["version"] for _ in range(3)}
    assert len(versions) == 3


def test_patch_refusals(dss: LocalDSS) -> None:
    """PATCH: too many 400, a name twice 400, unknown 404, and a missing file a bare 500 without Retry-After."""
    bundle, a = new_uuid(), dss.entry("a")
    dss.put_bundle([a], bundle)
    many = [a | {"name": str(number)} for number in range(1001)]
    assert code_of(_patch(dss, bundle, {"add_files": many})) == (400, "illegal_arguments")
    assert code_of(_patch(dss, bundle, {"remove_files": many})) == (400, "illegal_arguments")
    assert code_of(_patch(dss, bundle, {"add_files": [a]})) == (400, "duplicate_filename")
    assert code_of(_patch(dss, new_uuid(), {})) == (404, "not_found")
    answer = _patch(dss, bundle, {"add_files": [dss.entry("new", new_uuid())]})
    assert answer.status_code == 500
    assert answer.json().keys() == {"Code", "Message"}
    assert "Retry-After" not in answer.headers


def test_patch_of_a_thousand(dss: LocalDSS) -> None:
    """A thousand files at once are still allowed."""
    bundle, file = new_uuid(), dss.new_file()
    dss.put_bundle([], bundle)
    answer = _patch(dss, bundle, {"add_files": [dss.entry(str(number), file) for number in range(1000)]})
    assert answer.status_code == 200


def _delete(dss: LocalDSS, bundle: str, body: Any = None, **query: str) -> requests.Response:
    return dss.call(
        "DELETE", f"/bundles/{bundle}", {"reason": "test"} if body is None else body, replica="aws", **query
    )


def test_delete(dss: LocalDSS) -> None:
    """DELETE answers 200 {}, again for the same reason, 409 for another, 400 without one and 404 if unknown."""
    bundle = new_uuid()
    dss.put_bundle([], bundle)
    assert code_of(_delete(dss, bundle, {})) == (400, "illegal_arguments")
    for _ in range(2):
        answer = _delete(dss, bundle)
        assert (answer.status_code, answer.json()) == (200, {})
    assert code_of(_delete(dss, bundle, {"reason": "other"})) == (409, "bundle_tombstone_already_exists")
    assert code_of(_delete(dss, new_uuid())) == (404, "not_found")
    assert code_of(_delete(dss, bundle, version="no version")) == (404, "not_found")


def test_deleted_uuid(dss: LocalDSS) -> None:
    """A deleted uuid reads as 404 for ever, though PUTs into it succeed."""
    bundle = new_uuid()
    dss.put_bundle([], bundle)
    _delete(dss, bundle)
    assert code_of(_get(dss, bundle)) == (404, "not_found")
    assert code_of(_get(dss, bundle, version=VERSION)) == (404, "not_found")
    assert dss.put_bundle([], bundle).status_code == 200
    assert dss.put_bundle([], bundle, "2025-01-01T000000.000000Z").status_code == 201
    assert code_of(_get(dss, bundle)) == (404, "not_found")


def test_deleted_version(dss: LocalDSS) -> None:
    """A deleted version reads as 404, and the latest is then the one before it."""
    bundle, newer = new_uuid(), "2025-01-01T000000.000000Z"
    dss.put_bundle([], bundle)
    dss.put_bundle([], bundle, newer)
    _delete(dss, bundle, version=newer)
    assert code_of(_get(dss, bundle, version=newer)) == (404, "not_found")
    assert _get(dss, bundle).json()["bundle"]["version"] == VERSION


def test_list(dss: LocalDSS) -> None:
    """/bundles/all lists by uuid, without what is deleted; a full last page is followed by an empty one."""
    prefix = new_uuid()[:8]
    uuids = sorted(f"{prefix}{new_uuid()[8:]}" for _ in range(21))
    for bundle in uuids:
        dss.put_bundle([], bundle)
    _delete(dss, uuids.pop(3))
    url = f"{dss.url}/bundles/all?replica=aws&prefix={prefix.upper()}&per_page=10"
    found, pages = [], []
    while url:
        answer = requests.get(url, timeout=10)
        body = answer.json()
        found += [bundle["uuid"] for bundle in body["bundles"]]
        pages.append((answer.status_code, body["page_count"], body["has_more"]))
        url = body.get("link", "")
        assert answer.headers.get("Link", "") == (f"<{url}>; rel='next'" if url else "")
        assert ("search_after" in body, "token" in body) == (bool(url), bool(url))
    assert found == uuids
    assert pages == [(206, 10, True), (206, 10, True), (200, 0, False)]


def test_list_parameters(dss: LocalDSS) -> None:
    """/bundles/all refuses other page sizes than 10 to 500, and prefixes of other characters."""
    for query in ({"per_page": 9}, {"per_page": 501}, {"prefix": "a*"}):
        assert code_of(dss.call("GET", "/bundles/all", replica="aws", **query)) == (400, "illegal_arguments")
