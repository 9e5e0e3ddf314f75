"""Contract of the client: files and bundles, on both transports against a running DSS."""

from __future__ import annotations

import time

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.exceptions import (
    DSSConflictError,
    DSSCopyError,
    DSSNotFoundError,
    DSSResponseError,
)
from tests.local.server import VERSION, LocalDSS, new_uuid, sums

from .contract import LARGE, LATER, counted, fault, fresh, member, some_file, stage
from .drivers import Run

# Files


def test_put_file_repeated_is_identical(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    content, uuid = fresh(), new_uuid()
    source = stage(dss, content)
    first = run(api.put_file(uuid, VERSION, source_url=source, creator_uid=8008))
    again = run(api.put_file(uuid.upper(), VERSION, source_url=source, creator_uid=8008))
    assert (first.uuid, first.version, first.outcome) == (uuid, VERSION, "created")
    assert (again.uuid, again.version, again.outcome) == (uuid, VERSION, "identical")


def test_head_file_returns_metadata_of_version_and_latest(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    content, uuid = fresh(), new_uuid()
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=8008))
    found = run(api.head_file(uuid.upper(), replica="aws", version=VERSION))
    assert found == run(api.head_file(uuid, replica="aws"))
    assert (found.uuid, found.version, found.size, found.creator_uid) == (uuid, VERSION, len(content), 8008)
    assert found.content_type == "text/plain"
    expected = {name.removeprefix("hca-dss-"): value for name, value in sums(content).items()}
    assert {name: getattr(found, name) for name in expected} == expected


