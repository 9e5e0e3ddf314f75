"""`python -m scripts.benchmarks.null_server`: a null S3 and a null DSS in a process of their own.

Prints their addresses as one line of JSON, and the numbers of requests after each line of its standard input, and at
its end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from scripts.benchmarks.null_dss import NullDSS, null_dss
from scripts.benchmarks.null_http import NullService
from scripts.benchmarks.null_s3 import NullS3


async def serve(**services: NullService) -> None:
    """Serve until the standard input is closed; see the module.

    :param services: services by name; the API of the one named `dss` is under `/v1`
    """
    addresses = {}
    for name, service in services.items():
        addresses[f"{name}_url"] = f"http://127.0.0.1:{await service.listen()}{'/v1' if name == 'dss' else ''}"
    print(json.dumps(addresses), flush=True)
    more = True
    while more:
        more = bool(await asyncio.to_thread(sys.stdin.readline))
        print(json.dumps({name: service.requests for name, service in services.items()}), flush=True)
        for service in services.values():
            service.requests.clear()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pieces", type=Path, help="JSON file with the MD5s of the accepted pieces")
    parser.add_argument("--s3-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--dss-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--keep", action="store_true", help="let the DSS return the bundles that it gets")
    options = parser.parse_args()
    pieces = json.loads(options.pieces.read_text())
    store = NullS3(pieces)
    answer = NullDSS(store) if options.keep else null_dss
    dss = NullService(answer, options.dss_latency, keeps_bodies=options.keep)
    asyncio.run(serve(s3=NullService(store, options.s3_latency), dss=dss))


if __name__ == "__main__":
    main()
