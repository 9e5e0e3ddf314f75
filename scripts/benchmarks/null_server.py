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


async def serve(pieces: dict[str, str], s3_latency: float, dss_latency: float, *, keep: bool) -> None:
    """Serve until the standard input is closed.

    :param pieces: MD5s of the accepted pieces of content, by `piece_key`
    :param s3_latency: latency of the store, in seconds
    :param dss_latency: latency of the DSS, in seconds
    :param keep: whether the DSS returns the bundles that it gets
    """
    store = NullS3(pieces)
    s3 = NullService(store, s3_latency)
    dss = NullService(NullDSS(store) if keep else null_dss, dss_latency, keeps_bodies=keep)
    addresses = {
        "s3_url": f"http://127.0.0.1:{await s3.listen()}",
        "dss_url": f"http://127.0.0.1:{await dss.listen()}/v1",
    }
    print(json.dumps(addresses), flush=True)
    more = True
    while more:
        more = bool(await asyncio.to_thread(sys.stdin.readline))
        print(json.dumps({"s3": s3.requests, "dss": dss.requests}), flush=True)
        s3.requests.clear()
        dss.requests.clear()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pieces", type=Path, help="JSON file with the MD5s of the accepted pieces")
    parser.add_argument("--s3-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--dss-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--keep", action="store_true", help="let the DSS return the bundles that it gets")
    options = parser.parse_args()
    pieces = json.loads(options.pieces.read_text())
    asyncio.run(serve(pieces, options.s3_latency, options.dss_latency, keep=options.keep))


if __name__ == "__main__":
    main()
