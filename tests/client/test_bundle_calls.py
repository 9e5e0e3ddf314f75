"""Bundle calls, without network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.sansio import Response
from airflow_provider_hca.exceptions import (
    ConnectionFailure,
    DSSAuthError,
    DSSConnectionError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

from .calls import NAMED, member, page, put_bundle
from .feeding import OTHER, URL, UUID, VERSION, Clock, broken, feed, ok, problem


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=2))


# PUT bundle


@pytest.mark.parametrize(("status", "outcome"), [(200, "identical"), (201, "created")])
def test_put_bundle_sends_files_in_order_with_four_keys(dss: DSSAPI, status: int, outcome: str) -> None:
    files = [member("b", uuid=OTHER.upper(), size=7), member("a", indexed=True)]
    fed = feed(put_bundle(dss, *files, uuid=UUID.upper()), ok({"version": VERSION, "manifest": {}}, status))
    assert (fed.value.uuid, fed.value.version, fed.value.outcome) == (UUID, VERSION, outcome)
    assert fed.sent == [f"PUT /bundles/{UUID}?{NAMED}&replica=aws"]
    assert fed.tokens == ["tok-3"]
    expected = {"creator_uid": 8008, "files": [member("b"), member("a", indexed=True)]}
    assert json.loads(fed.requests[0].body or b"") == expected


@pytest.mark.parametrize(
    ("status", "code", "permanent"),
    [
        (400, "file_missing", False),
        (400, "duplicate_filename", True),
        (400, "illegal_version", True),
        (409, "bundle_already_exists", True),
        (403, "Forbidden", True),
    ],
)
def test_put_bundle_refused_is_not_checked(dss: DSSAPI, status: int, code: str, permanent: bool) -> None:
    fed = feed(put_bundle(dss), problem(status, code))
    assert isinstance(fed.error, DSSResponseError)
    assert (fed.error.status, fed.error.code, fed.error.permanent) == (status, code, permanent)


TROUBLES: list[Response | DSSConnectionError] = [
    problem(504, "timed_out", "Timed out", x_aws_request_id="r-5"),
    problem(502),
    problem(500),
    broken("read timeout"),
    broken("dropped"),
]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_put_bundle_stored_despite_errors_is_success(
    dss: DSSAPI, clock: Clock, trouble: Response | DSSConnectionError
) -> None:
    fed = feed(put_bundle(dss, member("a"), member("b")), trouble, trouble, page("a", "b"), clock=clock)
    assert fed.value.outcome == "created"
    assert [sent.split("?")[0] for sent in fed.sent] == [f"PUT /bundles/{UUID}"] * 2 + [f"GET /bundles/{UUID}"]
    assert NAMED in fed.sent[-1]


def test_put_bundle_stored_before_an_unexpected_status_is_success(dss: DSSAPI, clock: Clock) -> None:
    fed = feed(put_bundle(dss, member("a")), broken("dropped"), Response(204), page("a"), clock=clock)
    assert fed.value.outcome == "created"


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize(
    "look",
    [
        problem(404),
        page("a"),
        page("b", "a"),
        page("a", "b", "c"),
        page("a", "b", creator_uid=1),
        page("a", "b", files=[member("a"), member("b", indexed=True)]),
        page("a", "b", files=[member("a"), member("b", uuid=UUID)]),
        page("a", "b", files=[member("a"), member("")]),
        page("a", "b", files=[member("a"), {}]),
        page("a", "b", files=[1, 2]),
        ok({"bundle": {"version": VERSION, "files": [member("a"), member("b")]}}),
        ok({"bundle": None}),
        Response(200, {}, b"<html>"),
        problem(403),
    ],
)
def test_put_bundle_not_stored_raises_error_of_the_put(
    dss: DSSAPI, clock: Clock, trouble: Response | DSSConnectionError, look: Response
) -> None:
    """The stored bundle does not exist, differs, or cannot be read."""
    fed = feed(put_bundle(dss, member("a"), member("b")), trouble, trouble, look, clock=clock)
    if isinstance(trouble, Response):
        error = fed.failed(DSSResponseError)
        assert (error.method, error.status) == ("PUT", trouble.status)
    else:
        assert fed.failed(DSSConnectionError).kind == trouble.kind


@pytest.mark.parametrize("kind", ["refused", "dns"])
def test_put_bundle_with_failing_check_raises_error_of_the_put(
    dss: DSSAPI, clock: Clock, kind: ConnectionFailure
) -> None:
    fed = feed(put_bundle(dss), *[broken("read timeout")] * 2, *[broken(kind)] * 2, clock=clock)
    assert fed.failed(DSSConnectionError).kind == "read timeout"


def test_put_bundle_check_compares_all_pages(dss: DSSAPI, clock: Clock) -> None:
    files = [member(f"{number}") for number in range(3)]
    pages = [page("0", "1", status=206, following=f"{URL}/next"), page("2")]
    assert feed(put_bundle(dss, *files), problem(504), problem(504), *pages, clock=clock).value.outcome == "created"


@pytest.mark.parametrize("last", [problem(503, "read_only", retry_after="3600"), problem(403, "forbidden")])
def test_put_bundle_refused_after_unclear_attempt_is_checked(dss: DSSAPI, clock: Clock, last: Response) -> None:
    fed = feed(put_bundle(dss, member("a")), problem(504), last, page("a"), clock=clock)
    assert fed.value.outcome == "created"


# GET bundle


def test_get_bundle_requests_largest_pages_without_token(dss: DSSAPI) -> None:
    fed = feed(dss.get_bundle(UUID.upper(), replica="aws", version=VERSION), page("a", "b"))
    assert [file["name"] for file in fed.value["files"]] == ["a", "b"]
    assert (fed.value["version"], fed.value["creator_uid"]) == (VERSION, 8008)
    assert fed.sent == [f"GET /bundles/{UUID}?replica=aws&{NAMED}&per_page=500"]
    assert fed.tokens == [None]


def test_get_bundle_joins_pages_and_follows_links_unchanged(dss: DSSAPI, clock: Clock) -> None:
    links = [f"{URL}/bundles/{UUID}?token=None&start_at={start}" for start in (500, 1000)]
    pages = [
        page("a", "b", status=206, following=links[0]),
        problem(503),
        page("c", status=206, following=links[1]),
        page("d"),
    ]
    fed = feed(dss.get_bundle(UUID, replica="aws"), *pages, clock=clock)
    assert [file["name"] for file in fed.value["files"]] == ["a", "b", "c", "d"]
    assert [request.url for request in fed.requests][1:] == [links[0], links[0], links[1]]


def test_get_bundle_with_new_version_between_pages_reads_the_older_one(dss: DSSAPI) -> None:
    newer = page("x", version="2026-01-01T000000.000000Z")
    answers = [page("a", status=206, following=f"{URL}/next"), newer, page("a", "b")]
    fed = feed(dss.get_bundle(UUID, replica="aws"), *answers)
    assert [file["name"] for file in fed.value["files"]] == ["a", "b"]
    assert fed.sent[2] == f"GET /bundles/{UUID}?replica=aws&{NAMED}&per_page=500"


def test_get_bundle_never_mixes_versions(dss: DSSAPI) -> None:
    other = page("x", version="2026-01-01T000000.000000Z")
    mixed = [page("a", status=206, following=f"{URL}/next"), other]
    fed = feed(dss.get_bundle(UUID, replica="aws", version=VERSION), *mixed, *mixed, page("a", "b"))
    assert [file["name"] for file in fed.value["files"]] == ["a", "b"]


def test_get_bundle_with_only_another_version_is_temporary_error(dss: DSSAPI) -> None:
    other = page("x", version="2026-01-01T000000.000000Z")
    error = feed(dss.get_bundle(UUID, replica="aws", version=VERSION), *[other] * 5).failed(DSSProtocolError)
    assert not error.permanent
    assert f"requested version {VERSION} 5 times, got another version" in str(error)


def test_page_on_another_host_is_not_fetched(dss: DSSAPI) -> None:
    fed = feed(dss.get_bundle(UUID, replica="aws"), page("a", status=206, following="https://other.example/v1/bundles"))
    assert str(fed.failed(DSSProtocolError)).endswith("change the host of the connection to that address")


@pytest.mark.parametrize("length", [1, 2])
def test_pagination_loop_is_error(dss: DSSAPI, length: int) -> None:
    links = [f"{URL}/page/{number % length}" for number in range(length + 1)]
    pages = [page("a", status=206, following=link) for link in links]
    feed(dss.get_bundle(UUID, replica="aws"), *pages).failed(DSSProtocolError)


@pytest.mark.parametrize(
    "answer",
    [
        ok({}),
        ok({"bundle": []}),
        ok({"bundle": {"files": []}}),
        ok({"bundle": {"version": VERSION, "files": {}}}),
        ok({"bundle": {"version": VERSION, "files": [1]}}),
        Response(200, {"content-type": "text/html"}, b"<html>"),
    ],
)
def test_get_bundle_without_manifest_is_protocol_error(dss: DSSAPI, answer: Response) -> None:
    feed(dss.get_bundle(UUID, replica="aws"), answer).failed(DSSProtocolError)
    first = page("a", status=206, following=f"{URL}/next")
    feed(dss.get_bundle(UUID, replica="aws"), first, answer).failed(DSSProtocolError)


def test_get_bundle_with_404_is_not_found(dss: DSSAPI) -> None:
    feed(dss.get_bundle(UUID, replica="aws"), problem(404, "not_found")).failed(DSSNotFoundError)


def test_find_bundle_returns_version_of_first_page_or_none(dss: DSSAPI) -> None:
    fed = feed(dss.find_bundle(UUID.upper(), replica="gcp"), page("a", status=206, following=f"{URL}/next"))
    assert fed.value == VERSION
    assert fed.sent == [f"GET /bundles/{UUID}?replica=gcp&per_page=10"]
    assert feed(dss.find_bundle(UUID, replica="aws", version=VERSION), problem(404)).result is None


def test_find_bundle_raises_other_errors(dss: DSSAPI) -> None:
    feed(dss.find_bundle(UUID, replica="aws"), problem(403)).failed(DSSAuthError)
    feed(dss.find_bundle(UUID, replica="aws"), ok({})).failed(DSSProtocolError)


# The list of bundles


def test_get_bundles_all_joins_pages_with_lower_case_prefix(dss: DSSAPI) -> None:
    listed = [{"uuid": UUID, "version": VERSION}, {"uuid": OTHER, "version": VERSION}]
    fed = feed(
        dss.get_bundles_all(replica="aws", prefix="CE", per_page=10),
        ok({"bundles": listed[:1], "has_more": True}, 206, link=f"<{URL}/next?token=x>; rel='next'"),
        ok({"bundles": listed[1:]}, 206, link=f"<{URL}/last>; rel='next'"),
        ok({"bundles": []}),
    )
    assert fed.value == listed
    assert fed.sent == ["GET /bundles/all?replica=aws&per_page=10&prefix=ce", "GET /next?token=x", "GET /last"]


@pytest.mark.parametrize("entry", [{"uuid": UUID}, {"version": VERSION}, {"uuid": UUID, "version": None}, {"uuid": 5}])
def test_get_bundles_all_without_uuid_or_version_is_protocol_error(dss: DSSAPI, entry: dict[str, Any]) -> None:
    answer = ok({"bundles": [{"uuid": UUID, "version": VERSION}, entry]})
    error = feed(dss.get_bundles_all(replica="aws"), answer).failed(DSSProtocolError)
    assert "GET /v1/bundles/all: the response has no" in str(error)


@pytest.mark.parametrize("name", [["a"], {"a": 1}, None, 5])
def test_get_bundle_with_a_name_that_is_no_text_is_returned(dss: DSSAPI, name: Any) -> None:
    files = [{**member(), "name": name}] * 2
    answer = ok({"bundle": {"uuid": UUID, "version": VERSION, "files": files}})
    assert feed(dss.get_bundle(UUID, replica="aws"), answer).value["files"] == files


@pytest.mark.parametrize("key", ["uuid", "version"])
def test_get_bundles_all_with_a_huge_name_is_protocol_error(dss: DSSAPI, key: str) -> None:
    answer = ok({"bundles": [{"uuid": UUID, "version": VERSION, key: "x" * 1001}]})
    error = feed(dss.get_bundles_all(replica="aws"), answer).failed(DSSProtocolError)
    assert str(error) == f"GET /v1/bundles/all: the response has no {key}"


def test_get_bundles_all_keeps_uuid_and_version_only(dss: DSSAPI) -> None:
    answer = ok({"bundles": [{"uuid": UUID, "version": VERSION, "more": "x" * 1000}]})
    assert feed(dss.get_bundles_all(replica="aws"), answer).value == [{"uuid": UUID, "version": VERSION}]
