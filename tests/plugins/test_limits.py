"""Limits of what a DSS can make the page read, keep and convert."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import HTTPException
from fastapi import Response as FastAPIResponse

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.sansio import Request, Response
from airflow_provider_hca.exceptions import DSSProtocolError
from airflow_provider_hca.plugins import dss as plugin_dss
from airflow_provider_hca.plugins.bundles import get_bundle, list_bundles, to_json
from airflow_provider_hca.plugins.dss import bounded, first_page
from airflow_provider_hca.plugins.files import get_document, get_links
from airflow_provider_hca.plugins.text import plain_text
from tests.client.feeding import URL, UUID, VERSION, converse, ok
from tests.local.server import VERSION as FILE_VERSION

if TYPE_CHECKING:
    from tests.local.server import LocalDSS


def _endless(files: list[dict[str, Any]]) -> Callable[[Request], Response]:
    """Return a function that answers with pages of a bundle that do not end."""
    body = {"bundle": {"uuid": UUID, "version": VERSION, "files": files}}
    links = (f"<{URL}/bundles/{UUID}?token={number}>; rel='next'" for number in itertools.count())
    return lambda _: ok(body, 206, link=next(links))


@pytest.mark.parametrize(
    ("files", "pages"), [([{"name": "n" * 1_000_000}], 26), ([{}] * 10_000, 13)], ids=["size", "values"]
)
def test_endless_manifest_is_read_up_to_a_limit(files: list[dict[str, Any]], pages: int) -> None:
    fed = converse(bounded(DSSAPI(URL).get_bundle(UUID, replica="aws")), _endless(files))
    assert "the responses are too large for the page" in str(fed.failed(DSSProtocolError))
    assert len(fed.requests) == pages


def test_manifest_of_20000_files_is_within_the_limits() -> None:
    file = {"uuid": UUID, "version": VERSION, "size": 10**12, "content-type": "t" * 60}
    sums = {"indexed": True, "sha256": "a" * 64, "sha1": "b" * 40, "s3_etag": "c" * 35, "crc32c": "d" * 8}
    files = [{**file, **sums, "name": f"{number:0100}"} for number in range(20_000)]
    pages = [{"uuid": UUID, "version": VERSION, "files": files[at : at + 500]} for at in range(0, 20_000, 500)]
    links = [f"<{URL}/bundles/{UUID}?token={number}>; rel='next'" for number in range(39)]
    answers = [ok({"bundle": page}, 206, link=link) for page, link in zip(pages, links, strict=False)]
    remaining = iter([*answers, ok({"bundle": pages[-1]})])
    fed = converse(bounded(DSSAPI(URL).get_bundle(UUID, replica="aws")), lambda _: next(remaining))
    assert len(fed.value["files"]) == 20_000


def test_first_page_of_a_manifest_needs_one_request() -> None:
    page = ok(
        {"bundle": {"uuid": UUID, "version": VERSION, "files": [{"name": "a"}]}}, 206, link=f"<{URL}/next>; rel='next'"
    )
    fed = converse(first_page(DSSAPI(URL).get_bundle(UUID, replica="aws")), lambda _: page)
    manifest, complete = fed.value
    assert ([file["name"] for file in manifest["files"]], complete, len(fed.requests)) == (["a"], False, 1)
    whole = ok({"bundle": {"uuid": UUID, "version": VERSION, "files": []}})
    assert converse(first_page(DSSAPI(URL).get_bundle(UUID, replica="aws")), lambda _: whole).value[1] is True


def test_bundle_is_sent_in_pieces() -> None:
    files = [{"name": "n" * 2_000, "version": [VERSION], "size": 1} for _ in range(10_000)]
    links = {"name": "links.json", "size": 1}
    pieces = list(to_json({"uuid": UUID, "version": VERSION, "files": [*files, *files, links]}, [VERSION], {}))
    bundle = json.loads("".join(pieces))
    assert max(map(len, pieces)) < 1_000_000
    assert [len(file["name"]) for file in bundle["files"]] == [*[1_000] * 10_000, len("links.json")]
    assert {file["version"] for file in bundle["files"]} == {""}
    assert (bundle["omitted"], bundle["byte_count"]) == (10_000, 20_001)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a" * 30, "a" * 10),
        ("\x00\ud800\n", "\x00?\n"),
        (12, "12"),
        (1e300, "1e+300"),
        (True, "True"),
        ([1], ""),
        ({"a": 1}, ""),
        (None, ""),
    ],
)
def test_plain_text_of_json_values(value: Any, text: str) -> None:
    assert plain_text(value, 10) == text


@pytest.fixture
def dribbling(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start a DSS that sends a byte of a body now and then, and add a connection to it."""
    stop = threading.Event()

    def dribble(connection: socket.socket) -> None:
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{")
            while not stop.wait(0.02):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=dribble, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        host = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        monkeypatch.setenv("AIRFLOW_CONN_DRIBBLING", json.dumps({"conn_type": "hca_dss", "host": host}))
        yield
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.usefixtures("airflow_db", "dribbling")
def test_dribbling_dss_is_answered_with_504(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_dss, "_SECONDS", 0.5)
    for request in (list_bundles("dribbling", "aws"), get_bundle("dribbling", UUID, "aws")):
        with pytest.raises(HTTPException, match="takes too long") as caught:
            asyncio.run(request)
        assert caught.value.status_code == 504


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.parametrize("content", [b"[" + b"," * 60_000, b'{"links":' + b"[" * 50_000, b"9" * 5_000], ids=len)
def test_links_of_too_many_values_are_answered_with_422(
    dss: LocalDSS, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HOSTILE", json.dumps({"conn_type": "hca_dss", "host": dss.url}))
    file = dss.new_file(content)
    with pytest.raises(HTTPException, match="cannot draw this links") as caught:
        asyncio.run(get_links("hostile", file, "aws", FILE_VERSION))
    assert caught.value.status_code == 422
    document = asyncio.run(get_document("hostile", file, "aws", FILE_VERSION, FastAPIResponse()))
    assert document.model_dump() == {"id": "", "type": "", "name": ""}
