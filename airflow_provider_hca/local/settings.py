"""The command-line options."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

_ASYNC_ABOVE = 64 * 1024 * 1024  # bytes; a DSS copies smaller files during the request
_SYNC_DELAY = 5  # seconds; long enough to expose clients that do not wait for the other replica
MAX_PROCESSES = 100
_DEFAULT_AUDIENCE = "https://dev.data.humancellatlas.org/"


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _seconds_or_off(text: str) -> float | None:
    return None if text == "off" else _seconds(text)


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("must be a port, 0 to 65535")
    return value


def _bucket(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text):
        raise argparse.ArgumentTypeError("must be 3 to 63 characters of a-z, 0-9, '.' and '-'")
    return text


def _bytes(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MAX_PROCESSES:
        raise argparse.ArgumentTypeError(f"must be a number, 0 to {MAX_PROCESSES}")
    return value


def _option(flag: str, **options: Any) -> tuple[tuple[str], dict[str, Any]]:
    return (flag,), options


# Arguments of `add_argument`, also used by the parser of `airflow hca local`.
OPTIONS = (
    _option("--state", type=Path, default=Path("dss-local"), metavar="DIR", help="state directory (%(default)s)"),
    _option("--port", type=_port, default=8090, help="port of the DSS, 0 for any free port (%(default)s)"),
    _option("--s3-port", type=_port, default=8091, help="port of the S3 server (%(default)s)"),
    _option("--objects-port", type=_port, default=8092, help="port of presigned URLs (%(default)s)"),
    _option("--gcs", action="store_true", help="start a GCS server, to stage files for the replica gcp"),
    _option("--gcs-port", type=_port, default=8093, help="port of the GCS server (%(default)s)"),
    _option("--bucket", type=_bucket, default="dss-staging", metavar="NAME", help="staging bucket (%(default)s)"),
    _option(
        "--async-above",
        type=_bytes,
        default=_ASYNC_ABOVE,
        metavar="BYTES",
        help="copy larger files after the response (%(default)s)",
    ),
    _option("--copy-delay", type=_seconds, default=0, metavar="SECONDS", help="delay of such a copy (%(default)s)"),
    _option(
        "--file-wait",
        type=_seconds,
        default=15,
        metavar="SECONDS",
        help="wait for missing files of a bundle (%(default)s)",
    ),
    _option(
        "--checkout-delay", type=_seconds, default=1, metavar="SECONDS", help="duration of a checkout (%(default)s)"
    ),
    _option(
        "--retry-after",
        type=int,
        default=10,
        metavar="SECONDS",
        help="Retry-After of the responses during a checkout (%(default)s)",
    ),
    _option(
        "--sync-delay",
        type=_seconds_or_off,
        default=_SYNC_DELAY,
        metavar="SECONDS",
        help="delay before changes are copied to the other replica, or 'off' (%(default)s)",
    ),
    _option(
        "--processes",
        type=_count,
        default=0,
        metavar="N",
        help="simulate N processes that cache manifests; 0 for no cache (%(default)s)",
    ),
    _option("--audience", default=_DEFAULT_AUDIENCE, help="audience that tokens must have (%(default)s)"),
    _option("--json", action="store_true", help="print the start-up information as one line of JSON"),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override] # it does not return: exit() raises
        """Exit with the error only: the usage text would hide it."""
        self.exit(2, f"{self.prog}: {message}\n")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line.

    :param arguments: command line without the program name; that of the process if None
    """
    parser = _Parser(prog="dss-local", description="Run a DSS on this machine, with its staging buckets.")
    for flags, options in OPTIONS:
        parser.add_argument(*flags, **options)
    return parser.parse_args(arguments)
