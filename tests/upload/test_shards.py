from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.entries import Names
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.upload.report import UploadReport
from airflow_provider_hca.upload.shards import Shard, join_shards, split_plan
from tests.local.server import new_uuid
from tests.upload.support import plan, write_tree

BUNDLE = "1b9d8b6e-4c2a-4a7b-9f5e-0a1b2c3d4e5f"


def planned(directory: Path, **options: Any) -> Plan:
    return plan(directory, bundle=BUNDLE, **options)


def _tree(source: random.Random) -> dict[str, bytes]:
    """Make names whose order is not that of a walk: `-`, `.` and `0` lie about the slash."""
    parts = ["a", "a-", "a.b", "a0", "Z", "é", "日本", "b c"]
    names = {
        "/".join(source.choice(parts) for _ in range(source.randrange(3))) + "/f" + source.choice(parts)
        for _ in range(80)
    }
    return {name.lstrip("/"): bytes(source.randrange(200)) for name in names}


@pytest.mark.parametrize("seed", range(8))
def test_shards_have_all_files_once_in_order(tmp_path: Path, seed: int) -> None:
    """However a directory is cut, its shards, each planned for itself, are the whole, and keep to the limits."""
    source = random.Random(seed)  # noqa: S311 - names, not secrets
    whole = planned(write_tree(tmp_path, _tree(source)))
    max_files, max_bytes = source.randrange(1, 12), source.randrange(50, 1000)
    shards = split_plan(whole, max_files=max_files, max_bytes=max_bytes)
    parts = [planned(tmp_path, names=shard.names) for shard in shards]
    assert [file for part in parts for file in part.files] == list(whole.files)
    for number, (shard, part) in enumerate(zip(shards, parts, strict=True), 1):
        shard.check(part, str(tmp_path))
        assert (shard.number, shard.of) == (number, len(shards))
        assert (shard.file_count, shard.byte_count) == (len(part.files), part.size)
        assert 1 <= shard.file_count <= max_files
        assert shard.byte_count <= max_bytes or shard.file_count == 1
        assert Shard.from_json(shard.as_json()) == shard


def test_cutting_depends_on_nothing_but_the_plan(tmp_path: Path) -> None:
    """A second worker cuts the same directory in the same way."""
    write_tree(tmp_path, {f"{number}": bytes(number) for number in range(30)})
    assert split_plan(planned(tmp_path), max_files=7, max_bytes=99) == split_plan(
        planned(tmp_path), max_files=7, max_bytes=99
    )


def test_a_single_file_is_one_shard(tmp_path: Path) -> None:
    """The only shard has no ends, however large its file is."""
    (shard,) = split_plan(planned(write_tree(tmp_path, {"a": bytes(100)})), max_files=5, max_bytes=10)
    assert shard.names == Names()
    assert (shard.file_count, shard.byte_count) == (1, 100)


def test_directories_outside_a_range_are_not_read(tmp_path: Path) -> None:
    """A worker does not walk what cannot be in its shard: a directory there that cannot be read is not its business."""
    write_tree(tmp_path, {"a/b/1": b"", "a/c/2": b"", "d/3": b""})
    (tmp_path / "a" / "b" / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidDirectoryError):
        planned(tmp_path, names=Names("a/b/1", "a/c/2"))
    assert [file.name for file in planned(tmp_path, names=Names("a/c/2", "d/3")).files] == ["a/c/2"]
    assert [file.name for file in planned(tmp_path, names=Names("b", None)).files] == ["d/3"]


def test_a_range_may_be_empty(tmp_path: Path) -> None:
    """A range without files is a plan without files; a directory without files is an error."""
    write_tree(tmp_path, {"a": b""})
    assert planned(tmp_path, names=Names("b")).files == ()
    (tmp_path / "a").unlink()
    with pytest.raises(InvalidDirectoryError, match="no files to upload"):
        planned(tmp_path)


@pytest.mark.parametrize(
    ("name", "inside"), [("a", False), ("b", True), ("b/1", True), ("c", True), ("d", False), ("d/1", False)]
)
def test_a_range_ends_before_its_end(name: str, inside: bool) -> None:
    """The first name is in it, the one that it ends before is not."""
    assert (name in Names("b", "d")) is inside


def _no_base() -> Any:
    raise AssertionError("nothing is kept")


def _registered(part: Plan, **counts: Any) -> UploadReport:
    report = UploadReport.of_plan(part, "aws")
    for name, value in counts.items():
        setattr(report, name, value)
    return UploadReport.from_json(report.as_json())


def test_what_shards_did_adds_up(tmp_path: Path) -> None:
    """Counts and seconds are added, the slowest files are those of all, and it is the whole plan that is registered."""
    write_tree(tmp_path, {f"{number}": bytes(number) for number in range(8)})
    whole = planned(tmp_path)
    shards = split_plan(whole, max_files=4, max_bytes=10**6)
    one, two = (planned(tmp_path, names=shard.names) for shard in shards)
    done = [
        _registered(
            one,
            staged_file_count=4,
            retry_count=1,
            slowest_files=[["1", 9.0], ["2", 1.0], ["3", 0.5]],
            seconds={"stage": 1.5},
        ),
        _registered(
            two,
            staged_file_count=3,
            slowest_files=[["5", 4.0], ["6", 3.0], ["7", 2.0]],
            seconds={"stage": 2.0, "copy": 1},
        ),
    ]
    _, joined = join_shards(whole, _registered(whole), shards, done, str(tmp_path), _no_base)
    assert (joined.staged_file_count, joined.retry_count, joined.digest) == (7, 1, whole.digest)
    assert joined.slowest_files == [["1", 9.0], ["5", 4.0], ["6", 3.0], ["7", 2.0], ["2", 1.0]]
    assert joined.seconds == {"stage": 3.5, "copy": 1}


def test_shards_of_another_bundle_do_not_join(tmp_path: Path) -> None:
    """Files that were registered under other names are an error."""
    whole = planned(write_tree(tmp_path, {"a": b"", "b": b""}))
    shards = split_plan(whole, max_files=1, max_bytes=10)
    other = [plan(tmp_path, bundle=new_uuid(), names=shard.names) for shard in shards]
    with pytest.raises(InvalidDirectoryError, match="shard 1 of 2"):
        join_shards(whole, _registered(whole), shards, [_registered(each) for each in other], str(tmp_path), _no_base)
