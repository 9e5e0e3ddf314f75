"""Downloads a bundle in a process of its own, which tests may kill or measure.

Takes one JSON object, and prints one: the report, and the most memory that the process ever had, in bytes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from airflow_provider_hca.client.protocol import DSSAPI
from airflow_provider_hca.client.transports import RequestsTransport
from airflow_provider_hca.download.engine import Downloader


def main() -> None:
    """Download what the command line says."""
    wish = json.loads(sys.argv[1])
    downloader = Downloader(DSSAPI(wish["url"]), RequestsTransport(pool_size=4), replica="aws", workers=4)
    print("ready", flush=True)
    report = downloader.download(wish["bundle"], Path(wish["directory"]))
    status = Path("/proc/self/status").read_text()
    memory = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps(asdict(report) | {"memory": memory}), flush=True)


if __name__ == "__main__":
    main()
