"""Helpers of the tests of uploads."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.upload.checksums import Checksums
from airflow_provider_hca.upload.entries import EVERY_NAME
from airflow_provider_hca.upload.keys import prefix_of
from airflow_provider_hca.upload.local_files import OnBytes, OpenFile, PartSums
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import Plan, plan_directory
from airflow_provider_hca.upload.staging import open_staging
from airflow_provider_hca.upload.staging.base import Staging
from airflow_provider_hca.upload.staging.s3 import S3Staging
from airflow_provider_hca.upload.staging.s3_parts import S3Upload
from airflow_provider_hca.upload.uploader import Uploader
from tests.local.server import VERSION, LocalDSS, new_uuid, sums

CREATOR = 8008
LATER = 150_000  # bytes: above what the DSS of these tests copies at once
# Enough for what passes, and short enough for what does not.
SHORT = RetryPolicy(attempts=3, seconds=5.0, first_delay=0.05, longest_delay=0.1)


def write_tree(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a directory."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def write_sparse(path: Path, size: int) -> Path:
    """Write a file of zeros with a few other bytes, so that no two parts of 64 MiB are alike."""
    with path.open("wb") as file:
        file.truncate(size)
        for number, offset in enumerate(range(0, size, 32 << 20)):
            file.seek(offset)
            file.write(bytes([number + 1]))
    return path


def plan(directory: Path, *, bundle: str = "", version: str = VERSION, **options: Any) -> Plan:
    """Plan a directory, as a new bundle by default.

    :param options: `names`, or options of the upload
    """
    names = options.pop("names", EVERY_NAME)
    return plan_directory(
        directory, UploadOptions(**options), bundle_uuid=bundle or new_uuid(), bundle_version=version, names=names
    )


def uploader(
    dss: LocalDSS,
    *,
    replica: str = "aws",
    staging: Staging | None = None,
    policy: RetryPolicy = SHORT,
    stop: threading.Event | None = None,
    workers: int = 4,
    **options: Any,
) -> Uploader:
    """Return an uploader to a local DSS."""
    stop = stop or threading.Event()
    return Uploader(
        DSSAPI(dss.url, auth=StaticToken(dss.token()), retry=policy),
        RequestsTransport(pool_size=workers, stop=stop),
        staging or open_staging(replica, dss.bucket, workers=workers),
        UploadOptions(replica=replica, max_workers=workers, **options),
        creator_uid=CREATOR,
        policy=policy,
        stop=stop,
    )


def stored_of(dss: LocalDSS, planned: Plan) -> dict[str, Any]:
    """Return what the store has of a plan: its files by uuid (any version, each), and its bundles."""
    everything = dss.control("GET", "store")
    uuids = {file.uuid for file in planned.files}
    return {
        "files": [file for file in everything["files"] if file["uuid"] in uuids],
        "bundles": [bundle for bundle in everything["bundles"] if bundle["uuid"] == planned.bundle_uuid],
    }


def requests_seen(dss: LocalDSS, method: str, part: str) -> int:
    """Return how many requests of a method had this in their path."""
    seen = dss.control("GET", "requests")
    return sum(each["count"] for each in seen if each["method"] == method and part in each["path"])


def open_uploads(dss: LocalDSS, planned: Plan | None = None) -> list[str]:
    """Return the uploads in parts that are open, of one plan if it is given: other tests use the bucket too."""
    found = dss.s3.list_multipart_uploads(Bucket=dss.bucket).get("Uploads") or []
    return [each["UploadId"] for each in found if planned is None or each["Key"].startswith(prefix_of("", planned))]


def upload_threads() -> list[str]:
    """Return the names of the upload threads that are alive, without the event loop, which a transport closes."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("dss-") and name != "dss-loop"]


def small(count: int) -> dict[str, bytes]:
    salt = new_uuid()
    return {f"d{number % 3}/file {number:03}.json": f"{salt} {number}".encode() for number in range(count)}


def large(seed: str) -> bytes:
    return random.Random(seed).randbytes(LATER)  # noqa: S311 - content, not a secret


def expected_store(planned: Plan, replica: str) -> dict[str, Any]:
    """Return what a store has to have of a plan, computed from the files in another way than the engine does."""
    files, members = [], []
    for file in planned.files:
        labels = {name.removeprefix("hca-dss-"): value for name, value in sums(file.path).items()}
        named = {"uuid": file.uuid, "version": planned.bundle_version, "content_type": file.content_type}
        files.append({**named, **labels, "replica": replica, "size": file.path.stat().st_size, "creator_uid": CREATOR})
        members.append({"name": file.name, "uuid": file.uuid, "indexed": file.indexed, "sha256": labels["sha256"]})
    return {"files": sorted(files, key=lambda file: str(file["uuid"])), "members": members}


def assert_stored(dss: LocalDSS, planned: Plan, replica: str = "aws") -> None:
    """Check that a store has each file of a plan and the bundle once, and nothing else."""
    stored, expected = stored_of(dss, planned), expected_store(planned, replica)
    assert stored["files"] == expected["files"]
    assert len(stored["bundles"]) == 1
    bundle = stored["bundles"][0]
    assert (bundle["uuid"], bundle["version"], bundle["replica"]) == (
        planned.bundle_uuid,
        planned.bundle_version,
        replica,
    )
    assert bundle["manifest"]["creator_uid"] == CREATOR
    members = [
        {name: file[name] for name in ("name", "uuid", "indexed", "sha256")} for file in bundle["manifest"]["files"]
    ]
    assert members == expected["members"]


def fault(dss: LocalDSS, **fault: Any) -> None:
    dss.control("POST", "faults", fault)


class Meddling(S3Staging):
    """A staging bucket during whose uploads something happens.

    :param meddle: called with a key and what was sent of it: 0 before, -1 after it is staged
    """

    def __init__(self, bucket: str, meddle: Callable[[str, int], None]) -> None:
        super().__init__(bucket)
        self._meddle = meddle

    def put(
        self, key: str, content: bytes | OpenFile, sums: Checksums, content_type: str, on_sent: OnBytes = lambda _: None
    ) -> None:
        """Stage an object, with something happening meanwhile."""

        def meddle_on_sent(count: int) -> None:
            self._meddle(key, count)
            on_sent(count)

        self._meddle(key, 0)
        super().put(key, content, sums, content_type, meddle_on_sent)
        self._meddle(key, -1)

    def begin(self, key: str, content_type: str, file: OpenFile, size: int) -> S3Upload:
        """Begin to stage a large object, with something happening meanwhile."""
        self._meddle(key, 0)
        transfer, meddle = super().begin(key, content_type, file, size), self._meddle
        send, finish = transfer.send, transfer.finish

        def meddled_send(number: int, on_sent: OnBytes) -> PartSums:
            def meddle_on_sent(count: int) -> None:
                if count:
                    meddle(key, count)
                on_sent(count)

            return send(number, meddle_on_sent)

        def meddled_finish(whole: Checksums) -> None:
            finish(whole)
            meddle(key, -1)

        transfer.send, transfer.finish = meddled_send, meddled_finish  # type: ignore[method-assign, assignment]  # something happens
        return transfer
