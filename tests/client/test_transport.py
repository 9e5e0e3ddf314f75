from __future__ import annotations

import asyncio
import contextlib
import gzip
import inspect
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_hca import __version__
from airflow_provider_hca.client.async_transport import AiohttpTransport
from airflow_provider_hca.client.sansio import Call, Request
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import DSSAbortedError, DSSConnectionError

from .drivers import DRIVERS, Run, call, driver, failure, get
from .server import Reply, ScriptedServer, Server

# What is sent, and what comes back


def test_a_request_arrives_as_it_is(run: Run, server: Server) -> None:
    """Method, path, query, headers and body arrive unchanged, an already encoded query and `token=None` included."""
    url = f"{server.url}/files/u?version=2018-12-31T235959.000001Z&token=None&s=a%2Fb%3D%20c+d"
    run(call(Request("PUT", url, {"content-type": "application/json", "authorization": "Bearer t"}, b'{"a": "\xc3"}')))
    [asked] = server.asked
    assert (asked.method, asked.path, asked.body) == ("PUT", url.removeprefix(server.url[:-3]), b'{"a": "\xc3"}')
    assert (asked.headers["content-type"], asked.headers["authorization"]) == ("application/json", "Bearer t")
    assert asked.headers["user-agent"] == f"airflow-provider-hca/{__version__}"


def test_an_answer_comes_as_it_is(run: Run, server: Server) -> None:
    """Status and body come back, header names in lower case, several of one name joined."""
    headers = [("X-AWS-Request-ID", "r-1"), ("LINK", "<a>; rel='prev'"), ("Link", "<b>; rel='next'")]
    server.replies = [Reply(206, headers, b"\xff\x00")]
    answer = run(call(get(server.url)))
    assert (answer.status, answer.body) == (206, b"\xff\x00")
    assert answer.headers["x-aws-request-id"] == "r-1"
    assert answer.headers["link"] == "<a>; rel='prev', <b>; rel='next'"
    assert [name for name in answer.headers if name != name.lower()] == []


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 599])
def test_an_error_of_the_server_is_an_answer(run: Run, server: Server, status: int) -> None:
    """Whatever the status, the transport gives the answer: what it means is not its business."""
    server.replies = [Reply(status)]
    assert run(call(get(server.url))).status == status


def test_head_has_no_body(run: Run, server: Server) -> None:
    """The answer to HEAD has headers and no body."""
    answer = run(call(get(server.url, method="HEAD")))
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(run: Run, server: Server, status: int) -> None:
    """A redirect is given to the call, which alone knows where a token may go."""
    with Server() as other:
        server.replies = [Reply(status, [("Location", other.url)])]
        answer = run(call(get(server.url, "tok")))
        assert (answer.status, answer.headers["location"]) == (status, other.url)
        assert other.asked == []


def test_cookies_are_not_kept(run: Run, server: Server) -> None:
    """What a server, or a balancer before it, wants kept is not sent back: every request stands for itself."""
    server.replies = [Reply(headers=[("Set-Cookie", "session=s3cr3t; Path=/")])]
    run(call(get(server.url), get(server.url)))
    run(call(get(server.url)))
    assert [asked.headers["cookie"] for asked in server.asked] == [None] * 3


