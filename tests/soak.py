"""`python -m tests.soak`: upload random directories to a DSS that fails at random.

Each directory has files of random sizes and unusual names. The DSS returns 503 and 429, drops connections before and
after it has processed a request, delays responses and fails copies; some uploading processes are killed. After at most
five tries, the last one without faults, the DSS must have the bundle, and the store each staged object once. A failed
directory is reported with its seed, which reproduces it, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_hca.client.models import check_name
from airflow_provider_hca.upload.plan import Plan
from tests.local.server import LocalDSS, new_version
from tests.stores import LocalDSSWithStores, SeaweedFS
from tests.upload.interrupted import UploadProcess
from tests.upload.support import assert_stored, plan

KIB, MIB = 1 << 10, 1 << 20
_TRIES = 4  # before the one without faults
_COPY_TIMEOUT = 20.0  # seconds; failed copies are waited for as long
_KILL_PROBABILITY = 0.4  # per try
_DIRECTORIES_PER_STORE = 50  # a growing store becomes slower
_ERRORS = "airflow_provider_hca.exceptions."
_PIECES = ("a", "Z", "0", "-", "_", ".", " ", "%", "#", "?", "&", "+", "=", ";", ",", "'", '"', "(", "*", "[", "$", "@")
_WIDE = ("é", "e\u0301", "ß", "日本", "Ω", "🧬", "\u200b", "İ", "\u00a0")
_SUFFIXES = ("", ".json", ".JSON", ".fastq.gz", ".bam", ".tar.bz2", ".csv", ".h5ad")


@dataclass
class Outcome:
    """The result of a directory."""

    files: int
    size: int
    tries: int = 0
    kills: int = 0
    errors: int = 0


def main() -> None:
    """Parse the command line and soak."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--minutes", type=float, default=30.0, help="start no directory after this time (%(default)s)")
    parser.add_argument("--directories", type=int, default=10**9, metavar="N", help="maximum number of directories")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first directory (%(default)s)")
    options = parser.parse_args()
    sys.exit(0 if soak(options.minutes * 60, options.directories, options.seed) else 1)


def soak(seconds: float, limit: int, seed: int) -> bool:
    """Upload directories one after the other; return whether all succeeded.

    :param seconds: time after which no directory is started
    :param limit: maximum number of directories
    :param seed: seed of the first directory; each next one has the next number
    """
    started, done, failed = time.monotonic(), 0, list[int]()
    totals = Outcome(0, 0)

    def has_next() -> bool:
        return done < limit and time.monotonic() - started < seconds

    while has_next():
        with _stores() as dss:
            for number in range(seed + done, seed + done + _DIRECTORIES_PER_STORE):
                if not has_next():
                    break
                done += 1
                try:
                    _add(totals, upload(dss, number))
                except AssertionError:
                    failed.append(number)
                    print(f"directory {number} failed:\n{traceback.format_exc()}", flush=True)
                    break  # the next directory needs an empty bucket
    print(
        f"{done:,} directories in {time.monotonic() - started:,.0f} s: {totals.files:,} files, "
        f"{totals.size / MIB:,.1f} MiB, {totals.tries:,} tries, {totals.kills:,} killed, {totals.errors:,} errors; "
        f"failed directories: {', '.join(map(str, failed)) or 'none'}"
    )
    return not failed


def _add(totals: Outcome, outcome: Outcome) -> None:
    for name in ("files", "size", "tries", "kills", "errors"):
        setattr(totals, name, getattr(totals, name) + getattr(outcome, name))


@contextmanager
def _stores() -> Iterator[LocalDSS]:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dss-soak-")))
        seaweed = SeaweedFS(place / "seaweed")
        stack.callback(seaweed.stop)
        # Small enough that many files are copied asynchronously.
        options = ("--async-above", str(MIB), "--copy-delay", "0.2", "--file-wait", "1", "--sync-delay", "off")
        yield stack.enter_context(LocalDSSWithStores(place / "dss", *options, s3=seaweed.endpoint))


def upload(dss: LocalDSS, seed: int) -> Outcome:
    """Create a directory, upload it, and verify the result.

    :param seed: seed of all random decisions
    :raises AssertionError: when the upload failed, or its result is wrong
    """
    source = random.Random(seed)  # noqa: S311 - not for secrets
    with tempfile.TemporaryDirectory(prefix="dss-soak-") as place:
        directory = Path(place)
        make_directory(directory, source)
        planned = plan(directory, version=new_version(), hidden="include")
        outcome = Outcome(len(planned.files), planned.size)
        started = time.monotonic()
        _try_until_done(dss, planned, source, outcome)
        assert_stored(dss, planned)
        _assert_staged_once(dss, planned)
        print(
            f"directory {seed}: {outcome.files} files, {outcome.size / MIB:.1f} MiB, {outcome.tries} tries, "
            f"{outcome.kills} killed, {outcome.errors} errors, {time.monotonic() - started:.1f} s",
            flush=True,
        )
    return outcome


