"""Downloads: with fed responses, and on both transports from servers that drop connections."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.downloads import Content, whole_file
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.sansio import Request, Response, decode_error
from airflow_provider_hca.exceptions import (
    DSSConnectionError,
    DSSContentError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)
from tests.download.server import OneBundle
from tests.local.server import VERSION, LocalDSS, new_uuid

from .drivers import Run
from .feeding import URL, UUID, Clock, Fed, broken, converse, problem
from .feeding import VERSION as FED_VERSION

CONTENT = b"0123456789" * 10
PLACE = "https://objects.example.org/bucket/key?Signature=s3cr3t"
QUICK = RetryPolicy(attempts=3, seconds=5, first_delay=0.02)


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=3))


def described(content: bytes = CONTENT, version: str = FED_VERSION) -> dict[str, str]:
    return {
        "x-dss-creator-uid": "8008",
        "x-dss-version": version,
        "x-dss-content-type": "text/plain",
        "x-dss-size": str(len(content)),
        "x-dss-crc32c": "0a1b2c3d",
        "x-dss-s3-etag": "cd" * 16,
        "x-dss-sha1": "ef" * 20,
        "x-dss-sha256": hashlib.sha256(content).hexdigest(),
    }


def located(place: str = PLACE, **headers: str) -> Response:
    return Response(302, {"location": place, **described(), **headers})


class Part:
    """A response whose content a transport passes on in chunks, and which may break."""

    def __init__(self, begin: int | None = None, end: int | None = None, content: bytes = CONTENT) -> None:
        self.begin, self.content = begin, content[begin or 0 : end]
        self.whole = end is None

    def hand_over(self, request: Request) -> Response | DSSConnectionError:
        """Pass the content to the receiver, as a transport does."""
        status = 200 if self.begin is None else 206
        headers = {} if self.begin is None else {"content-range": f"bytes {self.begin}-99/100"}
        assert request.receive is not None
        take = request.receive(status, headers)
        assert take is not None
        for start in range(0, len(self.content), 7):
            take(self.content[start : start + 7])
        return Response(status, headers) if self.whole else broken()


def feed(call: Any, *answers: Response | DSSConnectionError | Part, clock: Clock) -> Fed[Any]:
    remaining = iter(answers)

    def answer(request: Request) -> Response | DSSConnectionError:
        following = next(remaining)
        return following.hand_over(request) if isinstance(following, Part) else following

    fed = converse(call, answer, clock=clock)
    assert next(remaining, None) is None, f"not all was asked for: {fed.error!r}"
    return fed


def get(dss: DSSAPI, to: io.BytesIO) -> Any:
    return dss.get_file(UUID, replica="aws", to=to)


def test_content_is_fetched_from_the_redirect_without_token(dss: DSSAPI, clock: Clock) -> None:
    to = io.BytesIO()
    again = Response(301, {"location": f"{URL}/files/{UUID}?replica=aws&token=t", "retry-after": "10"})
    fed = feed(get(dss, to), again, again, located(), Part(), clock=clock)
    assert to.getvalue() == CONTENT
    assert fed.value.size == 100
    assert fed.delays == [0, 10, 10, 0]
    assert fed.requests[-1].url == PLACE
    assert fed.tokens == [None] * 4
    assert fed.requests[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_connection_is_resumed_with_a_range(dss: DSSAPI, clock: Clock, ranges: bool) -> None:
    """A store without ranges sends the whole content again."""
    to = io.BytesIO()
    breaks: list[Any] = [
        Part(None, 30),
        located(),
        Part(30 if ranges else None, 31),
        located(),
        Part(31 if ranges else None),
    ]
    fed = feed(get(dss, to), located(), *breaks, clock=clock)
    assert to.getvalue() == CONTENT
    assert [request.headers.get("range") for request in fed.requests[1::2]] == [None, "bytes=30-", "bytes=31-"]
    assert f"version={FED_VERSION}" in fed.requests[2].url


def test_attempts_start_again_after_progress(dss: DSSAPI, clock: Clock) -> None:
    to = io.BytesIO()
    steps: list[Any] = [located(), Part(None, 1)]
    for begin in range(1, 40):
        steps += [located(), Part(begin, begin + 1)]
    stuck: list[Any] = [located(), broken()] * 2
    fed = feed(get(dss, to), *steps, *stuck, clock=clock)
    assert fed.failed(DSSConnectionError).kind == "dropped"
    assert to.getvalue() == CONTENT[:40]


def test_empty_file_is_not_requested(dss: DSSAPI, clock: Clock) -> None:
    to = io.BytesIO()
    empty = Response(302, {"location": PLACE, **described(b"")})
    assert feed(get(dss, to), empty, clock=clock).value.size == 0


@pytest.mark.parametrize("other", [CONTENT + b"x", CONTENT[::-1]])
def test_content_with_other_size_or_sha256_is_error(dss: DSSAPI, clock: Clock, other: bytes) -> None:
    error = feed(get(dss, io.BytesIO()), located(), Part(content=other), clock=clock).failed(DSSContentError)
    assert (error.uuid, error.version, error.permanent) == (UUID, FED_VERSION, False)


def test_expired_url_is_renewed_once_and_not_quoted(dss: DSSAPI, clock: Clock) -> None:
    xml = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><StringToSign>s3cr3t</StringToSign></Error>"
    refused = Response(403, {"content-type": "application/xml"}, xml)
    to = io.BytesIO()
    assert feed(get(dss, to), located(), refused, located(), Part(), clock=clock).value.size == 100
    error = feed(get(dss, io.BytesIO()), located(), refused, located(), refused, clock=clock).error
    assert isinstance(error, DSSResponseError)
    assert (error.status, error.code, error.title) == (403, "", "Forbidden")
    assert "s3cr3t" not in str(error)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_temporary_error_of_the_store_is_retried(dss: DSSAPI, clock: Clock, status: int) -> None:
    to = io.BytesIO()
    assert feed(get(dss, to), located(), problem(status), located(), Part(), clock=clock).value.size == 100


def test_404_of_store_or_dss_is_raised_at_once(dss: DSSAPI, clock: Clock) -> None:
    feed(get(dss, io.BytesIO()), located(), problem(404), clock=clock).failed(DSSNotFoundError)
    feed(get(dss, io.BytesIO()), problem(404, "not_found"), clock=clock).failed(DSSNotFoundError)


def test_range_after_the_received_content_is_protocol_error(dss: DSSAPI, clock: Clock) -> None:
    fed = feed(get(dss, io.BytesIO()), located(), Part(None, 10), located(), Part(20), clock=clock)
    fed.failed(DSSProtocolError)


def test_redirect_without_metadata_uses_head(dss: DSSAPI, clock: Clock) -> None:
    to = io.BytesIO()
    bare = Response(302, {"location": PLACE})
    fed = feed(get(dss, to), bare, Response(200, described()), Part(), clock=clock)
    assert [request.method for request in fed.requests] == ["GET", "HEAD", "GET"]
    assert to.getvalue() == CONTENT


@pytest.mark.parametrize("place", ["s3://bucket/key", "", "ftp://x/y", "https://user:s3cr3t@x/y"])
def test_redirect_to_other_scheme_is_error_without_quote(dss: DSSAPI, clock: Clock, place: str) -> None:
    fed = feed(get(dss, io.BytesIO()), located(place), clock=clock)
    if place:
        assert "s3cr3t" not in str(fed.failed(DSSProtocolError))


def test_partial_content_of_an_earlier_attempt_is_completed(dss: DSSAPI, clock: Clock) -> None:
    to = io.BytesIO(CONTENT[:60])
    content = Content(to)
    content.begin_with(to)
    fed = feed(dss.get_content(UUID, replica="aws", content=content), located(), Part(60), clock=clock)
    assert fed.value.size == 100
    assert to.getvalue() == CONTENT


def test_path_appears_when_the_file_is_complete(dss: DSSAPI, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    failed = feed(dss.get_file(UUID, replica="aws", to=path), located(), Part(content=CONTENT[::-1]), clock=clock)
    assert failed.failed(DSSContentError)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a": b"before"}
    assert feed(dss.get_file(UUID, replica="aws", to=str(path)), located(), Part(), clock=clock).value
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a": CONTENT}


def test_missing_directory_is_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "a"):
        pass


@pytest.mark.parametrize("body", [b"<Error><Code>A</Code><Message>m</Message><X>s3cr3t</X></Error>", b"<Error>s3cr3t"])
def test_error_of_the_store_shows_code_and_message_only(body: bytes) -> None:
    """Its XML repeats the signature."""
    error = decode_error(Request("GET", PLACE), Response(403, {}, body))
    assert "s3cr3t" not in str(error)


# On both transports


@pytest.fixture
def served() -> Iterator[OneBundle]:
    with OneBundle() as bundle:
        yield bundle


def test_stream_broken_six_times_is_complete(run: Run, served: OneBundle, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    file = served.add("a", content)
    served.break_after, served.breaks = 400_000, 6
    api = DSSAPI(served.url, auth=StaticToken("tok-9"), retry=QUICK)
    metadata = run(api.get_file(file["uuid"], replica="aws", to=tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == content
    assert metadata.sha256 == hashlib.sha256(content).hexdigest()
    assert served.sent < 2 * len(content)
    assert set(served.tokens) == {None}


class Full(io.BytesIO):
    """A file on a full disk."""

    def write(self, _: Any, /) -> int:
        """Fail."""
        raise OSError(28, "No space left on device")


def test_write_error_is_raised_and_not_retried(run: Run, served: OneBundle) -> None:
    file = served.add("a", b"content")
    with pytest.raises(OSError, match="No space left") as caught:
        run(DSSAPI(served.url, retry=QUICK).get_file(file["uuid"], replica="aws", to=Full()))
    assert not isinstance(caught.value, DSSConnectionError)
    assert served.requests[f"GET /content/{file['uuid']}"] == 1


def test_download_waits_for_checkout_and_verifies(run: Run, dss_of_session: LocalDSS) -> None:
    content, to = new_uuid().encode() * 1000, io.BytesIO()
    file = dss_of_session.new_file(content)
    metadata = run(DSSAPI(dss_of_session.url).get_file(file.upper(), replica="aws", version=VERSION, to=to))
    assert to.getvalue() == content
    assert (metadata.uuid, metadata.size) == (file, len(content))


def test_missing_file_is_not_found_and_nothing_is_written(run: Run, dss_of_session: LocalDSS) -> None:
    to = io.BytesIO()
    with pytest.raises(DSSNotFoundError):
        run(DSSAPI(dss_of_session.url).get_file(new_uuid(), replica="aws", to=to))
    assert to.getvalue() == b""


@pytest.fixture
def dss_of_session(shared_dss: LocalDSS) -> LocalDSS:
    """Return the local DSS."""
    shared_dss.control("DELETE", "faults")
    return shared_dss
