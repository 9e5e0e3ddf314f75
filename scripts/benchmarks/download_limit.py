"""Measures what receiving, hashing and writing files takes at least; prints it as one line of JSON.

`sha256` is the time of `hashlib` alone, over one small buffer. `loop` is the time of a loop that receives the files
from a null DSS by plain sockets, hashes and writes them. Both have one thread per file, up to one per core.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from scripts.benchmarks.null_bundle import file_uuid

T = TypeVar("T")
_CHUNK = 1 << 18


def main() -> None:
    """Receive files of a bundle from a DSS into a directory: its URL, the directory, number and size of the files."""
    url, directory, count, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    directory.mkdir()
    port = urlsplit(url).port or 0
    numbers = range(1, count + 1)
    seconds = {
        "sha256": _measured(lambda _: _hash(size), numbers),
        "loop": _measured(lambda number: _receive(port, number, directory, size), numbers),
    }
    print(json.dumps(seconds))


def _hash(size: int) -> None:
    block, sha256 = os.urandom(_CHUNK), hashlib.sha256()
    for start in range(0, size, _CHUNK):
        sha256.update(block[: size - start])


def _receive(port: int, number: int, directory: Path, size: int) -> None:
    buffer, sha256, received = bytearray(_CHUNK), hashlib.sha256(), 0
    view = memoryview(buffer)
    path = directory / str(number)
    with socket.create_connection(("127.0.0.1", port)) as connection, path.open("wb", buffering=0) as file:
        connection.sendall(f"GET /content/{file_uuid(number)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while not buffer.startswith(b"HTTP/1.1 200") or b"\r\n\r\n" not in buffer[:received]:
            received += connection.recv_into(view[received:])
        start = buffer.index(b"\r\n\r\n") + 4
        left, chunk = size, view[start:received]
        while left:
            chunk = chunk or view[: connection.recv_into(view)]
            sha256.update(chunk)
            file.write(chunk)
            left, chunk = left - len(chunk), view[:0]


def _measured(work: Callable[[T], None], items: Iterable[T]) -> float:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        started = time.perf_counter()
        list(pool.map(work, items))
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
