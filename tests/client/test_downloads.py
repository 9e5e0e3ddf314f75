"""Downloading a file: by fed answers, and on both transports from servers that break."""

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


def found(place: str = PLACE, **headers: str) -> Response:
    return Response(302, {"location": place, **described(), **headers})


class Part:
    """An answer with content, which a transport hands over in chunks and may break off."""

    def __init__(self, begin: int | None = None, end: int | None = None, content: bytes = CONTENT) -> None:
        self.begin, self.content = begin, content[begin or 0 : end]
        self.whole = end is None

    def hand_over(self, request: Request) -> Response | DSSConnectionError:
        """Do what a transport does with it."""
        status = 200 if self.begin is None else 206
        headers = {} if self.begin is None else {"content-range": f"bytes {self.begin}-99/100"}
        assert request.receive is not None
        take = request.receive(status, headers)
        assert take is not None
        for start in range(0, len(self.content), 7):
            take(self.content[start : start + 7])
        return Response(status, headers) if self.whole else broken()


def feed(call: Any, *answers: Response | DSSConnectionError | Part, clock: Clock) -> Fed[Any]:
    left = iter(answers)

    def answer(request: Request) -> Response | DSSConnectionError:
        following = next(left)
        return following.hand_over(request) if isinstance(following, Part) else following

    fed = converse(call, answer, clock=clock)
    assert next(left, None) is None, f"not all was asked for: {fed.error!r}"
    return fed


def get(dss: DSSAPI, to: io.BytesIO) -> Any:
    return dss.get_file(UUID, replica="aws", to=to)


def test_a_file_comes_from_where_the_dss_says(dss: DSSAPI, clock: Clock) -> None:
    """After the wait for a checkout the content is fetched from the other host, without the token."""
    to = io.BytesIO()
    again = Response(301, {"location": f"{URL}/files/{UUID}?replica=aws&token=t", "retry-after": "10"})
    fed = feed(get(dss, to), again, again, found(), Part(), clock=clock)
    assert to.getvalue() == CONTENT
    assert fed.value.size == 100
    assert fed.delays == [0, 10, 10, 0]
    assert fed.requests[-1].url == PLACE
    assert fed.tokens == [None] * 4
    assert fed.requests[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up(dss: DSSAPI, clock: Clock, ranges: bool) -> None:
    """The rest is asked for by a range; a store that sends all of it again does no harm."""
    to = io.BytesIO()
    breaks: list[Any] = [
        Part(None, 30),
        found(),
        Part(30 if ranges else None, 31),
        found(),
        Part(31 if ranges else None),
    ]
    fed = feed(get(dss, to), found(), *breaks, clock=clock)
    assert to.getvalue() == CONTENT
    assert [request.headers.get("range") for request in fed.requests[1::2]] == [None, "bytes=30-", "bytes=31-"]
    assert f"version={FED_VERSION}" in fed.requests[2].url


def test_progress_is_what_counts(dss: DSSAPI, clock: Clock) -> None:
    """As long as something comes it goes on; where nothing comes it ends with the last failure."""
    to = io.BytesIO()
    steps: list[Any] = [found(), Part(None, 1)]
    for begin in range(1, 40):
        steps += [found(), Part(begin, begin + 1)]
    stuck: list[Any] = [found(), broken()] * 2
    fed = feed(get(dss, to), *steps, *stuck, clock=clock)
    assert fed.failed(DSSConnectionError).kind == "dropped"
    assert to.getvalue() == CONTENT[:40]


def test_an_empty_file_needs_no_content(dss: DSSAPI, clock: Clock) -> None:
    """Nothing is fetched of a file of no bytes."""
    to = io.BytesIO()
    empty = Response(302, {"location": PLACE, **described(b"")})
    assert feed(get(dss, to), empty, clock=clock).value.size == 0


@pytest.mark.parametrize("other", [CONTENT + b"x", CONTENT[::-1]])
def test_other_content_is_an_error(dss: DSSAPI, clock: Clock, other: bytes) -> None:
    """What came is compared with what the DSS says, by size and sha256."""
    error = feed(get(dss, io.BytesIO()), found(), Part(content=other), clock=clock).failed(DSSContentError)
    assert (error.uuid, error.version, error.permanent) == (UUID, FED_VERSION, False)


def test_a_place_that_has_expired_is_asked_for_again(dss: DSSAPI, clock: Clock) -> None:
    """A signature that the store refuses is renewed once; then the refusal is told, without any signature."""
    xml = (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message>"
        b"<StringToSign>s3cr3t</StringToSign><SignatureProvided>s3cr3t</SignatureProvided></Error>"
    )
    refused = Response(403, {"content-type": "application/xml"}, xml)
    to = io.BytesIO()
    assert feed(get(dss, to), found(), refused, found(), Part(), clock=clock).value.size == 100
    error = feed(get(dss, io.BytesIO()), found(), refused, found(), refused, clock=clock).error
    assert isinstance(error, DSSResponseError)
    assert (error.status, error.code, error.title) == (403, "AccessDenied", "Request has expired")
    assert "s3cr3t" not in str(error)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_store_in_trouble_is_asked_again(dss: DSSAPI, clock: Clock, status: int) -> None:
    """What passes is ridden out."""
    to = io.BytesIO()
    assert feed(get(dss, to), found(), problem(status), found(), Part(), clock=clock).value.size == 100


def test_a_store_that_does_not_have_it(dss: DSSAPI, clock: Clock) -> None:
    """A 404 of the store, or of the DSS, is told at once."""
    feed(get(dss, io.BytesIO()), found(), problem(404), clock=clock).failed(DSSNotFoundError)
    feed(get(dss, io.BytesIO()), problem(404, "not_found"), clock=clock).failed(DSSNotFoundError)


def test_a_range_that_was_not_asked_for(dss: DSSAPI, clock: Clock) -> None:
    """Content that begins behind what has come would leave a hole."""
    fed = feed(get(dss, io.BytesIO()), found(), Part(None, 10), found(), Part(20), clock=clock)
    fed.failed(DSSProtocolError)


def test_a_redirect_that_describes_nothing(dss: DSSAPI, clock: Clock) -> None:
    """Where the redirect comes without the DSS's headers, HEAD tells what the file is."""
    to = io.BytesIO()
    bare = Response(302, {"location": PLACE})
    fed = feed(get(dss, to), bare, Response(200, described()), Part(), clock=clock)
    assert [request.method for request in fed.requests] == ["GET", "HEAD", "GET"]
    assert to.getvalue() == CONTENT


@pytest.mark.parametrize("place", ["s3://bucket/key", "", "ftp://x/y", "https://user:s3cr3t@x/y"])
def test_a_place_that_http_cannot_go_to(dss: DSSAPI, clock: Clock, place: str) -> None:
    """A redirect to something else than http is an error, which does not quote it."""
    fed = feed(get(dss, io.BytesIO()), found(place), clock=clock)
    if place:
        assert "s3cr3t" not in str(fed.failed(DSSProtocolError))


def test_what_an_earlier_try_left_is_completed(dss: DSSAPI, clock: Clock) -> None:
    """Content that is there for a part is read, and only the rest asked for."""
    to = io.BytesIO(CONTENT[:60])
    content = Content(to)
    content.begin_with(to)
    fed = feed(dss.get_content(UUID, replica="aws", content=content), found(), Part(60), clock=clock)
    assert fed.value.size == 100
    assert to.getvalue() == CONTENT


def test_a_path_has_the_file_when_it_is_whole(dss: DSSAPI, clock: Clock, tmp_path: Path) -> None:
    """Until then a file of that name stays as it was, and nothing else stays after a failure."""
    path = tmp_path / "a"
    path.write_bytes(b"before")
    failed = feed(dss.get_file(UUID, replica="aws", to=path), found(), Part(content=CONTENT[::-1]), clock=clock)
    assert failed.failed(DSSContentError)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"a": b"before"}
    assert feed(dss.get_file(UUID, replica="aws", to=str(path)), found(), Part(), clock=clock).value
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"a": CONTENT}


