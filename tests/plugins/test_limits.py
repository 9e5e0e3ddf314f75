"""Limits of what a DSS can make the page read, keep and convert."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.sansio import Request, Response
from airflow_provider_hca.exceptions import DSSProtocolError
from airflow_provider_hca.plugins.bundles import to_json
from airflow_provider_hca.plugins.dss import bounded
from airflow_provider_hca.plugins.text import plain_text
from tests.client.feeding import URL, UUID, VERSION, converse, ok


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
