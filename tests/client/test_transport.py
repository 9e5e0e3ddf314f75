from __future__ import annotations

import asyncio
import contextlib
import gzip
import inspect
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_provider_hca import __version__
from airflow_provider_hca.client.async_transport import AiohttpTransport
from airflow_provider_hca.client.sansio import Call, Request
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import DSSAbortedError, DSSConnectionError

from .drivers import DRIVERS, Run, call, driver, failure, get
from .server import Reply, ScriptedServer, Server

# Requests and responses


def test_request_arrives_unchanged(run: Run, server: Server) -> None:
    url = f"{server.url}/files/u?version=2018-12-31T235959.000001Z&token=None&s=a%2Fb%3D%20c+d"
    run(call(Request("PUT", url, {"content-type": "application/json", "authorization": "Bearer t"}, b'{"a": "\xc3"}')))
    [asked] = server.asked
    assert (asked.method, asked.path, asked.body) == ("PUT", url.removeprefix(server.url[:-3]), b'{"a": "\xc3"}')
    assert (asked.headers["content-type"], asked.headers["authorization"]) == ("application/json", "Bearer t")
    assert asked.headers["user-agent"] == f"airflow-provider-hca/{__version__}"


def test_response_has_lower_case_names_and_joined_headers(run: Run, server: Server) -> None:
    headers = [("X-AWS-Request-ID", "r-1"), ("LINK", "<a>; rel='prev'"), ("Link", "<b>; rel='next'")]
    server.replies = [Reply(206, headers, b"\xff\x00")]
    answer = run(call(get(server.url)))
    assert (answer.status, answer.body) == (206, b"\xff\x00")
    assert answer.headers["x-aws-request-id"] == "r-1"
    assert answer.headers["link"] == "<a>; rel='prev', <b>; rel='next'"
    assert [name for name in answer.headers if name != name.lower()] == []


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 599])
def test_error_status_is_returned(run: Run, server: Server, status: int) -> None:
    server.replies = [Reply(status)]
    assert run(call(get(server.url))).status == status


def test_head_response_has_no_body(run: Run, server: Server) -> None:
    answer = run(call(get(server.url, method="HEAD")))
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_returned(run: Run, server: Server, status: int) -> None:
    """Only the call knows where a token may be sent."""
    with Server() as other:
        server.replies = [Reply(status, [("Location", other.url)])]
        answer = run(call(get(server.url, "tok")))
        assert (answer.status, answer.headers["location"]) == (status, other.url)
        assert other.asked == []


def test_cookies_are_not_sent_back(run: Run, server: Server) -> None:
    server.replies = [Reply(headers=[("Set-Cookie", "session=s3cr3t; Path=/")])]
    run(call(get(server.url), get(server.url)))
    run(call(get(server.url)))
    assert [asked.headers["cookie"] for asked in server.asked] == [None] * 3


