"""Address, arguments and checks of the API, without network."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.sansio import Call, Response
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSNotFoundError,
    DSSProtocolError,
)

from .calls import member, page, put_bundle, put_file, wait_for_file
from .feeding import URL, UUID, VERSION, Clock, feed, ok, problem


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=2))


# The address


@pytest.mark.parametrize("url", [URL, URL + "/", "https://dss.example.org/v1//"])
def test_address_with_trailing_slash_is_equivalent(url: str) -> None:
    assert DSSAPI(url).url == URL


@pytest.mark.parametrize(
    "url",
    [
        *("", "dss.example.org/v1", "//dss.example.org/v1", "ftp://dss.example.org", "https:///v1"),
        *(f"{URL}?a=b", f"{URL}#a", "https://host:port/v1", "https://host:99999/v1", "https://[x/v1"),
    ],
)
def test_invalid_address_is_value_error(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - half of the texts are Python's
        DSSAPI(url)


def test_query_of_an_address_is_not_quoted() -> None:
    with pytest.raises(ValueError, match=r"got 'https://dss.example.org/v1\?...'$"):
        DSSAPI(f"{URL}?api_key=s3cr3t")


@pytest.mark.parametrize("scheme", ["https://", "https:/", ""])
@pytest.mark.parametrize("user", ["user", "user:s3cr3t", ":s3cr3t"])
def test_address_with_user_is_refused_and_not_quoted(user: str, scheme: str) -> None:
    with pytest.raises(ValueError, match="one with a user in it") as caught:
        DSSAPI(f"{scheme}{user}@dss.example.org/v1")
    assert "s3cr3t" not in str(caught.value)


def test_repr_shows_address_and_no_token(dss: DSSAPI) -> None:
    assert URL in repr(dss)
    assert "tok-3" not in repr(dss)


# Everything that is refused before a request


@pytest.mark.parametrize(
    "make",
    [
        lambda dss: put_file(dss, uuid="x"),
        lambda dss: put_file(dss, version="2018"),
        lambda dss: put_file(dss, source="/a/b"),
        lambda dss: dss.head_file("x", replica="aws"),
        lambda dss: dss.head_file(UUID, replica="azure"),
        lambda dss: dss.head_file(UUID, replica="aws", version="1"),
        lambda dss: dss.head_file(UUID, replica="aws", version=""),
        lambda dss: wait_for_file(dss, uuid="x"),
        lambda dss: wait_for_file(dss, version="1"),
        lambda dss: put_bundle(dss, uuid="x"),
        lambda dss: put_bundle(dss, replica="AWS"),
        lambda dss: dss.put_bundle(UUID, "1", replica="aws", creator_uid=1, files=[member()]),
        lambda dss: put_bundle(dss, member(uuid="x")),
        lambda dss: put_bundle(dss, member(version="1")),
        lambda dss: put_bundle(dss, member(), member("../b")),
        lambda dss: put_bundle(dss, member(indexed="no")),
        lambda dss: put_bundle(dss, {"name": "a"}),
        lambda dss: dss.get_bundle("x", replica="aws"),
        lambda dss: dss.get_bundle(UUID, replica=""),
        lambda dss: dss.get_bundle(UUID, replica="aws", version="1"),
        lambda dss: dss.find_bundle("x", replica="aws"),
        lambda dss: dss.find_bundle(UUID, replica="aws", version="1"),
        lambda dss: dss.find_bundle(UUID, replica="x"),
        lambda dss: dss.get_bundles_all(replica="x"),
    ],
)
def test_invalid_argument_is_value_error_before_any_request(dss: DSSAPI, make: Callable[[DSSAPI], Call[Any]]) -> None:
    fed = feed(make(dss))
    assert fed.failed(ValueError)
    assert fed.requests == []


# Checks


@pytest.mark.parametrize(
    "call",
    [
        lambda dss: dss.get_bundles_all(replica="aws"),
        lambda dss: dss.get_bundle(UUID, replica="aws"),
        lambda dss: dss.find_bundle(UUID, replica="aws"),
        lambda dss: dss.get_bundles_checkout(UUID, replica="aws"),
    ],
)
def test_response_to_an_event_loop_with_many_values_is_protocol_error(
    dss: DSSAPI, call: Callable[[DSSAPI], Call[Any]]
) -> None:
    assert "more than 25,000 values" in str(feed(call(dss), ok({"x": [[]] * 50_000})).failed(DSSProtocolError))


@pytest.mark.parametrize("answer", [problem(404, "not_found"), problem(400, "illegal_arguments"), page("a")])
def test_check_reachable_accepts_missing_bundle_and_missing_replica(dss: DSSAPI, answer: Response) -> None:
    fed = feed(dss.check_reachable(), answer)
    assert fed.error is None
    assert fed.tokens == [None]


@pytest.mark.parametrize(
    "answer", [ok({"hello": "world"}), Response(200, {}, b"<html>"), Response(404, {}, b"<html>"), ok({}, 404)]
)
def test_check_reachable_refuses_other_web_servers(dss: DSSAPI, answer: Response) -> None:
    feed(dss.check_reachable(), answer).failed(DSSProtocolError)


def test_check_token_accepted_by_collections_is_valid(dss: DSSAPI) -> None:
    fed = feed(dss.check_token(), ok({"collections": []}))
    assert fed.error is None
    assert (fed.sent, fed.tokens) == (["GET /collections?per_page=10"], ["tok-3"])


@pytest.mark.parametrize(
    "answer",
    [
        ok({"message": "Missing Authentication Token"}, 403),
        Response(404, {}, b"<p>no</p>"),
        problem(401, "Unauthorized", "no e-mail claim"),
        problem(403, "Forbidden"),
    ],
)
def test_check_token_without_collections_is_decided_by_a_registration(dss: DSSAPI, answer: Response) -> None:
    fed = feed(dss.check_token(), answer, problem(400, "illegal_version"))
    assert fed.error is None
    assert fed.tokens == ["tok-3"] * 2
    assert fed.sent[1].startswith("PUT /files/")
    assert "version=none" in fed.sent[1]
    for status in (401, 403):
        refused = feed(dss.check_token(), answer, problem(status, "Forbidden"))
        assert str(refused.failed(DSSAuthError)).startswith(f"PUT /v1/files: {status} Forbidden")


@pytest.mark.parametrize(("expires", "expired"), [(1_600_000_000, True), (4_000_000_000, False), ("x", False)])
def test_401_for_an_expired_token_names_its_end(clock: Clock, expires: Any, *, expired: bool) -> None:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    dss = DSSAPI(URL, auth=StaticToken(f"h.{payload}.s"))
    error = feed(put_file(dss), problem(401, "Unauthorized")).failed(DSSAuthError)
    assert ("(the token expired at 2020-09-13 12:26:40 UTC)" in str(error)) is expired
    assert payload not in str(error)


def test_404_names_version_and_replica(dss: DSSAPI) -> None:
    fed = feed(dss.get_bundle(UUID, replica="gcp", version=VERSION), problem(404, "not_found", "No such bundle"))
    assert f"404 not_found: No such bundle (version {VERSION}, replica gcp)" in str(fed.failed(DSSNotFoundError))


def test_authenticate_creates_token_without_request_to_the_dss(dss: DSSAPI) -> None:
    assert feed(dss.authenticate()).requests == []
    assert feed(DSSAPI(URL).authenticate()).requests == []


def test_404_with_type_title_detail_is_not_found(dss: DSSAPI) -> None:
    answer = ok({"type": "about:blank", "title": "Not Found", "detail": "no such bundle", "status": 404}, 404)
    assert feed(dss.find_bundle(UUID, replica="aws"), answer).result is None


def test_all_requests_have_the_timeouts_of_the_client(clock: Clock) -> None:
    dss = DSSAPI(URL, connect_timeout=1.5, read_timeout=2.5)
    fed = feed(dss.get_bundle(UUID, replica="aws"), page("a", status=206, following=f"{URL}/next"), page("b"))
    assert [(request.connect_timeout, request.read_timeout) for request in fed.requests] == [(1.5, 2.5)] * 2
