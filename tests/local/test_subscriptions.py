"""PUT, GET and DELETE of subscriptions, and their list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from .server import VERSION, LocalDSS, User, code_of, new_uuid
from .subscribed import delete_subscriptions

GROUP = "https://auth.data.humancellatlas.org/group"
WISH: dict[str, Any] = {"callback_url": "http://127.0.0.1:9/hook"}
BY_QUERY: dict[str, Any] = WISH | {"es_query": {"query": {"match_all": {}}}}


@pytest.fixture
def new_user(dss: LocalDSS) -> Iterator[Callable[..., User]]:
    """Return what makes users, whose subscriptions are deleted in the end."""
    users: list[User] = []

    def make(**claims: Any) -> User:
        users.append(User(dss, **claims))
        return users[-1]

    yield make
    for user in users:
        delete_subscriptions(dss.url, user._headers)  # noqa: SLF001 - the token


@pytest.fixture
def user(new_user: Callable[..., User]) -> User:
    return new_user()


def _put(user: User, body: Any, replica: str = "aws") -> str:
    answer = user.call("PUT", "/subscriptions", body, replica=replica)
    assert answer.status_code == 201, answer.text
    assert answer.json().keys() == {"uuid"}
    return str(answer.json()["uuid"])


def _call(user: User, method: str, uuid: str = "", kind: str | None = None, replica: str = "aws") -> requests.Response:
    query = {"replica": replica} | ({"subscription_type": kind} if kind else {})
    return user.call(method, f"/subscriptions/{uuid}" if uuid else "/subscriptions", **query)


@pytest.mark.parametrize("body", [WISH, WISH | {"jmespath_query": "event_type=='CREATE'", "method": "PUT"}, BY_QUERY])
def test_put_then_get(user: User, body: dict[str, Any]) -> None:
    """GET gives what was put, with uuid, replica and owner; the type is that of the query, by default jmespath."""
    kind = "elasticsearch" if "es_query" in body else None
    uuid = _put(user, body)
    expected = body | {"uuid": uuid, "replica": "aws", "owner": user.email}
    assert _call(user, "GET", uuid, kind).json() == expected
    assert _call(user, "GET", kind=kind).json() == {"subscriptions": [expected]}


def test_everything_that_can_be_put(user: User) -> None:
    """All fields of a subscription are kept as they were put; with both queries it is of type elasticsearch."""
    body = BY_QUERY | {
        "jmespath_query": "manifest",
        "encoding": "multipart/form-data",
        "form_fields": {"a": "b"},
        "payload_form_field": "p",
        "attachments": {"taxon": {"type": "jmespath", "expression": "files.donor_json[].taxon"}},
    }
    found = _call(user, "GET", _put(user, body), "elasticsearch").json()
    assert {name: found[name] for name in body} == body


def test_list(new_user: Callable[..., User], user: User) -> None:
    """The list has the caller's own subscriptions of one type in one replica."""
    both = sorted(_put(user, WISH) for _ in range(2))
    _put(user, WISH, "gcp")
    by_query = _put(user, BY_QUERY)
    _put(new_user(), WISH)
    assert [found["uuid"] for found in _call(user, "GET").json()["subscriptions"]] == both
    assert [found["uuid"] for found in _call(user, "GET", kind="elasticsearch").json()["subscriptions"]] == [by_query]
    assert len(_call(user, "GET", replica="gcp").json()["subscriptions"]) == 1


@pytest.mark.parametrize(("body", "kind"), [(WISH, "jmespath"), (BY_QUERY, "elasticsearch")])
def test_delete(user: User, body: dict[str, Any], kind: str) -> None:
    """DELETE answers with the time, and then the subscription is 404, to be deleted too."""
    uuid = _put(user, body)
    answer = _call(user, "DELETE", uuid, kind)
    assert answer.status_code == 200
    assert answer.json()["timeDeleted"] > VERSION
    for method in ("GET", "DELETE"):
        assert code_of(_call(user, method, uuid, kind)) == (404, "not_found")
    assert _call(user, "GET", kind=kind).json() == {"subscriptions": []}


def test_whose_it_is(new_user: Callable[..., User], user: User) -> None:
    """Somebody else's subscription is 404 when it is by JMESPath, and 403 when it is by Elasticsearch query."""
    other = new_user()
    for body, kind, expected in (
        (WISH, "jmespath", (404, "not_found")),
        (BY_QUERY, "elasticsearch", (403, "Forbidden")),
    ):
        uuid = _put(user, body)
        for method in ("GET", "DELETE"):
            assert code_of(_call(other, method, uuid, kind)) == expected
        assert _call(user, "GET", uuid, kind).status_code == 200


def test_unknown(user: User) -> None:
    """An unknown subscription is 404, and so is one asked for as of the other type or replica."""
    uuid = _put(user, WISH)
    answers = [
        _call(user, "GET", new_uuid()),
        _call(user, "GET", uuid, "elasticsearch"),
        _call(user, "GET", uuid, replica="gcp"),
        _call(user, "DELETE", uuid, "elasticsearch"),
    ]
    assert [code_of(answer) for answer in answers] == [(404, "not_found")] * 4


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"callback_url": "ftp://example.org"}, "illegal_arguments"),
        ({"callback_url": 1}, "illegal_arguments"),
        ({"method": "GET"}, "illegal_arguments"),
        ({"encoding": "text/plain"}, "illegal_arguments"),
        ({"form_fields": {"a": 1}}, "illegal_arguments"),
        ({"hmac_secret_key": "x"}, "illegal_arguments"),
        ({"attachments": {"a": {"type": "other", "expression": "b"}}}, "illegal_arguments"),
        ({"attachments": {"a": {"type": "jmespath", "expression": ""}}}, "invalid_attachment_expression"),
        ({"attachments": {"_a": {"type": "jmespath", "expression": "b"}}}, "invalid_attachment_name"),
        ({"jmespath_query": "a["}, "invalid_jmespath"),
        ({"jmespath_query": "(" * 5000}, "invalid_jmespath"),
        ({"es_query": {"query": {"fuzzy": {}}}}, "elasticsearch_error"),
        ({"es_query": {}}, "elasticsearch_error"),
    ],
)
def test_refusals(user: User, change: dict[str, Any], code: str) -> None:
    """What cannot be understood is 400, with a code of its own for each kind of mistake."""
    assert code_of(user.call("PUT", "/subscriptions", WISH | change, replica="aws")) == (400, code)
    assert code_of(user.call("PUT", "/subscriptions", {}, replica="aws")) == (400, "illegal_arguments")


def test_how_many(new_user: Callable[..., User], user: User) -> None:
    """A user may have a hundred subscriptions in a replica; one more is 406."""
    for _ in range(100):
        _put(user, WISH)
    assert code_of(user.call("PUT", "/subscriptions", WISH, replica="aws")) == (406, "not_acceptable")
    _put(user, WISH, "gcp")
    _put(new_user(), WISH)


def test_who_may_subscribe(dss: LocalDSS, new_user: Callable[..., User]) -> None:
    """Subscriptions ask for the group hca or public and for an e-mail claim."""
    _put(new_user(**{GROUP: "public"}), WISH)
    assert code_of(_call(User(dss, **{GROUP: "other"}), "GET")) == (403, "Forbidden")
    nameless = dss.token(claims={"email": None, "https://auth.data.humancellatlas.org/email": None})
    headers = {"Authorization": f"Bearer {nameless}"}
    answer = requests.get(f"{dss.url}/subscriptions", {"replica": "aws"}, headers=headers, timeout=10)
    assert code_of(answer) == (401, "Unauthorized")