@pytest.mark.parametrize("entry", ["machine 127.0.0.1", "default"])
def test_netrc_does_not_replace_the_token(
    run: Run, server: Server, entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password in ~/.netrc takes neither the place of a token nor that of none."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"{entry} login somebody password s3cr3t\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    run(call(get(server.url, "tok"), get(server.url)))
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer tok", None]


def test_proxies_of_the_environment_are_used(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is honoured, and the token goes along to the DSS."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    assert run(call(get("http://dss.invalid/v1/x?y", "tok"))).status == 200
    [asked] = server.asked
    assert (asked.path, asked.headers["authorization"]) == ("http://dss.invalid/v1/x?y", "Bearer tok")


def test_a_password_for_the_proxy(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the proxy's address has of name and password is told to the proxy, beside the token for the DSS."""
    monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{server.port}")
    assert run(call(get("http://dss.invalid:8080/v1", "tok"))).status == 200
    [asked] = server.asked
    assert (asked.path, asked.headers["host"]) == ("http://dss.invalid:8080/v1", "dss.invalid:8080")
    assert asked.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    assert asked.headers["authorization"] == "Bearer tok"


def test_a_proxy_without_a_scheme(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is given as host and port, as many do, is an HTTP proxy."""
    monkeypatch.setenv("http_proxy", f"user:pass@127.0.0.1:{server.port}")
    assert run(call(get("http://dss.invalid/v1/x", "tok"))).status == 200
    [asked] = server.asked
    assert (asked.path, asked.headers["proxy-authorization"]) == ("http://dss.invalid/v1/x", "Basic dXNlcjpwYXNz")


def test_a_tunnel_through_a_proxy_without_a_scheme(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request by HTTPS asks such a proxy for a tunnel."""
    with _raw(b"HTTP/1.1 200 Connection established\r\n\r\nno TLS") as port:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")
        assert failure(run, get("https://dss.invalid/v1")).kind in {"tls", "dropped"}  # the proxy was found


@pytest.mark.parametrize("exceptions", ["127.0.0.1", "*", "dss.example.org,127.0.0.1"])
def test_no_proxy_is_honoured(
    run: Run, server: Server, refused_port: int, exceptions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What NO_PROXY names is reached without the proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{refused_port}")
    monkeypatch.setenv("no_proxy", exceptions)
    assert run(call(get(server.url))).status == 200


@pytest.mark.parametrize("proxied", [False, True])
def test_no_signature_is_logged(
    run: Run, server: Server, proxied: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the libraries log of a request at DEBUG has nothing of its query, which may be the permission to read."""
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
        assert "key?..." in caplog.text  # else there is nothing to keep out


def test_query_in_malformed_header_warning_is_hidden(caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 logs the URL of an answer whose headers it cannot parse as a warning."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nno header at all\r\n\r\nx"
    with ScriptedServer([answer]) as server, RequestsTransport() as transport:
        transport.run(call(get(f"{server.url}/key?Signature=s3cr3t")))
    assert "Failed to parse headers (url=" in caplog.text
    assert "s3cr3t" not in caplog.text


# Framing: how an answer is delimited on the connection

_GZIPPED = gzip.compress(b"abcde", mtime=0)
_HEAD = b"HTTP/1.1 200 OK\r\n"
_ANSWERS: dict[str, tuple[bytes, str, bytes]] = {
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 1\r\nX: y\r\n\r\nx", "y", b"x"),
    "Latin-1 header": (_HEAD + b"X: \xe9\r\nContent-Length: 0\r\n\r\n", "\xe9", b""),
    "chunked": (_HEAD + b"Transfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "y", b"abcde"),
    "gzip": (
        _HEAD + b"Content-Encoding: gzip\r\nX: y\r\nContent-Length: %d\r\n\r\n%b" % (len(_GZIPPED), _GZIPPED),
        "y",
        b"abcde",
    ),
    "after 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + _HEAD + b"X: y\r\nContent-Length: 1\r\n\r\nx", "y", b"x"),
    "until the end": (_HEAD + b"X: y\r\n\r\nabcde", "y", b"abcde"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nab", "y", b"ab"),
}


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("name", _ANSWERS)
def test_answer_in_packets_is_complete(run: Run, name: str, step: int) -> None:
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
def test_interim_response_is_never_the_answer(name: str, status: int, streamed: bool, gap: float) -> None:
    """Aiohttp skips it, `http.client` only a 100; the next request must not receive the previous one's answer."""
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


def test_surplus_bytes_are_not_the_next_answer(run: Run) -> None:
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


def test_answer_before_the_request_is_read_is_received() -> None:
    """A server that refuses a body without reading it and closes: its answer counts, not the broken pipe."""
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


# What goes wrong


@pytest.fixture
def refused_port() -> Iterator[int]:
    """Take a port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def full_port() -> Iterator[int]:
    """Give a port that takes no more connections, and refuses none."""
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


def test_refused(run: Run, refused_port: int) -> None:
    """A port on which nobody listens."""
    error = failure(run, get(f"http://127.0.0.1:{refused_port}/v1/x?token=s3cr3t", "s3cr3t"))
    assert (error.kind, error.method, error.path) == ("refused", "GET", "/v1/x")
    assert error.host == f"http://127.0.0.1:{refused_port}"
    assert "s3cr3t" not in repr(error)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 64 + ".invalid"])
def test_no_such_host(run: Run, host: str) -> None:
    """A name that cannot be resolved, or is none."""
    assert failure(run, get(f"http://{host}/v1")).kind == "dns"


def test_no_connection_in_time(run: Run, full_port: int) -> None:
    """A host that does not take the connection."""
    started = time.monotonic()
    assert failure(run, get(f"http://127.0.0.1:{full_port}/v1", connect=0.3)).kind == "connect timeout"
    assert time.monotonic() - started > 0.2


def test_no_answer_in_time(run: Run, server: Server) -> None:
    """A server that takes the request and does not answer."""
    server.replies = [Reply(after=1.0)]
    assert failure(run, get(server.url, read=0.2)).kind == "read timeout"


def test_a_body_that_does_not_come_in_time(run: Run, server: Server) -> None:
    """A server that begins an answer and does not end it."""
    with _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", stay=1.0) as port:
        assert failure(run, get(f"http://127.0.0.1:{port}/v1", read=0.2)).kind == "read timeout"


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    ],
)
def test_dropped(run: Run, begun: bytes) -> None:
    """A connection that ends before the answer does, and an answer that is not HTTP."""
    with _raw(begun) as port:
        assert failure(run, get(f"http://127.0.0.1:{port}/v1", method="PUT")).kind == "dropped"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "POST"])
@pytest.mark.parametrize("used", [False, True])
def test_what_is_dropped_is_sent_once(run: Run, server: Server, method: str, used: bool) -> None:
    """Whether a request is sent again is not for the transport to decide, on a fresh connection or one in use."""
    server.replies = [Reply()] * used + [Reply(drop=True)]
    if used:
        run(call(get(server.url)))
    assert failure(run, get(server.url, method=method)).kind == "dropped"
    assert len(server.asked) == 1 + used


def test_no_tls_there(run: Run, server: Server) -> None:
    """A server that does not speak TLS."""
    assert failure(run, get(server.url.replace("http:", "https:"))).kind == "tls"


def test_what_was_handled_before_is_not_the_reason(run: Run, refused_port: int) -> None:
    """A call that is made while another error is handled tells its own failure, not that one."""
    try:
        raise ssl.SSLError("something else")
    except ssl.SSLError:
        assert failure(run, get(f"http://127.0.0.1:{refused_port}/v1")).kind == "refused"


def test_the_call_gets_the_failure(run: Run, server: Server, refused_port: int) -> None:
    """A failure is thrown into the call, which may go on with another request."""

    def resilient() -> Call[int]:
        try:
            yield get(f"http://127.0.0.1:{refused_port}/v1")
        except DSSConnectionError:
            return (yield get(server.url)).status
        return 0

    assert run(resilient()) == 200


def test_the_call_is_closed(run: Run, server: Server) -> None:
    """A call that is left by an error has its `finally` run."""
    closed = []

    def closing() -> Call[None]:
        try:
            yield Request("GET", "gopher://nowhere")
        finally:
            closed.append(True)

    with pytest.raises(DSSConnectionError):
        run(closing())
    assert closed == [True]


# Stopping


def test_a_stop_ends_a_wait_at_once() -> None:
    """When the stop event is set, a wait of ten minutes ends, nothing more is sent, and the call is closed."""
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


def test_after_a_stop_nothing_is_sent() -> None:
    """A transport that was told to stop sends nothing, even without a wait."""
    stop = threading.Event()
    stop.set()
    with Server() as server, RequestsTransport(stop=stop) as transport:
        with pytest.raises(DSSAbortedError):
            transport.run(call(get(server.url)))
        assert server.asked == []


def test_waits_are_waited(run: Run, server: Server) -> None:
    """A request is sent after its delay."""
    started = time.monotonic()
    run(call(get(server.url, delay=0.3)))
    assert time.monotonic() - started >= 0.3


def test_a_wait_of_one_task_does_not_stop_the_others() -> None:
    """On aiohttp a wait leaves the event loop to others, and a cancelled call sends nothing more and is closed."""

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
    """Many threads at once each get their own answer."""
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


def _raw(begun: bytes, stay: float = 0.0) -> _Raw:
    return _Raw(begun, stay)


class _Raw:
    """Listens, sends some bytes to whoever comes, and goes."""

    def __init__(self, begun: bytes, stay: float) -> None:
        self._begun, self._stay = begun, stay

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
                connection.sendall(self._begun)
                time.sleep(self._stay)
