"""A plain request and its answer, byte by byte, on one end of a pair of sockets; the other end is the server."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, LocationParseError, NewConnectionError, ProtocolError

from airflow_provider_hca.client.sansio import Response
from airflow_provider_hca.client.wire import Line

TIMEOUT = (5.0, 5.0)


class _Server:
    """The other end: reads one request, and sends an answer in pieces.

    :param pieces: of the answer
    :param closes: whether the end follows
    """

    def __init__(self, pieces: list[bytes], *, closes: bool = False) -> None:
        self.asked = b""
        self._pieces, self._closes = pieces, closes
        self.near, self._far = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self.asked = self._far.recv(65_536)
        for piece in self._pieces:
            self._far.sendall(piece)
        if self._closes:
            self._far.close()

    def end(self) -> None:
        """End it."""
        self._thread.join(10)
        self._far.close()
        self.near.close()


@contextmanager
def _line(server: _Server) -> Iterator[tuple[Line, HTTPConnection]]:
    connection = HTTPConnection("dss.example.org")
    connection.sock = server.near
    try:
        yield Line(connection, "dss.example.org"), connection
    finally:
        server.end()


def _ask(line: Line, method: str = "GET", body: bytes | None = None, target: str = "/v1", **headers: str) -> Response:
    return line.exchange(method, target, headers=headers, body=body, timeout=TIMEOUT)


def _answer_to(answer: bytes, method: str = "GET", *, closes: bool = False, step: int = 0) -> tuple[Response, bool]:
    """Return what an answer is taken for, and whether the connection is kept."""
    pieces = [answer[at : at + step] for at in range(0, len(answer), step)] if step else [answer]
    with _line(_Server(pieces, closes=closes)) as (line, connection):
        return _ask(line, method), connection.sock is not None


_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx: y\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
_PACKED = gzip.compress(b"abcde", mtime=0)
_GZIPPED = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(_PACKED), _PACKED)

_Case = tuple[bytes, int, dict[str, str], bytes, bool]
_CASES: dict[str, _Case] = {
    "plain": (
        b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nX-Id:  a b\t\r\n\r\nabcde",
        201,
        {"content-length": "5", "x-id": "a b"},
        b"abcde",
        True,
    ),
    "no reason": (b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 404, {"content-length": "0"}, b"", True),
    "empty header": (
        b"HTTP/1.1 200 OK\r\na:\r\ncontent-length:1\r\n\r\nx",
        200,
        {"a": "", "content-length": "1"},
        b"x",
        True,
    ),
    "latin": (
        b"HTTP/1.1 200 OK\r\na: \xe9\r\ncontent-length:0\r\n\r\n",
        200,
        {"a": "é", "content-length": "0"},
        b"",
        True,
    ),
    "closing": (
        b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 1\r\n\r\nx",
        200,
        {"connection": "Close", "content-length": "1"},
        b"x",
        False,
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, {}, b"", True),
    "chunked": (_CHUNKED, 200, {"transfer-encoding": "chunked", "x": "y"}, b"abcde", True),
    "gzipped": (
        _GZIPPED,
        200,
        {"content-encoding": "gzip", "content-length": str(len(_PACKED))},
        b"abcde",
        True,
    ),
    "after 100": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        200,
        {"content-length": "1"},
        b"x",
        True,
    ),
    "twice the same header": (
        b"HTTP/1.1 200 OK\r\nlink: a\r\nLink: b\r\ncontent-length: 1\r\n\r\nx",
        200,
        {"link": "a, b", "content-length": "1"},
        b"x",
        True,
    ),
}


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("case", _CASES)
def test_an_answer(case: str, step: int) -> None:
    """An answer is taken for what it is, however it is cut into packets, and the connection is kept if it may be."""
    answer, status, headers, body, kept = _CASES[case]
    assert _answer_to(answer, step=step) == (Response(status, headers, body), kept)


def test_more_than_was_said() -> None:
    """A connection on which more came than the answer said is not used again: the rest would be the next answer."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxyz"
    assert _answer_to(answer) == (Response(200, {"content-length": "1"}, b"x"), False)


def test_until_the_end() -> None:
    """An answer that does not say how long it is ends with its connection."""
    answer = b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nabcde"
    assert _answer_to(answer, closes=True) == (Response(200, {"x": "y"}, b"abcde"), False)
    old = b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab"
    assert _answer_to(old, closes=True) == (Response(200, {"content-length": "2"}, b"ab"), False)


