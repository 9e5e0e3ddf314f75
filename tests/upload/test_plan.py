"""From a directory to a plan."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.identifiers import derive_uuid
from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import Plan, guess_type, plan_directory
from tests.local.server import VERSION
from tests.upload.support import write_tree

BUNDLE = "ce55fd51-7833-469b-be0b-5da88ebebfcd"
REPOSITORY = Path(__file__).parents[2]


def _plan(directory: Path, **options: Any) -> Plan:
    return plan_directory(directory, UploadOptions(**options), bundle_uuid=BUNDLE, bundle_version=VERSION)


def _names(planned: Plan) -> list[str]:
    return [file.name for file in planned.files]


def _offenders(directory: Path, **options: Any) -> dict[str, str]:
    with pytest.raises(InvalidDirectoryError) as caught:
        _plan(directory, **options)
    assert caught.value.permanent
    return dict(caught.value.offenders)


def _files(directory: Path, *names: str) -> Path:
    return write_tree(directory, dict.fromkeys(names, b"x"))


# What is taken


def test_order(tmp_path: Path) -> None:
    """Files of all depths are in the order of their names, by code points, in whatever order they were written."""
    names = ["b", "a/z", "a/b/c", "a.txt", "B", "ä", "a/b.txt", "\N{GRINNING FACE}", "10", "9", "a b"]
    _files(tmp_path, *names)
    assert _names(_plan(tmp_path)) == sorted(names)


def test_what_is_known_of_a_file(tmp_path: Path) -> None:
    """A planned file has path, size, modification time, version and membership of what it stands for."""
    write_tree(tmp_path, {"a/project.json": b"{}", "b.txt": b"12345"})
    planned = _plan(tmp_path)
    first, second = planned.files
    assert (first.path, first.size, first.mtime_ns) == (
        tmp_path / "a/project.json",
        2,
        (tmp_path / "a/project.json").stat().st_mtime_ns,
    )
    assert first.as_member() == {"uuid": first.uuid, "version": VERSION, "name": "a/project.json", "indexed": True}
    assert (second.size, second.indexed, planned.size, planned.skipped) == (5, False, 7, 0)
    assert (planned.bundle_uuid, planned.bundle_version) == (BUNDLE, VERSION)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["a.json", "a.txt", "d/a.json", "d/e/b.txt"]),
        ({"include": ["*.json"]}, ["a.json", "d/a.json"]),
        ({"include": ["d/*"]}, ["d/a.json", "d/e/b.txt"]),
        ({"include": ["d/*.txt", "a.t?t"]}, ["a.txt", "d/e/b.txt"]),
        ({"exclude": ["*.txt"]}, ["a.json", "d/a.json"]),
        ({"exclude": ["d/*"]}, ["a.json", "a.txt"]),
        ({"include": ["*.txt"], "exclude": ["[ab].txt"]}, ["d/e/b.txt"]),
        ({"include": ["*.JSON", "a.txt"]}, ["a.txt"]),
    ],
)
def test_patterns(tmp_path: Path, options: dict[str, Any], expected: list[str]) -> None:
    """Patterns are matched, with their case, with the whole name, and `*` matches slashes."""
    planned = _plan(_files(tmp_path, "a.json", "a.txt", "d/a.json", "d/e/b.txt"), **options)
    assert _names(planned) == expected
    assert planned.skipped == 4 - len(expected)


@pytest.mark.parametrize("option", ["include", "exclude", "indexed"])
def test_a_pattern_is_not_a_list(tmp_path: Path, option: str) -> None:
    """One pattern where a list belongs is refused: its letters, one of them `*`, would be taken for patterns."""
    with pytest.raises(ValueError, match=rf"{option} .*\['\*\.json'\]"):
        _plan(_files(tmp_path, "a.txt"), **{option: "*.json"})


def test_random_trees(tmp_path: Path) -> None:
    """For any tree and patterns the plan matches regular expressions over all its files, in order."""
    source = random.Random(20240131)  # noqa: S311 - the same at every run

    def regex(pattern: str) -> str:
        return re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")

    for number in range(40):
        root = tmp_path / str(number)
        alphabet = ["a", "b", "c.json", "d.txt", "é", "e f", "X"]
        names = set()
        for _ in range(source.randrange(1, 25)):
            names.add("/".join(source.choice(alphabet) + str(depth) for depth in range(source.randrange(1, 5))))
        names = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}
        _files(root, *names)
        patterns = ["*", "a*", "*.json*", "*/*", "?0", "*3", "b0/*", "*é*"]
        include = source.sample(patterns, source.randrange(1, 4))
        exclude = source.sample(patterns[1:], source.randrange(0, 3))
        expected = sorted(
            name
            for name in names
            if any(re.fullmatch(regex(each), name) for each in include)
            and not any(re.fullmatch(regex(each), name) for each in exclude)
        )
        if expected:
            planned = _plan(root, include=include, exclude=exclude)
            assert _names(planned) == expected
            assert planned.skipped == len(names) - len(expected)
        else:
            assert list(_offenders(root, include=include, exclude=exclude)) == [""]


# Hidden files, links, other things


def test_hidden_files_are_skipped(tmp_path: Path) -> None:
    """By default, files and directories whose names begin with a dot are left out, and counted."""
    planned = _plan(_files(tmp_path, "a", ".DS_Store", ".git/config", "d/.hidden", "d/b"))
    assert (_names(planned), planned.skipped) == (["a", "d/b"], 3)


def test_hidden_files_can_be_included(tmp_path: Path) -> None:
    """With hidden="include" they are taken, except names that a DSS refuses, which are reported."""
    _files(tmp_path, "a", ".top")
    assert _names(_plan(tmp_path, hidden="include")) == [".top", "a"]
    _files(tmp_path, "d/.hidden", ".git/config")
    offenders = _offenders(tmp_path, hidden="include")
    assert list(offenders) == ["d/.hidden"]
    assert "starts with a dot" in offenders["d/.hidden"]


def _linked(directory: Path) -> Path:
    outside = _files(directory / "outside", "f.txt", "d/g.txt")
    inside = _files(directory / "inside", "a.txt")
    (inside / "file").symlink_to(outside / "f.txt")
    (inside / "dir").symlink_to(outside / "d")
    return inside


def test_links_are_errors(tmp_path: Path) -> None:
    """By default every symbolic link is an error that names the settings."""
    offenders = _offenders(_linked(tmp_path))
    assert sorted(offenders) == ["dir", "file"]
    assert "symlinks='follow'" in offenders["dir"]


def test_links_can_be_followed(tmp_path: Path) -> None:
    """With symlinks="follow" files and directories appear under the names of their links."""
    planned = _plan(_linked(tmp_path), symlinks="follow")
    assert _names(planned) == ["a.txt", "dir/g.txt", "file"]


def test_links_can_be_skipped(tmp_path: Path) -> None:
    """With symlinks="skip" links, dangling ones too, are left out and counted."""
    root = _linked(tmp_path)
    (root / "dangling").symlink_to("nowhere")
    planned = _plan(root, symlinks="skip")
    assert (_names(planned), planned.skipped) == (["a.txt"], 3)


def test_excluded_links_are_no_errors(tmp_path: Path) -> None:
    """A link that `exclude` matches is left out like any file, without a setting for links."""
    root = _linked(tmp_path)
    (root / "dangling").symlink_to("nowhere")
    for symlinks in ("error", "follow"):
        planned = _plan(root, symlinks=symlinks, exclude=["file", "dir", "dir/*", "dangling"])
        assert _names(planned) == ["a.txt"]
    assert sorted(_offenders(root, exclude=["file"])) == ["dangling", "dir"]


@pytest.mark.parametrize("symlinks", ["error", "follow"])
def test_links_that_include_does_not_take_are_no_errors(tmp_path: Path, symlinks: Any) -> None:
    """A link to a file is left out like any file whose name is not wanted; one to a directory may have wanted files."""
    root = _linked(tmp_path)
    (root / "dangling").symlink_to("nowhere")
    if symlinks == "error":
        assert sorted(_offenders(root, include=["*.txt"])) == ["dir"]
    else:
        assert _names(_plan(root, symlinks=symlinks, include=["*.txt"])) == ["a.txt", "dir/g.txt"]


@pytest.mark.parametrize("directory", ["", "  "])
def test_no_directory(directory: str) -> None:
    """An empty name, as an empty template gives, is not taken for the worker's current directory."""
    with pytest.raises(ValueError, match="directory is empty"):
        plan_directory(directory, bundle_uuid=BUNDLE, bundle_version=VERSION)


