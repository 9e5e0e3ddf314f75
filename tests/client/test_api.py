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
    ConnectionFailure,
    DSSAuthError,
    DSSConflictError,
    DSSConnectionError,
    DSSCopyError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

from .feeding import OTHER, SHA256, URL, UUID, VERSION, Clock, broken, feed, file_headers, ok, problem, stored

SOURCE = "s3://bucket/a/b"
NAMED = f"version={VERSION}"


def member(name: str = "a.txt", **changes: Any) -> dict[str, Any]:
    return {"uuid": OTHER, "version": VERSION, "name": name, "indexed": False} | changes


def page(*names: str, status: int = 200, following: str = "", **changes: Any) -> Response:
    """Return a page of a manifest as GET spells it."""
    files = [member(name, size=7, s3_etag="x", sha256=SHA256) for name in names]
    bundle = {"uuid": UUID, "version": VERSION, "creator_uid": 8008, "files": files} | changes
    return ok({"bundle": bundle}, status, **({"link": f"<{following}>; rel='next'"} if following else {}))


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=2))


def put_file(dss: DSSAPI, uuid: str = UUID, version: str = VERSION, source: str = SOURCE) -> Call[Any]:
    return dss.put_file(uuid, version, source_url=source, creator_uid=8008)


def put_bundle(dss: DSSAPI, *files: dict[str, Any], uuid: str = UUID, replica: str = "aws") -> Call[Any]:
    return dss.put_bundle(uuid, VERSION, replica=replica, creator_uid=8008, files=files or [member()])


def wait_for_file(dss: DSSAPI, seconds: float = 60, uuid: str = UUID, version: str = VERSION) -> Call[Any]:
    return dss.wait_for_file(uuid, version, replica="aws", sha256=SHA256, seconds=seconds)


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


# PUT file


@pytest.mark.parametrize(("status", "outcome"), [(200, "identical"), (201, "created"), (202, "copying")])
def test_put_file_returns_outcome_by_status(dss: DSSAPI, status: int, outcome: str) -> None:
    fed = feed(put_file(dss, uuid=UUID.upper()), ok({"version": VERSION, "task_id": "t"}, status))
    assert (fed.value.uuid, fed.value.version, fed.value.outcome) == (UUID, VERSION, outcome)
    assert fed.sent == [f"PUT /files/{UUID}?{NAMED}"]
    assert fed.tokens == ["tok-3"]
    assert fed.requests[0].headers["content-type"] == "application/json"
    assert json.loads(fed.requests[0].body or b"") == {"source_url": SOURCE, "creator_uid": 8008}


@pytest.mark.parametrize(
    ("status", "code", "kind", "permanent"),
    [
        (400, "illegal_arguments", DSSResponseError, True),
        (401, "Unauthorized", DSSAuthError, True),
        (403, "Forbidden", DSSAuthError, True),
        (409, "file_already_exists", DSSConflictError, True),
        (422, "missing_checksum", DSSResponseError, True),
        (422, "invalid_checksum", DSSResponseError, True),
    ],
)
def test_put_file_refused_is_not_retried(
    dss: DSSAPI, status: int, code: str, kind: type[DSSResponseError], permanent: bool
) -> None:
    error = feed(put_file(dss), problem(status, code)).failed(kind)
    assert (error.status, error.code, error.permanent, error.path) == (status, code, permanent, f"/v1/files/{UUID}")


def test_put_file_without_response_is_repeated_unchanged(dss: DSSAPI, clock: Clock) -> None:
    fed = feed(put_file(dss), broken("read timeout"), ok({"version": VERSION}), clock=clock)
    assert fed.value.outcome == "identical"
    assert fed.requests[0].url == fed.requests[1].url
    assert fed.requests[0].body == fed.requests[1].body


@pytest.mark.parametrize("answer", [Response(201), Response(200, {"content-type": "text/html"}, b"<html>")])
def test_put_file_success_without_json_is_protocol_error(dss: DSSAPI, answer: Response) -> None:
    feed(put_file(dss), answer).failed(DSSProtocolError)


# HEAD file


