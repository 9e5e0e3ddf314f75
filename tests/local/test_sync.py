"""Changes in one replica are copied to the other."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import requests

from .conftest import SYNC_DELAY
from .server import VERSION, LocalDSS, User, new_uuid, sums

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The tests with the synced server run on one worker.
pytestmark = pytest.mark.xdist_group("synced-dss")


@pytest.fixture
def dss(synced_dss: LocalDSS) -> LocalDSS:
    """Return a server whose replicas are synced."""
    return synced_dss


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "waited for 60 s"
        time.sleep(0.05)


def _head(dss: LocalDSS, file: str, replica: str) -> requests.Response:
    return dss.call("HEAD", f"/files/{file}", replica=replica, version=VERSION)


def _exists(dss: LocalDSS, file: str, replica: str) -> bool:
    return _head(dss, file, replica).status_code == 200


def _get(dss: LocalDSS, bundle: str, replica: str, **query: str) -> requests.Response:
    return dss.call("GET", f"/bundles/{bundle}", replica=replica, **query)


def test_file_is_copied_to_other_replica_after_delay(dss: LocalDSS) -> None:
    content = new_uuid().encode()
    staged = {"aws": dss.stage(content), "gcp": dss.stage_gcs(content + b"2", sums(content + b"2"))}
    for replica, other in (("aws", "gcp"), ("gcp", "aws")):
        file = new_uuid()
        started = time.monotonic()
        assert dss.put_file(staged[replica], file).status_code == 201
        assert _exists(dss, file, replica)
        _until(partial(_exists, dss, file, other))
        assert time.monotonic() - started > SYNC_DELAY
        original, copied = (
            {name: value for name, value in _head(dss, file, where).headers.items() if name.startswith("x-dss")}
            for where in (replica, other)
        )
        assert copied == original
        assert len(copied) == 8
        response = dss.call("GET", f"/files/{file}", replica=other)
        while response.status_code == 301:
            response = requests.get(response.headers["Location"], allow_redirects=False, timeout=10)
        assert requests.get(response.headers["Location"], timeout=10).content.startswith(content)


def test_bundles_versions_and_tombstones_are_copied(dss: LocalDSS) -> None:
    bundle = new_uuid()
    dss.put_bundle([dss.entry("a"), dss.entry("b", indexed=True)], bundle)
    _until(lambda: _get(dss, bundle, "gcp").status_code == 200)
    copied = _get(dss, bundle, "gcp").json()
    assert copied == _get(dss, bundle, "aws").json()
    assert all(_head(dss, file["uuid"], "gcp").status_code == 200 for file in copied["bundle"]["files"])
    patched = dss.call("PATCH", f"/bundles/{bundle}", {}, version=VERSION, replica="gcp").json()["version"]
    _until(lambda: _get(dss, bundle, "aws", version=patched).status_code == 200)
    dss.call("DELETE", f"/bundles/{bundle}", {"reason": "test"}, replica="gcp", version=patched)
    _until(lambda: _get(dss, bundle, "aws", version=patched).status_code == 404)
    assert _get(dss, bundle, "aws").json()["bundle"]["version"] == VERSION
    dss.call("DELETE", f"/bundles/{bundle}", {"reason": "test"}, replica="aws")
    _until(lambda: _get(dss, bundle, "gcp").status_code == 404)


def test_collections_and_deletions_are_copied(dss: LocalDSS) -> None:
    user, uuid = User(dss), new_uuid()

    def put(name: str) -> None:
        body = {"name": name, "description": "d", "details": {}, "contents": []}
        user.call("PUT", "/collections", body, uuid=uuid, version=VERSION, replica="aws")

    def in_gcp() -> Any:
        response = user.call("GET", f"/collections/{uuid}", replica="gcp")
        return response.json()["name"] if response.ok else response.status_code

    put("first")
    _until(lambda: in_gcp() == "first")
    put("second")
    _until(lambda: in_gcp() == "second")
    user.call("DELETE", f"/collections/{uuid}", replica="aws")
    _until(lambda: in_gcp() == 404)


def test_sync_enabled_after_kill_copies_earlier_changes(tmp_path: Path) -> None:
    """Files that both replicas have under the same uuid and version remain different.

    Files copied after the response are copied to the other replica when they are complete.
    """
    copies = ("--async-above", "10", "--copy-delay", "0.1")
    with LocalDSS(tmp_path, "--gcs", "--sync-delay", "off", *copies) as dss:
        file, bundle, both, copied = dss.new_file(), new_uuid(), new_uuid(), new_uuid()
        dss.put_bundle([dss.entry("a", file)], bundle)
        dss.put_file(dss.stage(b"in aws"), both)
        dss.put_file(dss.stage_gcs(b"in gcp", sums(b"in gcp")), both)
        time.sleep(0.2)
        assert _get(dss, bundle, "gcp").status_code == 404
        dss.stop(9)
        dss.options = ("--sync-delay", "0", *copies)
        dss.start()
        _until(lambda: _get(dss, bundle, "gcp").status_code == 200)
        assert _head(dss, file, "gcp").status_code == 200
        assert dss.put_file(dss.stage(b"more than ten bytes"), copied).status_code == 202
        _until(partial(_exists, dss, copied, "gcp"))
        assert _head(dss, copied, "aws").status_code == 200
        found = [_head(dss, both, replica).headers["X-DSS-SHA256"] for replica in ("aws", "gcp")]
        assert found == [sums(content)["hca-dss-sha256"] for content in (b"in aws", b"in gcp")]
