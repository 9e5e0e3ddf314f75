"""Test downloads of several bundles, from the local DSS and from a server with faults."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.models import FQID
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download import batch as module
from airflow_provider_hca.download.batch import BatchDownloader, BatchDownloadReport
from airflow_provider_hca.download.selection import Choice, Selection
from airflow_provider_hca.exceptions import DSSAbortedError
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.running import requests_of

from .server import OneBundle
from .support import QUICK, WORKERS, tree, working_threads

MISSING = "0a1b2c3d-0000-4000-8000-00000000000f"


def download(url: str, target: Path, selection: Selection, **options: Any) -> BatchDownloadReport:
    stop = options.pop("stop", None)
    with RequestsTransport(pool_size=WORKERS, stop=stop) as transport:
        downloader = BatchDownloader(DSSAPI(url, retry=QUICK), transport, replica="aws", workers=WORKERS)
        return downloader.download(selection, target, **options)


def put(dss: LocalDSS, **contents: bytes) -> str:
    """Create a bundle of files, named as the arguments; those named `m...` are indexed."""
    uuid = new_uuid()
    files = [dss.entry(name, dss.new_file(text), indexed=name.startswith("m")) for name, text in contents.items()]
    assert dss.put_bundle(files, uuid).status_code == 201
    return uuid


def test_bundles_get_directories_named_by_their_fqid(dss: LocalDSS, target: Path) -> None:
    one, two = put(dss, a=b"1", m=b"{}"), put(dss, a=b"2")
    selection = Selection([Choice(one), Choice(two, VERSION)])
    report = download(dss.url, target, selection)
    contents = {f"{one}.{VERSION}/a": b"1", f"{one}.{VERSION}/m": b"{}", f"{two}.{VERSION}/a": b"2"}
    assert tree(target) == contents
    assert report.as_json() == {
        "directory": str(target),
        "replica": "aws",
        "downloaded": 2,
        "unchanged": 0,
        "failed": 0,
        "file_count": 3,
        "byte_count": 4,
        "causes": [],
        "statistics": {"downloaded_file_count": 3, "downloaded_byte_count": 4},
    }
    assert report.bundles == [FQID(one, VERSION), FQID(two, VERSION)]
    (target / f"{two}.{VERSION}" / "a").unlink()
    again = download(dss.url, target, selection)
    assert (again.counts, again.files, again.downloaded_files) == ({"downloaded": 1, "unchanged": 1}, 3, 1)
    assert tree(target) == contents


def test_failed_bundle_does_not_stop_the_others(dss: LocalDSS, target: Path) -> None:
    good = put(dss, a=b"1")
    report = download(dss.url, target, Selection([Choice(MISSING), Choice(new_uuid(), VERSION), Choice(good)]))
    assert (report.counts, report.files) == ({"downloaded": 1, "failed": 2}, 1)
    assert [failure.permanent for failure in report.failures] == [True, True]
    assert report.failures[0].name == MISSING
    assert sum(cause["count"] for cause in report.as_json()["causes"]) == 2
    assert "  failed  " in str(report)


def test_single_files_get_a_directory_of_their_own(dss: LocalDSS, target: Path) -> None:
    file = dss.new_file(b"text")
    report = download(dss.url, target, Selection([], [FQID(file, VERSION), FQID(MISSING, VERSION)]))
    assert tree(target) == {f"files/{file}.{VERSION}": b"text"}
    assert (report.counts, report.bundles) == ({"downloaded": 1, "failed": 1}, [])


def test_bundle_chosen_twice_is_downloaded_once(dss: LocalDSS, target: Path) -> None:
    """As the latest version, and as this version."""
    uuid = put(dss, a=b"1")
    report = download(dss.url, target, Selection([Choice(uuid), Choice(uuid, VERSION)]))
    assert (report.counts, report.files, report.downloaded_files) == ({"downloaded": 2}, 1, 1)


def test_patterns_and_names_of_a_manifest_select_files(dss: LocalDSS, target: Path) -> None:
    uuid = put(dss, a=b"1", b=b"2", m=b"{}", m2=b"{}")
    selection = Selection([Choice(uuid, data_files={"b": ""})])
    download(dss.url, target, selection, metadata_files=["m2"])
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == ["b", "m2"]


@pytest.mark.parametrize(
    ("names", "message"),
    [({"x": ""}, "the bundle has no file 'x'"), ({"a": "ab" * 32}, "file 'a' has sha256 6b86.* in the bundle, abab")],
)
def test_manifest_that_differs_from_the_bundle_fails_it(
    dss: LocalDSS, target: Path, names: dict[str, str], message: str
) -> None:
    report = download(dss.url, target, Selection([Choice(put(dss, a=b"1"), data_files=names)]))
    (failure,) = report.failures
    assert (failure.permanent, tree(target)) == (True, {})
    assert re.search(message, failure.cause)


def test_bundles_are_taken_in_groups(dss: LocalDSS, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REQUESTED_AT_ONCE", 2)
    monkeypatch.setattr(module, "_GROUP_FILES", 3)
    uuids = [put(dss, a=b"1") for _ in range(7)]
    report = download(dss.url, target, Selection([Choice(uuid) for uuid in uuids]))
    assert (report.counts, report.files) == ({"downloaded": 7}, 7)
    assert sorted(tree(target)) == sorted(f"{uuid}.{VERSION}/a" for uuid in uuids)


@pytest.mark.parametrize("path", ["/bundles/", "/files/"])
def test_error_of_the_service_concerns_one_bundle_or_all(
    dss: LocalDSS, target: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(module, "_REQUESTED_AT_ONCE", 2)
    monkeypatch.setattr(module, "_GROUP_FILES", 1)
    uuids = [put(dss, a=b"1") for _ in range(6)]
    chosen = Selection([Choice(uuid) for uuid in uuids])
    file = dss.call("GET", f"/bundles/{uuids[2]}", replica="aws").json()["bundle"]["files"][0]["uuid"]
    one = {"/bundles/": uuids[2], "/files/": file}[path]
    fault = {"method": "GET", "action": "status", "status": 503, "times": 99}
    dss.control("POST", "faults", {**fault, "path": path + one})
    report = download(dss.url, target, chosen)
    assert report.counts == {"downloaded": 5, "failed": 1}
    assert [(failure.name[:36], failure.permanent) for failure in report.failures] == [(uuids[2], False)]

    dss.control("DELETE", "requests")
    dss.control("POST", "faults", {**fault, "path": path})
    report = download(dss.url, target.with_name("all"), chosen)
    assert report.counts == {"failed": 6}
    assert [failure.name for failure in report.failures][2:] == uuids[2:]
    assert report.failures[-1].cause.startswith("not tried, since the DSS or the disk failed")
    assert not any(failure.permanent for failure in report.failures)
    assert requests_of(dss, "GET", f"/v1/bundles/{uuids[4]}") == 0


def test_bad_files_fail_their_bundle(target: Path) -> None:
    with OneBundle() as served:
        served.add("good", b"good")
        served.contents[served.add("bad", b"in the manifest")["uuid"]] = b"in the download"
        report = download(served.url, target, Selection([Choice(served.uuid)]))
        assert tree(target) == {f"{served.uuid}.{VERSION}/good": b"good"}
    assert (report.counts, report.files) == ({"failed": 1}, 1)
    assert "the manifest has 15 bytes" in report.failures[0].cause


def test_names_outside_of_the_directory_fail_their_bundle(target: Path, tmp_path: Path) -> None:
    with OneBundle() as served:
        served.add("../x")
        report = download(served.url, target, Selection([Choice(served.uuid)]))
    assert "cannot be written as a directory" in report.failures[0].cause
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_link_with_the_name_of_a_bundle_is_not_followed(target: Path) -> None:
    outside = target.parent / "elsewhere"
    outside.mkdir(parents=True)
    target.mkdir()
    with OneBundle() as served:
        served.add("a")
        (target / f"{served.uuid}.{VERSION}").symlink_to(outside)
        report = download(served.url, target, Selection([Choice(served.uuid)]))
    assert "blocks this path" in report.failures[0].cause
    assert list(outside.iterdir()) == []


def test_stop_ends_the_download(target: Path) -> None:
    stop = threading.Event()
    with OneBundle() as served:
        for number in range(200):
            served.add(f"{number}")
        served.checkout = 60
        threading.Timer(0.5, stop.set).start()
        with pytest.raises(DSSAbortedError):
            download(served.url, target, Selection([Choice(served.uuid)]), stop=stop)
    assert working_threads() == []
    assert tree(target) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"data_files": "*"}, "data_files must be a list"), ({"metadata_files": None}, "metadata_files must be a list")],
)
def test_invalid_patterns_are_an_error_before_anything_is_written(
    dss: LocalDSS, target: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        download(dss.url, target, Selection(), **options)
    assert not target.exists()


def test_empty_selection_is_a_success(dss: LocalDSS, target: Path) -> None:
    assert download(dss.url, target, Selection()).as_json()["downloaded"] == 0
