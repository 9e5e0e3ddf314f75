"""Downloads a bundle with this package as its defaults are, and prints what that took as one line of JSON."""

from __future__ import annotations

import json
import sys
import time

import aiohttp  # noqa: F401 - all imports are before the time is taken, as the original client's are
import requests  # noqa: F401 - the same

import airflow_provider_hca.client.session  # noqa: F401 - the same
from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download.downloader import Downloader
from airflow_provider_hca.download.files import DEFAULT_WORKERS
from scripts.benchmarks.usage import usage


def main() -> None:
    """Download the bundle that the command line names to a directory, from a DSS: three arguments."""
    uuid, directory, dss_url = sys.argv[1:]
    started = time.perf_counter()
    downloader = Downloader(DSSAPI(dss_url), RequestsTransport(pool_size=DEFAULT_WORKERS), replica="aws")
    downloader.download(uuid, directory)
    print(json.dumps({"seconds": time.perf_counter() - started, **usage()}))


if __name__ == "__main__":
    main()
