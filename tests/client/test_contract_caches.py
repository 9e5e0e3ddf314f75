"""Contract of reads and changes with a DSS of three processes. The first has false manifests in its cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.exceptions import DSSConflictError, DSSResponseError
from tests.local.server import VERSION, LocalDSS, new_uuid

from .contract import fault, member
from .drivers import Run


@pytest.fixture(scope="module")
def dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS for these tests, which does not wait for missing files."""
    with LocalDSS(tmp_path_factory.mktemp("caches"), "--file-wait", "0", "--processes", "3") as started:
        yield started


@pytest.fixture
def bundle(dss: LocalDSS) -> str:
    """Return the UUID of a bundle of files "a", "b" and "c"."""
    uuid = new_uuid()
    dss.control("POST", "processes", {"count": 3})
    assert dss.put_bundle([member(dss, name) for name in "abc"], uuid).status_code == 201
    return uuid


def use(dss: LocalDSS, *order: int) -> None:
    """Choose the processes of the next requests, and forget the caches before."""
    dss.control("POST", "processes", {"count": 3, "order": order})


def foreign_patch(dss: LocalDSS, uuid: str, *, add: list[Any], remove: list[Any]) -> int:
    """Send a PATCH of another client to process 0; return the status."""
    response = requests.patch(
        f"{dss.url}/bundles/{uuid}",
        json={"add_files": add, "remove_files": remove},
        params={"replica": "aws", "version": VERSION},
        headers=dss.authorization | {"X-Local-Process": "0"},
        timeout=30,
    )
    return response.status_code


def missing(dss: LocalDSS) -> dict[str, Any]:
    return member(dss, "missing", uuid=new_uuid())


def removal_failed(dss: LocalDSS, uuid: str) -> None:
    assert foreign_patch(dss, uuid, add=[missing(dss)], remove=[member(dss, "b")]) == 500


def addition_failed(dss: LocalDSS, uuid: str) -> None:
    assert foreign_patch(dss, uuid, add=[member(dss, "d"), member(dss, "c")], remove=[]) == 400


def replacement_failed(dss: LocalDSS, uuid: str) -> None:
    other = member(dss, "c", uuid=dss.new_file())
    assert foreign_patch(dss, uuid, add=[member(dss, "d"), other], remove=[]) == 400
    assert foreign_patch(dss, uuid, add=[missing(dss)], remove=[member(dss, "c")]) == 500


def patch_succeeded(dss: LocalDSS, uuid: str) -> None:
    assert foreign_patch(dss, uuid, add=[member(dss, "e")], remove=[member(dss, "b")]) == 200


FALSE = [removal_failed, addition_failed, replacement_failed, patch_succeeded]
# The processes that answer GET, PUT (a comparison), PATCH and GET, with repeats.
ORDERS = [(0, 0, 0, 1, 0, 0, 2, 1), (1, 1, 0, 0, 0, 0, 2), (0, 1, 0, 0, 1, 0, 0), (1, 0, 0, 1, 2, 0)]


def stored(dss: LocalDSS, uuid: str, version: str) -> list[str]:
    """Return the names of files of a version in the store."""
    manifests = dss.control("GET", "store")["bundles"]
    (manifest,) = (
        one["manifest"] for one in manifests if (one["uuid"], one["version"], one["replica"]) == (uuid, version, "aws")
    )
    return sorted(file["name"] for file in manifest["files"])


@pytest.mark.parametrize("falsify", FALSE)
@pytest.mark.parametrize("order", ORDERS)
def test_change_bundle_returns_a_version_that_is_stored_with_the_changes(
    run: Run, api: DSSAPI, dss: LocalDSS, bundle: str, falsify: Callable[[LocalDSS, str], None], order: tuple[int, ...]
) -> None:
    use(dss, *order)
    falsify(dss, bundle)
    wanted: dict[str, Any] = {"add_files": [member(dss, "d")], "remove_files": [member(dss, "a")]}
    change = run(api.change_bundle(bundle, version=VERSION, replica="aws", **wanted))
    assert stored(dss, bundle, change.version) == ["b", "c", "d"]
    assert change.count == 3


@pytest.mark.parametrize("order", ORDERS)
def test_change_bundle_again_after_a_missing_file_makes_all_changes(
    run: Run, api: DSSAPI, dss: LocalDSS, bundle: str, order: tuple[int, ...]
) -> None:
    late = missing(dss)
    wanted: dict[str, Any] = {"add_files": [late], "remove_files": [member(dss, "a")]}
    use(dss, 0, 0, 0, 0, *order)
    with pytest.raises(DSSResponseError, match="500 file_missing"):
        run(api.change_bundle(bundle, version=VERSION, replica="aws", **wanted))
    assert dss.put_file(dss.stage(b"late"), late["uuid"]).status_code == 201
    change = run(api.change_bundle(bundle, version=VERSION, replica="aws", **wanted))
    assert stored(dss, bundle, change.version) == ["b", "c", "missing"]


def test_get_bundle_does_not_return_what_no_bundle_can_have(run: Run, api: DSSAPI, dss: LocalDSS, bundle: str) -> None:
    """Another version, or the same name twice."""
    for falsify in (patch_succeeded, addition_failed):
        use(dss, 0, 0, 1)
        falsify(dss, bundle)
        read = run(api.get_bundle(bundle, version=VERSION, replica="aws"))
        assert (read["version"], [file["name"] for file in read["files"]]) == (VERSION, ["a", "b", "c"])


def test_put_bundle_with_files_that_only_a_cache_has_is_a_conflict(
    run: Run, api: DSSAPI, dss: LocalDSS, bundle: str
) -> None:
    use(dss, *[0] * 10)
    removal_failed(dss, bundle)
    fault(dss, method="PUT", path=bundle, status=504, after=True)
    with pytest.raises(DSSConflictError):
        run(
            api.put_bundle(bundle, VERSION, replica="aws", files=[member(dss, "a"), member(dss, "c")], creator_uid=8008)
        )