def test_loops(tmp_path: Path) -> None:
    """Links that form a loop are reported, and end the plan."""
    _files(tmp_path, "a/b/c.txt", "x/y.txt")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/root").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    offenders = _offenders(tmp_path, symlinks="follow")
    assert {"a/b/up", "a/root", "self"} <= set(offenders)
    assert "contains it" in offenders["a/b/up"]


def test_two_links_to_one_directory(tmp_path: Path) -> None:
    """Two links to the same directory are no loop."""
    outside = _files(tmp_path / "outside", "f")
    root = _files(tmp_path / "root", "a")
    (root / "one").symlink_to(outside)
    (root / "two").symlink_to(outside)
    assert _names(_plan(root, symlinks="follow")) == ["a", "one/f", "two/f"]


def test_dangling_links(tmp_path: Path) -> None:
    """With symlinks="follow", a link to nowhere is an error."""
    _files(tmp_path, "a")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert _offenders(tmp_path, symlinks="follow") == {"dangling": "cannot be read: No such file or directory"}


def test_what_is_no_file(tmp_path: Path) -> None:
    """A FIFO and a socket are reported, and not opened, which would block; they can be excluded."""
    _files(tmp_path, "a")
    os.mkfifo(tmp_path / "fifo")
    here = Path.cwd()
    os.chdir(tmp_path)  # a socket's path may not be long
    try:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("socket")
    finally:
        os.chdir(here)
    with listener:
        assert _offenders(tmp_path) == {"fifo": "is not a regular file", "socket": "is not a regular file"}
        assert _names(_plan(tmp_path, exclude=["fifo", "socket"])) == ["a"]


