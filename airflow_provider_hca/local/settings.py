"""The command line."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

_PART_SIZE = 64 * 1024 * 1024  # what a DSS copies while the client waits
_SYNC_DELAY = 5  # seconds; so long that a client which does not wait for the other replica is found out
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
        raise argparse.ArgumentTypeError("must be 3 to 63 of a-z, 0-9, '.' and '-'")
    return text


def _bytes(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _option(flag: str, **options: Any) -> tuple[tuple[str], dict[str, Any]]:
    return (flag,), options


# As `add_argument` takes them, for whoever has a parser of its own.
OPTIONS = (
    _option(
        "--state", type=Path, default=Path("dss-local"), metavar="DIR", help="where everything is kept (%(default)s)"
    ),
    _option("--port", type=_port, default=8090, help="port of the DSS, 0 for a free one (%(default)s)"),
    _option("--s3-port", type=_port, default=8091, help="port of the S3 server (%(default)s)"),
    _option("--objects-port", type=_port, default=8092, help="port of presigned URLs (%(default)s)"),
    _option("--gcs", action="store_true", help="have a GCS server too, to stage for the replica gcp"),
    _option("--gcs-port", type=_port, default=8093, help="port of the GCS server (%(default)s)"),
    _option("--bucket", type=_bucket, default="dss-staging", metavar="NAME", help="the staging bucket (%(default)s)"),
    _option(
        "--async-above", type=_bytes, default=_PART_SIZE, metavar="BYTES", help="copy larger files later (%(default)s)"
    ),
    _option(
        "--copy-delay", type=_seconds, default=0, metavar="SECONDS", help="how long such a copy waits (%(default)s)"
    ),
    _option(
        "--file-wait", type=_seconds, default=15, metavar="SECONDS", help="wait for files of a bundle (%(default)s)"
    ),
    _option(
        "--checkout-delay", type=_seconds, default=1, metavar="SECONDS", help="how long a checkout takes (%(default)s)"
    ),
    _option(
        "--sync-delay",
        type=_seconds_or_off,
        default=_SYNC_DELAY,
        metavar="SECONDS",
        help="when what is written in a replica comes to the other, or 'off' (%(default)s)",
    ),
    _option("--audience", default=_DEFAULT_AUDIENCE, help="what tokens must be made for (%(default)s)"),
    _option("--json", action="store_true", help="say where everything is as one line of JSON"),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override] # it does not return: exit() raises
        """End with one sentence; the usage would hide it."""
        self.exit(2, f"{self.prog}: {message}\n")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options.

    :param arguments: the command line without the program's name; that of the process by default
    """
    parser = _Parser(prog="dss-local", description="Run a DSS on this machine, with its staging buckets.")
    for flags, options in OPTIONS:
        parser.add_argument(*flags, **options)
    return parser.parse_args(arguments)
