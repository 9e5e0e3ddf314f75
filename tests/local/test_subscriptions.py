"""Routes of subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from .server import VERSION, LocalDSS, User, code_of, new_uuid
from .subscribed import delete_subscriptions

GROUP = "https://auth.data.humancellatlas.org/group"
CALLBACK: dict[str, Any] = {"callback_url": "http://127.0.0.1:9/hook"}
BY_QUERY: dict[str, Any] = CALLBACK | {"es_query": {"query": {"match_all": {}}}}


@pytest.fixture
def new_user(dss: LocalDSS) -> Iterator[Callable[..., User]]:
    """Return a factory of users, whose subscriptions are deleted after the test."""
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
    response = user.call("PUT", "/subscriptions", body, replica=replica)
    assert response.status_code == 201, response.text
    assert response.json().keys() == {"uuid"}
    return str(response.json()["uuid"])


def _call(user: User, method: str, uuid: str = "", kind: str | None = None, replica: str = "aws") -> requests.Response:
    query = {"replica": replica} | ({"subscription_type": kind} if kind else {})
    return user.call(method, f"/subscriptions/{uuid}" if uuid else "/subscriptions", **query)


@pytest.mark.parametrize(
    "body", [CALLBACK, CALLBACK | {"jmespath_query": "event_type=='CREATE'", "method": "PUT"}, BY_QUERY]
)
def test_get_subscription_returns_stored_fields(user: User, body: dict[str, Any]) -> None:
    kind = "elasticsearch" if "es_query" in body else None
    uuid = _put(user, body)
    expected = body | {"uuid": uuid, "replica": "aws", "owner": user.email}
    assert _call(user, "GET", uuid, kind).json() == expected
    assert _call(user, "GET", kind=kind).json() == {"subscriptions": [expected]}


def test_get_subscription_returns_all_fields(user: User) -> None:
    """With both queries the type is elasticsearch."""
    body = BY_QUERY | {
        "jmespath_query": "manifest",
        "encoding": "multipart/form-data",
        "form_fields": {"a": "b"},
        "payload_form_field": "p",
        "attachments": {"taxon": {"type": "jmespath", "expression": "files.donor_json[].taxon"}},
    }
    found = _call(user, "GET", _put(user, body), "elasticsearch").json()
    assert {name: found[name] for name in body} == body


def test_list_subscriptions_returns_own_of_type_and_replica(new_user: Callable[..., User], user: User) -> None:
    both = sorted(_put(user, CALLBACK) for _ in range(2))
    _put(user, CALLBACK, "gcp")
    by_query = _put(user, BY_QUERY)
    _put(new_user(), CALLBACK)
    assert [found["uuid"] for found in _call(user, "GET").json()["subscriptions"]] == both
    assert [found["uuid"] for found in _call(user, "GET", kind="elasticsearch").json()["subscriptions"]] == [by_query]
    assert len(_call(user, "GET", replica="gcp").json()["subscriptions"]) == 1


@pytest.mark.parametrize(("body", "kind"), [(CALLBACK, "jmespath"), (BY_QUERY, "elasticsearch")])
def test_deleted_subscription_returns_404(user: User, body: dict[str, Any], kind: str) -> None:
    uuid = _put(user, body)
    response = _call(user, "DELETE", uuid, kind)
    assert response.status_code == 200
    assert response.json()["timeDeleted"] > VERSION
    for method in ("GET", "DELETE"):
        assert code_of(_call(user, method, uuid, kind)) == (404, "not_found")
    assert _call(user, "GET", kind=kind).json() == {"subscriptions": []}


def test_subscription_of_another_owner_is_rejected(new_user: Callable[..., User], user: User) -> None:
    """It is 404 by JMESPath and 403 by Elasticsearch query, as in a DSS."""
    other = new_user()
    for body, kind, expected in (
        (CALLBACK, "jmespath", (404, "not_found")),
        (BY_QUERY, "elasticsearch", (403, "Forbidden")),
    ):
        uuid = _put(user, body)
        for method in ("GET", "DELETE"):
            assert code_of(_call(other, method, uuid, kind)) == expected
        assert _call(user, "GET", uuid, kind).status_code == 200


def test_unknown_subscription_returns_404(user: User) -> None:
    uuid = _put(user, CALLBACK)
    responses = [
        _call(user, "GET", new_uuid()),
        _call(user, "GET", uuid, "elasticsearch"),
        _call(user, "GET", uuid, replica="gcp"),
        _call(user, "DELETE", uuid, "elasticsearch"),
    ]
    assert [code_of(response) for response in responses] == [(404, "not_found")] * 4


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
def test_put_subscription_with_invalid_field_returns_400(user: User, change: dict[str, Any], code: str) -> None:
    assert code_of(user.call("PUT", "/subscriptions", CALLBACK | change, replica="aws")) == (400, code)
    assert code_of(user.call("PUT", "/subscriptions", {}, replica="aws")) == (400, "illegal_arguments")


def test_more_than_100_subscriptions_return_406(new_user: Callable[..., User], user: User) -> None:
    for _ in range(100):
        _put(user, CALLBACK)
    assert code_of(user.call("PUT", "/subscriptions", CALLBACK, replica="aws")) == (406, "not_acceptable")
    _put(user, CALLBACK, "gcp")
    _put(new_user(), CALLBACK)


def test_subscription_requires_group_and_email(dss: LocalDSS, new_user: Callable[..., User]) -> None:
    _put(new_user(**{GROUP: "public"}), CALLBACK)
    assert code_of(_call(User(dss, **{GROUP: "other"}), "GET")) == (403, "Forbidden")
    nameless = dss.token(claims={"email": None, "https://auth.data.humancellatlas.org/email": None})
    headers = {"Authorization": f"Bearer {nameless}"}
    response = requests.get(f"{dss.url}/subscriptions", {"replica": "aws"}, headers=headers, timeout=10)
    assert code_of(response) == (401, "Unauthorized")
