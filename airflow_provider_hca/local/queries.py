"""The subset of Elasticsearch's query language that the local DSS supports.

The value of the key `query`, which must be the only key:

- `{"match_all": {}}`
- `{"term": {"FIELD": VALUE}}` or `{"term": {"FIELD": {"value": VALUE}}}`: a value of the field equals VALUE
- `{"terms": {"FIELD": [VALUE, ...]}}`: a value of the field equals one of the VALUEs
- `{"match": {"FIELD": VALUE}}` or `{"match": {"FIELD": {"query": VALUE, "operator": "or" | "and"}}}`: the same as
  `term`; for `FIELD.text` a value of FIELD contains one word of VALUE, or all of them
- `{"exists": {"field": "FIELD"}}`: the field or a field below it has a value
- `{"bool": {"must": ..., "filter": ..., "should": ..., "must_not": ..., "minimum_should_match": NUMBER}}`, each with
  a query or a list of queries; NUMBER defaults to 1 if there is a `should` but neither `must` nor `filter`, else to 0

FIELD is the dotted path of a value in the document: `files.project_json.project_core.project_short_name`. The items of
a list have the path of the list. As in the index of a DSS, case is ignored, and whole values are compared, except by
`FIELD.text`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SUPPORTED = (
    "the local DSS supports only {'query': ...} with match_all, term, terms, match, exists and bool "
    "(must, filter, should, must_not, minimum_should_match)"
)
_MAX_DEPTH = 20  # of nested `bool`

Values = dict[str, list[str]]  # values by path, normalized
if TYPE_CHECKING:
    Predicate = Callable[[Mapping[str, list[str]]], bool]


class UnsupportedQueryError(Exception):
    """The query is not supported; the message lists what is."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; {_SUPPORTED}")


def field_values(document: Any) -> Values:
    """Return the normalized values of a JSON document by path."""
    values: Values = {}
    pending: list[tuple[str, Any]] = [("", document)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{path}.{name}" if path else name, child) for name, child in value.items()]
        elif isinstance(value, list):
            pending += [(path, child) for child in value]
        elif value is not None:
            values.setdefault(path, []).append(_normalize(value))
    return values


def _normalize(value: str | float | bool) -> str:
    """Return a value in lower case; a number equals its text."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).lower()


def parse(es_query: dict[str, Any]) -> Predicate:
    """Return a predicate on the `field_values` of a document.

    :param es_query: query under the key `query`
    :raises UnsupportedQueryError: when the query is not supported
    """
    others = es_query.keys() - {"query"}
    if others:
        raise UnsupportedQueryError(f"{min(others)!r} is not supported beside 'query'")
    if "query" not in es_query:
        raise UnsupportedQueryError("'query' is missing")
    return _parse(es_query["query"], 0)


def _parse(query: Any, depth: int) -> Predicate:
    if not isinstance(query, dict) or len(query) != 1:
        raise UnsupportedQueryError("a query must be an object with exactly one key")
    ((kind, body),) = query.items()
    if not isinstance(body, dict):
        raise UnsupportedQueryError(f"{kind!r} must be an object")
    if kind == "bool":
        return _bool(body, depth + 1)
    parser = _PARSERS.get(kind)
    if parser is None:
        raise UnsupportedQueryError(f"{kind!r} is not supported")
    return parser(body)


def _match_all(body: dict[str, Any]) -> Predicate:
    if body:
        raise UnsupportedQueryError("'match_all' must be an empty object")
    return lambda _: True


def _field(kind: str, body: dict[str, Any]) -> tuple[str, Any]:
    if len(body) != 1:
        raise UnsupportedQueryError(f"{kind!r} must have exactly one field")
    ((field, condition),) = body.items()
    return field, condition


def _scalar(kind: str, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise UnsupportedQueryError(f"the value of {kind!r} must be a string, a number or a boolean")
    return _normalize(value)


def _parameters(kind: str, condition: Any, value: str, optional: set[str]) -> dict[str, Any]:
    """Return the parameters of a field, for which the value alone is short."""
    if not isinstance(condition, dict):
        return {value: condition}
    if value not in condition or condition.keys() - {value} - optional:
        raise UnsupportedQueryError(f"the field of {kind!r} must have {sorted({value} | optional)}, or the value alone")
    return condition


def _term(body: dict[str, Any]) -> Predicate:
    field, condition = _field("term", body)
    value = _scalar("term", _parameters("term", condition, "value", set())["value"])
    return lambda document: value in document.get(field, ())


def _terms(body: dict[str, Any]) -> Predicate:
    field, condition = _field("terms", body)
    if not isinstance(condition, list):
        raise UnsupportedQueryError("the value of 'terms' must be a list")
    values = {_scalar("terms", value) for value in condition}
    return lambda document: not values.isdisjoint(document.get(field, ()))


def _match(body: dict[str, Any]) -> Predicate:
    field, condition = _field("match", body)
    parameters = _parameters("match", condition, "query", {"operator"})
    query, operator = _scalar("match", parameters["query"]), parameters.get("operator", "or")
    if operator not in ("or", "and"):
        raise UnsupportedQueryError("the operator of 'match' must be 'or' or 'and'")
    words, base = _words(query), field.removesuffix(".text")
    matches_text = words.issubset if operator == "and" else lambda text: not words.isdisjoint(text)

    def matches(document: Mapping[str, list[str]]) -> bool:
        if base == field or field in document:
            return query in document.get(field, ())
        return any(matches_text(_words(value)) for value in document.get(base, ()))

    return matches


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def _exists(body: dict[str, Any]) -> Predicate:
    kind, field = _field("exists", body)
    if kind != "field" or not isinstance(field, str):
        raise UnsupportedQueryError("'exists' must be {'field': ...}")
    return lambda document: field in document or any(path.startswith(f"{field}.") for path in document)


_CLAUSES = ("must", "filter", "should", "must_not")


def _bool(body: dict[str, Any], depth: int) -> Predicate:
    if depth > _MAX_DEPTH:
        raise UnsupportedQueryError(f"'bool' is nested more than {_MAX_DEPTH} times")
    others = body.keys() - {*_CLAUSES, "minimum_should_match"}
    if others:
        raise UnsupportedQueryError(f"{min(others)!r} is not supported in 'bool'")
    clauses = {name: _clause(body.get(name, []), depth) for name in _CLAUSES}
    required = clauses["must"] + clauses["filter"]
    default = 1 if clauses["should"] and not required else 0
    minimum = body.get("minimum_should_match", default)
    if not isinstance(minimum, int) or isinstance(minimum, bool) or minimum < 0:
        raise UnsupportedQueryError("'minimum_should_match' must be an integer of at least 0")

    def matches(document: Mapping[str, list[str]]) -> bool:
        return (
            all(query(document) for query in required)
            and not any(query(document) for query in clauses["must_not"])
            and sum(query(document) for query in clauses["should"]) >= minimum
        )

    return matches


def _clause(clause: Any, depth: int) -> list[Predicate]:
    return [_parse(query, depth) for query in (clause if isinstance(clause, list) else [clause])]


_PARSERS = {"match_all": _match_all, "term": _term, "terms": _terms, "match": _match, "exists": _exists}