def test_a_disk_that_is_full_is_no_broken_connection(tmp_path: Path) -> None:
    """A directory that is not there is told as what it is."""
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "a"):
        pass


@pytest.mark.parametrize("body", [b"<Error><Code>A</Code><Message>m</Message><X>s3cr3t</X></Error>", b"<Error>s3cr3t"])
def test_a_stores_error_is_read_in_part_only(body: bytes) -> None:
    """Of an object store's XML only code and message are told: it repeats what was signed."""
    error = decode_error(Request("GET", PLACE), Response(403, {}, body))
    assert "s3cr3t" not in str(error)


# On both transports


@pytest.fixture
def served() -> Iterator[OneBundle]:
    with OneBundle() as bundle:
        yield bundle


def test_a_stream_that_breaks(run: Run, served: OneBundle, tmp_path: Path) -> None:
    """Three megabytes through six broken connections are whole, and few bytes came twice."""
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
    """A file on a disk that is full."""

    def write(self, _: Any, /) -> int:
        """Fail."""
        raise OSError(28, "No space left on device")


def test_what_cannot_be_written_is_told_as_that(run: Run, served: OneBundle) -> None:
    """An error of the disk passes as it is, and is not tried again."""
    file = served.add("a", b"content")
    with pytest.raises(OSError, match="No space left") as caught:
        run(DSSAPI(served.url, retry=QUICK).get_file(file["uuid"], replica="aws", to=Full()))
    assert not isinstance(caught.value, DSSConnectionError)
    assert served.requests[f"GET /content/{file['uuid']}"] == 1


def test_a_file_of_the_dss(run: Run, dss_of_session: LocalDSS) -> None:
    """The wait for a checkout, the other host and the sums, as a DSS has them."""
    content, to = new_uuid().encode() * 1000, io.BytesIO()
    file = dss_of_session.new_file(content)
    metadata = run(DSSAPI(dss_of_session.url).get_file(file.upper(), replica="aws", version=VERSION, to=to))
    assert to.getvalue() == content
    assert (metadata.uuid, metadata.size) == (file, len(content))


def test_a_file_that_is_not_there(run: Run, dss_of_session: LocalDSS) -> None:
    """404 is an error, and nothing is written."""
    to = io.BytesIO()
    with pytest.raises(DSSNotFoundError):
        run(DSSAPI(dss_of_session.url).get_file(new_uuid(), replica="aws", to=to))
    assert to.getvalue() == b""


@pytest.fixture
def dss_of_session(shared_dss: LocalDSS) -> LocalDSS:
    """Give the local DSS, whose name the fed tests have for the client."""
    shared_dss.control("DELETE", "faults")
    return shared_dss
