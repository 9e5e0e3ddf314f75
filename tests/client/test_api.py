from __future__ import annotations

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
def test_the_address_may_end_in_a_slash(url: str) -> None:
    """A slash at the end of the address changes nothing."""
    assert DSSAPI(url).url == URL


@pytest.mark.parametrize(
    "url",
    [
        *("", "dss.example.org/v1", "//dss.example.org/v1", "ftp://dss.example.org", "https:///v1"),
        *(f"{URL}?a=b", f"{URL}#a", "https://host:port/v1", "https://host:99999/v1", "https://[x/v1"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """An address without scheme or host, or with a query, is a ValueError when the client is made."""
    with pytest.raises(ValueError):  # noqa: PT011 - half of the texts are Python's
        DSSAPI(url)


@pytest.mark.parametrize("scheme", ["https://", "https:/", ""])
@pytest.mark.parametrize("user", ["user", "user:s3cr3t", ":s3cr3t"])
def test_an_address_with_a_user_is_not_quoted(user: str, scheme: str) -> None:
    """A password in the address is refused, and not repeated in the error."""
    with pytest.raises(ValueError, match="one with a user in it") as caught:
        DSSAPI(f"{scheme}{user}@dss.example.org/v1")
    assert "s3cr3t" not in str(caught.value)


def test_the_client_shows_no_token(dss: DSSAPI) -> None:
    """The `repr` of the client names the DSS and holds no token."""
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
def test_wrong_use_sends_nothing(dss: DSSAPI, make: Callable[[DSSAPI], Call[Any]]) -> None:
    """A uuid, version, replica, name or source that a DSS would refuse is a ValueError before any request."""
    fed = feed(make(dss))
    assert fed.failed(ValueError)
    assert fed.requests == []


# PUT file


@pytest.mark.parametrize(("status", "outcome"), [(200, "identical"), (201, "created"), (202, "copying")])
def test_put_file(dss: DSSAPI, status: int, outcome: str) -> None:
    """The three successes of PUT file are told apart; the request is as the interface definition has it."""
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
def test_put_file_refused(dss: DSSAPI, status: int, code: str, kind: type[DSSResponseError], permanent: bool) -> None:
    """What a DSS refuses is told at once with its code."""
    error = feed(put_file(dss), problem(status, code)).failed(kind)
    assert (error.status, error.code, error.permanent, error.path) == (status, code, permanent, f"/v1/files/{UUID}")


def test_put_file_twice(dss: DSSAPI, clock: Clock) -> None:
    """A PUT that got no answer is repeated unchanged, and then answered 200: it is stored once."""
    fed = feed(put_file(dss), broken("read timeout"), ok({"version": VERSION}), clock=clock)
    assert fed.value.outcome == "identical"
    assert fed.requests[0].url == fed.requests[1].url
    assert fed.requests[0].body == fed.requests[1].body


@pytest.mark.parametrize("answer", [Response(201), Response(200, {"content-type": "text/html"}, b"<html>")])
def test_put_file_to_something_else(dss: DSSAPI, answer: Response) -> None:
    """A success without JSON is not taken for one."""
    feed(put_file(dss), answer).failed(DSSProtocolError)


# HEAD file


def test_head_file(dss: DSSAPI) -> None:
    """The headers of HEAD become the metadata; no token is sent, and the uuid is in lower case."""
    fed = feed(dss.head_file(UUID.upper(), replica="gcp"), stored())
    found = fed.value
    assert (found.uuid, found.version, found.size, found.creator_uid) == (UUID, VERSION, 7, 8008)
    assert (found.content_type, found.sha256, found.sha1) == ("text/plain", SHA256, "ef" * 20)
    assert (found.s3_etag, found.crc32c) == ("cd" * 16, "0a1b2c3d")
    assert fed.sent == [f"HEAD /files/{UUID}?replica=gcp"]
    assert fed.tokens == [None]


def test_head_file_of_a_version(dss: DSSAPI) -> None:
    """A version is asked for by its name."""
    fed = feed(dss.head_file(UUID, replica="aws", version=VERSION), stored())
    assert fed.sent == [f"HEAD /files/{UUID}?replica=aws&{NAMED}"]


@pytest.mark.parametrize(
    "headers", [{}, file_headers(size="many"), file_headers(creator_uid=""), {"x-dss-version": VERSION}]
)
def test_head_file_without_its_headers(dss: DSSAPI, headers: dict[str, str]) -> None:
    """A 200 without the headers of a DSS, such as any web server gives, is an error of the protocol."""
    feed(dss.head_file(UUID, replica="aws"), Response(200, headers)).failed(DSSProtocolError)


# Waiting for a copy


def test_wait_for_file(dss: DSSAPI, clock: Clock) -> None:
    """While HEAD answers 404 it is asked again, less and less often, until it answers 200."""
    fed = feed(wait_for_file(dss, 600, UUID.upper()), *[problem(404)] * 15, stored(), clock=clock)
    assert fed.value.sha256 == SHA256
    assert set(fed.sent) == {f"HEAD /files/{UUID}?replica=aws&{NAMED}"}
    assert fed.delays[:5] == [0, 0.5, 0.75, 1.125, 1.6875]
    assert fed.delays[-1] == 30


def test_wait_for_file_that_is_there(dss: DSSAPI, clock: Clock) -> None:
    """A file that is there is not waited for, even without any time."""
    assert feed(wait_for_file(dss, 0), stored(), clock=clock).delays == [0]


def test_wait_for_file_in_vain(dss: DSSAPI, clock: Clock) -> None:
    """At the deadline, not before and not much later, it is asked a last time, and the error says what to change."""
    started = clock.now
    fed = feed(wait_for_file(dss, 60), *[problem(404)] * 12, clock=clock)
    error = fed.failed(DSSCopyError)
    assert (error.uuid, error.version, error.reason, error.permanent) == (UUID, VERSION, "deadline", False)
    assert "copy_timeout" in str(error)
    assert clock.now - started == 60


def test_wait_for_file_that_others_wrote(dss: DSSAPI, clock: Clock) -> None:
    """A file with other content, for which the PUT also answered 202, is a conflict that names both sums."""
    other = "cd" * 32
    error = feed(wait_for_file(dss), problem(404), stored(other), clock=clock).failed(DSSConflictError)
    assert (error.status, error.code, error.permanent) == (409, "file_already_exists", True)
    assert other in str(error)
    assert SHA256 in str(error)


def test_wait_for_a_copy_that_was_refused(dss: DSSAPI, clock: Clock) -> None:
    """HEAD 422, for wrong sums or parts, is a failed copy at once."""
    fed = feed(wait_for_file(dss), problem(404), Response(422, {"x-aws-request-id": "r-9"}), clock=clock)
    error = fed.failed(DSSCopyError)
    assert (error.reason, error.permanent) == ("failed", True)
    assert "r-9" in str(error)
    assert "64 MiB" in str(error)


def test_wait_for_a_copy_that_broke(dss: DSSAPI, clock: Clock) -> None:
    """HEAD 500 that does not pass is a copy that broke or a DSS in trouble, so another try may mend it."""
    error = feed(wait_for_file(dss), *[Response(500)] * 2, clock=clock).failed(DSSCopyError)
    assert (error.reason, error.permanent) == ("unclear", False)


def test_wait_for_file_rides_out_troubles(dss: DSSAPI, clock: Clock) -> None:
    """Troubles that pass do not end the waiting, even after a long wait between two polls."""
    troubles: list[Response | DSSConnectionError] = [
        *[problem(404)] * 14,
        problem(503),
        problem(404),
        broken(),
        stored(),
    ]
    assert feed(wait_for_file(dss, 600), *troubles, clock=clock).value.uuid == UUID


@pytest.mark.parametrize("status", [400, 403, 503])
def test_wait_for_file_ends_with_other_errors(dss: DSSAPI, clock: Clock, status: int) -> None:
    """Any other error of the DSS is told as it is."""
    answers = [problem(status)] * (2 if status == 503 else 1)
    assert feed(wait_for_file(dss), *answers, clock=clock).error.status == status  # type: ignore[union-attr] # it has


# PUT bundle


@pytest.mark.parametrize(("status", "outcome"), [(200, "identical"), (201, "created")])
def test_put_bundle(dss: DSSAPI, status: int, outcome: str) -> None:
    """A bundle is sent with its files in the given order, four keys each, all uuids in lower case."""
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
def test_put_bundle_refused(dss: DSSAPI, status: int, code: str, permanent: bool) -> None:
    """A refusal is told at once and nothing is looked up; only a missing file may come in later."""
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
def test_a_bundle_that_was_stored_nevertheless(
    dss: DSSAPI, clock: Clock, trouble: Response | DSSConnectionError
) -> None:
    """When every PUT fails but the bundle is there just as it was sent, that is a success."""
    fed = feed(put_bundle(dss, member("a"), member("b")), trouble, trouble, page("a", "b"), clock=clock)
    assert fed.value.outcome == "created"
    assert [sent.split("?")[0] for sent in fed.sent] == [f"PUT /bundles/{UUID}"] * 2 + [f"GET /bundles/{UUID}"]
    assert NAMED in fed.sent[-1]


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
def test_a_bundle_that_was_not_stored(
    dss: DSSAPI, clock: Clock, trouble: Response | DSSConnectionError, look: Response
) -> None:
    """When the bundle is not there, or differs in anything, or cannot be read, the failure of the PUT is told."""
    fed = feed(put_bundle(dss, member("a"), member("b")), trouble, trouble, look, clock=clock)
    if isinstance(trouble, Response):
        error = fed.failed(DSSResponseError)
        assert (error.method, error.status) == ("PUT", trouble.status)
    else:
        assert fed.failed(DSSConnectionError).kind == trouble.kind


@pytest.mark.parametrize("kind", ["refused", "dns"])
def test_a_dss_that_is_gone_stays_the_error(dss: DSSAPI, clock: Clock, kind: ConnectionFailure) -> None:
    """When the look also fails, the failure of the PUT is told."""
    fed = feed(put_bundle(dss), *[broken("read timeout")] * 2, *[broken(kind)] * 2, clock=clock)
    assert fed.failed(DSSConnectionError).kind == "read timeout"


def test_a_large_bundle_is_looked_at_whole(dss: DSSAPI, clock: Clock) -> None:
    """The look compares all pages of the stored bundle."""
    files = [member(f"{number}") for number in range(3)]
    pages = [page("0", "1", status=206, following=f"{URL}/next"), page("2")]
    assert feed(put_bundle(dss, *files), problem(504), problem(504), *pages, clock=clock).value.outcome == "created"


@pytest.mark.parametrize("last", [problem(503, "read_only", retry_after="3600"), problem(403, "forbidden")])
def test_a_clear_refusal_of_a_repeat_is_looked_into(dss: DSSAPI, clock: Clock, last: Response) -> None:
    """When an earlier attempt may have been done, the refusal of the next one is no reason not to look."""
    fed = feed(put_bundle(dss, member("a")), problem(504), last, page("a"), clock=clock)
    assert fed.value.outcome == "created"


# GET bundle


def test_get_bundle(dss: DSSAPI) -> None:
    """A manifest is fetched in pages as large as a DSS allows, without a token."""
    fed = feed(dss.get_bundle(UUID.upper(), replica="aws", version=VERSION), page("a", "b"))
    assert [file["name"] for file in fed.value["files"]] == ["a", "b"]
    assert (fed.value["version"], fed.value["creator_uid"]) == (VERSION, 8008)
    assert fed.sent == [f"GET /bundles/{UUID}?replica=aws&{NAMED}&per_page=500"]
    assert fed.tokens == [None]


def test_get_bundle_in_pages(dss: DSSAPI, clock: Clock) -> None:
    """All pages come together in their order; the link is followed as it is, `token=None` and all, past troubles."""
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


def test_a_version_made_between_two_pages(dss: DSSAPI) -> None:
    """When the latest version changes between two pages, all of the older one is fetched, and no mixture returned."""
    newer = page("x", version="2026-01-01T000000.000000Z")
    answers = [page("a", status=206, following=f"{URL}/next"), newer, page("a", "b")]
    fed = feed(dss.get_bundle(UUID, replica="aws"), *answers)
    assert [file["name"] for file in fed.value["files"]] == ["a", "b"]
    assert fed.sent[2] == f"GET /bundles/{UUID}?replica=aws&{NAMED}&per_page=500"


def test_pages_of_different_versions(dss: DSSAPI) -> None:
    """Pages of different versions are never mixed: all are read again, since not every server has the wrong ones."""
    other = page("x", version="2026-01-01T000000.000000Z")
    mixed = [page("a", status=206, following=f"{URL}/next"), other]
    fed = feed(dss.get_bundle(UUID, replica="aws", version=VERSION), *mixed, *mixed, page("a", "b"))
    assert [file["name"] for file in fed.value["files"]] == ["a", "b"]


def test_a_version_in_the_place_of_another(dss: DSSAPI) -> None:
    """Where a DSS shows only another version than the one asked for, that is an error which a retry may turn."""
    other = page("x", version="2026-01-01T000000.000000Z")
    error = feed(dss.get_bundle(UUID, replica="aws", version=VERSION), *[other] * 5).failed(DSSProtocolError)
    assert not error.permanent
    assert f"asked for version {VERSION} time and again, it answers another one" in str(error)


def test_pages_on_another_host_get_no_token(dss: DSSAPI) -> None:
    """A link to another host is followed without a token."""
    fed = feed(
        dss.get_bundle(UUID, replica="aws"),
        page("a", status=206, following="https://evil.example/v1/bundles"),
        page("b"),
    )
    assert fed.requests[1].origin == "https://evil.example:443"
    assert fed.tokens == [None, None]


@pytest.mark.parametrize("length", [1, 2])
def test_pages_in_a_circle_end(dss: DSSAPI, length: int) -> None:
    """Pages whose links go round in a circle end with an error rather than never."""
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
def test_what_is_no_manifest(dss: DSSAPI, answer: Response) -> None:
    """An answer that holds no manifest is an error of the protocol, on the first page and on a later one."""
    feed(dss.get_bundle(UUID, replica="aws"), answer).failed(DSSProtocolError)
    first = page("a", status=206, following=f"{URL}/next")
    feed(dss.get_bundle(UUID, replica="aws"), first, answer).failed(DSSProtocolError)


def test_get_bundle_that_is_not_there(dss: DSSAPI) -> None:
    """404 has its own error."""
    feed(dss.get_bundle(UUID, replica="aws"), problem(404, "not_found")).failed(DSSNotFoundError)


def test_find_bundle(dss: DSSAPI) -> None:
    """A bundle is found by its first page alone, whose version is returned; one that is not there is None."""
    fed = feed(dss.find_bundle(UUID.upper(), replica="gcp"), page("a", status=206, following=f"{URL}/next"))
    assert fed.value == VERSION
    assert fed.sent == [f"GET /bundles/{UUID}?replica=gcp&per_page=10"]
    assert feed(dss.find_bundle(UUID, replica="aws", version=VERSION), problem(404)).result is None


def test_find_bundle_with_another_error(dss: DSSAPI) -> None:
    """Only 404 means that it is not there: a token that is refused is no answer to the question."""
    feed(dss.find_bundle(UUID, replica="aws"), problem(403)).failed(DSSAuthError)
    feed(dss.find_bundle(UUID, replica="aws"), ok({})).failed(DSSProtocolError)


# The list of bundles, and checks


def test_get_bundles_all(dss: DSSAPI) -> None:
    """The pages of the list come together, and the prefix is in lower case."""
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
def test_a_listing_that_names_no_bundle(dss: DSSAPI, entry: dict[str, Any]) -> None:
    """A listing of bundles without a uuid or a version is none of a DSS."""
    answer = ok({"bundles": [{"uuid": UUID, "version": VERSION}, entry]})
    error = feed(dss.get_bundles_all(replica="aws"), answer).failed(DSSProtocolError)
    assert "GET /v1/bundles/all: the answer has no" in str(error)


@pytest.mark.parametrize("answer", [problem(404, "not_found"), problem(400, "illegal_arguments"), page("a")])
def test_check_reachable(dss: DSSAPI, answer: Response) -> None:
    """A DSS says that a bundle is not there, or that it has no such replica; asking costs no token."""
    fed = feed(dss.check_reachable(), answer)
    assert fed.error is None
    assert fed.tokens == [None]


@pytest.mark.parametrize(
    "answer", [ok({"hello": "world"}), Response(200, {}, b"<html>"), Response(404, {}, b"<html>"), ok({}, 404)]
)
def test_check_reachable_of_something_else(dss: DSSAPI, answer: Response) -> None:
    """Something that answers 200 to everything, or 404 in its own words, is not taken for a DSS."""
    feed(dss.check_reachable(), answer).failed(DSSProtocolError)


def test_check_token(dss: DSSAPI) -> None:
    """A token that is taken at a call that wants all that a registration wants is good."""
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
def test_check_token_where_collections_say_nothing(dss: DSSAPI, answer: Response) -> None:
    """Where that call fails, a registration that no DSS can take decides: refused for its version, or for its token."""
    fed = feed(dss.check_token(), answer, problem(400, "illegal_version"))
    assert fed.error is None
    assert fed.tokens == ["tok-3"] * 2
    assert fed.sent[1].startswith("PUT /files/")
    assert "version=none" in fed.sent[1]
    for status in (401, 403):
        refused = feed(dss.check_token(), answer, problem(status, "Forbidden"))
        assert refused.failed(DSSAuthError).status == status


def test_authenticate(dss: DSSAPI) -> None:
    """A token can be had before it is needed; the DSS is not asked, and without credentials there is nothing to do."""
    assert feed(dss.authenticate()).requests == []
    assert feed(DSSAPI(URL).authenticate()).requests == []


def test_a_404_in_the_other_shape_is_a_bundle_that_is_not_there(dss: DSSAPI) -> None:
    """A 404 with type, title, detail and status is the DSS's, not that of a web server without the route."""
    answer = ok({"type": "about:blank", "title": "Not Found", "detail": "no such bundle", "status": 404}, 404)
    assert feed(dss.find_bundle(UUID, replica="aws"), answer).result is None


def test_timeouts_are_those_of_the_client(clock: Clock) -> None:
    """Each request carries the timeouts that the client was made with, on later pages too."""
    dss = DSSAPI(URL, connect_timeout=1.5, read_timeout=2.5)
    fed = feed(dss.get_bundle(UUID, replica="aws"), page("a", status=206, following=f"{URL}/next"), page("b"))
    assert [(request.connect_timeout, request.read_timeout) for request in fed.requests] == [(1.5, 2.5)] * 2