# What cannot be read

_UNPRIVILEGED = """
import _strptime, hashlib, json, os, sys
from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import plan_directory
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
options = json.loads(sys.argv[2])
try:
    plan = plan_directory(sys.argv[1], UploadOptions(**options), bundle_uuid=sys.argv[3], bundle_version=sys.argv[4])
except InvalidDirectoryError as error:
    print(json.dumps(error.offenders))
else:
    print(json.dumps([[file.name, ""] for file in plan.files]))
"""


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Create a directory that all users may enter, unlike pytest's."""
    directory = Path(tempfile.mkdtemp(prefix="plan-"))
    directory.chmod(0o755)
    yield directory
    for path in directory.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(directory)


def _unprivileged(directory: Path, **options: Any) -> dict[str, str]:
    command = [sys.executable, "-c", _UNPRIVILEGED, str(directory), json.dumps(options), BUNDLE, VERSION]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def test_unreadable(open_dir: Path) -> None:
    """An unreadable file and directory are reported together; they can be excluded."""
    _files(open_dir, "a.txt", "secret.txt", "closed/b.txt", "unlisted/c.txt")
    (open_dir / "secret.txt").chmod(0)
    (open_dir / "closed").chmod(0)
    (open_dir / "unlisted").chmod(0o644)  # may be listed, but not entered
    offenders = _unprivileged(open_dir)
    assert list(offenders) == ["closed/", "secret.txt", "unlisted/c.txt"]
    assert offenders["secret.txt"] == "cannot be read: permission denied"
    assert offenders["closed/"] == "the directory cannot be read: Permission denied"
    assert "Permission denied" in offenders["unlisted/c.txt"]
    assert list(_unprivileged(open_dir, exclude=["secret.txt", "closed/*", "unlisted/*"])) == ["a.txt"]


def test_below_an_unreadable_directory(open_dir: Path) -> None:
    """A directory below one that may not be entered is reported like other unreadable ones."""
    _files(open_dir, "closed/inner/b.txt")
    (open_dir / "closed").chmod(0)
    offenders = _unprivileged(open_dir / "closed/inner")
    assert list(offenders) == [""]
    assert "Permission denied" in offenders[""]


# Names that a DSS refuses


