"""Read tables with names of columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

MAX_TABLE = 64 * 1024**2  # bytes


def read_file(path: str) -> bytes:
    """Return the content of a table on this machine.

    :param path: path of the file
    :raises ValueError: if it cannot be read, or is larger than `MAX_TABLE`
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_TABLE + 1)
    except OSError as error:
        raise ValueError(f"{Path(path).absolute()} cannot be read: {error.strerror}") from None
    if len(content) > MAX_TABLE:
        raise ValueError(f"{path} is larger than {MAX_TABLE:,} bytes")
    return content


def parse_table(content: bytes, location: str, *, column: str, delimiter: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a table in UTF-8, whose first row has the names of the columns.

    :param content: content of the table
    :param location: its path or URL, for error messages
    :param column: name of a column that it has to have
    :param delimiter: character between two values
    :raises ValueError: if it is not such a table
    """
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    reader = csv.DictReader(text, delimiter=delimiter, strict=True)
    try:
        columns = list(reader.fieldnames or [])
        if column not in columns or len({*columns}) < len(columns):
            raise ValueError(
                f"{location} needs a column {column!r} and different names of columns, got {columns!r:.200}"
            )
        for number, row in enumerate(reader, 2):
            if None in row or None in row.values():
                raise ValueError(f"{location}, row {number}: expected {len(columns)} values")
            yield row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{location} is not a table in UTF-8: {error}") from None
