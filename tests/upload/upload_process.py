"""Uploads a directory in a process of its own, which tests may kill or measure.

Takes one JSON object, and prints one: the report, and the most memory that the process ever had, in bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import plan_directory
from airflow_provider_hca.upload.staging import open_staging
from airflow_provider_hca.upload.uploader import Uploader


def main() -> None:
    """Upload the directory that the command line describes."""
    wish = json.loads(sys.argv[1])
    options = UploadOptions(
        replica=wish["replica"],
        max_workers=8,
        hidden=wish.get("hidden", "skip"),
        copy_timeout=wish.get("copy_seconds", 3600.0),
    )
    plan = plan_directory(wish["directory"], options, bundle_uuid=wish["bundle"], bundle_version=wish["version"])
    uploader = Uploader(
        DSSAPI(wish["url"], auth=StaticToken(wish["token"])),
        RequestsTransport(pool_size=8),
        open_staging(wish["replica"], wish["bucket"], workers=8),
        options,
        creator_uid=8008,
    )
    print("ready", flush=True)
    report = uploader.upload(plan, resume=wish["resume"])
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    memory = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps(report.as_json() | {"memory": memory}), flush=True)


if __name__ == "__main__":
    main()
