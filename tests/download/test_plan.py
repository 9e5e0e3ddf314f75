"""Test the selection of files and the refusal of unsafe names."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_hca.client.models import Bundle
from airflow_provider_hca.download.plan import plan_download
from airflow_provider_hca.exceptions import InvalidManifestError
from tests.local.server import VERSION, new_uuid

SHA256 = "ab" * 32


def file(name: Any, **changes: Any) -> dict[str, Any]:
    described = {"uuid": new_uuid(), "version": VERSION, "name": name, "indexed": False, "size": 7, "sha256": SHA256}
    return described | changes


def bundle(*files: dict[str, Any]) -> Bundle:
    return {"uuid": new_uuid(), "version": VERSION, "creator_uid": 1, "files": list(files)}


MIXED = bundle(
    file("project.json", indexed=True),
    file("links.json", indexed=True),
    file("reads/r1.fastq.gz"),
    file("reads/r2.fastq.gz"),
    file("notes.json"),
)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ({}, ["project.json", "links.json", "reads/r1.fastq.gz", "reads/r2.fastq.gz", "notes.json"]),
        ({"data_files": []}, ["project.json", "links.json"]),
        ({"metadata_files": []}, ["reads/r1.fastq.gz", "reads/r2.fastq.gz", "notes.json"]),
        ({"data_files": ["*r1*"], "metadata_files": ["links.json"]}, ["links.json", "reads/r1.fastq.gz"]),
        (
            {"data_files": ["reads/*", "*.json"], "metadata_files": []},
            ["reads/r1.fastq.gz", "reads/r2.fastq.gz", "notes.json"],
        ),
        ({"data_files": ["*.FASTQ.gz"], "metadata_files": ["none"]}, []),
    ],
)
def test_patterns_select_files(patterns: dict[str, Any], names: list[str]) -> None:
    """Patterns of metadata_files for indexed files, of data_files for others; in the order of the bundle."""
    assert [wanted.name for wanted in plan_download(MIXED, **patterns)] == names


@pytest.mark.parametrize("parameter", ["data_files", "metadata_files"])
@pytest.mark.parametrize("patterns", ["*.gz", None, 7, {"*.gz": True}])
def test_patterns_must_be_a_list(parameter: str, patterns: Any) -> None:
    """The letters of a string would each be a pattern."""
    with pytest.raises(ValueError, match=f"{parameter} must be a list"):
        plan_download(MIXED, **{parameter: patterns})


HOSTILE = [
    "../x",
    "a/../../x",
    "/etc/x",
    "//x",
    "..",
    ".",
    "",
    "a//b",
    "a/./b",
    "a/",
    "./a",
    "a\0b",
    "..\\x",
    "C:\\x",
    "a" * 256,
    "\u00fc" * 128,
    "a/" * 1536,
    "\ud800",
    None,
    7,
]


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_unsafe_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidManifestError):
        plan_download(bundle(file("good"), file(name)))


def test_error_lists_all_bad_names_and_the_remedy() -> None:
    with pytest.raises(InvalidManifestError, match="data_files") as caught:
        plan_download(bundle(*map(file, HOSTILE), file("good")))
    assert len(caught.value.offenders) == len(HOSTILE)
    assert caught.value.permanent
    assert "'../x'" in str(caught.value)


def test_bad_name_that_no_pattern_matches_is_ignored() -> None:
    assert [f.name for f in plan_download(bundle(file("good.txt"), file("../x.gz")), data_files=["*.txt"])] == [
        "good.txt"
    ]


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b/c", "a/b")])
def test_colliding_names_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(InvalidManifestError, match="'a"):
        plan_download(bundle(*map(file, names)))


@pytest.mark.parametrize("names", [("a.txt", "A.TXT"), ("Straße", "STRASSE"), ("a/b", "A"), ("\u00e9", "E\u0301")])
def test_names_differing_only_in_case_are_refused_if_case_is_ignored(names: tuple[str, str]) -> None:
    assert len(plan_download(bundle(*map(file, names)))) == 2
    with pytest.raises(InvalidManifestError):
        plan_download(bundle(*map(file, names)), ignores_case=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": None},
        {"size": -1},
        {"size": "7"},
        {"sha256": None},
        {"sha256": "xyz"},
        {"uuid": "../../x"},
        {"uuid": ""},
        {"version": "../x"},
    ],
)
def test_file_without_valid_uuid_version_size_or_sha256_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifestError):
        plan_download(bundle(file("a", **changes)))


def test_longest_names_are_accepted() -> None:
    """255 bytes in one part, 3,072 together."""
    longest = "/".join(["a" * 255] * 11 + ["b" * 254])
    assert [f.name for f in plan_download(bundle(file("c" * 255), file(longest)))] == ["c" * 255, longest]


def test_partial_names_differ_for_one_file_under_two_names() -> None:
    same = {"uuid": new_uuid()}
    one, two = plan_download(bundle(file("d/a", **same), file("d/b", **same)))
    assert one.partial_name != two.partial_name
    assert "/" not in one.partial_name
