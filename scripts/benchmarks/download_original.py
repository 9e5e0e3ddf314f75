"""Downloads a bundle with the DSS's original client, in whose environment this runs; prints what that took."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from hca.dss import DSSClient

sys.path.insert(0, str(Path(__file__).parents[2]))
from scripts.benchmarks.usage import usage  # found by the path above


def main() -> None:
    """Download the bundle that the command line names to a directory: two arguments."""
    uuid, directory = sys.argv[1:]
    client = DSSClient()
    started = time.perf_counter()
    client.download(bundle_uuid=uuid, replica="aws", download_dir=directory)
    print(json.dumps({"seconds": time.perf_counter() - started, **usage()}))


if __name__ == "__main__":
    main()
