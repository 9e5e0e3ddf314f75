"""The commands and their options, as Airflow reads them; every `airflow` command imports this module."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

from airflow_provider_hca.local.settings import OPTIONS

_DEFAULT_CONN_ID = "hca_dss_default"


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


# What argparse calls a type when it complains of a value.
_count.__name__ = "number, 1 or more,"
_rate.__name__ = "number above 0"


def _option(flag: str, text: str, **more: object) -> Arg:
    return _arg((flag,), help=text, **more)


def _arg(flags: tuple[str, ...], **more: object) -> Arg:
    return Arg(flags, **more)  # type: ignore[no-untyped-call] # Airflow gives it no types


def _patterns(flag: str, text: str, default: str) -> Arg:
    text += f"; a shell glob, can be repeated (by default {default})"
    return _option(flag, text, action="append", metavar="PATTERN")


_CONN_ID = _option("--conn-id", "the Airflow connection (%(default)s)", default=_DEFAULT_CONN_ID, metavar="ID")
_REPLICA = _option("--replica", "the replica (%(default)s)", default="aws", choices=("aws", "gcp"))

_UPLOAD = (
    _arg(("directory",), help="the files in it and below it become the bundle; or s3://bucket/prefix"),
    _option("--staging-bucket", "bucket to stage in: of S3 for aws, of GCS for gcp", required=True, metavar="NAME"),
    _CONN_ID,
    _REPLICA,
    _option("--staging-prefix", "of the staged objects' keys", default="", metavar="PREFIX"),
    _option(
        "--bundle-uuid",
        "of the bundle; by default it derives from the machine's name, which a container has anew each time, and the "
        "directory's path",
    ),
    _option("--bundle-version", "a DSS_VERSION; by default when the newest of the files was changed"),
    _patterns("--include", "files to take", "all"),
    _patterns("--exclude", "files to leave out of those", "none"),
    _option("--hidden", "names that begin with a dot (%(default)s)", default="skip", choices=("skip", "include")),
    _option("--symlinks", "symbolic links (%(default)s)", default="error", choices=("error", "follow", "skip")),
    _patterns("--indexed", "files that the DSS is to index", "*.json"),
    _option(
        "--content-type",
        "the content type of files, as in '*.gz=application/gzip'; can be repeated (by default guessed from the name)",
        action="append",
        metavar="PATTERN=TYPE",
    ),
    _option("--max-workers", "files under way at once at most (%(default)s)", default=64, type=_count, metavar="N"),
    _option("--max-bytes-per-second", "how much is sent to the bucket at most", type=_rate, metavar="N"),
    _option("--max-requests-per-second", "how often the DSS is asked at most", type=_rate, metavar="N"),
    _arg(("--delete-staged",), help="remove what was staged once the bundle is there", action="store_true"),
    _option("--copy-timeout", "seconds for the DSS's copies (%(default)s)", default=3600.0, type=_rate, metavar="N"),
    _option("--aws-conn-id", "the Airflow connection for the bucket of S3; else what boto3 finds", metavar="ID"),
    _option("--gcp-conn-id", "the Airflow connection for the bucket of GCS; else what its SDK finds", metavar="ID"),
    _option("--creator-uid", "who creates all of it; by default the connection's", type=int, metavar="N"),
)
_GET = (
    _arg(("bundle",), help="the bundle: UUID for its latest version, or UUID.VERSION"),
    _arg(("directory",), help="where to; it is made where it is missing"),
    _CONN_ID,
    _REPLICA,
    _patterns("--data-files", "files to take of those that are not indexed", "all"),
    _patterns("--metadata-files", "files to take of those that are indexed", "all"),
    _option("--max-workers", "files under way at once (%(default)s)", default=8, type=_count, metavar="N"),
)


def _action(name: str, text: str, more: str, options: tuple[Arg, ...]) -> ActionCommand:
    function: Callable[..., object] = lazy_load_command(f"airflow_provider_hca.cli.commands.{name}")

    @functools.wraps(function)
    def interruptible(*arguments: object) -> object:
        try:
            return function(*arguments)
        except KeyboardInterrupt:  # while the command is still being imported, which takes seconds
            print(f"airflow hca {name}: stopped", file=sys.stderr)
            sys.exit(130)

    return ActionCommand(name=name, help=text, description=f"{text}. {more}", func=interruptible, args=options)


def get_cli_commands() -> list[CLICommand]:
    """Return the group `hca`, which Airflow finds by the provider's `cli` key where it knows that."""
    return [
        GroupCommand(name="hca", help="Use a Data Storage System (DSS) of the Human Cell Atlas", subcommands=ACTIONS)
    ]


ACTIONS = (
    _action("check", "Try a connection", "It changes nothing; the exit code is 0 when all is well.", (_CONN_ID,)),
    _action("upload", "Upload a directory as a bundle", "Run it again to go on where it stopped.", _UPLOAD),
    _action("get", "Download a bundle", "Run it again to fetch what is missing.", _GET),
    _action(
        "local",
        "Run a DSS on this machine",
        "It is the command dss-local, and needs the extra 'local'.",
        tuple(_arg(flags, **options) for flags, options in OPTIONS),
    ),
)
