"""Servers that send without end, slowly, or a few bytes that become many."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.api.base import MAX_PAGES
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.sansio import (
    MAX_BODY_SIZE,
    Call,
    Request,
    Response,
    body_limit,
    decode_error,
    json_object,
    next_page,
    retry_after,
)
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import DSSAbortedError, DSSConnectionError, DSSProtocolError

from .drivers import Run, call, failure, get
from .feeding import URL, UUID, VERSION, ok
from .server import Reply, Server

T = TypeVar("T")

MIB = 1024 * 1024
MAX_MEMORY = 64 * MIB
REQUEST = Request("GET", f"{URL}/files/{UUID}")
OK = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def endless(start: bytes, part: bytes, pause: float = 0.0) -> Iterator[str]:
    """Serve responses that have a start and no end; yield the URL.

    :param pause: Time between two parts, in seconds
    """
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def send(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(start)
            while not ended.wait(pause) if pause else not ended.is_set():
                connection.sendall(part)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=send, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        ended.set()
        listener.close()


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Fail if the block allocates more than MAX_MEMORY."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MAX_MEMORY


# Time

SLOW = {
    "in the status line": (b"HTTP/1.1 200 O", b"K"),
    "in a header": (OK + b"X: ", b"y"),
    "with interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "in the body": (OK + b"Content-Length: 100000\r\n\r\n{", b" "),
    "in a chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n{", b" "),
    "between chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


@pytest.mark.parametrize("received", [False, True])
@pytest.mark.parametrize("where", SLOW)
def test_response_byte_by_byte_ends_with_read_timeout(run: Run, where: str, received: bool) -> None:
    receive = (lambda _, __: lambda _: None) if received else None
    with endless(*SLOW[where], pause=0.05) as url:
        request = Request("GET", url, connect_timeout=0.2, read_timeout=0.2, receive=receive)
        assert failure(run, request).kind == "read timeout"


@pytest.mark.parametrize("where", SLOW)
def test_stop_ends_a_response_byte_by_byte(where: str) -> None:
    stop = threading.Event()
    with endless(*SLOW[where], pause=0.05) as url, RequestsTransport(stop=stop) as transport:
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(DSSAbortedError):
            transport.run(call(get(url, read=600)))


def test_content_above_minimum_rate_is_received(run: Run) -> None:
    """Content may take longer than other responses."""
    size, received = 60_000, bytearray()
    start = OK + b"Content-Length: %d\r\n\r\n" % size
    with endless(start, b"x" * 500, pause=0.02) as url:
        run(call(Request("GET", url, connect_timeout=60, read_timeout=1.5, receive=lambda _, __: received.extend)))
    assert len(received) == size


# Size

ENDLESS = {
    "until the connection closes": (b"\r\n{", b" " * MIB),
    "chunked": (b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + b" " * MIB + b"\r\n"),
    "in a trailer": (b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 1000),
    "in a chunk's size": (b"Transfer-Encoding: chunked\r\n\r\n", b"0" * MIB),
    "in a chunk's extension": (b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * MIB),
    "in a header": (b"X: ", b"y" * MIB),
    "in headers": (b"", b"X: y\r\n" * 1000),
}


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("where", ENDLESS)
def test_endless_response_takes_little_memory(run: Run, where: str, status: int) -> None:
    start, part = ENDLESS[where]
    body = b""
    with (
        endless(b"HTTP/1.1 %d X\r\n" % status + start, part) as url,
        limited_memory(),
        contextlib.suppress(DSSConnectionError),
    ):
        body = run(call(get(url, connect=0.5, read=0.5))).body
    assert len(body) in {0, body_limit(status) + 1}


def test_compressed_response_is_not_decoded(run: Run, server: Server) -> None:
    """100 KB of gzip would be 100 MiB of text."""
    body = gzip.compress(b" " * (100 * MIB))
    for status in (200, 500):
        server.replies = [Reply(status, [("Content-Encoding", "gzip")], body)]
        with limited_memory():
            response = run(call(get(server.url)))
            with pytest.raises(DSSProtocolError, match="without a JSON object"):
                json_object(REQUEST, response)
            assert decode_error(REQUEST, response).title in {"OK", "Internal Server Error"}
    assert {asked.headers["accept-encoding"] for asked in server.asked} == {"identity"}


def test_response_of_maximum_size_is_read(run: Run, server: Server) -> None:
    body = json.dumps({"a": "x" * (MAX_BODY_SIZE - 9)}).encode()
    assert len(body) == MAX_BODY_SIZE
    server.replies = [Reply(body=body), Reply(body=body + b" ")]
    assert len(json_object(REQUEST, run(call(get(server.url))))["a"]) == MAX_BODY_SIZE - 9
    with pytest.raises(DSSProtocolError, match="200 with more than 6,000,000 bytes"):
        json_object(REQUEST, run(call(get(server.url))))
    assert run(call(get(server.url))).status == 200  # on a new connection


@pytest.mark.parametrize("value", ["[],", "{},", "1.5,", '"ab",', '{"a":{}},', '"\U0001f600",'])
@pytest.mark.parametrize("count", [150_000, 2_000_000])
def test_json_of_many_values_takes_little_memory(value: str, count: int) -> None:
    body = f'{{"a": [{value * count}0]}}'.encode()[: MAX_BODY_SIZE + 1]
    with limited_memory(), contextlib.suppress(DSSProtocolError):
        json_object(REQUEST, Response(200, {}, body))


def test_json_of_long_text_takes_little_memory() -> None:
    body = json.dumps({"a": "\U0001f600" + "x" * (MAX_BODY_SIZE - 20)}, ensure_ascii=False).encode()
    with limited_memory():
        assert len(json_object(REQUEST, Response(200, {}, body))["a"]) > MAX_BODY_SIZE - 30


def test_endless_pages_end() -> None:
    """A server that always has another page is asked a limited number of times."""
    pages = DSSAPI(URL).get_bundles_all(replica="aws")
    next(pages)
    for number in range(MAX_PAGES - 1):
        pages.send(ok({"bundles": []}, 206, link=f"<{URL}/bundles/all?page={number}>; rel='next'"))
    with pytest.raises(DSSProtocolError, match="more than 2,000 pages"):
        pages.send(ok({"bundles": []}, 206, link=f"<{URL}/bundles/all?page=x>; rel='next'"))


@pytest.mark.parametrize("newer_than", ["", "2"])
def test_endless_list_of_bundles_takes_little_memory(newer_than: str) -> None:
    bundles = DSSAPI(URL).get_bundles_all(replica="aws", newer_than=newer_than)
    with limited_memory(), pytest.raises(DSSProtocolError, match="more than 100,000 such bundles: give a prefix"):
        send_pages(bundles, lambda number: {"bundles": [long_names(number, entry) for entry in range(500)]})


def test_at_most_accepts_more_bundles() -> None:
    bundles = DSSAPI(URL).get_bundles_all(replica="aws", at_most=150_000)
    found = send_pages(bundles, lambda number: {"bundles": [{"uuid": f"{number}", "version": "v"}] * 500})
    assert len(found) == 150_000


@pytest.mark.parametrize(
    ("call", "page"),
    [
        (lambda api: api.get_bundle(UUID, replica="aws"), {"bundle": {"uuid": UUID, "version": VERSION, "files": []}}),
        (lambda api: api.get_events(replica="aws"), {"event_streams": []}),
        (lambda api: api.get_collections(), {"collections": []}),
        (lambda api: api.post_search({}, replica="aws"), {"results": []}),
    ],
)
@pytest.mark.parametrize("filler", ["x" * 5_000_000, [0] * 24_000], ids=["bytes", "values"])
def test_endless_pages_are_limited_in_size(
    call: Callable[[DSSAPI], Call[Any]], page: dict[str, Any], filler: Any
) -> None:
    pages = 0

    def next_body(number: int) -> dict[str, Any]:
        nonlocal pages
        pages = number
        return {**page, "more": filler}

    with pytest.raises(DSSProtocolError, match="more than 64,000,000 bytes or 1,250,000 values together"):
        send_pages(call(DSSAPI(URL, auth=StaticToken("t"))), next_body)
    assert pages < 60


def send_pages(call: Call[T], body: Callable[[int], dict[str, Any]]) -> T:
    """Run a call against a server that always has another page.

    :param body: Function that returns the body of a page with a number
    """
    next(call)
    try:
        for number in itertools.count():
            call.send(ok(body(number), 206, link=f"<{URL}/bundles/all?page={number}>; rel='next'"))
    except StopIteration as result:
        value: T = result.value
    return value


def long_names(page: int, entry: int) -> dict[str, str]:
    name = f"\U0001f600{page:017}{entry:018}"
    return {"uuid": name, "version": name[::-1]}


# Parsing

HOSTILE: dict[str, Callable[[int], str]] = {
    "<": lambda size: "<" * size,
    "titles": lambda size: "<title" * (size // 6),
    "XML errors": lambda size: "<Error><Code>" * (size // 13),
    "spaces": lambda size: "<x>" + " " * size,
    "brackets": lambda size: "[" * size,
    "links": lambda size: "<x>; " * (size // 5),
    "parameters": lambda size: "<x>" + ";rel" * (size // 4),
    "digits": lambda size: "1" * size,
    "dates": lambda size: "Mon, 01 " * (size // 8),
}


def parse(text: str) -> None:
    decode_error(REQUEST, Response(500, {}, text.encode()))
    response = Response(200, {"link": text, "retry-after": text})
    with contextlib.suppress(DSSProtocolError):
        next_page(REQUEST, response)
    retry_after(response)


@pytest.mark.parametrize("kind", HOSTILE)
def test_parsing_time_grows_linearly(kind: str) -> None:
    def seconds(size: int) -> float:
        text = HOSTILE[kind](size)
        durations = []
        for _ in range(3):
            started = time.thread_time()
            parse(text)
            durations.append(time.thread_time() - started)
        return min(durations)

    assert seconds(400_000) < 10 * seconds(100_000) + 0.02