def test_refused_names_are_reported_in_one_error(tmp_path: Path) -> None:
    """All names that a DSS would refuse, and everything else that is wrong, are in one error."""
    bad = ["back\\slash", "new\nline", "carriage\rreturn", "a./b", "d/.e", "dot./x/y"]
    _files(tmp_path, "good.txt", *bad)
    (tmp_path / "link").symlink_to("good.txt")
    raw = os.fsencode(tmp_path) + b"/latin-\xe9.txt"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    offenders = _offenders(tmp_path, hidden="include")
    not_utf8 = os.fsdecode(b"latin-\xe9.txt")
    assert sorted(offenders) == sorted([*bad, "link", not_utf8])
    assert offenders[not_utf8] == "a DSS refuses names that are not UTF-8"
    assert all("refuses names" in offenders[name] for name in bad)


def test_the_message(tmp_path: Path) -> None:
    """The message can be printed whatever the names are, and lists only the first of very many."""
    for number in range(30):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff%02d" % number)).write_bytes(b"")
    with pytest.raises(InvalidDirectoryError) as caught:
        _plan(tmp_path)
    assert len(caught.value.offenders) == 30
    assert str(caught.value).encode()
    assert "10 more" in str(caught.value)


def test_names_that_are_fine(tmp_path: Path) -> None:
    """Names with spaces, signs and letters of all kinds, which a DSS accepts, are unchanged."""
    names = [
        "a b",
        "a#?%&=+.txt",
        "ünï/çødé",
        "~a",
        "a~/b",
        "a..b",
        "CON",
        "x" * 200,
        "'\"",
        "$(rm)",
        "-rf",
        "tab\there",
    ]
    _files(tmp_path, *names)
    assert _names(_plan(tmp_path)) == sorted(names)


# Invalid directories


def test_empty_directories(tmp_path: Path) -> None:
    """A directory without files is refused; the error counts those that were left out."""
    (tmp_path / "empty/inner").mkdir(parents=True)
    assert _offenders(tmp_path) == {"": "it has no files to upload"}
    _files(tmp_path, ".hidden", "a.txt")
    reason = _offenders(tmp_path, exclude=["*"])[""]
    assert "2 are left out" in reason
    assert "include, exclude, hidden, symlinks" in reason


def test_missing_directory(tmp_path: Path) -> None:
    """The error of a missing directory names this worker."""
    assert _offenders(tmp_path / "nowhere") == {"": "there is no such directory on this worker"}


def test_a_file_instead(tmp_path: Path) -> None:
    """A file is no directory."""
    _files(tmp_path, "a")
    assert _offenders(tmp_path / "a") == {"": "it is not a directory"}


# Types, indexed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.json", "application/json"),
        ("d/a.txt", "text/plain"),
        ("reads.fastq.gz", "application/gzip"),
        ("a.json.gz", "application/gzip"),
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.txt.bz2", "application/x-bzip2"),
        ("a.csv.xz", "application/x-xz"),
        ("a.Z", "application/x-compress"),
        ("a.csv", "text/csv"),
        ("a.pdf", "application/pdf"),
        ("a.JSON", "application/json"),
        ("a.bam", "application/octet-stream"),
        ("README", "application/octet-stream"),
        ("data:1.csv", "text/csv"),
        ("data:é/x,1.json", "application/json"),
        ("http://x/a.csv", "text/csv"),
        ("a.json?b#c.csv", "text/csv"),
    ],
)
def test_guessed_types(name: str, expected: str) -> None:
    """A type is guessed from the name's end; a compressed file has that of its compression."""
    assert guess_type(name) == expected


def test_content_types_do_not_depend_on_the_machine(tmp_path: Path) -> None:
    """The machine's own mime.types do not count: a retry on another worker must give the same types."""
    own = tmp_path / "mime.types"
    own.write_text("application/x-mine json bam txt\n")
    code = (
        "import mimetypes, sys; mimetypes.knownfiles.append(sys.argv[1]); mimetypes.init();"
        "assert mimetypes.guess_type('a.bam')[0] == 'application/x-mine';"
        "from airflow_provider_hca.upload.plan import guess_type;"
        "print(guess_type('a.json'), guess_type('a.bam'), guess_type('a.txt'))"
    )
    command = [sys.executable, "-c", code, str(own)]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["application/json", "application/octet-stream", "text/plain"]


