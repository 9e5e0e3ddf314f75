"""Helpers of the tests of downloads."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download.downloader import Downloader, DownloadReport
from airflow_provider_hca.download.plan import WantedFile, plan_download

from .server import OneBundle

MIB = 1 << 20
QUICK = RetryPolicy(attempts=3, seconds=5, first_delay=0.02)
WORKERS = 4


def download(served: OneBundle, target: Path, *, stop: threading.Event | None = None, **options: Any) -> DownloadReport:
    """Download the bundle of a server."""
    api = DSSAPI(served.url, auth=StaticToken("tok-7"), retry=QUICK)
    with RequestsTransport(pool_size=WORKERS, stop=stop) as transport:
        downloader = Downloader(api, transport, replica="aws", workers=WORKERS)
        return downloader.download(served.uuid, target, **options)


def start(served: OneBundle, target: Path, **more: Any) -> subprocess.Popen[str]:
    """Start a process that downloads the bundle of a server; return it when it is ready."""
    options = {"url": served.url, "bundle": served.uuid, "directory": str(target), **more}
    command = [sys.executable, "-m", "tests.download.download_process", json.dumps(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def tree(directory: Path) -> dict[str, bytes]:
    """Return all files below a directory."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def wanted_of(served: OneBundle) -> list[WantedFile]:
    """Return the planned files of the bundle."""
    return plan_download(json.loads(served.manifest())["bundle"])


def working_threads() -> list[str]:
    """Return the names of running download threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dss-download")]
