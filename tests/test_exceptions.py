from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca import exceptions
from airflow_provider_hca.exceptions import (
    DownloadError,
    DSSAbortedError,
    DSSAuthError,
    DSSChangeError,
    DSSCheckoutError,
    DSSConflictError,
    DSSConnectionError,
    DSSContentError,
    DSSCopyError,
    DSSCredentialsError,
    DSSError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
    DSSWaitError,
    InvalidDirectoryError,
    InvalidManifestError,
    InvalidMetadataError,
    StagingError,
    UploadError,
)

ANSWER = ("PUT", "/v1/files/u", 409, "file_already_exists", "It differs", "r-1", 1.5)
ERRORS: list[tuple[DSSError, dict[str, Any]]] = [
    (DSSError("x"), {"permanent": False}),
    (
        DSSConnectionError("GET", "https://h:443", "/v1", "refused"),
        {"method": "GET", "host": "https://h:443", "path": "/v1", "kind": "refused", "permanent": False},
    ),
    *(
        (
            kind(*ANSWER),
            {
                "method": "PUT",
                "path": "/v1/files/u",
                "status": 409,
                "code": "file_already_exists",
                "title": "It differs",
                "request_id": "r-1",
                "retry_after": 1.5,
                "permanent": True,
            },
        )
        for kind in (DSSResponseError, DSSAuthError, DSSNotFoundError, DSSConflictError)
    ),
    (DSSCredentialsError("no key"), {"permanent": True}),
    (DSSCredentialsError("no answer", permanent=False), {"permanent": False}),
    (DSSProtocolError("no DSS"), {"permanent": True}),
    (DSSProtocolError("another version", permanent=False), {"permanent": False}),
    (
        DSSCopyError("u", "v", "failed", "broke"),
        {"uuid": "u", "version": "v", "reason": "failed", "permanent": True},
    ),
    (DSSCopyError("u", "v", "deadline", "late"), {"reason": "deadline", "permanent": False}),
    (DSSCheckoutError("j", "FAILED", "no bucket"), {"job_id": "j", "status": "FAILED", "cause": "no bucket"}),
    (DSSWaitError("x"), {"permanent": False}),
    (DSSContentError("u", "v", "other content"), {"uuid": "u", "version": "v", "permanent": False}),
    (
        DSSChangeError("bundle", "u", "v", 2, DSSNotFoundError(*ANSWER)),
        {"resource": "bundle", "uuid": "u", "version": "v", "done": 2, "permanent": True},
    ),
    (StagingError("s3://b/k", "no"), {"url": "s3://b/k", "permanent": False}),
    (StagingError("s3://b/k", "no", permanent=True), {"permanent": True}),
    (
        InvalidDirectoryError("/d", [("a\\b", "back-slash")]),
        {"directory": "/d", "offenders": (("a\\b", "back-slash"),), "permanent": True},
    ),
    (
        InvalidMetadataError("/d", [("a.json", "$.x", "is missing")], "1 error"),
        {"directory": "/d", "findings": (("a.json", "$.x", "is missing"),), "permanent": True},
    ),
    (
        UploadError([("a", "gone")], done=2, total=3),
        {"failures": (("a", "gone"),), "done": 2, "total": 3, "permanent": False},
    ),
    (UploadError([("a", "gone")], done=0, total=1, permanent=True), {"permanent": True}),
    (
        InvalidManifestError("u.v", [("../x", "is no relative path")]),
        {"fqid": "u.v", "offenders": (("../x", "is no relative path"),), "permanent": True},
    ),
    (
        DownloadError([("a", "gone")], done=2, total=3, permanent=True),
        {"failures": (("a", "gone"),), "done": 2, "total": 3, "permanent": True},
    ),
    (DSSAbortedError("stopped"), {"permanent": False}),
]


@pytest.mark.parametrize(("error", "data"), ERRORS)
def test_error_pickled_or_copied_is_equal(error: DSSError, data: dict[str, Any]) -> None:
    dumps = [pickle.dumps(error, protocol) for protocol in (0, pickle.HIGHEST_PROTOCOL)]
    for other in (copy.copy(error), *map(pickle.loads, dumps)):
        assert type(other) is type(error)
        assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))
        assert {name: getattr(other, name) for name in data} == data


def test_notes_survive_pickling() -> None:
    error = DSSResponseError(*ANSWER)
    error.add_note("while uploading a.txt")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while uploading a.txt"]  # noqa: S301 - our own


def test_every_class_is_in_the_cases_above() -> None:
    assert {type(error) for error, _ in ERRORS} == set(_classes())


