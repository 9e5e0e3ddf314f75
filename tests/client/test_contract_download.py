"""Contract of downloads, on both transports against a running DSS."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.downloads import Content
from airflow_provider_hca.exceptions import DSSConnectionError, DSSNotFoundError, DSSResponseError
from tests.local.server import UNUSED_UUID, VERSION, LocalDSS, new_uuid

from .contract import LARGE, LATER, counted, fault, fresh, stage
from .drivers import Run


def put(run: Run, api: DSSAPI, dss: LocalDSS, content: bytes, uuid: str = "", version: str = VERSION) -> str:
    """Register content and wait until it is stored."""
    uuid = uuid or new_uuid()
    run(api.put_file(uuid, version, source_url=stage(dss, content), creator_uid=1))
    digest = hashlib.sha256(content).hexdigest()
    run(api.wait_for_file(uuid, version, replica="aws", sha256=digest, seconds=20))
    return uuid


@pytest.mark.parametrize("size", [0, 1, LARGE, 5_000_000])
def test_download_of_any_size_is_identical(run: Run, api: DSSAPI, dss: LocalDSS, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    uuid = put(run, api, dss, content)
    metadata = run(api.get_file(uuid.upper(), replica="aws", version=VERSION, to=tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == content
    assert metadata == run(api.head_file(uuid, replica="aws", version=VERSION))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_download_without_version_is_the_latest(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid, contents = new_uuid(), {VERSION: fresh(), LATER: fresh()}
    for version, content in contents.items():
        put(run, api, dss, content, uuid, version)
    asked: list[tuple[str | None, str]] = [(None, LATER), (VERSION, VERSION)]
    for wanted, expected in asked:
        to = io.BytesIO()
        assert run(api.get_file(uuid, replica="aws", version=wanted, to=to)).version == expected
        assert to.getvalue() == contents[expected]


def test_download_resumes_with_a_range_of_a_real_store(run: Run, api: DSSAPI, dss: LocalDSS, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    uuid = put(run, api, dss, content)
    (tmp_path / "a").write_bytes(content[:200_000])
    with (tmp_path / "a").open("r+b") as file:
        partial = Content(file)
        partial.begin_with(file)
        run(api.get_content(uuid, replica="aws", content=partial))
    assert (tmp_path / "a").read_bytes() == content


@pytest.mark.parametrize("what", [{"status": 503}, {"status": 503, "retry_after": 0.1}, {"action": "drop"}])
def test_download_retries_a_temporary_error_of_the_dss(
    run: Run, api: DSSAPI, dss: LocalDSS, what: dict[str, Any]
) -> None:
    content, to = fresh(), io.BytesIO()
    uuid = put(run, api, dss, content)
    fault(dss, method="GET", path=uuid, **what)
    run(api.get_file(uuid, replica="aws", to=to))
    assert to.getvalue() == content
    assert sum(count for status, count in counted(dss, "GET", f"/files/{uuid}").items() if status == 302) == 1


@pytest.mark.parametrize("what", [{"status": 503}, {"action": "drop"}])
def test_download_with_lasting_error_keeps_the_existing_file(
    run: Run, api: DSSAPI, dss: LocalDSS, tmp_path: Path, what: dict[str, Any]
) -> None:
    uuid = put(run, api, dss, fresh())
    fault(dss, method="GET", path=uuid, times=99, **what)
    (tmp_path / "a").write_text("before")
    with pytest.raises((DSSConnectionError, DSSResponseError)) as caught:
        run(api.get_file(uuid, replica="aws", to=tmp_path / "a"))
    assert not caught.value.permanent
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "before"}


def test_download_of_missing_file_is_not_found_and_creates_no_file(
    run: Run, api: DSSAPI, dss: LocalDSS, tmp_path: Path
) -> None:
    uuid = put(run, api, dss, fresh())
    for asked, replica, version in ((new_uuid(), "aws", None), (uuid, "aws", LATER)):
        with pytest.raises(DSSNotFoundError) as caught:
            run(api.get_file(asked, replica=replica, version=version, to=tmp_path / "a"))
        assert (caught.value.code, caught.value.permanent) == ("not_found", True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("uuid", "replica", "version"), [("x", "aws", None), (UNUSED_UUID, "azure", None)])
def test_download_with_invalid_argument_sends_nothing(
    run: Run, api: DSSAPI, dss: LocalDSS, tmp_path: Path, uuid: str, replica: str, version: str | None
) -> None:
    with pytest.raises(ValueError, match="must be"):
        run(api.get_file(uuid, replica=replica, version=version, to=tmp_path / "a"))
    assert dss.control("GET", "requests") == []
    assert list(tmp_path.iterdir()) == []
