from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from airflow_provider_hca.client.sansio import (
    Request,
    Response,
    decode_error,
    json_object,
    next_page,
    origin,
    retry_after,
)
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSConflictError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

from .feeding import ok, refusal

REQUEST = Request("GET", "https://dss.example.org/v1/files/x?replica=aws", {"authorization": "Bearer tok"}, b"body")


@pytest.mark.parametrize(
    ("body", "code", "title"),
    [
        ({"status": 400, "code": "illegal_version", "title": "Bad", "stacktrace": "..."}, "illegal_version", "Bad"),
        (
            {"type": "about:blank", "title": "Bad Request", "detail": "Not a uuid", "status": 400},
            "",
            "Bad Request: Not a uuid",
        ),
        ({"Code": "InternalServerError", "Message": "Oh"}, "InternalServerError", "Oh"),
        ({"message": "Missing Authentication Token"}, "", "Missing Authentication Token"),
        ({"status": 504, "code": "timed_out", "title": "Timed out", "traces": []}, "timed_out", "Timed out"),
        ({}, "", "Bad Request"),
        ([], "", "Bad Request"),
        ("text", "", "Bad Request"),
        (None, "", "Bad Request"),
        ({"code": 7, "title": ["a"]}, "7", "['a']"),
    ],
)
def test_every_shape_of_error_is_read(body: Any, code: str, title: str) -> None:
    """Whichever shape the body has, code, title and request id are found; the status's phrase is the last resort."""
    error = decode_error(REQUEST, ok(body, 400, x_aws_request_id="r-1"))
    assert type(error) is DSSResponseError
    found = (error.method, error.path, error.status, error.code, error.title, error.request_id, error.retry_after)
    assert found == ("GET", "/v1/files/x", 400, code, title, "r-1", None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, DSSResponseError),
        (401, DSSAuthError),
        (403, DSSAuthError),
        (404, DSSNotFoundError),
        (409, DSSConflictError),
        (422, DSSResponseError),
        (500, DSSResponseError),
        (504, DSSResponseError),
    ],
)
def test_the_status_decides_the_class(status: int, kind: type[DSSResponseError]) -> None:
    """Each status has its class of error, an empty body included."""
    assert type(decode_error(REQUEST, Response(status))) is kind


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b"<html><head><title>502 Bad\n Gateway</title></head><body><p>nginx</p></body></html>", "502 Bad Gateway"),
        (b"<p>Go <b>away</b>\r\n</p>", "Go away"),
        (b"plain words", "plain words"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", "Bad Gateway"),
        (b"   \n", "Bad Gateway"),
        (b"[" * 200_000, None),
    ],
)
def test_bodies_that_are_not_json(body: bytes, title: str | None) -> None:
    """Of HTML the title is told, of anything else its text, of nothing the phrase of the status."""
    error = decode_error(REQUEST, Response(502, {"content-type": "text/html"}, body))
    assert title is None or error.title == title
    assert error.code == ""


@pytest.mark.parametrize(
    ("code", "kind", "permanent"), [("forbidden", DSSAuthError, True), ("file_missing", DSSResponseError, False)]
)
def test_refusals_that_a_dss_makes_a_500_of(code: str, kind: type[DSSResponseError], permanent: bool) -> None:
    """A refusal that a DSS does not let itself say, and answers 500 to, is told as what it is."""
    error = decode_error(REQUEST, refusal(code))
    assert type(error) is kind
    assert (error.status, error.code, error.permanent) == (500, code, permanent)
    other = decode_error(REQUEST, refusal("odd"))
    assert (type(other), other.code, other.permanent) == (DSSResponseError, "", False)


def test_long_titles_are_cut() -> None:
    """A page of text does not become the message of an error."""
    assert len(decode_error(REQUEST, Response(500, {}, b"x " * 5000)).title) == 500


def test_a_status_without_phrase_has_no_title() -> None:
    """A status that HTTP does not know is told as a number."""
    assert str(decode_error(REQUEST, Response(599))) == "GET /v1/files/x: 599"


@pytest.mark.parametrize(
    "body",
    [
        b'{"code": "tok-secret", "title": "bad token tok-secret"}',
        b"<title>no tok-secret</title>",
        b"tok-secret",
        b'{"title": "' + b"x" * 495 + b'tok-secret"}',
    ],
)
def test_a_token_that_is_echoed_is_masked(body: bytes) -> None:
    """A server that quotes the token does not get it into the error, not even the beginning of it."""
    error = decode_error(REQUEST, Response(401, {}, body), "tok-secret")
    for shown in (str(error), repr(error), error.code, error.title):
        assert "tok-s" not in shown
    assert "***" in error.title


