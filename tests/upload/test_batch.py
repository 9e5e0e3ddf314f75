"""Test how a batch is planned and divided, without a DSS."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from airflow_provider_hca.exceptions import DSSAbortedError, InvalidDirectoryError, StagingError
from airflow_provider_hca.upload.batch import (
    BatchReport,
    BundleResult,
    Planned,
    Row,
    check_keys,
    is_large,
    label_of,
    pack,
    plan_batch,
)
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.rows import directories_in, read_list, read_table

from .support import plan


def planned(name: str, files: int = 1, size: int = 10, *, later: bool = False) -> Planned:
    return Planned(Row(f"/data/{name}", name), files, size, later)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([5], [[5]]),
        ([5, 5], [[5, 5]]),
        ([5, 5, 1], [[5, 5], [1]]),
        ([9, 2, 8, 2], [[9], [2, 8], [2]]),
        ([10, 10], [[10], [10]]),
    ],
)
def test_units_hold_as_many_files_as_allowed(sizes: list[int], expected: list[list[int]]) -> None:
    rows = [planned(str(number), size) for number, size in enumerate(sizes)]
    units = list(pack(rows, max_files=10, max_bytes=10**9, max_units=100))
    assert [[one.file_count for one in unit] for unit in units] == expected


def test_units_hold_as_many_bytes_as_allowed() -> None:
    rows = [planned(str(number), 1, size) for number, size in enumerate([60, 50, 40, 10, 1])]
    units = list(pack(rows, max_files=1000, max_bytes=100, max_units=100))
    assert [[one.byte_count for one in unit] for unit in units] == [[60], [50, 40, 10], [1]]


@pytest.mark.parametrize("count", [1, 7, 100, 1001])
@pytest.mark.parametrize("max_units", [1, 2, 10])
def test_units_are_never_more_than_airflow_maps(count: int, max_units: int) -> None:
    rows = [planned(str(number), 1 + number * 7 % 5, number % 3) for number in range(count)]
    units = list(pack(rows, max_files=5, max_bytes=3, max_units=max_units))
    assert len(units) <= max_units
    assert [one for unit in units for one in unit] == rows


@pytest.mark.parametrize(
    ("one", "large"),
    [
        (planned("a", 10, 100), False),
        (planned("a", 11, 100), True),
        (planned("a", 10, 101), True),
        (planned("a", 1, 1, later=True), True),
    ],
)
def test_directory_is_large(one: Planned, *, large: bool) -> None:
    assert is_large(one, max_files=10, max_bytes=100) is large


def test_invalid_directory_does_not_stop_the_plan(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good/a").write_bytes(b"12")
    (tmp_path / "empty").mkdir()
    rows = [Row(str(tmp_path / name), name) for name in ("empty", "good", "missing")]
    batch = plan_batch(rows, lambda row: plan(Path(row.directory)), stop=threading.Event())
    assert [(one.row, one.file_count, one.byte_count) for one in batch.planned] == [(rows[1], 1, 2)]
    assert [(result.bundle_key, result.outcome) for result in batch.invalid] == [
        ("empty", "invalid"),
        ("missing", "invalid"),
    ]
    assert "there is no such directory" in batch.invalid[1].cause


def test_error_of_the_store_ends_the_plan() -> None:
    def fail(row: Row) -> Plan:
        raise StagingError(row.directory, "access denied", permanent=True)

    with pytest.raises(StagingError, match="access denied"):
        plan_batch([Row("s3://a/b", "b")], fail, stop=threading.Event())


def test_stop_ends_the_plan() -> None:
    stop = threading.Event()

    def wait(row: Row) -> Plan:
        stop.set()
        raise InvalidDirectoryError(row.directory, [])

    with pytest.raises(DSSAbortedError):
        plan_batch([Row("/a", "b")], wait, stop=stop)


def test_keys_are_unique() -> None:
    check_keys([Row("/a", "x"), Row("/b", "y")])
    with pytest.raises(ValueError, match="'x' of /a and /c"):
        check_keys([Row("/a", "x"), Row("/b", "y"), Row("/c", "x")])
    with pytest.raises(ValueError, match="bundle_key must be a non-empty text"):
        check_keys([Row("/a", " ")])


def test_labels_name_directories() -> None:
    rows = [Row(f"/data/d{number}/", str(number)) for number in range(5)]
    assert label_of(rows[:1]) == "d0"
    assert label_of(rows) == "d0, d1, d2 and 2 more"


def test_report_counts_outcomes_and_groups_causes() -> None:
    failed = [
        BundleResult(f"/data/{number}", str(number), "failed", cause=f"HTTP 500 (request id {number})")
        for number in range(7)
    ]
    created = BundleResult("/data/a", "a", "created", uuid="u", version="v", file_count=3, byte_count=5)
    report = BatchReport([created, *failed, BundleResult("/data/b", "b", "unchanged", file_count=1)])
    found = report.as_json()
    assert (found["created"], found["failed"], found["unchanged"], found["invalid"]) == (1, 7, 1, 0)
    assert (found["file_count"], found["byte_count"], report.failed) == (4, 5, 7)
    assert found["bundles"] == [{"directory": "/data/a", "bundle_key": "a", "fqid": "u.v"}]
    assert [(cause["count"], len(cause["directories"])) for cause in found["causes"]] == [(7, 5)]
    assert "and 2 more: HTTP 500" in str(report)


@pytest.mark.parametrize(
    "result",
    [
        BundleResult("/a", "a", "created", uuid="u", version="v"),
        BundleResult("/a", "a", "failed", cause="x", permanent=True),
    ],
)
def test_result_survives_json(result: BundleResult) -> None:
    assert BundleResult.from_json(result.as_json()) == result


# Rows


def test_directories_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b", "a b+c", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    assert [row["name"] for row in directories_in(str(tmp_path), UploadOptions())] == ["a b+c", "b"]
    rows = directories_in(f"{tmp_path}/", UploadOptions(hidden="include"))
    assert rows[0] == {"directory": f"{tmp_path}/.hidden", "name": ".hidden"}


def test_links_to_directories_follow_symlinks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(InvalidDirectoryError, match=r"link.*is a symbolic link"):
        directories_in(str(tmp_path), UploadOptions())
    assert len(directories_in(str(tmp_path), UploadOptions(symlinks="skip"))) == 1
    assert len(directories_in(str(tmp_path), UploadOptions(symlinks="follow"))) == 2


@pytest.mark.parametrize(("name", "reason"), [("missing", "cannot be read"), ("", "there are no directories in it")])
def test_directory_without_directories_is_an_error(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(InvalidDirectoryError, match=reason):
        directories_in(str(tmp_path / name), UploadOptions())


def test_table_has_further_columns(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text('\ufeffdirectory,bundle_key,donor\nliver,k1,"1, left"\n/data/lung,,2\ns3://b/x/,k3,3\n')
    rows = read_table(str(table))
    assert rows[0] == {"directory": f"{tmp_path}/liver", "bundle_key": "k1", "donor": "1, left", "name": "liver"}
    assert [row["directory"] for row in rows[1:]] == ["/data/lung", "s3://b/x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na\n", "needs a column 'directory'"),
        ("directory,directory\na,b\n", "different names of columns"),
        ("directory,donor\na\n", "row 2: expected 2 values"),
        ("directory\na,b\n", "row 2: expected 1 values"),
        ("directory\n", "has no rows"),
        ("directory,x\n ,1\n", "row 1 needs a directory"),
        ('directory\n"a\n', "is not a table in UTF-8"),
        ("directory\n\udcff\n", "is not a table in UTF-8"),
    ],
)
def test_invalid_table_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "rows.csv"
    table.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=message):
        read_table(str(table))


def test_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows\.csv cannot be read: No such file"):
        read_table(str(tmp_path / "rows.csv"))


@pytest.mark.parametrize("rows", [[], [{"name": "a"}], [3], [{"directory": ""}]])
def test_invalid_list_is_an_error(rows: list[object]) -> None:
    with pytest.raises(ValueError, match="rows"):
        read_list(rows)


def test_list_has_paths_and_mappings() -> None:
    rows = read_list([Path("/data/a"), "/data/b/", {"directory": "/data/c", "donor": 1}])
    assert [(row["directory"], row["name"]) for row in rows] == [
        ("/data/a", "a"),
        ("/data/b", "b"),
        ("/data/c", "c"),
    ]
    assert rows[2]["donor"] == 1
