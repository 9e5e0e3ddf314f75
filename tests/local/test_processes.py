"""Processes of the local DSS that cache manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from .server import UNUSED_UUID, VERSION, LocalDSS, code_of, new_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LATE = "2026-01-01T000000.000000Z"
UNREGISTERED = {"uuid": UNUSED_UUID, "version": VERSION, "name": "missing", "indexed": False}


@pytest.fixture(scope="module")
def dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS for these tests, which does not wait for missing files."""
    with LocalDSS(tmp_path_factory.mktemp("processes"), "--file-wait", "0") as dss:
        yield dss


class Bundle:
    """A bundle in a DSS with two processes.

    :param names: names of its files
    """

    def __init__(self, dss: LocalDSS, *names: str, count: int = 2) -> None:
        dss.control("POST", "processes", {"count": count})
        self.dss = dss
        self.path = f"/bundles/{new_uuid()}"
        self.files = {name: dss.entry(name) for name in names}
        self.put(*self.files.values())

    def _call(self, process: int | None, method: str, body: Any = None, version: str | None = None) -> Any:
        headers = self.dss.authorization | ({} if process is None else {"X-Local-Process": str(process)})
        query = {"replica": "aws", "version": version}
        return requests.request(method, self.dss.url + self.path, json=body, params=query, headers=headers, timeout=30)

    def put(self, *files: Any, version: str = VERSION, process: int = 0) -> str:
        """Create a version; return "ok" or the code of the error."""
        response = self._call(process, "PUT", {"creator_uid": 1, "files": files}, version)
        return "ok" if response.ok else code_of(response)[1]

    def patch(
        self, add: list[Any], remove: list[str], *, process: int | None = None, version: str = VERSION
    ) -> tuple[int, str]:
        """Patch the bundle; return the status, and the new version or the code of the error."""
        body = {"add_files": add, "remove_files": [self.files[name] for name in remove]}
        response = self._call(process, "PATCH", body, version)
        return response.status_code, response.json().get("version") or response.json().get("code", "")

    def get(self, process: int | None = None, version: str | None = VERSION) -> tuple[str, str] | int:
        """Return the version and the names of files; the status of an error."""
        response = self._call(process, "GET", None, version)
        if not response.ok:
            return int(response.status_code)
        bundle = response.json()["bundle"]
        return bundle["version"], "".join(file["name"] for file in bundle["files"])


def test_requests_without_processes_show_what_is_stored(dss: LocalDSS) -> None:
    bundle = Bundle(dss, "a", count=0)
    assert bundle.get(version=None) == (VERSION, "a")
    _, new = bundle.patch([], ["a"])
    assert bundle.get(version=None) == (new, "")
    assert bundle.get() == (VERSION, "a")
    dss.call("DELETE", bundle.path, {"reason": "test"}, replica="aws")
    assert [bundle.get(), bundle.get(version=None)] == [404, 404]


def test_process_shows_latest_and_deleted_version_that_it_has_read(dss: LocalDSS) -> None:
    bundle = Bundle(dss, "a")
    assert bundle.get(0, None) == (VERSION, "a")
    bundle.put(version=LATE)
    dss.call("DELETE", bundle.path, {"reason": "test"}, replica="aws", version=VERSION)
    assert bundle.get(0, None) == bundle.get(0) == (VERSION, "a")
    assert bundle.get(1, None) == (LATE, "")
    assert bundle.get(1) == 404


def test_successful_patch_shows_new_version_for_the_old_in_its_process(dss: LocalDSS) -> None:
    bundle = Bundle(dss, "a", "b")
    _, new = bundle.patch([], ["a"])
    assert bundle.get(0) == bundle.get(0, new) == (new, "b")
    assert bundle.get(1) == (VERSION, "ab")
    assert bundle.get(1, new) == (new, "b")


def test_patch_with_missing_file_leaves_removals_in_its_process(dss: LocalDSS) -> None:
    bundle = Bundle(dss, "a", "b")
    assert bundle.patch([UNREGISTERED], ["a"], process=1) == (500, "")
    assert [bundle.get(0), bundle.get(1)] == [(VERSION, "ab"), (VERSION, "b")]
    assert bundle.put(*bundle.files.values()) == "ok"  # the store has both


def test_patch_with_duplicate_name_leaves_additions_in_its_process(dss: LocalDSS) -> None:
    bundle = Bundle(dss, "a", "b")
    new = dss.entry("c")
    assert bundle.patch([new, bundle.files["a"]], [], process=1) == (400, "duplicate_filename")
    assert [bundle.get(0), bundle.get(1)] == [(VERSION, "ab"), (VERSION, "abca")]
    assert bundle.patch([], [], process=1) == (400, "duplicate_filename")
    status, version = bundle.patch([], [], process=0)
    assert (status, bundle.get(1, version)) == (200, (version, "ab"))


def test_patch_is_computed_from_the_cached_manifest(dss: LocalDSS) -> None:
    bundle = Bundle(dss, "a", "b", "c")
    bundle.patch([], ["a"], process=1)
    _, new = bundle.patch([], ["b"], process=1)
    assert bundle.get(0, new) == (new, "c")


def test_processes_take_turns_after_the_order(dss: LocalDSS) -> None:
    bundle = Bundle(dss, "a", count=3)
    dss.control("POST", "processes", {"count": 3, "order": [2, 2]})
    assert bundle.patch([], ["a"])[0] == 200  # process 2
    shown = [bundle.get() != (VERSION, "a") for _ in range(7)]
    assert shown == [True, False, False, True, False, False, True]


def test_processes_chosen_with_a_seed_are_the_same_again(dss: LocalDSS) -> None:
    bundle = Bundle(dss, "a")

    def choices() -> list[bool]:
        dss.control("POST", "processes", {"count": 3, "seed": 7})
        bundle.patch([], ["a"], process=0)
        return [bundle.get() != (VERSION, "a") for _ in range(20)]

    first = choices()
    assert choices() == first
    assert len(set(first)) == 2


def test_processes_can_be_started_by_option(tmp_path: Path) -> None:
    with LocalDSS(tmp_path, "--processes", "1") as dss:
        file, path = dss.entry("a"), f"/bundles/{new_uuid()}"
        dss.call("PUT", path, {"creator_uid": 1, "files": [file]}, replica="aws", version=VERSION)
        new = dss.call("PATCH", path, {}, replica="aws", version=VERSION).json()["version"]
        assert dss.call("GET", path, replica="aws", version=VERSION).json()["bundle"]["version"] == new
