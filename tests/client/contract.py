"""Data and faults for the contract tests."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from airflow_provider_hca.client.auth import read_key
from airflow_provider_hca.client.retry import RetryPolicy
from tests.local.server import LocalDSS, new_uuid, sums

LATER = "2024-02-01T000000.000000Z"
QUICK = RetryPolicy(attempts=3, seconds=9, first_delay=0.02)  # less than a DSS asks to wait with a 500
LARGE = 100_001  # copied asynchronously


def key_of(dss: LocalDSS) -> dict[str, Any]:
    return read_key(Path(dss.about["key_file"]).read_text())


def stage(dss: LocalDSS, content: bytes, **changes: str) -> str:
    """Create an object in the staging bucket, with its checksums as tags."""
    key = f"staged/{new_uuid()}"
    tags = {name: value for name, value in (sums(content) | changes).items() if value}
    dss.s3.put_object(Bucket=dss.bucket, Key=key, Body=content, ContentType="text/plain", Tagging=urlencode(tags))
    return f"s3://{dss.bucket}/{key}"


def fresh(size: int = 20) -> bytes:
    """Return new content."""
    return new_uuid().encode().ljust(size, b".")


@functools.cache
def some_file(dss: LocalDSS) -> str:
    return dss.new_file()


def member(dss: LocalDSS, name: str = "a.txt", **changes: Any) -> dict[str, Any]:
    return {**dss.entry(name, some_file(dss)), **changes}


def fault(dss: LocalDSS, **what: Any) -> None:
    dss.control("POST", "faults", what)


def counted(dss: LocalDSS, method: str, path: str) -> dict[int, int]:
    """Return the number of responses to a request by status; 0 is a dropped connection."""
    counts = dss.control("GET", "requests")
    return {one["status"]: one["count"] for one in counts if (one["method"], one["path"]) == (method, f"/v1{path}")}