def test_tree_in_docstring_matches_classes() -> None:
    lines = re.findall(r"^( {4}[|+\- ]*)(\w+Error)\b", exceptions.__doc__ or "", re.MULTILINE)
    drawn: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for branch, name in lines:
        while above and above[-1][0] >= len(branch):
            above.pop()
        drawn[name] = above[-1][1] if above else None
        above.append((len(branch), name))
    real = {cls.__name__: cls.__mro__[1].__name__ if cls is not DSSError else None for cls in _classes()}
    assert drawn == real


def _classes() -> list[type[Any]]:
    found = [cls for _, cls in inspect.getmembers(exceptions, inspect.isclass)]
    return [cls for cls in found if issubclass(cls, Exception) and cls.__module__ == exceptions.__name__]


@pytest.mark.parametrize(
    ("status", "code", "permanent"),
    [
        *((status, "", True) for status in (400, 401, 403, 404, 405, 409, 410, 415, 422, 451, 499)),
        *((status, "", False) for status in (408, 425, 429, 500, 501, 502, 503, 504, 599)),
        (400, "file_missing", False),
        (400, "illegal_version", True),
        (503, "read_only", False),
        (500, "illegal_version", False),
    ],
)
def test_response_error_is_permanent_by_status_and_code(status: int, code: str, permanent: bool) -> None:
    assert DSSResponseError("GET", "/v1", status, code).permanent is permanent


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DSSResponseError(*ANSWER), "PUT /v1/files/u: 409 file_already_exists: It differs (request id r-1)"),
        (DSSResponseError("GET", "/v1", 500), "GET /v1: 500"),
        (DSSResponseError("GET", "/v1", 500, title="Oh"), "GET /v1: 500: Oh"),
        (DSSResponseError("GET", "/v1", 500, "x", request_id="r"), "GET /v1: 500 x (request id r)"),
        (
            DSSConnectionError("GET", "https://h:443", "/v1", "refused"),
            "GET /v1: connection refused: nothing listens at this address (https://h:443)",
        ),
        (DSSCopyError("u", "v", "failed", "broke"), "file u.v: broke"),
        (StagingError("s3://b/k", "no"), "s3://b/k: no"),
        (DSSCheckoutError("j", "FAILED", "no bucket"), "checkout j: failed: no bucket"),
        (DSSCheckoutError("j", "RUNNING"), "checkout j: timed out; increase checkout_timeout"),
        (
            UploadError([("a", "gone")], done=0, total=1, permanent=True),
            "1 of 1 file failed (registered: 0); no bundle was created:\n  'a': gone",
        ),
        (
            DownloadError([("a", "gone")], done=1_999, total=2_000),
            "1 of 2,000 files could not be downloaded (complete: 1,999, skipped by a retry):\n  'a': gone",
        ),
    ],
)
def test_message_has_known_parts_only(error: DSSError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize("kind", ["dns", "refused", "tls", "connect timeout", "read timeout", "dropped"])
def test_connection_error_has_a_message_for_each_kind(kind: exceptions.ConnectionFailure) -> None:
    error = DSSConnectionError("GET", "https://h:443", "/v1", kind)
    assert len(str(error).split()) > 4
    assert not error.permanent


def test_invalid_directory_error_is_a_value_error() -> None:
    assert issubclass(InvalidDirectoryError, ValueError)


def test_message_lists_twenty_offenders_and_data_has_all() -> None:
    offenders = [(f"file-{number}", "bad") for number in range(1_234)]
    for error, kept in (
        (invalid := InvalidDirectoryError("/d", offenders), invalid.offenders),
        (upload := UploadError(offenders, done=0, total=2_000), upload.failures),
    ):
        assert kept == tuple(offenders)
        assert "file-19'" in str(error)
        assert "file-20'" not in str(error)
        assert "... and 1,214 more" in str(error)


def test_message_groups_offenders_by_reason() -> None:
    offenders = [*((f"d/.{number}", "dot") for number in range(1_000)), ("a\\b", "backslash"), ("c\\d", "backslash")]
    lines = str(InvalidDirectoryError("/d", offenders)).splitlines()[1:]
    assert lines[:2] == ["  dot:", "    'd/.0'"]
    assert lines[11:] == ["    ... and 990 more", "  backslash:", "    'a\\\\b'", "    'c\\\\d'"]
    assert "'a': 1\n" in str(UploadError([("a", "1"), ("b", "2")], done=0, total=2))
    each = [(f"file-{number}", f"reason {number}") for number in range(1_234)]
    assert len(str(InvalidDirectoryError("/d", each)).splitlines()) == 22


@pytest.mark.parametrize("directory", ["cells", "./cells"])
def test_invalid_directory_shows_an_absolute_path(
    directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = InvalidDirectoryError(directory, [("", "does not exist")])
    assert str(error).startswith(f"{tmp_path}/cells cannot be uploaded")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own
    assert str(InvalidDirectoryError("s3://b/p", [])).startswith("s3://b/p cannot")
