"""The query language."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_hca.local.queries import UnsupportedQueryError, field_values, parse

DOCUMENT: dict[str, Any] = {
    "uuid": "u",
    "manifest": {"version": "2024", "files": [{"name": "A.json", "size": 5}, {"name": "b.txt", "size": 1.0}]},
    "files": {
        "donor_json": [
            {"species": [{"text": "Homo sapiens"}], "age": 31, "alive": True, "note": None, "tags": []},
            {"species": [{"text": "Mus musculus"}], "genus_species": "Mus  Musculus, adult", "weight": 0.5},
        ]
    },
}
DONOR = "files.donor_json"


def _holds(query: Any) -> bool:
    return parse({"query": query})(field_values(DOCUMENT))


@pytest.mark.parametrize(
    "query",
    [
        {"match_all": {}},
        {"term": {"uuid": "U"}},
        {"term": {f"{DONOR}.species.text": "mus musculus"}},
        {"term": {f"{DONOR}.species.text": {"value": "Homo Sapiens"}}},
        {"term": {f"{DONOR}.age": 31}},
        {"term": {f"{DONOR}.age": "31"}},
        {"term": {f"{DONOR}.age": 31.0}},
        {"term": {f"{DONOR}.weight": 0.5}},
        {"term": {f"{DONOR}.alive": True}},
        {"term": {f"{DONOR}.alive": "true"}},
        {"term": {"manifest.files.size": 1}},
        {"terms": {"manifest.files.name": ["x", "B.TXT"]}},
        {"match": {"manifest.files.name": "a.json"}},
        {"match": {f"{DONOR}.genus_species.text": "rattus mus"}},
        {"match": {f"{DONOR}.genus_species.text": {"query": "musculus MUS", "operator": "and"}}},
        {"match": {f"{DONOR}.species.text.text": "sapiens"}},
        {"exists": {"field": f"{DONOR}.species"}},
        {"exists": {"field": f"{DONOR}.age"}},
        {"bool": {}},
        {"bool": {"must": {"term": {"uuid": "u"}}, "should": {"term": {"uuid": "x"}}}},
        {"bool": {"filter": [{"term": {"uuid": "u"}}], "must_not": [{"term": {"uuid": "x"}}]}},
        {"bool": {"should": [{"term": {"uuid": "x"}}, {"term": {"uuid": "u"}}]}},
        {"bool": {"should": [{"term": {"uuid": "x"}}], "minimum_should_match": 0}},
        {"bool": {"must": [{"bool": {"should": [{"match_all": {}}] * 3, "minimum_should_match": 3}}]}},
    ],
)
def test_query_matches(query: dict[str, Any]) -> None:
    assert _holds(query)
    assert not _holds({"bool": {"must_not": query}})


@pytest.mark.parametrize(
    "query",
    [
        {"term": {"uuid": "v"}},
        {"term": {"nowhere": "u"}},
        {"term": {f"{DONOR}.species.text": "mus"}},
        {"term": {f"{DONOR}.species": "Mus musculus"}},
        {"term": {f"{DONOR}.alive": 1}},
        {"terms": {"uuid": []}},
        {"match": {f"{DONOR}.species.text": "sapiens"}},
        {"match": {f"{DONOR}.genus_species.text": {"query": "mus rattus", "operator": "and"}}},
        {"match": {f"{DONOR}.genus_species.text": "us"}},
        {"exists": {"field": f"{DONOR}.note"}},
        {"exists": {"field": f"{DONOR}.tags"}},
        {"exists": {"field": f"{DONOR}.spec"}},
        {"bool": {"must": [{"match_all": {}}, {"term": {"uuid": "x"}}]}},
        {"bool": {"must_not": {"match_all": {}}}},
        {"bool": {"should": [{"term": {"uuid": "x"}}]}},
        {"bool": {"must": {"match_all": {}}, "should": {"term": {"uuid": "x"}}, "minimum_should_match": 1}},
        {"bool": {"should": [{"match_all": {}}] * 2, "minimum_should_match": 3}},
    ],
)
def test_query_does_not_match(query: dict[str, Any]) -> None:
    assert not _holds(query)


def _nested(levels: int) -> dict[str, Any]:
    query: dict[str, Any] = {"match_all": {}}
    for _ in range(levels):
        query = {"bool": {"must": query}}
    return query


@pytest.mark.parametrize(
    "es_query",
    [
        {},
        {"query": {"match_all": {}}, "size": 3},
        {"query": []},
        {"query": {}},
        {"query": {"term": {"a": 1}, "match": {"a": 1}}},
        {"query": {"mtch": {"a": "b"}}},
        {"query": {"wildcard": {"a": "b*"}}},
        {"query": {"match": ["a", "b"]}},
        {"query": {"match_all": {"boost": 2}}},
        {"query": {"term": {}}},
        {"query": {"term": {"a": 1, "b": 2}}},
        {"query": {"term": {"a": None}}},
        {"query": {"term": {"a": [1]}}},
        {"query": {"term": {"a": {"value": 1, "boost": 2}}}},
        {"query": {"terms": {"a": 1}}},
        {"query": {"terms": {"a": [[1]]}}},
        {"query": {"match": {"a": {"query": "b", "operator": "xor"}}}},
        {"query": {"match": {"a": {"operator": "or"}}}},
        {"query": {"exists": {"fields": "a"}}},
        {"query": {"exists": {"field": ["a"]}}},
        {"query": {"bool": {"must": "a"}}},
        {"query": {"bool": {"musst": []}}},
        {"query": {"bool": {"should": [], "minimum_should_match": "75%"}}},
        {"query": {"bool": {"should": [], "minimum_should_match": -1}}},
        {"query": {"bool": {"should": [], "minimum_should_match": True}}},
        {"query": _nested(21)},
    ],
)
def test_unsupported_query_raises_and_lists_supported(es_query: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedQueryError, match="match_all, term, terms, match, exists and bool"):
        parse(es_query)


def test_nested_query_of_allowed_depth_matches() -> None:
    assert _holds(_nested(20))


def test_key_with_dots_is_at_its_path() -> None:
    assert field_values({"a.b": {"c": 1}, "a": {"b.c": ["X", None]}}) == {"a.b.c": ["x", "1"]}
