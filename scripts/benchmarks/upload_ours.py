"""Uploads a directory with this package as its defaults are, and prints what that took as one line of JSON."""

from __future__ import annotations

import json
import sys
import time
import uuid

import aiohttp  # noqa: F401 - all imports are before the time is taken, as the original client's are
import boto3.s3.inject  # noqa: F401 - the same
import google_crc32c  # noqa: F401 - the same
import requests  # noqa: F401 - the same

import airflow_provider_hca.client.session
import airflow_provider_hca.upload.staging.s3  # noqa: F401 - the same
from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import plan_directory
from airflow_provider_hca.upload.staging import open_staging
from airflow_provider_hca.upload.uploader import Uploader
from scripts.benchmarks.usage import usage


def main() -> None:
    """Upload the directory that the command line names, to a bucket, through a DSS: three arguments."""
    directory, bucket, dss_url = sys.argv[1:]
    started = time.perf_counter()
    options = UploadOptions()
    plan = plan_directory(directory, options, bundle_uuid=str(uuid.uuid4()), bundle_version="2024-01-31T235959.000001Z")
    uploader = Uploader(
        DSSAPI(dss_url, auth=StaticToken("none")),
        RequestsTransport(pool_size=options.max_workers),
        open_staging("aws", bucket, workers=options.max_workers),
        options,
        creator_uid=0,
    )
    report = uploader.upload(plan)
    print(json.dumps({"seconds": time.perf_counter() - started, "phases": report.seconds, **usage()}))


if __name__ == "__main__":
    main()
