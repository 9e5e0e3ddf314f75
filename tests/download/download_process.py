"""Download a bundle in a process of its own, which tests can kill or measure.

The argument is JSON. The output is JSON too: the report and the peak memory of the process in bytes, or the data of the
error.
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
    options = json.loads(sys.argv[1])
    if "max_file_size" in options:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options["max_file_size"], options["max_file_size"]))
    downloader = Downloader(DSSAPI(options["url"]), RequestsTransport(pool_size=4), replica="aws", workers=4)
    print("ready", flush=True)
    try:
        report = downloader.download(options["bundle"], options["directory"])
    except DownloadError as error:
        print(json.dumps(vars(error)), flush=True)
        return
    status = Path("/proc/self/status").read_text()
    memory = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps(asdict(report) | {"memory": memory}), flush=True)


if __name__ == "__main__":
    main()
