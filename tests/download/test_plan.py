"""Which files of a manifest are downloaded, and which names are refused."""

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
def test_patterns_choose(patterns: dict[str, Any], names: list[str]) -> None:
    """Indexed files are chosen by metadata_files, the others by data_files, in the bundle's order."""
    assert [wanted.name for wanted in plan_download(MIXED, **patterns)] == names


@pytest.mark.parametrize("what", ["data_files", "metadata_files"])
@pytest.mark.parametrize("patterns", ["*.gz", None, 7, {"*.gz": True}])
def test_patterns_are_a_list(what: str, patterns: Any) -> None:
    """A pattern that was forgotten to be put into a list would be taken for one of single letters."""
    with pytest.raises(ValueError, match=f"{what} must be a list"):
        plan_download(MIXED, **{what: patterns})


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
def test_names_that_leave_the_directory_or_that_none_can_hold(name: Any) -> None:
    """Each is refused before anything is written."""
    with pytest.raises(InvalidManifestError):
        plan_download(bundle(file("good"), file(name)))


def test_all_that_is_wrong_is_told_at_once() -> None:
    """One error lists every bad name, and says how to leave them out."""
    with pytest.raises(InvalidManifestError, match="data_files") as caught:
        plan_download(bundle(*map(file, HOSTILE), file("good")))
    assert len(caught.value.offenders) == len(HOSTILE)
    assert caught.value.permanent
    assert "'../x'" in str(caught.value)


def test_what_is_left_out_is_not_looked_at() -> None:
    """A bad name that no pattern matches does no harm."""
    assert [f.name for f in plan_download(bundle(file("good.txt"), file("../x.gz")), data_files=["*.txt"])] == [
        "good.txt"
    ]


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b/c", "a/b")])
def test_two_that_need_the_same_place(names: tuple[str, str]) -> None:
    """A name that is there twice, and a file where another one needs a directory, are refused."""
    with pytest.raises(InvalidManifestError, match="'a"):
        plan_download(bundle(*map(file, names)))


@pytest.mark.parametrize("names", [("a.txt", "A.TXT"), ("Straße", "STRASSE"), ("a/b", "A"), ("\u00e9", "E\u0301")])
def test_names_that_differ_only_in_case(names: tuple[str, str]) -> None:
    """They are two files where the file system tells them apart, and an error where it does not."""
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
def test_a_file_that_cannot_be_checked_or_asked_for(changes: dict[str, Any]) -> None:
    """Without size and sha256 there is no knowing what came, and without uuid and version no asking."""
    with pytest.raises(InvalidManifestError):
        plan_download(bundle(file("a", **changes)))


def test_the_longest_names() -> None:
    """Names are taken up to what a file system usually holds: 255 bytes in a part, some thousand together."""
    longest = "/".join(["a" * 255] * 11 + ["b" * 254])
    assert [f.name for f in plan_download(bundle(file("c" * 255), file(longest)))] == ["c" * 255, longest]


def test_partial_files_have_names_of_their_own() -> None:
    """The same file under two names in one directory is downloaded twice at once, into two places."""
    same = {"uuid": new_uuid()}
    one, two = plan_download(bundle(file("d/a", **same), file("d/b", **same)))
    assert one.partial_name != two.partial_name
    assert "/" not in one.partial_name
