"""The route of search."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import requests

from airflow_provider_hca.local.documents import key_of

from .server import VERSION, LocalDSS, code_of, new_uuid, sums

LATER = "2025-01-01T000000.000000Z"


def _search(dss: LocalDSS, query: Any, **parameters: Any) -> requests.Response:
    return dss.call("POST", "/search", {"es_query": {"query": query}}, **{"replica": "aws", **parameters})


def _found(dss: LocalDSS, query: Any, **parameters: Any) -> list[str]:
    response = _search(dss, query, **parameters)
    assert response.status_code == 200, response.text
    return [result["bundle_fqid"] for result in response.json()["results"]]


def _metadata(dss: LocalDSS, name: str, content: Any, *, indexed: bool = True, kind: str = "application/json") -> Any:
    file = new_uuid()
    text = content if isinstance(content, str) else json.dumps(content)
    assert dss.put_file(dss.stage(text.encode(), kind=kind), file).status_code == 201
    return dss.entry(name, file, indexed=indexed)


def _bundle(dss: LocalDSS, files: list[Any], uuid: str = "", version: str = VERSION) -> str:
    uuid = uuid or new_uuid()
    assert dss.put_bundle(files, uuid, version).status_code == 201
    return uuid


def test_search_finds_bundle_by_indexed_metadata(dss: LocalDSS) -> None:
    lab = new_uuid()
    uuid = _bundle(dss, [_metadata(dss, "project_0.json", {"project_core": {"labs": ["other", lab]}})])
    query = {"term": {"files.project_json.project_core.labs": lab.upper()}}
    response = _search(dss, query)
    assert response.status_code == 200
    assert response.headers["X-OpenAPI-Paginated-Content-Key"] == "results"
    body = response.json()
    url = body["results"][0].pop("bundle_url")
    result = {"bundle_fqid": f"{uuid}.{VERSION}", "search_score": None}
    assert body == {"es_query": {"query": query}, "results": [result], "total_hits": 1}
    assert requests.get(url, timeout=10).json()["bundle"]["uuid"] == uuid


def test_raw_search_returns_documents(dss: LocalDSS) -> None:
    files = [
        _metadata(dss, "cell_suspension_0.json", {"a": 0}),
        _metadata(dss, "cell_suspension_1.json", [1, None]),
        _metadata(dss, "links.json", "{}", kind="application/json; dcp-type=metadata"),
        _metadata(dss, "hidden.json", {"a": 3}, indexed=False),
        _metadata(dss, "broken.json", "{"),
        _metadata(dss, "reads.txt", "{}", kind="text/plain"),
    ]
    uuid = new_uuid()
    manifest = dss.put_bundle(files, uuid).json()["manifest"]
    (result,) = _search(dss, {"term": {"uuid": uuid}}, output_format="raw").json()["results"]
    assert result["metadata"] == {
        "uuid": uuid,
        "state": "new",
        "manifest": manifest,
        "files": {"cell_suspension_json": [{"a": 0}, [1, None]], "links_json": [{}]},
    }


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("project.json", "project_json"),
        ("project_0.json", "project_json"),
        ("library_preparation_protocol_12.json", "library_preparation_protocol_json"),
        ("cell_suspension.json", "cell_json"),
        ("a.b.json", "a_json"),
        ("_json", "_json"),
        ("reads.R1.txt", "reads_R1_txt"),
        ("", ""),
    ],
)
def test_key_of_file_name(name: str, key: str) -> None:
    assert key_of(name) == key


def test_search_ignores_unindexed_files_and_other_replica(dss: LocalDSS) -> None:
    word, file = new_uuid(), new_uuid()
    _bundle(dss, [_metadata(dss, "a.json", {"w": word}, indexed=False)])
    assert _found(dss, {"term": {"files.a_json.w": word}}) == []
    dss.put_file(dss.stage_gcs(b"x", sums(b"x")), file)
    dss.put_bundle([dss.entry("a", file)], bundle := new_uuid(), replica="gcp")
    query = {"term": {"manifest.files.uuid": file}}
    assert (_found(dss, query), _found(dss, query, replica="gcp")) == ([], [f"{bundle}.{VERSION}"])


def test_search_finds_tombstone_of_deleted_bundle(dss: LocalDSS) -> None:
    word = new_uuid()
    files = [_metadata(dss, "a.json", {"w": word})]
    uuid = _bundle(dss, files)
    _bundle(dss, files, uuid, LATER)
    query = {"term": {"files.a_json.w": word}}
    assert _found(dss, query) == [f"{uuid}.{LATER}", f"{uuid}.{VERSION}"]
    dss.call("DELETE", f"/bundles/{uuid}", {"reason": "wrong"}, replica="aws", version=VERSION)
    assert _found(dss, query) == [f"{uuid}.{LATER}"]
    dss.call("DELETE", f"/bundles/{uuid}", {"reason": "all wrong"}, replica="aws")
    assert _found(dss, query) == []
    dead = {"bool": {"must": [{"term": {"uuid": uuid}}, {"term": {"admin_deleted": True}}]}}
    results = _search(dss, dead, output_format="raw").json()["results"]
    common = {"uuid": uuid, "admin_deleted": True}
    assert [result["metadata"] for result in results] == [
        common | {"manifest": {"version": LATER}, "reason": "all wrong"},
        common | {"manifest": {"version": VERSION}, "reason": "wrong"},
    ]


def _pages(dss: LocalDSS, query: Any, **parameters: Any) -> list[tuple[int, int, list[str]]]:
    """Return status, hits and results of each page."""
    pages, url, query_parameters = [], f"{dss.url}/search", {"replica": "aws", **parameters}
    while url:
        response = requests.post(url, json={"es_query": {"query": query}}, params=query_parameters, timeout=20)
        body = response.json()
        pages.append((response.status_code, body["total_hits"], [result["bundle_fqid"] for result in body["results"]]))
        link = re.fullmatch(r'<(.*)>; rel="next"', response.headers.get("Link", ""))
        assert response.headers["X-OpenAPI-Pagination"] == ("true" if link else "false")
        url, query_parameters = link[1] if link else "", {}
    return pages


def test_search_returns_pages(dss: LocalDSS) -> None:
    """A full last page is followed by an empty one; raw pages have ten results."""
    word = new_uuid()
    files = [_metadata(dss, "a.json", {"w": word})]
    fqids = sorted((f"{_bundle(dss, files)}.{VERSION}" for _ in range(22)), reverse=True)
    query = {"match": {"files.a_json.w": word}}
    assert _pages(dss, query) == [(200, 22, fqids)]
    assert _pages(dss, query, per_page=11) == [(206, 22, fqids[:11]), (206, 22, fqids[11:]), (200, 22, [])]
    raw = _pages(dss, query, per_page=100, output_format="raw")
    assert raw == [(206, 22, fqids[:10]), (206, 22, fqids[10:20]), (200, 22, fqids[20:])]


@pytest.mark.parametrize("query", [{"fuzzy": {"a": "b"}}, ["match_all"], {"match": ["a", "b"]}])
def test_unsupported_query_returns_400(dss: LocalDSS, query: Any) -> None:
    response = _search(dss, query)
    assert code_of(response) == (400, "elasticsearch_bad_request")
    assert "match_all, term, terms, match, exists and bool" in response.json()["title"]


def test_search_with_invalid_parameters_returns_400(dss: LocalDSS) -> None:
    for wrong in ({"per_page": 9}, {"per_page": 501}, {"output_format": "x"}, {"search_after": "x"}, {"replica": ""}):
        assert code_of(_search(dss, {"match_all": {}}, **wrong)) == (400, "illegal_arguments")
    bodies: list[Any] = [{}, {"es_query": []}, [], None]
    for body in bodies:
        assert code_of(dss.call("POST", "/search", body, replica="aws")) == (400, "illegal_arguments")


@pytest.mark.system
def test_manifest_above_20000_files_is_not_searched(dss: LocalDSS) -> None:
    word = new_uuid()
    metadata, other = _metadata(dss, "a.json", {"w": word}), dss.new_file()
    files = [metadata, *(dss.entry(f"{number}", other) for number in range(19_999))]
    uuid = _bundle(dss, files)
    both = {"bool": {"must": [{"term": {"files.a_json.w": word}}, {"exists": {"field": "manifest.files"}}]}}
    assert _found(dss, both) == [f"{uuid}.{VERSION}"]
    _bundle(dss, [*files, dss.entry("above the limit", other)], uuid, LATER)
    assert _found(dss, both) == [f"{uuid}.{VERSION}"]
    assert _found(dss, {"term": {"files.a_json.w": word}}) == [f"{uuid}.{LATER}", f"{uuid}.{VERSION}"]
    dss.call("DELETE", f"/bundles/{uuid}", {"reason": "would slow down the other searches"}, replica="aws")
