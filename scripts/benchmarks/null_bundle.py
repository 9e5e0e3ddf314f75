"""`python -m scripts.benchmarks.null_bundle`: a null DSS that serves the files of a directory as one bundle.

Prints its address and the numbers of requests, as `null_server` does. It is also the store of the contents, which the
kernel sends from its cache.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

from scripts.benchmarks.null_http import Answer, NullService, Request
from scripts.benchmarks.null_server import serve

UUID = "00000000-0000-4000-8000-000000000000"
VERSION = "2024-01-31T235959.000001Z"
_SUMS = {"sha1": "0" * 40, "s3_etag": "0" * 32, "crc32c": "0" * 8}  # no client compares them


def file_uuid(number: int) -> str:
    """Return the UUID of a file.

    :param number: its place in the order of the names, from 1 on
    """
    return f"{UUID[:24]}{number:012x}"


class NullBundle:
    """DSS with one bundle.

    :param directory: files of the bundle
    """

    def __init__(self, directory: Path) -> None:
        self._paths: dict[str, Path] = {}
        self._located: dict[str, Answer] = {}
        files = []
        for number, path in enumerate(sorted(path for path in directory.rglob("*") if path.is_file()), 1):
            uuid = file_uuid(number)
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            labels = {"version": VERSION, "size": path.stat().st_size, "content-type": "a/b", "sha256": sha256, **_SUMS}
            files.append({"uuid": uuid, "name": path.relative_to(directory).as_posix(), "indexed": False, **labels})
            self._paths[uuid] = path
            self._located[uuid] = _location(uuid, labels)
        bundle = {"uuid": UUID, "version": VERSION, "creator_uid": 0, "files": files}
        body = json.dumps({"bundle": bundle, "version": VERSION}).encode()
        self._manifest = Answer(200, body, "Content-Type: application/json\r\n")

    def __call__(self, request: Request) -> Answer:
        """Answer a request."""
        place, _, uuid = request.path.rpartition("/")
        if place == "/v1/bundles":
            return self._manifest
        return self._located[uuid] if place == "/v1/files" else Answer(200, file=self._paths[uuid])


def _location(uuid: str, labels: dict[str, Any]) -> Answer:
    described = {**labels, "creator-uid": 0}
    headers = [f"X-DSS-{name.replace('_', '-')}: {value}" for name, value in described.items()]
    return Answer(302, headers="\r\n".join([f"Location: /content/{uuid}", *headers, ""]))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="files of the bundle")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    options = parser.parse_args()
    asyncio.run(serve(dss=NullService(NullBundle(options.directory), options.latency)))


if __name__ == "__main__":
    main()