def test_the_message_holds_no_query() -> None:
    """The query of the URL, which in other places holds signatures, is not part of an error."""
    assert "replica" not in str(decode_error(REQUEST, Response(500)))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("10", 10.0), (" 10 ", 10.0), ("1.5", 1.5), ("999999999", 999_999_999.0)],
)
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    """`Retry-After` is read as seconds."""
    assert retry_after(ok(retry_after=value)) == seconds


@pytest.mark.parametrize(("ahead", "low", "high"), [(60, 57, 60), (-60, 0, 0)])
@pytest.mark.parametrize("gmt", [True, False])
def test_retry_after_as_a_date(ahead: float, low: float, high: float, gmt: bool) -> None:
    """`Retry-After` is read as a date too; one that has passed means no wait."""
    moment = datetime.now(UTC) + timedelta(seconds=ahead)
    seconds = retry_after(ok(retry_after=format_datetime(moment if not gmt else moment.replace(tzinfo=UTC), gmt)))
    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize(
    "value",
    [
        *("", "   ", "soon", "-1", "1e3", "nan", "inf", "1,5", "\u0661", "10 s", "0x10", "9" * 30),
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2024 99:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +99999999",
    ],
)
def test_retry_after_that_makes_no_sense(value: str) -> None:
    """Anything else is as if it were not there."""
    assert retry_after(ok(retry_after=value)) is None


NEXT = "https://dss.example.org/v1/bundles/u?token=None&start_at=500"


@pytest.mark.parametrize(
    "link",
    [
        f"<{NEXT}>; rel='next'",
        f'<{NEXT}>; rel="next"',
        f"<{NEXT}>;rel=next",
        f"<{NEXT}> ; title='x'; REL = 'next'",
        f"<https://a.example/>; rel='prev', <{NEXT}>; rel='next'",
        f"<{NEXT}>; rel='next', <https://a.example/>; rel='last'",
        "</v1/bundles/u?token=None&start_at=500>; rel='next'",
    ],
)
def test_the_next_page_is_found(link: str) -> None:
    """`Link` is read in single, double and no quotes, beside others, relative too, with its literal `token=None`."""
    assert next_page(REQUEST, ok(link=link)) == NEXT


@pytest.mark.parametrize(
    "link",
    ["", "garbage", f"<{NEXT}>; rel='prev'", f"<{NEXT}>; rel='nextish'", f"<{NEXT}>", "<>", f"{NEXT}; rel='next'"],
)
def test_no_next_page(link: str) -> None:
    """A `Link` that names no next page ends the paging."""
    assert next_page(REQUEST, ok(link=link)) is None


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/key",
        "file:///etc/passwd",
        "http://[bad",
        "http://a:port/",
        "https://u:p@dss.example.org/",
        "http:///x",
    ],
)
def test_a_next_page_that_is_no_address(address: str) -> None:
    """A `Link` that HTTP cannot follow is an error of the protocol, and its text does not repeat the address."""
    with pytest.raises(DSSProtocolError, match="GET /v1/files/x: the answer refers to an invalid URL") as caught:
        next_page(REQUEST, ok(link=f"<{address}>; rel='next'"))
    assert address not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"", b"<html></html>", b"[]", b"null", b'"x"', b"{", b"\xff", b"[" * 200_000, b'{"a": "\xff"}']
)
def test_an_answer_that_is_no_json_object(body: bytes) -> None:
    """A server that is not a DSS is told apart, with a hint at the address of the connection."""
    with pytest.raises(DSSProtocolError) as caught:
        json_object(REQUEST, Response(200, {"content-type": "text/html"}, body))
    assert str(caught.value) == (
        "GET /v1/files/x: 200 without a JSON object (text/html): is https://dss.example.org:443 the address of a "
        "DSS's API, such as 'https://dss.example.org/v1'?"
    )


def test_a_json_object_is_returned() -> None:
    """A JSON object is returned as it is."""
    assert json_object(REQUEST, ok({"a": [1]})) == {"a": [1]}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://DSS.example.org/v1?x", "https://dss.example.org:443"),
        ("HTTP://dss.example.org", "http://dss.example.org:80"),
        ("https://dss.example.org:8443/v1", "https://dss.example.org:8443"),
        ("https://user:secret@dss.example.org/", "https://dss.example.org:443"),
    ],
)
def test_origins(url: str, expected: str) -> None:
    """An origin has scheme, host in lower case and port, and no user."""
    assert origin(url) == expected


@pytest.mark.parametrize(
    "message", [REQUEST, Response(200, {"set-cookie": "tok"}, b"body"), ok({"access_token": "body"}, x="tok")]
)
def test_messages_show_no_header_and_no_body(message: Request | Response) -> None:
    """The `repr` of a request or an answer, which may end up in a log, holds none of what may be secret."""
    assert "tok" not in repr(message)
    assert "body" not in repr(message)
