"""HTTP/1.1 for the plain case: a body in memory goes out, a short answer comes back.

urllib3 leaves that to `http.client`, which gives the headers of answers to a parser of e-mails; what the two do around
a request takes three times the processor time of sending it. Here a request is sent at one go, and an answer that says
how long it is, and is not encoded, is taken as it stands. Any other answer is left to the two of them, with what has
come of it. Connecting and TLS are urllib3's in any case.
"""

from __future__ import annotations

import http.client
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import LocationParseError, ProtocolError
from urllib3.util.wait import wait_for_read

from airflow_provider_hca.client.sansio import Response, lower_case

_CHUNK = 65_536
_LONGEST_HEAD = 131_072  # bytes
_STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [^\r\n]*)?(?=\r\n)")
_HEADER = re.compile(rb"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)(?=\r\n)")
_LENGTH = re.compile(r"[0-9]{1,15}", re.ASCII)
_NO_HEADER = re.compile(r"[\r\n\0]")
_NO_TARGET = re.compile(r"[^!-~]")
_WITH_BODY = frozenset({"PUT", "POST", "PATCH"})
_WITHOUT_BODY = frozenset({204, 304})


class Line:
    """A connection to a server that is kept between requests; of use to one thread at a time.

    :param connection: urllib3's, open or not
    :param host: as the server is told in the header of this name
    """

    def __init__(self, connection: HTTPConnection, host: str) -> None:
        self._connection, self._host = connection, host

    def close(self) -> None:
        """Close it; the next request opens it again."""
        self._connection.close()

    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: tuple[float, float],
    ) -> Response:
        """Send a request and return the answer.

        :param target: path and query
        :param headers: names in lower case
        :param timeout: seconds to wait for a connection, and for each part of the answer
        :raises urllib3.exceptions.HTTPError: when there is no connection, or what comes is no answer
        :raises OSError: when the connection breaks, or nothing comes in time
        :raises UnicodeError: when a header cannot be sent
        """
        message = self._message(method, target, headers, body)
        sock = self._open(*timeout)
        try:
            # A server may answer before it has read all, and close: that answer can be read.
            with suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(message)
            return self._receive(method, sock)
        except BaseException:
            self.close()
            raise

    def _message(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        lines = [f"host: {self._host}", *(f"{name}: {value}" for name, value in headers.items())]
        if body is not None or method in _WITH_BODY:
            lines.append(f"content-length: {len(body or b'')}")
        if _NO_TARGET.search(target) or _NO_TARGET.search(method):
            raise LocationParseError(target)
        if any(map(_NO_HEADER.search, lines)):
            raise UnicodeError("a header has a line break in it")
        return "\r\n".join((f"{method} {target} HTTP/1.1", *lines, "", "")).encode("latin-1") + (body or b"")

    def _open(self, connect_timeout: float, read_timeout: float) -> Any:
        connection = self._connection
        if connection.sock is not None and wait_for_read(connection.sock, timeout=0):
            connection.close()  # what comes unasked is the end, or of no use
        if connection.sock is None:
            connection.timeout = connect_timeout
            connection.connect()
            assert connection.sock is not None, "it is connected"  # noqa: S101 - for the type checker
        connection.sock.settimeout(read_timeout)
        return connection.sock

    def _receive(self, method: str, sock: Any) -> Response:
        come = b""
        while (end := come.find(b"\r\n\r\n")) < 0:
            chunk = sock.recv(_CHUNK)
            if not chunk:
                raise ProtocolError("the connection was closed before an answer had come")
            come += chunk
            if len(come) > _LONGEST_HEAD:
                raise ProtocolError("the answer's headers do not end")
        answer = _plain(method, come, end)
        if answer is None:
            return self._receive_otherwise(method, _Rest(come, sock))
        status, headers, size = answer
        pieces, left = [come[end + 4 :]], size - (len(come) - end - 4)
        while left > 0:
            chunk = sock.recv(min(left, _CHUNK))
            if not chunk:
                raise ProtocolError(f"{left} bytes of the answer did not come")
            pieces.append(chunk)
            left -= len(chunk)
        if left < 0 or "close" in headers.get("connection", "").lower():
            self.close()
        return Response(status, headers, b"".join(pieces)[:size])

    def _receive_otherwise(self, method: str, rest: _Rest) -> Response:
        answer = http.client.HTTPResponse(cast("Any", rest), method=method)
        try:
            answer.begin()
            read = HTTPResponse(answer, HTTPHeaderDict(answer.msg.items()), answer.status, request_method=method)
        except http.client.HTTPException as error:
            raise ProtocolError(type(error).__name__, error) from None
        if answer.will_close or rest.left:
            self.close()
        return Response(read.status, lower_case(read.headers), read.data)


class _Rest(io.RawIOBase):
    """What `http.client` reads in the place of a socket: what has come already, and then what comes."""

    def __init__(self, come: bytes, sock: Any) -> None:
        self.left, self._sock = come, sock

    def makefile(self, _: str) -> io.BufferedReader:
        """Return it as a file."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.left:
            return int(self._sock.recv_into(buffer))
        piece, self.left = self.left[: len(buffer)], self.left[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def _plain(method: str, come: bytes, end: int) -> tuple[int, dict[str, str], int] | None:
    """Return status, headers and the size of the body of an answer; None if it is not a plain one.

    :param come: what has come of it
    :param end: where its headers end
    """
    first = _STATUS.match(come)
    if first is None:
        return None
    fields, at = [], first.end()
    while at < end and (field := _HEADER.match(come, at)):
        fields.append((field[1].decode("latin-1").lower(), field[2].decode("latin-1").rstrip(" \t")))
        at = field.end()
    headers = dict(fields)
    if at != end or len(headers) != len(fields) or {"transfer-encoding", "content-encoding"} & headers.keys():
        return None
    status, length = int(first[1]), headers.get("content-length", "")
    if method == "HEAD" or status in _WITHOUT_BODY:
        return status, headers, 0
    return (status, headers, int(length)) if _LENGTH.fullmatch(length) else None
