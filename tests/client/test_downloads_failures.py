"""Downloads from failing stores: with fed responses, and from sockets that break."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.downloads import Content, NotReadyError
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.sansio import Response
from airflow_provider_hca.exceptions import (
    DSSConnectionError,
    DSSContentError,
    DSSNotFoundError,
    DSSProtocolError,
)
from tests.local.server import VERSION, new_uuid, sums

from .drivers import Run
from .feeding import URL, UUID, Clock, broken, problem
from .test_downloads import CONTENT, Part, feed, get, located

QUICK = RetryPolicy(attempts=3, seconds=5, first_delay=0.02)


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, retry=RetryPolicy(attempts=3))


# Fed


def test_wait_for_checkout_is_not_time_spent_on_retries(dss: DSSAPI, clock: Clock) -> None:
    waiting = Response(301, {"location": f"{URL}/files/{UUID}?replica=aws&token=t", "retry-after": "300"})
    to = io.BytesIO()
    assert feed(get(dss, to), waiting, located(), broken(), located(), Part(), clock=clock).value.size == 100
    assert to.getvalue() == CONTENT


def test_too_long_checkout_is_temporary_error(dss: DSSAPI, clock: Clock) -> None:
    waiting = Response(301, {"location": f"{URL}/files/{UUID}?replica=aws&token=t", "retry-after": "300"})
    error = feed(get(dss, io.BytesIO()), *[waiting] * 3, clock=clock).failed(DSSProtocolError)
    assert not error.permanent


def test_file_not_ready_without_wait_is_not_ready_error(dss: DSSAPI, clock: Clock) -> None:
    waiting = Response(301, {"location": f"{URL}/files/{UUID}?replica=aws&token=t", "retry-after": "300"})
    to = io.BytesIO()
    fed = feed(dss.get_content(UUID, replica="aws", content=Content(to), wait=False), waiting, clock=clock)
    fed.failed(NotReadyError)
    fed = feed(dss.get_content(UUID, replica="aws", content=Content(to), wait=False), located(), Part(), clock=clock)
    assert (fed.value.size, to.getvalue()) == (100, CONTENT)


def test_short_response_without_length_is_resumed(dss: DSSAPI, clock: Clock) -> None:
    early = Part(None, 30)
    early.whole = True
    to = io.BytesIO()
    fed = feed(get(dss, to), located(), early, located(), Part(30), clock=clock)
    assert (fed.value.size, to.getvalue()) == (100, CONTENT)


def test_content_shorter_than_its_metadata_ends_after_416(dss: DSSAPI, clock: Clock) -> None:
    short = Part(content=CONTENT[:60])
    error = feed(get(dss, io.BytesIO()), located(), short, located(), problem(416), clock=clock).failed(DSSContentError)
    assert "60" in str(error)
    assert not error.permanent


def test_content_longer_than_its_metadata_is_cut_off(dss: DSSAPI, clock: Clock) -> None:
    to = io.BytesIO()
    feed(get(dss, to), located(), Part(content=CONTENT * 50), clock=clock).failed(DSSContentError)
    assert len(to.getvalue()) <= len(CONTENT)


NO_KEY = b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>The key does not exist.</Message></Error>"


def test_404_of_the_store_is_not_a_wrong_address(dss: DSSAPI, clock: Clock) -> None:
    gone = Response(404, {"content-type": "application/xml"}, NO_KEY)
    feed(get(dss, io.BytesIO()), located(), gone, clock=clock).failed(DSSNotFoundError)


def test_404_of_another_web_server_is_a_wrong_address(dss: DSSAPI, clock: Clock) -> None:
    error = feed(get(dss, io.BytesIO()), Response(404, {}, b"<h1>Not found</h1>"), clock=clock).failed(DSSProtocolError)
    assert "base path" in str(error)


def test_file_name_of_maximum_length_can_be_downloaded(dss: DSSAPI, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / ("\u00fc" * 127)
    assert feed(dss.get_file(UUID, replica="aws", to=path), located(), Part(), clock=clock).value.size == 100
    assert path.read_bytes() == CONTENT


def test_redirect_of_the_store_is_followed_with_the_range(dss: DSSAPI, clock: Clock) -> None:
    on = Response(307, {"location": "https://eu.example.org/k?s=1"})
    to = io.BytesIO()
    fed = feed(get(dss, to), located(), on, Part(None, 50), located(), on, Part(50), clock=clock)
    assert (fed.value.size, to.getvalue()) == (100, CONTENT)
    assert [request.headers.get("range") for request in fed.requests if "example.org/" in request.url][
        -1
    ] == "bytes=50-"


# From sockets that break, on both transports


class Breaking:
    """A store that breaks every connection after some bytes.

    :param how: `fin` closes it, `rst` resets it, `silent` closes it without a Content-Length, `chunked` within a chunk
    :param after: Number of bytes before the break
    """

    def __init__(self, content: bytes, how: str, after: int) -> None:
        self.content, self.how, self.after = content, how, after
        self.uuid = new_uuid()
        self.ranges: list[int] = []
        self.sent = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def url(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            asked = b""
            while not asked.endswith(b"\r\n\r\n"):
                asked += connection.recv(65536) or b"\r\n\r\n"
            lines = asked.decode().splitlines()
            if "/v1/" in lines[0]:
                connection.sendall(self._place())
                return
            ranged = [line.partition("=")[2] for line in lines if line.lower().startswith("range:")]
            begin = int(ranged[0].rstrip("-")) if ranged else 0
            self.ranges.append(begin)
            self._send(connection, begin)

    def _place(self) -> bytes:
        shown = {key.removeprefix("hca-dss-").replace("_", "-"): value for key, value in sums(self.content).items()}
        shown |= {"version": VERSION, "size": str(len(self.content)), "content-type": "x/y", "creator-uid": "1"}
        headers = {f"X-DSS-{name}": value for name, value in shown.items()}
        headers |= {"Location": self.url.replace("/v1", "/content"), "Content-Length": "0", "Connection": "close"}
        lines = ["HTTP/1.1 302 Found", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _send(self, connection: socket.socket, begin: int) -> None:
        rest = self.content[begin:]
        head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {begin}-{len(self.content) - 1}/*\r\n"
        head += {"silent": "Connection: close\r\n", "chunked": "Transfer-Encoding: chunked\r\n"}.get(
            self.how, f"Content-Length: {len(rest)}\r\n"
        )
        part = rest[: self.after]
        self.sent += len(part)
        chunk = f"{len(rest):x}\r\n".encode() if self.how == "chunked" else b""
        end = b"\r\n0\r\n\r\n" if self.how == "chunked" and part == rest else b""
        connection.sendall(f"{head}\r\n".encode() + chunk + part + end)
        if self.how == "rst" and part != rest:
            threading.Event().wait(0.1)  # otherwise the data in the sockets would be lost
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("how", ["fin", "rst", "silent", "chunked"])
def test_connection_broken_at_any_point_is_resumed(run: Run, how: str, tmp_path: Path) -> None:
    content = os.urandom(2_000_000)
    with Breaking(content, how, 300_000) as store:
        metadata = run(DSSAPI(store.url, retry=QUICK).get_file(store.uuid, replica="aws", to=tmp_path / "a"))
        assert metadata.sha256 == hashlib.sha256(content).hexdigest()
        assert (tmp_path / "a").read_bytes() == content
        assert store.sent < 2 * len(content)
        assert store.ranges == sorted(set(store.ranges))


@pytest.fixture
def stuck() -> Iterator[Breaking]:
    with Breaking(b"x" * 1000, "fin", 0) as store:
        yield store


def test_store_without_data_ends_after_all_attempts(run: Run, stuck: Breaking, tmp_path: Path) -> None:
    with pytest.raises(DSSConnectionError) as caught:
        run(DSSAPI(stuck.url, retry=QUICK).get_file(stuck.uuid, replica="aws", to=tmp_path / "a"))
    assert caught.value.kind == "dropped"
    assert len(stuck.ranges) == QUICK.attempts
    assert list(tmp_path.iterdir()) == []


def test_content_of_the_target_is_not_resumed_without_begin_with(run: Run, tmp_path: Path) -> None:
    content: Any = os.urandom(1000)
    (tmp_path / "a").write_bytes(b"something else")
    with Breaking(content, "fin", 10_000) as store, (tmp_path / "a").open("r+b") as to:
        run(DSSAPI(store.url, retry=QUICK).get_file(store.uuid, replica="aws", to=to))
    assert store.ranges == [0]
    assert (tmp_path / "a").read_bytes() == content
