"""Contract of bundle changes, deletions and checkouts, on both transports against a running DSS."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.models import FQID, Checkout
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSChangeError,
    DSSConflictError,
    DSSNotFoundError,
    DSSResponseError,
)
from tests.local.server import EMAIL, VERSION, LocalDSS, new_uuid

from .contract import LATER, QUICK, counted, fault, fresh, member
from .drivers import Run


@pytest.fixture
def bundle(dss: LocalDSS) -> str:
    """Return the UUID of a bundle of two files."""
    uuid = new_uuid()
    assert dss.put_bundle([member(dss, "a"), member(dss, "b")], uuid).status_code == 201
    return uuid


def names(run: Run, api: DSSAPI, uuid: str, version: str | None = None) -> list[str]:
    return [file["name"] for file in run(api.get_bundle(uuid, replica="aws", version=version))["files"]]


def versions(run: Run, api: DSSAPI, uuid: str) -> list[str]:
    return [found["version"] for found in run(api.get_bundles_all(replica="aws", prefix=uuid))]


# PATCH


def test_patch_bundle_adds_and_removes_files_and_keeps_creator(
    run: Run, api: DSSAPI, dss: LocalDSS, bundle: str
) -> None:
    patched = run(
        api.patch_bundle(
            bundle.upper(), VERSION, replica="aws", add_files=[member(dss, "c")], remove_files=[member(dss, "a")]
        )
    )
    assert patched == FQID(bundle, versions(run, api, bundle)[-1])
    assert names(run, api, bundle, patched.version) == ["b", "c"]
    assert run(api.get_bundle(bundle, replica="aws"))["creator_uid"] == 8008
    assert names(run, api, bundle, VERSION) == ["a", "b"]


def test_patch_bundle_without_changes_creates_a_version(run: Run, api: DSSAPI, bundle: str) -> None:
    made = [run(api.patch_bundle(bundle, VERSION, replica="aws")).version for _ in range(2)]
    gone = [{"uuid": new_uuid(), "version": VERSION, "name": "x", "indexed": False}]
    made.append(run(api.patch_bundle(bundle, VERSION, replica="aws", remove_files=gone)).version)
    assert versions(run, api, bundle) == [VERSION, *made]


def test_patch_bundle_with_existing_name_is_refused(run: Run, api: DSSAPI, dss: LocalDSS, bundle: str) -> None:
    with pytest.raises(DSSResponseError) as caught:
        run(api.patch_bundle(bundle, VERSION, replica="aws", add_files=[member(dss, "a")]))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "duplicate_filename", True)
    assert versions(run, api, bundle) == [VERSION]


def test_patch_of_missing_bundle_is_not_found(run: Run, api: DSSAPI, dss: LocalDSS, bundle: str) -> None:
    for uuid, version, replica in ((new_uuid(), VERSION, "aws"), (bundle, LATER, "aws"), (bundle, VERSION, "gcp")):
        with pytest.raises(DSSNotFoundError) as caught:
            run(api.patch_bundle(uuid, version, replica=replica, add_files=[member(dss, "c")]))
        assert caught.value.code == "not_found"


def test_patch_with_missing_file_is_500_explained_by_change_bundle(
    run: Run, api: DSSAPI, dss: LocalDSS, bundle: str
) -> None:
    missing = member(dss, "c", uuid=new_uuid())
    with pytest.raises(DSSResponseError) as caught:
        run(api.patch_bundle(bundle, VERSION, replica="aws", add_files=[missing]))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (500, "file_missing", False)
    with pytest.raises(DSSResponseError, match=rf"500 file_missing: file {missing['uuid']}") as caught:
        run(api.change_bundle(bundle, version=VERSION, replica="aws", add_files=[missing]))
    assert caught.value.request_id
    assert versions(run, api, bundle) == [VERSION]


@pytest.mark.parametrize("after", [False, True])
def test_patch_bundle_is_sent_once(run: Run, api: DSSAPI, bundle: str, dss: LocalDSS, after: bool) -> None:
    fault(dss, method="PATCH", path=bundle, status=504, after=after)
    with pytest.raises(DSSResponseError):
        run(api.patch_bundle(bundle, VERSION, replica="aws"))
    assert len(versions(run, api, bundle)) == 1 + after


@pytest.mark.parametrize(
    ("what", "sent"),
    [
        ({"status": 504, "after": True}, 1),
        ({"status": 500}, 2),
        ({"action": "drop", "after": True}, 1),
        ({"status": 429}, 2),
    ],
)
def test_change_bundle_with_errors_creates_each_version_once(
    run_requests: Run, api: DSSAPI, dss: LocalDSS, bundle: str, what: dict[str, Any], sent: int
) -> None:
    run = run_requests
    fault(dss, method="PATCH", path=bundle, action="slow", seconds=0)
    fault(dss, method="PATCH", path=bundle, **what)
    files = [member(dss, f"{number}") for number in range(1001)]
    change = run(api.change_bundle(bundle, version=VERSION, replica="aws", add_files=files))
    assert (change.count, change.patches) == (1003, 2)
    assert names(run, api, bundle, change.version) == ["a", "b", *(file["name"] for file in files)]
    assert len(versions(run, api, bundle)) == 3
    assert sum(counted(dss, "PATCH", f"/bundles/{bundle}").values()) == 1 + sent


def test_change_bundle_stopped_names_last_version_and_repeat_completes(
    run: Run, api: DSSAPI, dss: LocalDSS, bundle: str
) -> None:
    fault(dss, method="PATCH", path=bundle, action="slow", seconds=0)
    fault(dss, method="PATCH", path=bundle, status=403)
    files = [member(dss, f"{number}") for number in range(1001)]
    with pytest.raises(DSSChangeError) as caught:
        run(api.change_bundle(bundle, version=VERSION, replica="aws", add_files=files))
    assert caught.value.version == versions(run, api, bundle)[-1]
    change = run(api.change_bundle(bundle, version=VERSION, replica="aws", add_files=files))
    assert (change.count, change.patches) == (1003, 1)
    assert len(versions(run, api, bundle)) == 3


# DELETE


def test_delete_bundle_repeated_with_same_reason_succeeds(run: Run, api: DSSAPI, dss: LocalDSS, bundle: str) -> None:
    dss.put_bundle([], bundle, LATER)
    for version, left in ((LATER, [VERSION]), (None, [])):
        for uuid in (bundle, bundle.upper()):
            run(api.delete_bundle(uuid, replica="aws", version=version, reason="a test"))
        assert versions(run, api, bundle) == left
        with pytest.raises(DSSConflictError) as caught:
            run(api.delete_bundle(bundle, replica="aws", version=version, reason="another"))
        assert (caught.value.code, caught.value.permanent) == ("bundle_tombstone_already_exists", True)
    assert run(api.find_bundle(bundle, replica="aws")) is None


def test_delete_of_missing_bundle_is_not_found(run: Run, api: DSSAPI, bundle: str) -> None:
    for uuid, version, replica in ((new_uuid(), None, "aws"), (bundle, LATER, "aws"), (bundle, None, "gcp")):
        with pytest.raises(DSSNotFoundError) as caught:
            run(api.delete_bundle(uuid, version=version, replica=replica, reason="a test"))
        assert caught.value.code == "not_found"


def test_delete_bundle_by_others_is_auth_error(run: Run, dss: LocalDSS, bundle: str) -> None:
    other = StaticToken(dss.token(claims={EMAIL: "other@example.org"}))
    for auth, status, code in ((other, 403, "Forbidden"), (None, 401, "OAuthProblem")):
        api = DSSAPI(dss.url, auth=auth, retry=QUICK)
        with pytest.raises(DSSAuthError) as caught:
            run(api.delete_bundle(bundle, replica="aws", reason="a test"))
        assert (caught.value.status, caught.value.code) == (status, code)
        assert names(run, api, bundle) == ["a", "b"]


def test_delete_bundle_without_response_is_repeated(run: Run, api: DSSAPI, dss: LocalDSS, bundle: str) -> None:
    fault(dss, method="DELETE", path=bundle, action="drop", after=True)
    run(api.delete_bundle(bundle, replica="aws", reason="a test"))
    assert counted(dss, "DELETE", f"/bundles/{bundle}") == {0: 1, 200: 1}


# URLs


def test_presigned_urls_of_all_pages_can_be_downloaded(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid, content = new_uuid(), fresh()
    file = dss.new_file(content)
    dss.put_bundle([dss.entry(f"{number}", file) for number in range(501)], uuid)
    started = time.monotonic()
    files = run(api.get_bundle(uuid, replica="aws", presignedurls=True))["files"]
    assert time.monotonic() - started >= 1  # seconds that the DSS asks to wait
    assert [found["name"] for found in files] == [f"{number}" for number in range(501)]
    assert {requests.get(found["url"], timeout=10).content for found in (files[0], files[-1])} == {content}
    assert counted(dss, "GET", f"/bundles/{uuid}")[206] == 1


def test_direct_urls_are_of_the_object_store(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid = new_uuid()
    dss.put_bundle([dss.entry("a", dss.new_file(b"direct"))], uuid)
    (file,) = run(api.get_bundle(uuid, replica="aws", version=VERSION, directurls=True))["files"]
    assert file["url"].startswith("s3://")
    with pytest.raises(ValueError, match="exclude each other"):
        run(api.get_bundle(uuid, replica="aws", directurls=True, presignedurls=True))


# Checkouts


def end(run: Run, api: DSSAPI, job: str) -> Checkout:
    """Wait until a checkout has ended."""
    deadline = time.monotonic() + 20
    while (checkout := run(api.get_bundles_checkout(job, replica="aws"))).status == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return checkout


def test_checkout_copies_files_to_its_location(run: Run, api: DSSAPI, dss: LocalDSS, bundle: str) -> None:
    bucket = f"destination-{new_uuid()}"
    dss.s3.create_bucket(Bucket=bucket)
    options = {"version": VERSION, "destination": bucket, "email": "me@example.org"}
    job = run(api.post_bundles_checkout(bundle.upper(), replica="aws", **options))
    assert run(api.get_bundles_checkout(job, replica="aws")).status == "RUNNING"
    checkout = end(run, api, job)
    assert (checkout.job_id, checkout.status, checkout.cause) == (job, "SUCCEEDED", "")
    assert checkout.location.startswith(f"s3://{bucket}/")
    assert dss.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 2


def test_failed_checkout_has_a_cause(run: Run, api: DSSAPI, dss: LocalDSS, bundle: str) -> None:
    fault(dss, method="POST", path="/checkout", action="fail_checkout")
    api = DSSAPI(dss.url, retry=QUICK)
    checkout = end(run, api, run(api.post_bundles_checkout(bundle, replica="aws")))
    assert (checkout.status, checkout.cause) == ("FAILED", "Injected fault: the checkout fails")


def test_unknown_checkout_bundle_or_bucket_is_an_error(run: Run, api: DSSAPI, dss: LocalDSS, bundle: str) -> None:
    with pytest.raises(DSSNotFoundError):
        run(api.get_bundles_checkout(new_uuid(), replica="aws"))
    for uuid, version, replica in ((new_uuid(), None, "aws"), (bundle, LATER, "aws"), (bundle, None, "gcp")):
        with pytest.raises(DSSNotFoundError):
            run(api.post_bundles_checkout(uuid, version=version, replica=replica))
    with pytest.raises(DSSResponseError) as caught:
        run(api.post_bundles_checkout(bundle, replica="aws", destination="a/b"))
    assert (caught.value.status, caught.value.code) == (400, "illegal_arguments")


def test_post_checkout_is_sent_once(run: Run, api: DSSAPI, dss: LocalDSS, bundle: str) -> None:
    fault(dss, method="POST", path=bundle, status=504, after=True)
    with pytest.raises(DSSResponseError) as caught:
        run(api.post_bundles_checkout(bundle, replica="aws"))
    assert caught.value.status == 504
    assert counted(dss, "POST", f"/bundles/{bundle}/checkout") == {504: 1}


# Read-only


def test_read_only_dss_has_not_applied_a_patch_or_checkout(run: Run, api: DSSAPI, dss: LocalDSS, bundle: str) -> None:
    fault(dss, method="PATCH", action="read_only", times=2)
    change = run(api.change_bundle(bundle, version=VERSION, replica="aws", add_files=[member(dss, "c")]))
    assert (change.patches, versions(run, api, bundle)) == (1, [VERSION, change.version])
    assert counted(dss, "PATCH", f"/bundles/{bundle}") == {500: 2, 200: 1}
    fault(dss, method="POST", action="read_only", times=1)
    assert run(api.post_bundles_checkout(bundle, replica="aws"))
    fault(dss, method="PATCH", action="read_only", times=3)
    with pytest.raises(DSSResponseError) as caught:
        run(api.patch_bundle(bundle, VERSION, replica="aws"))
    assert (caught.value.code, caught.value.permanent, caught.value.maybe_done) == ("read_only", False, False)