def test_head_file_without_version_returns_greatest(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid = new_uuid()
    for version in (LATER, VERSION):
        run(api.put_file(uuid, version, source_url=stage(dss, fresh()), creator_uid=8008))
    assert run(api.head_file(uuid, replica="aws")).version == LATER


def test_head_file_of_missing_file_is_not_found_with_request_id(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid = dss.new_file()
    for call in (
        api.head_file(new_uuid(), replica="aws"),
        api.head_file(uuid, replica="aws", version=LATER),
        api.head_file(uuid, replica="gcp"),
    ):
        with pytest.raises(DSSNotFoundError) as caught:
            run(call)
        assert caught.value.request_id
        assert caught.value.permanent


@pytest.mark.parametrize("what", ["content", "creator"])
def test_put_file_with_other_content_or_creator_is_conflict(run: Run, api: DSSAPI, dss: LocalDSS, what: str) -> None:
    uuid, source = new_uuid(), stage(dss, fresh())
    run(api.put_file(uuid, VERSION, source_url=source, creator_uid=8008))
    other = stage(dss, fresh()) if what == "content" else source
    with pytest.raises(DSSConflictError) as caught:
        run(api.put_file(uuid, VERSION, source_url=other, creator_uid=8008 if what == "content" else 1))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (409, "file_already_exists", True)


@pytest.mark.parametrize(("sha1", "code"), [("", "missing_checksum"), ("XYZ", "invalid_checksum")])
def test_put_file_with_missing_or_malformed_checksums_is_refused(
    run: Run, api: DSSAPI, dss: LocalDSS, sha1: str, code: str
) -> None:
    source = stage(dss, fresh(), **{"hca-dss-sha1": sha1})
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_file(new_uuid(), VERSION, source_url=source, creator_uid=8008))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (422, code, True)


def test_put_file_of_missing_object_ends_soon_and_names_it(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A DSS answers 500 with `Retry-After`."""
    source, uuid = f"s3://{dss.bucket}/nowhere", new_uuid()
    with pytest.raises(DSSResponseError, match="Could not find s3://") as caught:
        run(api.put_file(uuid, VERSION, source_url=source, creator_uid=8008))
    assert counted(dss, "PUT", f"/files/{uuid}") == {500: 1}  # it asks for a longer wait than there is time
    assert (caught.value.status, caught.value.retry_after) == (500, 10)
    assert caught.value.request_id


# Asynchronous copies


def test_large_file_is_copied_asynchronously_and_then_identical(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    content, uuid = fresh(LARGE), new_uuid()
    source = stage(dss, content)
    assert run(api.put_file(uuid, VERSION, source_url=source, creator_uid=1)).outcome == "copying"
    digest = sums(content)["hca-dss-sha256"]
    found = run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))
    assert (found.sha256, found.size) == (digest, LARGE)
    assert run(api.put_file(uuid, VERSION, source_url=source, creator_uid=1)).outcome == "identical"


def test_large_file_with_known_content_is_stored_at_once(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    content, uuid = fresh(LARGE), new_uuid()
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=1))
    digest = sums(content)["hca-dss-sha256"]
    run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))
    assert run(api.put_file(new_uuid(), VERSION, source_url=stage(dss, content), creator_uid=1)).outcome == "created"


def test_asynchronous_copy_of_other_content_is_conflict(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid, wanted = new_uuid(), fresh(LARGE)
    run(api.put_file(uuid, VERSION, source_url=stage(dss, fresh()), creator_uid=1))
    assert run(api.put_file(uuid, VERSION, source_url=stage(dss, wanted), creator_uid=1)).outcome == "copying"
    digest = sums(wanted)["hca-dss-sha256"]
    with pytest.raises(DSSConflictError, match=digest):
        run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))


@pytest.mark.parametrize("status", [422, 500])
def test_failed_copy_is_copy_error(run: Run, api: DSSAPI, dss: LocalDSS, status: int) -> None:
    content, uuid = fresh(LARGE), new_uuid()
    digest = sums(content)["hca-dss-sha256"]
    fault(dss, method="PUT", path=uuid, action="fail_copy", status=status)
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=1))
    with pytest.raises(DSSCopyError) as caught:
        run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))
    # 500 may also be a DSS in trouble, which passes.
    metadata = (uuid, "failed", True) if status == 422 else (uuid, "unclear", False)
    assert (caught.value.uuid, caught.value.reason, caught.value.permanent) == metadata


def test_endless_copy_ends_at_the_deadline(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    content, uuid = fresh(LARGE), new_uuid()
    digest = sums(content)["hca-dss-sha256"]
    fault(dss, method="PUT", path=uuid, action="fail_copy", status=404)
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=1))
    started = time.monotonic()
    with pytest.raises(DSSCopyError) as caught:
        run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=0.5))
    assert (caught.value.reason, caught.value.permanent) == ("deadline", False)
    assert time.monotonic() - started >= 0.5


# Bundles


def test_put_bundle_repeated_is_identical(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    files, uuid = [member(dss, "b"), member(dss, "a", indexed=True), member(dss, "\u00fc/x y")], new_uuid()
    loud = [file | {"uuid": file["uuid"].upper(), "size": 7} for file in files]
    first = run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=8008, files=files))
    again = run(api.put_bundle(uuid.upper(), VERSION, replica="aws", creator_uid=8008, files=loud))
    assert (first.uuid, first.version, first.outcome) == (uuid, VERSION, "created")
    assert (again.uuid, again.version, again.outcome) == (uuid, VERSION, "identical")
    found = run(api.get_bundle(uuid, replica="aws"))
    assert (found["uuid"], found["version"], found["creator_uid"]) == (uuid, VERSION, 8008)
    assert [{name: file[name] for name in files[0]} for file in found["files"]] == files


@pytest.mark.parametrize("change", ["order", "indexed", "creator"])
def test_put_bundle_with_other_content_is_conflict(run: Run, api: DSSAPI, dss: LocalDSS, change: str) -> None:
    files, uuid = [member(dss, "a"), member(dss, "b")], new_uuid()
    run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=8008, files=files))
    other = {
        "order": files[::-1],
        "indexed": [files[0] | {"indexed": True}, files[1]],
        "creator": files,
    }[change]
    creator = 1 if change == "creator" else 8008
    with pytest.raises(DSSConflictError) as caught:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=creator, files=other))
    assert (caught.value.code, caught.value.permanent) == ("bundle_already_exists", True)


def test_put_bundle_with_missing_file_is_temporary_error_after_one_put(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid = new_uuid()
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=[member(dss, uuid=new_uuid())]))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "file_missing", False)
    assert counted(dss, "PUT", f"/bundles/{uuid}") == {400: 1}


def test_put_bundle_with_duplicate_name_is_refused(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_bundle(new_uuid(), VERSION, replica="aws", creator_uid=1, files=[member(dss), member(dss)]))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "duplicate_filename", True)


def test_get_bundle_joins_pages_in_order(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    file, uuid = some_file(dss), new_uuid()
    names = [f"{number:04}.txt" for number in range(1001)]
    files = [dss.entry(name, file) for name in names]
    run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files))
    assert [found["name"] for found in run(api.get_bundle(uuid, replica="aws"))["files"]] == names
    assert counted(dss, "GET", f"/bundles/{uuid}") == {206: 2, 200: 1}
    assert run(api.find_bundle(uuid, replica="aws")) == VERSION


def test_missing_bundle_is_not_found_by_get_and_none_by_find(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid = new_uuid()
    run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=[member(dss)]))
    for replica, version in (("gcp", None), ("aws", LATER)):
        with pytest.raises(DSSNotFoundError) as caught:
            run(api.get_bundle(uuid, replica=replica, version=version))
        assert caught.value.code == "not_found"
        assert run(api.find_bundle(uuid, replica=replica, version=version)) is None


def test_get_bundle_without_version_returns_greatest(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid, files = new_uuid(), [member(dss)]
    for version in (LATER, VERSION):
        run(api.put_bundle(uuid, version, replica="aws", creator_uid=1, files=files))
    assert run(api.find_bundle(uuid, replica="aws")) == LATER
    assert run(api.find_bundle(uuid.upper(), replica="aws", version=VERSION)) == VERSION
    assert run(api.get_bundle(uuid, replica="aws", version=VERSION))["version"] == VERSION


def test_get_bundles_all_lists_pages_of_prefix_in_any_case(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    prefix, files = new_uuid()[:8], [member(dss)]
    uuids = sorted(prefix + new_uuid()[8:] for _ in range(10))
    for uuid in uuids:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files))
    found = run(api.get_bundles_all(replica="aws", prefix=prefix.upper(), per_page=10))
    assert found == [{"uuid": uuid, "version": VERSION} for uuid in uuids]
    assert counted(dss, "GET", "/bundles/all") == {206: 1, 200: 1}
    assert run(api.get_bundles_all(replica="gcp", prefix=prefix)) == []
