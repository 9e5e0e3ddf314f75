from __future__ import annotations

from airflow_provider_hca.causes import group_errors
from tests.local.server import VERSION, new_uuid


def _refused(title: str = "other content") -> str:
    uuid = new_uuid()
    return f"PUT /v1/files/{uuid}: 409 file_already_exists: {uuid}.{VERSION} has {title} (request id {new_uuid()})"


def test_files_that_failed_alike_are_one_cause() -> None:
    """Messages that differ in uuids, versions and request ids only are one cause, the most frequent first."""
    failures = [
        ("b", "s3://bucket/prefix/1.2: denied"),
        ("z", _refused()),
        ("a", _refused()),
        ("c", "s3://bucket/prefix/3.4: denied"),
        ("m", _refused()),
    ]
    assert group_errors(failures) == [
        ("PUT /v1/files/...: 409 file_already_exists: ... has other content", ["a", "m", "z"]),
        ("s3://bucket/...: denied", ["b", "c"]),
    ]


def test_different_troubles_stay_apart() -> None:
    """Another message of the DSS is another cause, and so is another bucket."""
    failures = [("a", _refused()), ("b", _refused("another owner")), ("c", "s3://x/k: no"), ("d", "s3://y/k: no")]
    assert len(group_errors(failures)) == 4


def test_a_cause_of_one_file_keeps_its_request_id() -> None:
    """The whole message is kept, so that the operator of the DSS can find the request."""
    reason = _refused()
    assert group_errors([("a", reason)]) == [(reason, ["a"])]


def test_nothing_failed() -> None:
    """Without failures there are no causes."""
    assert group_errors([]) == []
