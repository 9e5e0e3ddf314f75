"""`python -m scripts.benchmarks.null_server`: a null S3 and a null DSS in a process of their own.

Prints where they are as one line of JSON, and once its standard input is closed how many requests they had.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from scripts.benchmarks.null_dss import null_dss
from scripts.benchmarks.null_http import NullService
from scripts.benchmarks.null_s3 import NullS3


async def serve(pieces: dict[str, str], s3_latency: float, dss_latency: float) -> None:
    """Serve until the standard input is closed.

    :param pieces: the MD5s of the pieces of content that may be sent, by `piece_key`
    :param s3_latency: seconds before each answer of the store
    :param dss_latency: seconds before each answer of the DSS
    """
    s3, dss = NullService(NullS3(pieces), s3_latency), NullService(null_dss, dss_latency)
    where = {"s3_url": f"http://127.0.0.1:{await s3.listen()}", "dss_url": f"http://127.0.0.1:{await dss.listen()}/v1"}
    print(json.dumps(where), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"s3": s3.requests, "dss": dss.requests}), flush=True)


def main() -> None:
    """Serve what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pieces", type=Path, help="JSON file of the MD5s of the pieces that may be sent")
    parser.add_argument("--s3-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--dss-latency", type=float, default=0.0, metavar="SECONDS")
    options = parser.parse_args()
    pieces = json.loads(options.pieces.read_text())
    asyncio.run(serve(pieces, options.s3_latency, options.dss_latency))


if __name__ == "__main__":
    main()
