"""The part of Elasticsearch's query language that the local DSS understands.

Under the key `query`, and nothing else beside it:

- `{"match_all": {}}`
- `{"term": {"FIELD": VALUE}}` or `{"term": {"FIELD": {"value": VALUE}}}`: a value of the field is VALUE
- `{"terms": {"FIELD": [VALUE, ...]}}`: a value of the field is one of these
- `{"match": {"FIELD": VALUE}}` or `{"match": {"FIELD": {"query": VALUE, "operator": "or" | "and"}}}`: the same as
  `term`; for `FIELD.text` a value of FIELD contains one word of VALUE, or all of them
- `{"exists": {"field": "FIELD"}}`: the field has a value, or something in it has
- `{"bool": {"must": ..., "filter": ..., "should": ..., "must_not": ..., "minimum_should_match": NUMBER}}`, each with
  one query or a list of them; unless a number is given, one `should` has to hold where there is neither `must` nor
  `filter`, otherwise none has to

FIELD is the path of a value in the document, with dots: `files.project_json.project_core.project_short_name`. Whatever
is in a list is at the path of the list. As in the index of a DSS, upper and lower case are the same, and a value is
searched for as a whole, unless by `FIELD.text`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SUPPORTED = (
    "the local DSS understands only {'query': ...} of match_all, term, terms, match, exists and bool "
    "(must, filter, should, must_not, minimum_should_match)"
)
_DEEPEST = 20  # how often `bool` may be nested

Values = dict[str, list[str]]  # what a document has at each path
if TYPE_CHECKING:
    Predicate = Callable[[Mapping[str, list[str]]], bool]


class UnsupportedQueryError(Exception):
    """A query outside the language; the message says what is inside."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; {_SUPPORTED}")


def values_of(document: Any) -> Values:
    """Return what a document has at each path, as it is compared.

    :param document: JSON
    """
    found: Values = {}
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{path}.{name}" if path else name, inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(path, inner) for inner in value]
        elif value is not None:
            found.setdefault(path, []).append(_comparable(value))
    return found


def _comparable(value: str | float | bool) -> str:
    """Return a value as it is compared: a number and the text of the number are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).lower()


def parse(es_query: dict[str, Any]) -> Predicate:
    """Return a function that tells whether a document, given as `values_of` it, is meant.

    :param es_query: the query, under the key `query`
    :raises UnsupportedQueryError: when it is not in the language
    """
    others = es_query.keys() - {"query"}
    if others:
        raise UnsupportedQueryError(f"{min(others)!r} is not supported beside the query")
    if "query" not in es_query:
        raise UnsupportedQueryError("there is no query")
    return _parse(es_query["query"], 0)


def _parse(query: Any, depth: int) -> Predicate:
    if not isinstance(query, dict) or len(query) != 1:
        raise UnsupportedQueryError("a query is an object with exactly one key")
    ((kind, body),) = query.items()
    if not isinstance(body, dict):
        raise UnsupportedQueryError(f"{kind!r} wants an object")
    if kind == "bool":
        return _bool(body, depth + 1)
    parser = _PARSERS.get(kind)
    if parser is None:
        raise UnsupportedQueryError(f"{kind!r} is not supported")
    return parser(body)


def _match_all(body: dict[str, Any]) -> Predicate:
    if body:
        raise UnsupportedQueryError("'match_all' wants an empty object")
    return lambda _: True


def _field(kind: str, body: dict[str, Any]) -> tuple[str, Any]:
    if len(body) != 1:
        raise UnsupportedQueryError(f"{kind!r} wants exactly one field")
    ((field, wanted),) = body.items()
    return field, wanted


def _scalar(kind: str, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise UnsupportedQueryError(f"{kind!r} wants a text, a number or a truth value")
    return _comparable(value)


def _parameters(kind: str, wanted: Any, value: str, optional: set[str]) -> dict[str, Any]:
    """Return the parameters of a field, which may be its value alone."""
    if not isinstance(wanted, dict):
        return {value: wanted}
    if value not in wanted or wanted.keys() - {value} - optional:
        raise UnsupportedQueryError(f"{kind!r} wants for its field {sorted({value} | optional)}, or the value alone")
    return wanted


def _term(body: dict[str, Any]) -> Predicate:
    field, wanted = _field("term", body)
    value = _scalar("term", _parameters("term", wanted, "value", set())["value"])
    return lambda document: value in document.get(field, ())


def _terms(body: dict[str, Any]) -> Predicate:
    field, wanted = _field("terms", body)
    if not isinstance(wanted, list):
        raise UnsupportedQueryError("'terms' wants a list")
    values = {_scalar("terms", value) for value in wanted}
    return lambda document: not values.isdisjoint(document.get(field, ()))


def _match(body: dict[str, Any]) -> Predicate:
    field, wanted = _field("match", body)
    parameters = _parameters("match", wanted, "query", {"operator"})
    value, operator = _scalar("match", parameters["query"]), parameters.get("operator", "or")
    if operator not in ("or", "and"):
        raise UnsupportedQueryError("the operator of 'match' is 'or' or 'and'")
    words, base = _words(value), field.removesuffix(".text")
    enough = words.issubset if operator == "and" else lambda found: not words.isdisjoint(found)

    def matches(document: Mapping[str, list[str]]) -> bool:
        if base == field or field in document:
            return value in document.get(field, ())
        return any(enough(_words(each)) for each in document.get(base, ()))

    return matches


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def _exists(body: dict[str, Any]) -> Predicate:
    kind, field = _field("exists", body)
    if kind != "field" or not isinstance(field, str):
        raise UnsupportedQueryError("'exists' wants {'field': ...}")
    return lambda document: field in document or any(path.startswith(f"{field}.") for path in document)


_CLAUSES = ("must", "filter", "should", "must_not")


def _bool(body: dict[str, Any], depth: int) -> Predicate:
    if depth > _DEEPEST:
        raise UnsupportedQueryError(f"'bool' is nested more than {_DEEPEST} times")
    others = body.keys() - {*_CLAUSES, "minimum_should_match"}
    if others:
        raise UnsupportedQueryError(f"{min(others)!r} is not supported in 'bool'")
    clauses = {name: _clause(body.get(name, []), depth) for name in _CLAUSES}
    required = clauses["must"] + clauses["filter"]
    default = 1 if clauses["should"] and not required else 0
    least = body.get("minimum_should_match", default)
    if not isinstance(least, int) or isinstance(least, bool) or least < 0:
        raise UnsupportedQueryError("'minimum_should_match' wants a number from 0")

    def matches(document: Mapping[str, list[str]]) -> bool:
        return (
            all(query(document) for query in required)
            and not any(query(document) for query in clauses["must_not"])
            and sum(query(document) for query in clauses["should"]) >= least
        )

    return matches


def _clause(clause: Any, depth: int) -> list[Predicate]:
    return [_parse(query, depth) for query in (clause if isinstance(clause, list) else [clause])]


_PARSERS = {"match_all": _match_all, "term": _term, "terms": _terms, "match": _match, "exists": _exists}
