"""Downloads a bundle in a process of its own, which tests may kill or measure.

Takes one JSON object, and prints one: the report, and the most memory that the process ever had, in bytes; or, of a
download that fails, what its error says.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download.downloader import Downloader
from airflow_provider_hca.exceptions import DownloadError


def main() -> None:
    """Download what the command line says."""
    wish = json.loads(sys.argv[1])
    if "most" in wish:  # bytes that a file may have
        resource.setrlimit(resource.RLIMIT_FSIZE, (wish["most"], wish["most"]))
    downloader = Downloader(DSSAPI(wish["url"]), RequestsTransport(pool_size=4), replica="aws", workers=4)
    print("ready", flush=True)
    try:
        report = downloader.download(wish["bundle"], wish["directory"])
    except DownloadError as error:
        print(json.dumps(vars(error)), flush=True)
        return
    status = Path("/proc/self/status").read_text()
    memory = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps(asdict(report) | {"memory": memory}), flush=True)


if __name__ == "__main__":
    main()