def test_head_file_returns_metadata_without_token(dss: DSSAPI) -> None:
    fed = feed(dss.head_file(UUID.upper(), replica="gcp"), stored())
    found = fed.value
    assert (found.uuid, found.version, found.size, found.creator_uid) == (UUID, VERSION, 7, 8008)
    assert (found.content_type, found.sha256, found.sha1) == ("text/plain", SHA256, "ef" * 20)
    assert (found.s3_etag, found.crc32c) == ("cd" * 16, "0a1b2c3d")
    assert fed.sent == [f"HEAD /files/{UUID}?replica=gcp"]
    assert fed.tokens == [None]


def test_head_file_sends_version(dss: DSSAPI) -> None:
    fed = feed(dss.head_file(UUID, replica="aws", version=VERSION), stored())
    assert fed.sent == [f"HEAD /files/{UUID}?replica=aws&{NAMED}"]


@pytest.mark.parametrize(
    "headers", [{}, file_headers(size="many"), file_headers(creator_uid=""), {"x-dss-version": VERSION}]
)
def test_head_file_without_dss_headers_is_protocol_error(dss: DSSAPI, headers: dict[str, str]) -> None:
    feed(dss.head_file(UUID, replica="aws"), Response(200, headers)).failed(DSSProtocolError)


# Waiting for a copy


def test_wait_for_file_polls_with_growing_intervals_until_200(dss: DSSAPI, clock: Clock) -> None:
    fed = feed(wait_for_file(dss, 600, UUID.upper()), *[problem(404)] * 15, stored(), clock=clock)
    assert fed.value.sha256 == SHA256
    assert set(fed.sent) == {f"HEAD /files/{UUID}?replica=aws&{NAMED}"}
    assert fed.delays[:5] == [0, 0.5, 0.75, 1.125, 1.6875]
    assert fed.delays[-1] == 30


def test_wait_for_existing_file_returns_at_once_even_without_time(dss: DSSAPI, clock: Clock) -> None:
    assert feed(wait_for_file(dss, 0), stored(), clock=clock).delays == [0]


def test_wait_for_file_polls_once_more_at_the_deadline_and_explains(dss: DSSAPI, clock: Clock) -> None:
    started = clock.now
    fed = feed(wait_for_file(dss, 60), *[problem(404)] * 12, clock=clock)
    error = fed.failed(DSSCopyError)
    assert (error.uuid, error.version, error.reason, error.permanent) == (UUID, VERSION, "deadline", False)
    assert "copy_timeout" in str(error)
    assert clock.now - started == 60


def test_wait_for_file_with_other_content_is_conflict(dss: DSSAPI, clock: Clock) -> None:
    """An asynchronous PUT of other content is answered with 202 too."""
    other = "cd" * 32
    error = feed(wait_for_file(dss), problem(404), stored(other), clock=clock).failed(DSSConflictError)
    assert (error.status, error.code, error.permanent) == (409, "file_already_exists", True)
    assert other in str(error)
    assert SHA256 in str(error)


def test_wait_for_file_after_422_is_failed_copy(dss: DSSAPI, clock: Clock) -> None:
    fed = feed(wait_for_file(dss), problem(404), Response(422, {"x-aws-request-id": "r-9"}), clock=clock)
    error = fed.failed(DSSCopyError)
    assert (error.reason, error.permanent) == ("failed", True)
    assert "r-9" in str(error)
    assert "64 MiB" in str(error)


def test_wait_for_file_after_lasting_500_is_unclear_copy(dss: DSSAPI, clock: Clock) -> None:
    error = feed(wait_for_file(dss), *[Response(500)] * 2, clock=clock).failed(DSSCopyError)
    assert (error.reason, error.permanent) == ("unclear", False)


def test_wait_for_file_retries_temporary_errors_after_a_long_interval(dss: DSSAPI, clock: Clock) -> None:
    troubles: list[Response | DSSConnectionError] = [
        *[problem(404)] * 14,
        problem(503),
        problem(404),
        broken(),
        stored(),
    ]
    assert feed(wait_for_file(dss, 600), *troubles, clock=clock).value.uuid == UUID


@pytest.mark.parametrize("status", [400, 403, 503])
def test_wait_for_file_raises_other_errors(dss: DSSAPI, clock: Clock, status: int) -> None:
    answers = [problem(status)] * (2 if status == 503 else 1)
    assert feed(wait_for_file(dss), *answers, clock=clock).error.status == status  # type: ignore[union-attr] # it has


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


# The list of bundles, and checks


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