@pytest.mark.parametrize("entry", ["machine 127.0.0.1", "default"])
def test_netrc_does_not_replace_the_token(
    run: Run, server: Server, entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"{entry} login user password s3cr3t\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    run(call(get(server.url, "tok"), get(server.url)))
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer tok", None]


def test_http_proxy_is_used_with_the_token(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    assert run(call(get("http://dss.invalid/v1/x?y", "tok"))).status == 200
    [asked] = server.asked
    assert (asked.path, asked.headers["authorization"]) == ("http://dss.invalid/v1/x?y", "Bearer tok")


def test_proxy_password_is_sent_to_the_proxy(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{server.port}")
    assert run(call(get("http://dss.invalid:8080/v1", "tok"))).status == 200
    [asked] = server.asked
    assert (asked.path, asked.headers["host"]) == ("http://dss.invalid:8080/v1", "dss.invalid:8080")
    assert asked.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert asked.headers["authorization"] == "Bearer tok"


def test_proxy_without_scheme_is_http(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"user:pass@127.0.0.1:{server.port}")
    assert run(call(get("http://dss.invalid/v1/x", "tok"))).status == 200
    [asked] = server.asked
    assert (asked.path, asked.headers["proxy-authorization"]) == ("http://dss.invalid/v1/x", "Basic dXNlcjpwYXNz")


def test_https_through_proxy_without_scheme_uses_a_tunnel(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with _raw(b"HTTP/1.1 200 Connection established\r\n\r\nno TLS") as port:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")
        assert failure(run, get("https://dss.invalid/v1")).kind in {"tls", "dropped"}  # the proxy was used


@pytest.mark.parametrize("exceptions", ["127.0.0.1", "*", "dss.example.org,127.0.0.1"])
def test_no_proxy_is_honoured(
    run: Run, server: Server, refused_port: int, exceptions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{refused_port}")
    monkeypatch.setenv("no_proxy", exceptions)
    assert run(call(get(server.url))).status == 200


@pytest.mark.parametrize("proxied", [False, True])
def test_query_is_not_logged(
    run: Run, server: Server, proxied: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    if proxied:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    url = "http://store.invalid/key" if proxied else f"{server.url}/key"
    to: list[bytes] = []
    asked = Request("GET", f"{url}?X-Amz-Signature=s3cr3t", {}, None, receive=lambda _, __: to.append)
    assert run(call(asked, get(f"{url}?Signature=s3cr3t"))).status == 200
    assert to == [b"{}"]
    assert "s3cr3t" not in caplog.text
    assert all("s3cr3t" not in f"{record.args} {record.msg}" for record in caplog.records)
    if isinstance(getattr(run, "__self__", None), RequestsTransport):
        assert "key?..." in caplog.text  # otherwise the test proves nothing


def test_query_in_malformed_header_warning_is_hidden(caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 logs the URL of such a response as a warning."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nno header at all\r\n\r\nx"
    with ScriptedServer([answer]) as server, RequestsTransport() as transport:
        transport.run(call(get(f"{server.url}/key?Signature=s3cr3t")))
    assert "Failed to parse headers (url=" in caplog.text
    assert "s3cr3t" not in caplog.text


# Framing

_GZIPPED = gzip.compress(b"abcde", mtime=0)
_HEAD = b"HTTP/1.1 200 OK\r\n"
_ANSWERS: dict[str, tuple[bytes, str, bytes]] = {
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 1\r\nX: y\r\n\r\nx", "y", b"x"),
    "Latin-1 header": (_HEAD + b"X: \xe9\r\nContent-Length: 0\r\n\r\n", "\xe9", b""),
    "chunked": (_HEAD + b"Transfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "y", b"abcde"),
    "gzip": (
        _HEAD + b"Content-Encoding: gzip\r\nX: y\r\nContent-Length: %d\r\n\r\n%b" % (len(_GZIPPED), _GZIPPED),
        "y",
        _GZIPPED,
    ),
    "after 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + _HEAD + b"X: y\r\nContent-Length: 1\r\n\r\nx", "y", b"x"),
    "until the end": (_HEAD + b"X: y\r\n\r\nabcde", "y", b"abcde"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nab", "y", b"ab"),
}


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("name", _ANSWERS)
def test_response_in_packets_is_complete(run: Run, name: str, step: int) -> None:
    answer, header, body = _ANSWERS[name]
    with ScriptedServer([answer], step=step) as server:
        response = run(call(get(server.url)))
    # aiohttp decodes headers as UTF-8 with surrogate escapes
    assert response.headers["x"].encode("utf-8", "surrogateescape").decode("latin-1") in {header, "\xc3\xa9"}
    assert (response.status, response.body) == (200, body)


@pytest.mark.parametrize("status", [102, 103])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("gap", [0.0, 0.1])
@pytest.mark.parametrize("name", DRIVERS)
def test_interim_response_is_never_the_final_one(name: str, status: int, streamed: bool, gap: float) -> None:
    """`http.client` skips only a 100; the next request must not receive the previous response."""
    interim = b"HTTP/1.1 %d Early\r\nLink: </x>; rel=preload\r\n\r\n" % status
    answers = [_HEAD + b"Content-Length: 1\r\n\r\n%d" % number for number in range(2)]
    received: list[bytes] = []
    receive = (lambda _, __: received.append) if streamed else None
    with ScriptedServer([(interim, gap, answers[0]), answers[1]]) as server, driver(name) as run:
        request = Request("GET", server.url, receive=receive)
        if name == "requests":
            assert failure(run, request).kind == "dropped"
        else:
            received.append(run(call(request)).body)
        received.append(run(call(request)).body)
    assert b"".join(received) == (b"1" if name == "requests" else b"01")


def test_surplus_bytes_are_not_the_next_response(run: Run) -> None:
    answers = [_HEAD + b"Content-Length: 1\r\n\r\n0" + _HEAD + b"Content-Length: 1\r\n\r\n9", b""]
    answers[1] = _HEAD + b"Content-Length: 1\r\n\r\n1"
    with ScriptedServer(answers) as server:
        assert run(call(get(server.url))).body == b"0"
        assert run(call(get(server.url, delay=0.1))).body == b"1"


def test_connection_closed_while_idle_is_replaced(run: Run) -> None:
    """A PUT on a connection that the server closed in the meantime is sent on a new one."""
    answer = _HEAD + b"Content-Length: 0\r\n\r\n"
    with ScriptedServer([answer, answer], closes=True) as server:
        request = get(server.url, method="PUT")
        assert run(call(request, replace(request, delay=0.2))).status == 200
        assert server.connections == 2


def test_response_before_the_request_is_read_is_received() -> None:
    """A server refuses a large body without reading it, and closes the connection."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    with ScriptedServer([refusal], closes=True, reads=10) as server, RequestsTransport() as transport:
        answer = transport.run(call(Request("PUT", server.url, {}, b"x" * 50_000_000)))
    assert answer.status == 413


@pytest.mark.parametrize(
    "unsafe",
    [
        Request("GET", "", {"x": "a\r\nauthorization: b"}),
        Request("GET", "", {"x": "a\nb"}),
        Request("GET", "/v1 HTTP/1.1\r\nx: y"),
    ],
    ids=["CR LF in a header", "LF in a header", "CR LF in the URL"],
)
def test_line_break_in_request_adds_no_line(run: Run, server: Server, unsafe: Request) -> None:
    with contextlib.suppress(DSSConnectionError, ValueError):
        run(call(replace(unsafe, url=server.url + unsafe.url)))
    for asked in server.asked:
        assert (asked.headers["authorization"], asked.headers["x"]) == (None, None)


# Failures


@pytest.fixture
def refused_port() -> Iterator[int]:
    """Return a port without a listener."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def full_port() -> Iterator[int]:
    """Return a port whose queue of connections is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        time.sleep(0.05)
        yield address[1]
        for each in waiting:
            each.close()


def test_port_without_listener_is_refused(run: Run, refused_port: int) -> None:
    error = failure(run, get(f"http://127.0.0.1:{refused_port}/v1/x?token=s3cr3t", "s3cr3t"))
    assert (error.kind, error.method, error.path) == ("refused", "GET", "/v1/x")
    assert error.host == f"http://127.0.0.1:{refused_port}"
    assert "s3cr3t" not in repr(error)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 64 + ".invalid"])
def test_unknown_or_invalid_host_is_dns(run: Run, host: str) -> None:
    assert failure(run, get(f"http://{host}/v1")).kind == "dns"


def test_host_without_response_to_connect_is_connect_timeout(run: Run, full_port: int) -> None:
    started = time.monotonic()
    assert failure(run, get(f"http://127.0.0.1:{full_port}/v1", connect=0.3)).kind == "connect timeout"
    assert time.monotonic() - started > 0.2


def test_server_without_response_is_read_timeout(run: Run, server: Server) -> None:
    server.replies = [Reply(after=1.0)]
    assert failure(run, get(server.url, read=0.2)).kind == "read timeout"


def test_incomplete_body_without_end_is_read_timeout(run: Run, server: Server) -> None:
    with _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", stay=1.0) as port:
        assert failure(run, get(f"http://127.0.0.1:{port}/v1", read=0.2)).kind == "read timeout"


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    ],
)
def test_incomplete_or_invalid_response_is_dropped(run: Run, start: bytes) -> None:
    with _raw(start) as port:
        assert failure(run, get(f"http://127.0.0.1:{port}/v1", method="PUT")).kind == "dropped"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "POST"])
@pytest.mark.parametrize("used", [False, True])
def test_dropped_request_is_sent_once(run: Run, server: Server, method: str, used: bool) -> None:
    """The transport never decides on a repeat, on a new or a kept connection."""
    server.replies = [Reply()] * used + [Reply(drop=True)]
    if used:
        run(call(get(server.url)))
    assert failure(run, get(server.url, method=method)).kind == "dropped"
    assert len(server.asked) == 1 + used


def test_https_to_http_server_is_tls(run: Run, server: Server) -> None:
    assert failure(run, get(server.url.replace("http:", "https:"))).kind == "tls"


def test_exception_handled_before_is_not_the_reason(run: Run, refused_port: int) -> None:
    try:
        raise ssl.SSLError("something else")
    except ssl.SSLError:
        assert failure(run, get(f"http://127.0.0.1:{refused_port}/v1")).kind == "refused"


def test_failure_is_thrown_into_the_call(run: Run, server: Server, refused_port: int) -> None:

    def resilient() -> Call[int]:
        try:
            yield get(f"http://127.0.0.1:{refused_port}/v1")
        except DSSConnectionError:
            return (yield get(server.url)).status
        return 0

    assert run(resilient()) == 200


def test_call_ended_by_an_error_is_closed(run: Run, server: Server) -> None:
    closed = []

    def closing() -> Call[None]:
        try:
            yield Request("GET", "gopher://nowhere")
        finally:
            closed.append(True)

    with pytest.raises(DSSConnectionError):
        run(closing())
    assert closed == [True]


# Stop


def test_stop_ends_a_delay_at_once() -> None:
    stop = threading.Event()
    with Server() as server, RequestsTransport(stop=stop) as transport:
        waiting = call(get(server.url), get(server.url, delay=600))
        threading.Timer(0.2, stop.set).start()
        started = time.monotonic()
        with pytest.raises(DSSAbortedError):
            transport.run(waiting)
        assert time.monotonic() - started < 300
        assert len(server.asked) == 1
        assert inspect.getgeneratorstate(waiting) == inspect.GEN_CLOSED


def test_nothing_is_sent_after_a_stop() -> None:
    stop = threading.Event()
    stop.set()
    with Server() as server, RequestsTransport(stop=stop) as transport:
        with pytest.raises(DSSAbortedError):
            transport.run(call(get(server.url)))
        assert server.asked == []


def test_delay_is_waited(run: Run, server: Server) -> None:
    started = time.monotonic()
    run(call(get(server.url, delay=0.3)))
    assert time.monotonic() - started >= 0.3


def test_delay_of_one_task_does_not_block_others_and_can_be_cancelled() -> None:

    async def both() -> None:
        with Server() as server:
            async with AiohttpTransport() as transport:
                waiting = call(get(server.url, delay=600))
                task = asyncio.create_task(transport.run(waiting))
                started = time.monotonic()
                assert (await transport.run(call(get(server.url)))).status == 200
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert time.monotonic() - started < 300
                assert len(server.asked) == 1
                assert inspect.getgeneratorstate(waiting) == inspect.GEN_CLOSED

    asyncio.run(both())


def test_one_transport_serves_many_threads() -> None:
    with Server() as server, RequestsTransport(pool_size=8) as transport:
        answers: list[int] = []

        def work() -> None:
            answers.extend(transport.run(call(get(server.url))).status for _ in range(5))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 40


def _raw(start: bytes, stay: float = 0.0) -> _Raw:
    return _Raw(start, stay)


class _Raw:
    """A server that sends some bytes to each client and closes the connection."""

    def __init__(self, start: bytes, stay: float) -> None:
        self._start, self._stay = start, stay

    def __enter__(self) -> int:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(self._start)
                time.sleep(self._stay)


def test_forked_processes_receive_their_own_responses() -> None:
    class Echo(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.path)))
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        # Python 3.12 and newer warn of a fork while there are threads, which is what this tests.
        python = [sys.executable, "-W", "ignore::DeprecationWarning"]
        command = [*python, "-m", "tests.client.fork_process", f"http://127.0.0.1:{server.server_port}"]
        process = subprocess.run(command, timeout=120, check=False, capture_output=True)
        server.shutdown()
    assert (process.returncode, process.stderr) == (0, b"")
