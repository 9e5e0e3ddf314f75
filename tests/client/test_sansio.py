from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from airflow_provider_hca.client.sansio import (
    LargeJSONError,
    Request,
    Response,
    count_values,
    decode_error,
    json_object,
    next_page,
    origin,
    parse_json,
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
def test_error_body_of_any_form_gives_code_title_and_request_id(body: Any, code: str, title: str) -> None:
    error = decode_error(REQUEST, ok(body, 400, x_aws_request_id="r-1"))
    assert type(error) is DSSResponseError
    fields = (error.method, error.path, error.status, error.code, error.title, error.request_id, error.retry_after)
    assert fields == ("GET", "/v1/files/x", 400, code, title, "r-1", None)


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
def test_status_decides_the_class(status: int, kind: type[DSSResponseError]) -> None:
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
def test_body_without_json_gives_html_title_text_or_phrase(body: bytes, title: str | None) -> None:
    error = decode_error(REQUEST, Response(502, {"content-type": "text/html"}, body))
    assert title is None or error.title == title
    assert error.code == ""


@pytest.mark.parametrize(
    ("code", "kind", "permanent"),
    [
        ("forbidden", DSSAuthError, True),
        ("file_missing", DSSResponseError, False),
        ("read_only", DSSResponseError, False),
    ],
)
def test_500_of_response_validation_is_the_original_refusal(
    code: str, kind: type[DSSResponseError], permanent: bool
) -> None:
    error = decode_error(REQUEST, refusal(code))
    assert type(error) is kind
    assert (error.status, error.code, error.permanent) == (500, code, permanent)
    other = decode_error(REQUEST, refusal("other"))
    assert (type(other), other.code, other.permanent) == (DSSResponseError, "", False)


def test_long_title_is_cut() -> None:
    assert len(decode_error(REQUEST, Response(500, {}, b"x " * 5000)).title) == 500


def test_unknown_status_has_no_title() -> None:
    assert str(decode_error(REQUEST, Response(599))) == "GET /v1/files/x: 599"


@pytest.mark.parametrize(
    "body",
    [
        b'{"code": "tok-secret", "title": "bad token tok-secret"}',
        b"<title>no tok-secret</title>",
        b"tok-secret",
        b'{"title": "' + b"x" * 495 + b'tok-secret"}',
        b"tok-secret%2F%2B",
    ],
)
def test_echoed_secret_is_masked_even_if_cut(body: bytes) -> None:
    token = "tok-secret/+" if b"%" in body else "tok-secret"
    error = decode_error(REQUEST, Response(401, {"x-aws-request-id": token}, body), token)
    for shown in (str(error), repr(error), error.code, error.title, error.request_id):
        assert "tok-s" not in shown
    assert "***" in error.title


def test_error_has_no_query() -> None:
    assert "replica" not in str(decode_error(REQUEST, Response(500)))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("10", 10.0), (" 10 ", 10.0), ("1.5", 1.5), ("999999999", 999_999_999.0)],
)
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    assert retry_after(ok(retry_after=value)) == seconds


@pytest.mark.parametrize(("ahead", "low", "high"), [(60, 57, 60), (-60, 0, 0)])
@pytest.mark.parametrize("gmt", [True, False])
def test_retry_after_as_date(ahead: float, low: float, high: float, gmt: bool) -> None:
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
def test_invalid_retry_after_is_ignored(value: str) -> None:
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
def test_next_page_is_read_from_link_in_any_quotes(link: str) -> None:
    assert next_page(REQUEST, ok(link=link)) == NEXT


@pytest.mark.parametrize(
    "link",
    ["", "garbage", f"<{NEXT}>; rel='prev'", f"<{NEXT}>; rel='nextish'", f"<{NEXT}>", "<>", f"{NEXT}; rel='next'"],
)
def test_link_without_next_is_last_page(link: str) -> None:
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
def test_next_page_with_invalid_url_is_error_without_quote(address: str) -> None:
    with pytest.raises(DSSProtocolError, match="GET /v1/files/x: the response refers to an invalid URL") as caught:
        next_page(REQUEST, ok(link=f"<{address}>; rel='next'"))
    assert address not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html></html>", b"[]", b"null", b'"x"', b"{", b"\xff", b'{"a": "\xff"}', b"[" * 100_000],
    ids=lambda body: repr(body[:20]),
)
def test_body_without_json_object_is_error_with_hint(body: bytes) -> None:
    with pytest.raises(DSSProtocolError) as caught:
        json_object(REQUEST, Response(200, {"content-type": "text/html"}, body))
    assert str(caught.value) == (
        "GET /v1/files/x: 200 without a JSON object (text/html); the address must be that of a DSS's API, such as "
        "'https://dss.example.org/v1', got https://dss.example.org:443"
    )


@pytest.mark.parametrize("kind", ["text/eyJ0b2tlbg.e30.c2ln", "eyJ0b2tlbg.e30.c2ln", "text/html; x=eyJ0b2tlbg"])
def test_content_type_with_token_is_not_quoted(kind: str) -> None:
    with pytest.raises(DSSProtocolError) as caught:
        json_object(REQUEST, Response(200, {"content-type": kind}, b""))
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"[" * 11 + b"]" * 11, b"[" + b"1," * 10 + b"1]", b'{"a":' * 10 + b"1" + b"}" * 10, b"," * 11]
)
def test_json_of_too_many_values_is_refused_unparsed(body: bytes) -> None:
    with pytest.raises(LargeJSONError, match="more than 9 values"):
        parse_json(body, 9)
    with pytest.raises(DSSProtocolError, match="GET /v1/files/x: 200 with more than 9 values"):
        json_object(REQUEST, Response(200, {}, body), 9)


@pytest.mark.parametrize("value", [{}, {"a": [1, {"b": 2}], "c": "d"}, [[], [[]], {}], "text", 1.5, None])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_json_of_at_most_the_number_of_values_is_parsed(value: Any, encoding: str) -> None:
    content = json.dumps(value).encode(encoding)
    assert parse_json(content, count_values(content)) == value


def test_integers_of_more_than_20_digits_are_floats() -> None:
    assert parse_json(b"[12345678901234567890, -7, 1e3]") == [12345678901234567890, -7, 1000.0]
    assert parse_json(b"[%s, -%s]" % (b"9" * 4000, b"9" * 4000)) == [float("inf"), float("-inf")]


def test_json_object_is_returned() -> None:
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
def test_origin_is_lower_case_with_port_and_without_user(url: str, expected: str) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize(
    "message", [REQUEST, Response(200, {"set-cookie": "tok"}, b"body"), ok({"access_token": "body"}, x="tok")]
)
def test_repr_of_request_and_response_hides_headers_and_body(message: Request | Response) -> None:
    assert "tok" not in repr(message)
    assert "body" not in repr(message)
