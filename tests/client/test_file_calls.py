"""File calls, without network."""

from __future__ import annotations

import json

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.sansio import Response
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSConflictError,
    DSSConnectionError,
    DSSCopyError,
    DSSProtocolError,
    DSSResponseError,
)

from .calls import NAMED, SOURCE, put_file, wait_for_file
from .feeding import SHA256, URL, UUID, VERSION, Clock, broken, feed, file_headers, ok, problem, stored


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=2))


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
