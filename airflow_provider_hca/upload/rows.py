"""Rows of a batch: the directories to upload, from a directory, a prefix, a table or a list."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.tables import MAX_TABLE, parse_table, read_file
from airflow_provider_hca.upload.access import GCSAccess, S3Access
from airflow_provider_hca.upload.entries import Names, PlannedFile
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.sources import open_source
from airflow_provider_hca.upload.sources.base import is_url

MAX_ROWS = 100_000

Fields = dict[str, Any]


def directories_in(directory: str, options: UploadOptions, access: S3Access | GCSAccess | None = None) -> list[Fields]:
    """Return a row for each directory in a directory, or for each prefix below a prefix.

    Files beside the directories are ignored.

    :param directory: path, `s3://bucket/prefix` or `gs://bucket/prefix`
    :param options: `hidden` and `symlinks` decide about directories too
    :param access: credentials for the bucket
    :return: rows with `directory` and `name`, ordered by name
    :raises InvalidDirectoryError: if it cannot be read, or has no directories
    :raises StagingError: if the prefix cannot be listed
    """
    root = str(directory).rstrip("/") or "/"
    names = open_source(root, access).prefixes() if is_url(root) else _local_directories(root, options)
    rows: list[Fields] = [
        {"directory": f"{root.rstrip('/')}/{name}", "name": name}
        for name in sorted(names)
        if options.hidden == "include" or not name.startswith(".")
    ]
    if not rows:
        raise InvalidDirectoryError(root, [("", "there are no directories in it")])
    return _bounded(rows)


def read_table(location: str, access: S3Access | GCSAccess | None = None) -> list[Fields]:
    """Return the rows of a table: CSV, or TSV if its name ends with `.tsv`, in UTF-8 with names of columns.

    :param location: path, or URL of an object
    :param access: credentials for the bucket
    :return: rows with `directory` (relative ones are below the directory of the table), `name`, and all other columns
    :raises ValueError: if it is not such a table
    :raises StagingError: if the object cannot be read
    """
    parent, _, name = location.rpartition("/")
    content = _read_object(parent, name, access) if is_url(location) else read_file(location)
    delimiter = "\t" if name.endswith(".tsv") else ","
    rows = list(parse_table(content, location, column="directory", delimiter=delimiter))
    for row in rows:
        row["directory"] = _below(parent, row["directory"])
    return read_list(rows, location)


def read_list(rows: Iterable[Any], parameter: str = "rows") -> list[Fields]:
    """Return rows from directories, or from mappings with a `directory`.

    :param rows: directories and mappings
    :param parameter: name of the parameter or file, for the error message
    :return: rows with `directory`, `name` and all other items
    :raises ValueError: if a row has no directory, or there are no rows
    """
    result = []
    for number, row in enumerate(rows, 1):
        fields: Fields = dict(row) if isinstance(row, Mapping) else {"directory": row}
        directory = fields.get("directory")
        if not isinstance(directory, str | Path) or not str(directory).strip():
            raise ValueError(f"{parameter}: row {number} needs a directory, got {row!r:.200}")
        fields["directory"] = str(directory).rstrip("/") or "/"
        fields.setdefault("name", fields["directory"].rpartition("/")[2])
        result.append(fields)
    if not result:
        raise ValueError(f"{parameter} has no rows")
    return _bounded(result)


def _bounded(rows: list[Fields]) -> list[Fields]:
    if len(rows) > MAX_ROWS:
        raise ValueError(f"a batch has at most {MAX_ROWS:,} directories, got {len(rows):,}: divide it")
    return rows


def _below(parent: str, directory: str) -> str:
    if is_url(directory) or directory.startswith("/") or not directory.strip():
        return directory
    return f"{parent}/{directory}" if parent else directory


def _local_directories(root: str, options: UploadOptions) -> list[str]:
    try:
        with os.scandir(root) as entries:
            found = [entry for entry in entries if entry.is_dir()]
    except OSError as error:
        raise InvalidDirectoryError(root, [("", f"cannot be read: {error.strerror}")]) from None
    links = sorted(entry.name for entry in found if entry.is_symlink())
    if links and options.symlinks == "error":
        raise InvalidDirectoryError(
            root, [(name, "is a symbolic link: give symlinks='follow' or symlinks='skip'") for name in links]
        )
    return [entry.name for entry in found if options.symlinks == "follow" or entry.name not in links]


def _read_object(parent: str, name: str, access: S3Access | GCSAccess | None) -> bytes:
    source = open_source(parent, access)
    found = next(source.objects(Names(name, f"{name}\0")), None)
    if found is None:
        raise ValueError(f"{parent}/{name} does not exist")
    if found.size > MAX_TABLE:
        raise ValueError(f"{parent}/{name} is larger than {MAX_TABLE:,} bytes")
    file = PlannedFile(parent, name, found.size, found.mtime_ns, "", False, "", "", found.revision)
    return source.read(file, 0, found.size) if found.size else b""
