"""Waiters, with fed responses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.sansio import Request, Response
from airflow_provider_hca.client.waiters import BundleWaiter, CheckoutWaiter, FilesWaiter, open_waiter, wait_for, within
from airflow_provider_hca.exceptions import DSSCheckoutError, DSSConflictError, DSSCopyError, DSSError

from .feeding import OTHER, SHA256, URL, UUID, VERSION, Clock, converse, feed, ok, problem, stored

LATER = "2026-01-01T000000.000000Z"
JOB = "7f0a1b2c-0000-4000-8000-000000000001"


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, retry=RetryPolicy(attempts=2))


def bundle(version: str = VERSION) -> Response:
    return ok({"bundle": {"uuid": UUID, "version": version, "creator_uid": 1, "files": []}})


def file(uuid: str = UUID, **more: Any) -> dict[str, Any]:
    return {"uuid": uuid, "version": VERSION, **more}


@pytest.mark.parametrize(
    "wait",
    [
        BundleWaiter(UUID.upper(), None, ["aws", "gcp"]),
        BundleWaiter(UUID, VERSION, ("aws",)),
        FilesWaiter([file(sha256=SHA256), {"uuid": OTHER.upper()}], ["gcp"]),
        CheckoutWaiter(JOB, "aws"),
    ],
)
def test_waiter_is_restored_from_json(wait: BundleWaiter | FilesWaiter | CheckoutWaiter) -> None:
    again = open_waiter(wait.kind, json.loads(json.dumps(wait.as_json())))
    assert (type(again), again.as_json(), str(again)) == (type(wait), wait.as_json(), str(wait))
    assert UUID.upper() not in str(wait)


def test_unknown_kind_is_value_error() -> None:
    with pytest.raises(ValueError, match="the kind of a waiter must be one of bundle, files, checkout, got 'weather'"):
        open_waiter("weather", {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BundleWaiter("x", None, ["aws"]), "bundle uuid"),
        (lambda: BundleWaiter(UUID, "1", ["aws"]), "bundle version"),
        (lambda: BundleWaiter(UUID, None, "aws"), "replicas must be a list"),
        (lambda: BundleWaiter(UUID, None, []), "replicas must be a list"),
        (lambda: BundleWaiter(UUID, None, ["azure"]), "replica must be 'aws' or 'gcp'"),
        (lambda: FilesWaiter([], ["aws"]), "files must not be empty"),
        (lambda: FilesWaiter([{"version": VERSION}], ["aws"]), "a file must have a uuid"),
        (lambda: FilesWaiter([UUID], ["aws"]), "a file must have a uuid"),  # type: ignore[list-item]  # wrong on purpose
        (lambda: FilesWaiter([file(version="1")], ["aws"]), "file version"),
        (lambda: FilesWaiter([file(sha256="ab")], ["aws"]), "sha256 must be 64 hexadecimal digits, got 'ab'"),
        (lambda: FilesWaiter([file(sha256="xy" * 32)], ["aws"]), "sha256 must be 64 hexadecimal digits"),
        (lambda: FilesWaiter([file(sha256=7)], ["aws"]), "sha256 must be 64 hexadecimal digits, got 7"),
        (lambda: CheckoutWaiter(JOB, "azure"), "replica must be 'aws' or 'gcp'"),
    ],
)
def test_invalid_waiter_is_value_error(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_bundle_waiter_needs_all_replicas_and_returns_versions(dss: DSSAPI) -> None:
    wait = BundleWaiter(UUID, None, ["aws", "gcp"])
    missing = feed(wait.check(dss), bundle(LATER), problem(404))
    found = feed(wait.check(dss), bundle(LATER), bundle(VERSION))
    assert missing.result is None
    assert missing.error is None
    assert found.value == {"uuid": UUID, "version": VERSION, "versions": {"aws": LATER, "gcp": VERSION}}


def test_files_waiter_stops_at_the_first_missing_file_and_resumes_there(dss: DSSAPI) -> None:
    wait = FilesWaiter([file(), file(OTHER)], ["aws", "gcp"])
    first = feed(wait.check(dss), stored(), stored(), stored(), problem(404))
    second = feed(wait.check(dss), stored(), stored())
    assert first.result is None
    assert first.error is None
    assert [line.split("?")[0] for line in second.sent] == [f"HEAD /files/{OTHER}"] * 2
    assert second.value == {"file_count": 2, "byte_count": 14}
    assert feed(wait.check(dss)).value == second.value


def test_check_with_time_limit_ends_after_the_current_request(dss: DSSAPI, clock: Clock) -> None:
    wait = FilesWaiter([file(), file(OTHER), file(JOB)], ["aws"])

    def answer(_: Request) -> Response:
        clock.now += 4
        return stored()

    first = converse(within(wait.check(dss), 5), answer)
    second = converse(within(wait.check(dss), 5), answer)
    assert (len(first.sent), first.result, first.error) == (2, None, None)
    assert (len(second.sent), second.value) == (1, {"file_count": 3, "byte_count": 21})


@pytest.mark.parametrize("status", [422, 503])
def test_error_within_the_time_limit_is_raised(dss: DSSAPI, status: int) -> None:
    look = within(FilesWaiter([file()], ["aws"]).check(dss), 5)
    assert isinstance(converse(look, lambda _: Response(status)).error, DSSError)


def test_single_file_has_metadata(dss: DSSAPI) -> None:
    found = feed(FilesWaiter([{"uuid": UUID}], ["aws"]).check(dss), stored()).value
    assert found == {
        "file_count": 1,
        "byte_count": 7,
        "uuid": UUID,
        "version": VERSION,
        "size": 7,
        "sha256": SHA256,
        "content_type": "text/plain",
    }


def test_other_content_or_failed_copy_ends_the_wait(dss: DSSAPI) -> None:
    conflict = feed(FilesWaiter([file(sha256="cd" * 32)], ["aws"]).check(dss), stored())
    refused = feed(FilesWaiter([file()], ["aws"]).check(dss), Response(422))
    assert conflict.failed(DSSConflictError).permanent
    assert refused.failed(DSSCopyError).reason == "failed"


def test_sha256_is_compared_in_lower_case(dss: DSSAPI) -> None:
    for given, there in ((SHA256.upper(), SHA256), (SHA256, SHA256.upper())):
        found = feed(FilesWaiter([file(sha256=given)], ["aws"]).check(dss), stored(there))
        assert (found.value or {})["sha256"] == SHA256
        waiting = dss.wait_for_file(UUID, VERSION, replica="aws", sha256=given, seconds=1)
        assert feed(waiting, stored(there)).value.sha256 == SHA256


def test_invalid_sha256_is_value_error_before_any_request(dss: DSSAPI) -> None:
    looked = feed(dss.find_file(UUID, replica="aws", sha256="ab"))
    assert "64 hexadecimal digits" in str(looked.failed(ValueError))
    assert looked.sent == []


def test_checkout_waiter_returns_location_or_raises(dss: DSSAPI) -> None:
    wait = CheckoutWaiter(JOB, "aws")
    assert feed(wait.check(dss), ok({"status": "RUNNING"})).result is None
    done = feed(wait.check(dss), ok({"status": "SUCCEEDED", "location": "s3://b/x"})).value
    assert done == {"checkout_job_id": JOB, "replica": "aws", "location": "s3://b/x"}
    failed = feed(wait.check(dss), ok({"status": "FAILED", "cause": "no bucket"})).failed(DSSCheckoutError)
    assert (failed.status, failed.cause, failed.permanent) == ("FAILED", "no bucket", False)
    unknown = feed(wait.check(dss), ok({"status": "UNKNOWN_JOB_ID"})).failed(DSSCheckoutError)
    nowhere = feed(wait.check(dss), problem(404, "not_found")).failed(DSSCheckoutError)
    assert "unknown" in str(unknown)
    assert (nowhere.status, str(nowhere), nowhere.permanent) == ("UNKNOWN_JOB_ID", str(unknown), False)


def test_wait_for_polls_until_the_deadline(dss: DSSAPI, clock: Clock) -> None:
    wait, running = CheckoutWaiter(JOB, "aws"), ok({"status": "RUNNING"})
    late = feed(wait_for(dss, wait, seconds=10, every=4), *[running] * 4, clock=clock)
    assert (late.result, late.error, late.delays) == (None, None, [0, 4, 4, 2])
    done = ok({"status": "SUCCEEDED"})
    quick = feed(wait_for(dss, wait, seconds=10, every=0), running, done, clock=clock)
    assert quick.delays[1] > 0
    assert quick.value == {"checkout_job_id": JOB, "replica": "aws", "location": ""}