def _try_until_done(dss: LocalDSS, planned: Plan, source: random.Random, outcome: Outcome) -> None:
    for _ in range(_TRIES):
        set_faults(dss, source)
        upload_ = _start(dss, planned, outcome)
        if source.random() < _KILL_PROBABILITY:
            end = time.monotonic() + source.uniform(0, 1.5)
            if upload_.kill(lambda end=end: time.monotonic() >= end):  # type: ignore[misc]  # bound now
                outcome.kills += 1
                continue
        report, errors = upload_.wait()
        if report is not None:
            return
        outcome.errors += 1
        last = errors.rstrip().rpartition("\n")[2]
        assert _ERRORS in errors.rpartition("\nTraceback")[2], f"an upload failed without a DSSError: {last}"
    dss.control("DELETE", "faults")
    report, errors = _start(dss, planned, outcome).wait()
    assert report is not None, f"an upload failed without a fault: {errors}"


def _start(dss: LocalDSS, planned: Plan, outcome: Outcome) -> UploadProcess:
    outcome.tries += 1
    return UploadProcess(
        dss,
        planned,
        url=dss.url,
        env=dss.about["env"],
        resume=outcome.tries > 1,
        hidden="include",
        copy_seconds=_COPY_TIMEOUT,
    )


def _assert_staged_once(dss: LocalDSS, planned: Plan) -> None:
    """Check that the bucket has one object per file and no open upload, and empty it."""
    pages = dss.s3.get_paginator("list_objects_v2").paginate(Bucket=dss.bucket)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    assert len(keys) == len(planned.files)
    assert all(sum(file.uuid in key for key in keys) == 1 for file in planned.files)
    uploads = dss.s3.list_multipart_uploads(Bucket=dss.bucket).get("Uploads")
    assert not uploads, f"open multipart uploads: {uploads}"
    for key in keys:
        dss.s3.delete_object(Bucket=dss.bucket, Key=key)


def set_faults(dss: LocalDSS, source: random.Random) -> None:
    """Replace the faults by random ones, which apply to some of the uuids only."""
    dss.control("DELETE", "faults")
    for _ in range(source.randrange(6)):
        fault: dict[str, Any] = source.choice(
            [
                {"status": 503, "retry_after": source.choice([0.2, 1])},
                {"status": 429, "retry_after": 0.5},
                {"status": source.choice([500, 502, 504])},
                {"action": "drop"},
                {"action": "slow", "seconds": source.uniform(0, 2)},
                {"action": "fail_copy", "status": source.choice([404, 422, 500])},
            ]
        )
        copy = fault.get("action") == "fail_copy"
        digits = "".join(source.sample("0123456789abcdef", 6))
        path = f"/files/[{digits}]" if copy else source.choice([f"/files/[{digits}]", "/bundles/", ""])
        after = not copy and source.random() < 0.4
        dss.control("POST", "faults", {**fault, "path": path, "times": source.randrange(1, 4), "after": after})


def make_directory(directory: Path, source: random.Random) -> None:
    """Write files with random names and sizes."""
    names = [_name(source) for _ in range(source.choice([1, 5, 20, 60]))]
    for name in names:
        path = directory / name
        # An earlier name may be a directory of this name, or a file in the place of a parent.
        if path.exists() or any(parent.is_file() for parent in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, _size(source), source)


def _name(source: random.Random) -> str:
    while True:
        parts = [
            "".join(source.choices(_PIECES + _WIDE, k=source.randrange(1, 12))) for _ in range(source.randrange(1, 4))
        ]
        if source.random() < 0.05:
            parts[-1] += "x" * (240 - len(parts[-1].encode()))
        name = "/".join(parts) + source.choice(_SUFFIXES)
        try:
            return check_name(name)
        except ValueError:
            continue


def _size(source: random.Random) -> int:
    kind = source.random()
    if kind < 0.15:
        return source.choice([0, 1])
    if kind < 0.85:
        return source.randrange(20 * KIB)
    if kind < 0.985:
        return source.randrange(3 * MIB)
    if kind < 0.995:
        return source.randrange(7 * MIB, 12 * MIB)
    return source.randrange(64 * MIB - 1, 150 * MIB)


def _write(path: Path, size: int, source: random.Random) -> None:
    block = source.randbytes(min(size, MIB))
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write((source.randbytes(32) + block[32:])[: size - start])


if __name__ == "__main__":
    main()