def test_head() -> None:
    """The answer to HEAD says how long a body would be, and has none."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"
    assert _answer_to(answer, "HEAD") == (Response(200, {"content-length": "500"}, b""), True)


def test_a_long_body() -> None:
    """A body of many packets comes whole."""
    body = bytes(range(256)) * 2000
    got, kept = _answer_to(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    assert (got.body, kept) == (body, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nx: y",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
    ],
    ids=["nothing", "half a head", "half a body", "half a chunk", "not HTTP", "an endless head"],
)
def test_no_answer(answer: bytes) -> None:
    """What is no whole answer is an error of the connection, which is closed."""
    with _line(_Server([answer], closes=True)) as (line, connection):
        with pytest.raises((HTTPError, OSError)):
            _ask(line)
        assert connection.sock is None


def test_what_is_sent() -> None:
    """A request is sent with its length, if it may have a body, and with its headers as they are given."""
    plain = [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]
    for method, body, length in [
        ("GET", None, b""),
        ("PUT", None, b"content-length: 0\r\n"),
        ("PUT", b'{"a": 1}', b"content-length: 8\r\n"),
        ("DELETE", b"{}", b"content-length: 2\r\n"),
    ]:
        server = _Server(plain)
        with _line(server) as (line, _):
            _ask(line, method, body, "/v1/files?a=%2B", accept="*/*")
        head = b"%b /v1/files?a=%%2B HTTP/1.1\r\nhost: dss.example.org\r\naccept: */*\r\n%b\r\n"
        assert server.asked == head % (method.encode(), length) + (body or b"")


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"x": "a\r\nauthorization: b"}, UnicodeError),
        ({"x": "a\nb"}, UnicodeError),
        ({"x": "\u20ac"}, UnicodeError),
        ({"target": "/v1 HTTP/1.1\r\nx: y"}, LocationParseError),
        ({"method": "GET /other"}, LocationParseError),
    ],
)
def test_nothing_is_smuggled(how: dict[str, Any], error: type[Exception]) -> None:
    """What would end a line, and begin another header or request, is not sent."""
    server = _Server([])
    with _line(server) as (line, _):
        with pytest.raises(error):
            _ask(line, **how)
        server.near.close()
    assert server.asked == b""


def test_an_answer_before_the_whole_request_is_read() -> None:
    """A server that refuses a body without reading it, and closes, is heard."""
    near, far = socket.socketpair()
    far.sendall(b"")
    connection = HTTPConnection("dss.example.org")
    connection.sock = near
    answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n"

    def refuse() -> None:
        far.recv(10)
        far.sendall(answer)
        far.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=refuse, daemon=True)
    thread.start()
    got = _ask(Line(connection, "dss.example.org"), "PUT", b"x" * 50_000_000)
    thread.join(10)
    far.close()
    connection.close()
    assert got.status == 413


def test_a_line_that_the_server_closed_is_opened_again() -> None:
    """A connection that ended while it was not in use is noticed before anything is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        asked: list[bytes] = []

        def serve() -> None:
            for _ in range(2):
                taken, _ = listening.accept()
                asked.append(taken.recv(65_536))
                taken.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                taken.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        connection = HTTPConnection("127.0.0.1", port)
        line = Line(connection, f"127.0.0.1:{port}")
        assert _ask(line, "PUT", b"1").status == 200
        _until(lambda: connection.sock is not None and bool(connection.sock.recv(1, socket.MSG_PEEK) == b""))
        assert _ask(line, "PUT", b"2").status == 200
        thread.join(10)
        line.close()
    assert [each[-1:] for each in asked] == [b"1", b"2"]


def test_no_connection_and_no_answer_in_time() -> None:
    """A port where nobody listens, and a server that says nothing, are told apart."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        silent = Line(HTTPConnection("127.0.0.1", port), "x")
        with pytest.raises(TimeoutError):
            silent.exchange("GET", "/", headers={}, body=None, timeout=(5.0, 0.1))
    with pytest.raises(NewConnectionError):
        _ask(Line(HTTPConnection("127.0.0.1", port), "x"))
    with pytest.raises(ProtocolError, match="closed"):
        _answer_to(b"", closes=True)


def _until(true: Callable[[], Any]) -> None:
    for _ in range(1000):
        if true():
            return
    raise AssertionError
