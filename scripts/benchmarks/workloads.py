"""Workloads of the upload benchmark: directories of random files, and the MD5s for the null S3."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from scripts.benchmarks.null_http import FIRST_BYTES
from scripts.benchmarks.null_s3 import piece_key

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_PART = 64 * MIB  # larger files are sent in parts of this size
_PER_DIRECTORY = 1000


@dataclass(frozen=True)
class Workload:
    """Files of one size, and the latency of the services.

    :ivar size: size of a file, in bytes
    :ivar s3_latency: latency of the store, in seconds
    :ivar dss_latency: latency of the DSS, in seconds
    :ivar both: whether the original client can upload them
    """

    name: str
    files: int
    size: int
    s3_latency: float = 0.0
    dss_latency: float = 0.0
    both: bool = True

    def __str__(self) -> str:
        unit, name = next(
            (unit, name) for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")) if self.size >= unit
        )
        latency = f", S3 {self.s3_latency * 1e3:.0f} ms, DSS {self.dss_latency * 1e3:.0f} ms" if self.s3_latency else ""
        return f"{self.name}: {self.files:,} x {self.size // unit} {name}{latency}"


WORKLOADS = {
    each.name: each
    for each in (
        Workload("a", 1_000, 4 * KIB),
        Workload("b", 200, MIB),
        Workload("c", 4, 512 * MIB),
        Workload("d", 1, 2 * GIB),
        Workload("e", 1_000, 4 * KIB, s3_latency=0.02, dss_latency=0.2),
        # It opens all files at once.
        Workload("f", 100_000, 4 * KIB, both=False),
    )
}
# Files, and bytes of each, of the short forms.
_SHORT = {
    "a": (20, 4 * KIB),
    "b": (3, MIB),
    "c": (2, 65 * MIB),
    "d": (1, 129 * MIB),
    "e": (4, 4 * KIB),
    "f": (200, 4 * KIB),
}


def short(workload: Workload) -> Workload:
    """Return a small workload of the same kind."""
    files, size = _SHORT[workload.name]
    return replace(workload, files=files, size=size)


def write_files(workload: Workload, directory: Path) -> dict[str, str]:
    """Write the files of a workload, and return the MD5s of all their pieces, by `piece_key`.

    :param workload: number and size of the files
    :param directory: target directory
    """
    pieces: dict[str, str] = {}
    block = memoryview(os.urandom(MIB))  # not larger: it would count as memory of the clients
    for number in range(workload.files):
        inner = directory / f"{number // _PER_DIRECTORY:03}"
        inner.mkdir(parents=True, exist_ok=True)
        with (inner / f"{number:06}.bin").open("wb") as file:
            for start in range(0, workload.size, _PART):
                size = min(_PART, workload.size - start)
                first = os.urandom(FIRST_BYTES)  # no two pieces are alike
                pieces[piece_key(first, size)] = _write_piece(file, first, block, size)
    return pieces


def _write_piece(file: BinaryIO, first: bytes, block: memoryview, size: int) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    for start in range(0, size, len(block)):
        chunk = block[: size - start]
        for content in (chunk,) if start else (first, chunk[len(first) :]):
            file.write(content)
            md5.update(content)
    return md5.hexdigest()
