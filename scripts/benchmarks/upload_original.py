"""Uploads a directory with the DSS's original client, in whose environment this runs; prints what that took."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import boto3.s3.inject  # noqa: F401 - imported before the time is taken, as all else that the upload imports
from hca.dss import DSSClient

sys.path.insert(0, str(Path(__file__).parents[2]))
from scripts.benchmarks.usage import usage  # found by the path above


def main() -> None:
    """Upload the directory that the command line names to a bucket: two arguments."""
    directory, bucket = sys.argv[1:]
    # It opens all files at once.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    client = DSSClient()
    started = time.perf_counter()
    client.upload(src_dir=directory, replica="aws", staging_bucket=bucket, no_progress=True)
    print(json.dumps({"seconds": time.perf_counter() - started, **usage()}))


if __name__ == "__main__":
    main()
