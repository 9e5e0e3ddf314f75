"""The decisions of what waits, by fed answers."""

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
def test_a_wait_can_be_written_down(wait: BundleWaiter | FilesWaiter | CheckoutWaiter) -> None:
    """A wait made again of its JSON is the same wait."""
    again = open_waiter(wait.kind, json.loads(json.dumps(wait.as_json())))
    assert (type(again), again.as_json(), str(again)) == (type(wait), wait.as_json(), str(wait))
    assert UUID.upper() not in str(wait)


def test_a_wait_of_no_kind() -> None:
    """What was written down by something else is refused."""
    with pytest.raises(ValueError, match="of the kind 'weather'"):
        open_waiter("weather", {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BundleWaiter("x", None, ["aws"]), "bundle uuid"),
        (lambda: BundleWaiter(UUID, "1", ["aws"]), "bundle version"),
        (lambda: BundleWaiter(UUID, None, "aws"), "replicas must be a list"),
        (lambda: BundleWaiter(UUID, None, []), "replicas must be a list"),
        (lambda: BundleWaiter(UUID, None, ["azure"]), "replica must be one of"),
        (lambda: FilesWaiter([], ["aws"]), "no file"),
        (lambda: FilesWaiter([{"version": VERSION}], ["aws"]), "needs a uuid"),
        (lambda: FilesWaiter([UUID], ["aws"]), "needs a uuid"),  # type: ignore[list-item]  # wrong on purpose
        (lambda: FilesWaiter([file(version="1")], ["aws"]), "file version"),
        (lambda: FilesWaiter([file(sha256="ab")], ["aws"]), "sha256 must be 64 hexadecimal digits, not 'ab'"),
        (lambda: FilesWaiter([file(sha256="xy" * 32)], ["aws"]), "sha256 must be 64 hexadecimal digits"),
        (lambda: FilesWaiter([file(sha256=7)], ["aws"]), "sha256 must be 64 hexadecimal digits, not 7"),
        (lambda: CheckoutWaiter(JOB, "azure"), "replica must be one of"),
    ],
)
def test_what_cannot_be_waited_for(make: Any, message: str) -> None:
    """Something that will never come is a ValueError before anything is asked."""
    with pytest.raises(ValueError, match=message):
        make()


def test_a_bundle_is_wanted_in_all_replicas(dss: DSSAPI) -> None:
    """A bundle has come when the last replica has it; the versions found are told, and the lowest of them."""
    wait = BundleWaiter(UUID, None, ["aws", "gcp"])
    missing = feed(wait.check(dss), bundle(LATER), problem(404))
    found = feed(wait.check(dss), bundle(LATER), bundle(VERSION))
    assert missing.result is None
    assert missing.error is None
    assert found.value == {"uuid": UUID, "version": VERSION, "versions": {"aws": LATER, "gcp": VERSION}}


def test_files_cost_few_requests(dss: DSSAPI) -> None:
    """A look ends at the first file that is not there, and the next one begins with it."""
    wait = FilesWaiter([file(), file(OTHER)], ["aws", "gcp"])
    first = feed(wait.check(dss), stored(), stored(), stored(), problem(404))
    second = feed(wait.check(dss), stored(), stored())
    assert first.result is None
    assert first.error is None
    assert [line.split("?")[0] for line in second.sent] == [f"HEAD /files/{OTHER}"] * 2
    assert second.value == {"file_count": 2, "byte_count": 14}
    assert feed(wait.check(dss)).value == second.value


def test_a_look_at_many_files_takes_no_longer_than_it_may(dss: DSSAPI, clock: Clock) -> None:
    """A look that has to end waits for the request under way, and the next one goes on after it."""
    wait = FilesWaiter([file(), file(OTHER), file(JOB)], ["aws"])

    def answer(_: Request) -> Response:
        clock.now += 4
        return stored()

    first = converse(within(wait.check(dss), 5), answer)
    second = converse(within(wait.check(dss), 5), answer)
    assert (len(first.sent), first.result, first.error) == (2, None, None)
    assert (len(second.sent), second.value) == (1, {"file_count": 3, "byte_count": 21})


@pytest.mark.parametrize("status", [422, 503])
def test_what_a_look_meets_in_time_is_told(dss: DSSAPI, status: int) -> None:
    """An error of a look that may still go on is that error."""
    look = within(FilesWaiter([file()], ["aws"]).check(dss), 5)
    assert isinstance(converse(look, lambda _: Response(status)).error, DSSError)


def test_a_single_file_is_described(dss: DSSAPI) -> None:
    """Of one file what it is is told too."""
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


def test_files_that_are_not_what_was_staged(dss: DSSAPI) -> None:
    """Other content is a conflict, a refused copy a copy error: neither is waited out."""
    conflict = feed(FilesWaiter([file(sha256="cd" * 32)], ["aws"]).check(dss), stored())
    refused = feed(FilesWaiter([file()], ["aws"]).check(dss), Response(422))
    assert conflict.failed(DSSConflictError).permanent
    assert refused.failed(DSSCopyError).reason == "failed"


def test_a_sha256_is_the_same_in_either_case(dss: DSSAPI) -> None:
    """Digits in upper case, given or stored, are no other content."""
    for given, there in ((SHA256.upper(), SHA256), (SHA256, SHA256.upper())):
        found = feed(FilesWaiter([file(sha256=given)], ["aws"]).check(dss), stored(there))
        assert (found.value or {})["sha256"] == SHA256
        waiting = dss.wait_for_file(UUID, VERSION, replica="aws", sha256=given, seconds=1)
        assert feed(waiting, stored(there)).value.sha256 == SHA256


def test_what_is_no_sha256_is_not_asked_for(dss: DSSAPI) -> None:
    """A sum of another kind is a ValueError before anything is sent."""
    looked = feed(dss.find_file(UUID, replica="aws", sha256="ab"))
    assert "64 hexadecimal digits" in str(looked.failed(ValueError))
    assert looked.sent == []


def test_a_checkout(dss: DSSAPI) -> None:
    """A running checkout is waited for, a successful one tells where the files are, any other is an error."""
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


def test_waiting_in_place(dss: DSSAPI, clock: Clock) -> None:
    """It is looked at until the time is over, a last time then; and never without a wait in between."""
    wait, running = CheckoutWaiter(JOB, "aws"), ok({"status": "RUNNING"})
    late = feed(wait_for(dss, wait, seconds=10, every=4), *[running] * 4, clock=clock)
    assert (late.result, late.error, late.delays) == (None, None, [0, 4, 4, 2])
    done = ok({"status": "SUCCEEDED"})
    quick = feed(wait_for(dss, wait, seconds=10, every=0), running, done, clock=clock)
    assert quick.delays[1] > 0
    assert quick.value == {"checkout_job_id": JOB, "replica": "aws", "location": ""}