def test_content_types(tmp_path: Path) -> None:
    """The first type whose pattern matches is used, with its parameters; other types are guessed."""
    _files(tmp_path, "cells.json", "project.json", "x/reads.gz", "notes.txt")
    given = {
        "project.json": 'application/json; dcp-type="metadata/project"',
        "*.json": "application/json; dcp-type=metadata",
        "x/*": "application/gzip; dcp-type=data",
        "*.gz": "never/reached",
    }
    planned = _plan(tmp_path, content_types=given)
    assert {file.name: file.content_type for file in planned.files} == {
        "cells.json": "application/json; dcp-type=metadata",
        "notes.txt": "text/plain",
        "project.json": 'application/json; dcp-type="metadata/project"',
        "x/reads.gz": "application/gzip; dcp-type=data",
    }
    other_way = dict(reversed(given.items()))
    assert {file.content_type for file in _plan(tmp_path, content_types=other_way).files} == {
        "application/json; dcp-type=metadata",
        "text/plain",
        "never/reached",
    }


@pytest.mark.parametrize(
    "value", ["", "json", "text/plain\n", "text/pl\xe4in", "text/plain\r\nx-evil: 1", "\t/x", "/", "a/"]
)
def test_malformed_types(tmp_path: Path, value: str) -> None:
    """An invalid type, or one that would break a header, is refused; the error names its pattern."""
    with pytest.raises(ValueError, match=r"content_types\['\*\.x'\]"):
        _plan(_files(tmp_path, "a"), content_types={"*.x": value})


@pytest.mark.parametrize(
    ("indexed", "expected"),
    [
        (None, ["a.json", "d/b.json"]),
        (["*.csv", "a*"], ["a.json", "c.csv"]),
        (["*"], ["a.json", "c.csv", "d/b.json"]),
        ([], []),
    ],
)
def test_indexed(tmp_path: Path, indexed: list[str] | None, expected: list[str]) -> None:
    """Files are indexed that match the patterns, by default all JSON files."""
    _files(tmp_path, "a.json", "c.csv", "d/b.json")
    planned = _plan(tmp_path, **({} if indexed is None else {"indexed": indexed}))
    assert [file.name for file in planned.files if file.indexed] == expected


# Names of files and bundle


def test_uuids(tmp_path: Path) -> None:
    """A file's uuid follows from the bundle's and from its name alone, so that each try has the same."""
    one = _plan(_files(tmp_path / "one", "a", "b/c"))
    two = _plan(write_tree(tmp_path / "elsewhere/two", {"a": b"other", "b/c": b"other", "d": b""}))
    uuids = {file.name: file.uuid for file in two.files}
    assert {file.name: file.uuid for file in one.files} == {name: uuids[name] for name in ("a", "b/c")}
    assert uuids["a"] == derive_uuid(BUNDLE, "a") == uuids["a"].lower()
    assert len(set(uuids.values())) == 3
    other = plan_directory(
        tmp_path / "one", bundle_uuid="0" * 8 + BUNDLE[8:], bundle_version=VERSION.replace("2024", "2025")
    )
    assert not {file.uuid for file in other.files} & set(uuids.values())


def test_uuids_stay_the_same(tmp_path: Path) -> None:
    """The derivation never changes: with another one, running pipelines would upload everything again."""
    assert _plan(_files(tmp_path, "a/b.json")).files[0].uuid == "a139467b-a330-5ca8-9241-2ae8221e2231"


def test_upper_case_uuid(tmp_path: Path) -> None:
    """An upper-case bundle uuid is the same bundle: it is lower-cased before anything derives from it."""
    _files(tmp_path, "a")
    upper = plan_directory(tmp_path, bundle_uuid=BUNDLE.upper(), bundle_version=VERSION)
    assert upper == _plan(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bundle_uuid": "x"}, "bundle_uuid"),
        ({"bundle_version": "2024-01-31T23:59:59Z"}, "bundle_version"),
        ({"hidden": "maybe"}, "hidden must be one of skip, include"),
        ({"symlinks": "maybe"}, "symlinks must be one of error, follow, skip"),
    ],
)
def test_wrong_arguments(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    """A malformed argument is a ValueError that names it, and not taken for a fault of the directory."""
    good = {"bundle_uuid": BUNDLE, "bundle_version": VERSION}
    values = good | wrong
    named = {name: values.pop(name) for name in good}

    def plan_it() -> None:
        plan_directory(tmp_path, UploadOptions(**values), **named)

    with pytest.raises(ValueError, match=message) as caught:
        plan_it()
    assert not isinstance(caught.value, InvalidDirectoryError)
