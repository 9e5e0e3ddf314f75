"""Definition of the commands and their options. Every `airflow` command imports this module."""

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


# Names of the types in the error messages of argparse.
_count.__name__ = "number, 1 or more,"
_rate.__name__ = "number above 0"


def _option(flag: str, text: str, **more: object) -> Arg:
    return _arg((flag,), help=text, **more)


def _arg(flags: tuple[str, ...], **more: object) -> Arg:
    return Arg(flags, **more)  # type: ignore[no-untyped-call] # Airflow gives it no types


def _patterns(flag: str, text: str, default: str) -> Arg:
    text += f"; a shell glob, can be repeated (by default {default})"
    return _option(flag, text, action="append", metavar="PATTERN")


_CONN_ID = _option("--conn-id", "Airflow connection (%(default)s)", default=_DEFAULT_CONN_ID, metavar="ID")
_REPLICA = _option("--replica", "replica (%(default)s)", default="aws", choices=("aws", "gcp"))

_FILES = (
    _patterns("--include", "files to upload", "all"),
    _patterns("--exclude", "files to exclude from those", "none"),
    _option("--hidden", "names that begin with a dot (%(default)s)", default="skip", choices=("skip", "include")),
    _option("--symlinks", "symbolic links (%(default)s)", default="error", choices=("error", "follow", "skip")),
    _patterns("--indexed", "files that the DSS indexes", "*.json"),
)
_STORES = (
    _option("--aws-conn-id", "Airflow connection for S3; by default the settings of boto3", metavar="ID"),
    _option("--gcp-conn-id", "Airflow connection for GCS; by default the settings of its SDK", metavar="ID"),
)
_MISSING_SCHEMAS = _option(
    "--missing-schemas",
    "level of the finding for a schema version that is missing (%(default)s)",
    default="error",
    choices=("error", "warning"),
)
_DIRECTORY = (
    _arg(("directory",), help="directory, or s3://bucket/prefix; the bundle gets all files below it"),
    _CONN_ID,
    _REPLICA,
    _option(
        "--bundle-key",
        "name of the bundle, from which its UUID derives; only what differs from its latest version is uploaded",
        metavar="KEY",
    ),
    _option(
        "--bundle-uuid",
        "UUID of the bundle; by default derived from the key, or else from the name of the machine, which differs "
        "between containers, and the path of the directory",
    ),
    _option("--bundle-version", "a DSS_VERSION; by default the modification time of the newest file"),
    *_FILES,
    _option(
        "--content-type",
        "content type of files, such as '*.gz=application/gzip'; can be repeated (by default guessed from the name)",
        action="append",
        metavar="PATTERN=TYPE",
    ),
    _option(
        "--compare",
        "how files are compared with the latest version (%(default)s)",
        default="checksum",
        choices=("checksum", "size-mtime"),
    ),
    _option("--validate", "validate the metadata first: directory or URL of JSON Schemas", metavar="SCHEMAS"),
    _MISSING_SCHEMAS,
    _option("--max-workers", "maximum number of files in progress (%(default)s)", default=64, type=_count, metavar="N"),
    _option("--max-bytes-per-second", "maximum rate of sending to the bucket", type=_rate, metavar="N"),
    _option("--max-requests-per-second", "maximum rate of requests to the DSS", type=_rate, metavar="N"),
    *_STORES,
)
_UPLOAD = (
    *_DIRECTORY,
    _option("--staging-bucket", "bucket to stage in, of S3 for aws, of GCS for gcp", required=True, metavar="NAME"),
    _option("--staging-prefix", "prefix of the keys of staged objects", default="", metavar="PREFIX"),
    _arg(("--delete-staged",), help="delete what was staged for the bundle after it is created", action="store_true"),
    _option("--copy-timeout", "seconds to wait for copies (%(default)s)", default=3600.0, type=_rate, metavar="N"),
    _option("--creator-uid", "creator of files and bundle; by default that of the connection", type=int, metavar="N"),
)
_PLAN = (
    *_DIRECTORY,
    _arg(
        ("--json",),
        help="print one JSON object: added, changed, removed, unchanged, bytes, requests, seconds",
        action="store_true",
    ),
)
_VALIDATE = (
    _arg(("directory",), help="directory, or s3://bucket/prefix, that would become a bundle"),
    _option("--schemas", "directory or URL of JSON Schemas, by the paths of their public URLs", required=True),
    _MISSING_SCHEMAS,
    _arg(
        ("--json",),
        help="print one JSON object: documents_valid, documents_invalid, documents_unchecked, findings",
        action="store_true",
    ),
    *_FILES,
    *_STORES,
)
_DOWNLOADED = (
    _CONN_ID,
    _REPLICA,
    _patterns("--data-files", "data files to download, those that are not indexed", "all"),
    _patterns("--metadata-files", "metadata files to download, those that are indexed", "all"),
    _option("--max-workers", "number of files downloaded at once (%(default)s)", default=32, type=_count, metavar="N"),
)
_GET = (
    _arg(("bundle",), help="bundle: UUID for the latest version, or UUID.VERSION"),
    _arg(("directory",), help="target directory; created if missing"),
    *_DOWNLOADED,
)
_DOWNLOAD = (
    _arg(("directory",), help="target directory; each bundle gets the subdirectory UUID.VERSION"),
    _option("--bundle", "bundle: UUID or UUID.VERSION; can be repeated", action="append", metavar="BUNDLE"),
    _option("--collection", "collection whose bundles and files to download: UUID or UUID.VERSION"),
    _option("--manifest", "TSV of bundles and files, as of the original client", metavar="FILE"),
    _arg(("--json",), help="print the report as one JSON object", action="store_true"),
    *_DOWNLOADED,
)


def _action(name: str, text: str, more: str, options: tuple[Arg, ...]) -> ActionCommand:
    function: Callable[..., object] = lazy_load_command(f"airflow_provider_hca.cli.commands.{name}")

    @functools.wraps(function)
    def interruptible(*arguments: object) -> object:
        try:
            return function(*arguments)
        except KeyboardInterrupt:  # while the command is imported, which takes seconds
            print(f"airflow hca {name}: stopped", file=sys.stderr)
            sys.exit(130)

    return ActionCommand(name=name, help=text, description=f"{text}. {more}", func=interruptible, args=options)


def get_cli_commands() -> list[CLICommand]:
    """Return the group `hca`, for the `cli` key of the provider."""
    return [
        GroupCommand(name="hca", help="Use a Data Storage System (DSS) of the Human Cell Atlas", subcommands=ACTIONS)
    ]


ACTIONS = (
    _action("check", "Test a connection", "Changes nothing; the exit code is 0 on success.", (_CONN_ID,)),
    _action("plan", "Show what an upload would change", "Changes nothing.", _PLAN),
    _action(
        "validate", "Check the metadata of a directory", "Needs no DSS; the exit code is 1 after errors.", _VALIDATE
    ),
    _action("upload", "Upload a directory as a bundle", "Run it again to resume.", _UPLOAD),
    _action("get", "Download a bundle", "Run it again to download missing files.", _GET),
    _action(
        "download",
        "Download bundles of a collection, a manifest or a list",
        "Run it again to download missing files; the exit code is 1 if bundles failed.",
        _DOWNLOAD,
    ),
    _action(
        "local",
        "Run a local DSS",
        "Same as the command dss-local; needs the extra 'local'.",
        tuple(_arg(flags, **options) for flags, options in OPTIONS),
    ),
)
