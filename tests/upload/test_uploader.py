"""Whole uploads, to the local DSS."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.exceptions import DSSConflictError, InvalidDirectoryError, UploadError
from airflow_provider_hca.upload.checksums import MIB
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.upload.support import (
    Meddling,
    assert_stored,
    large,
    open_uploads,
    plan,
    requests_seen,
    small,
    stored_of,
    upload_threads,
    uploader,
    write_sparse,
    write_tree,
)

# Results


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_a_directory_becomes_a_bundle(dss: LocalDSS, tmp_path: Path, replica: str) -> None:
    """Every file is in the DSS with its sums and type, and the bundle has them all in order, indexed or not."""
    write_tree(
        tmp_path,
        {
            "project.json": b"{}",
            "empty.txt": b"",
            "deep/er/ünï code #1?%.csv": b"a,b",
            "reads.fastq.gz": large(replica),
            "same.txt": b"{}",
            "Z.bin": bytes(9 * MIB) + replica.encode(),
            **{f"many/{number}": b"%d" % number for number in range(20)},
        },
    )
    # Of a small object the GCS emulator keeps no parameters of the type.
    types = {"project.json": "application/json" + ("; dcp-type=metadata" if replica == "aws" else "")}
    planned = plan(tmp_path, content_types=types)
    report = uploader(dss, replica=replica, staging_prefix="/some prefix/ü%20/").upload(planned)
    assert_stored(dss, planned, replica)
    assert (report.uuid, report.version, report.replica) == (planned.bundle_uuid, VERSION, replica)
    assert (report.file_count, report.staged_file_count, report.registered_file_count, report.copied_file_count) == (
        26,
        26,
        26,
        2,
    )
    assert (
        report.byte_count
        == report.staged_byte_count
        == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    )
    assert report.created
    assert set(report.seconds) == {"stage", "register", "copy", "bundle"}
    assert upload_threads() == []


def test_again(dss: LocalDSS, tmp_path: Path) -> None:
    """The same upload again creates nothing twice, and reports that the bundle existed."""
    write_tree(tmp_path, small(10) | {"large": large(new_uuid())})
    planned = plan(tmp_path)
    assert uploader(dss).upload(planned).created
    before = stored_of(dss, planned)
    report = uploader(dss).upload(planned)
    assert stored_of(dss, planned) == before
    assert not report.created
    assert (report.staged_file_count, report.registered_file_count) == (11, 0)
    assert_stored(dss, planned)


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_resume_when_all_is_done(dss: LocalDSS, tmp_path: Path, replica: str) -> None:
    """A retry of what is done sends and registers nothing; it only looks."""
    write_tree(tmp_path, small(10) | {"large": large(new_uuid())})
    planned = plan(tmp_path)
    uploader(dss, replica=replica).upload(planned)
    before = stored_of(dss, planned)
    dss.control("DELETE", "requests")

    report = uploader(dss, replica=replica).upload(planned, resume=True)
    assert (report.file_count, report.staged_file_count, report.staged_byte_count, report.registered_file_count) == (
        11,
        0,
        0,
        0,
    )
    assert not report.created
    assert requests_seen(dss, "PUT", "/files/") == 0
    assert requests_seen(dss, "HEAD", "/files/") == 11
    assert requests_seen(dss, "PUT", "/bundles/") == 1
    assert stored_of(dss, planned) == before


def test_a_new_version(dss: LocalDSS, tmp_path: Path) -> None:
    """The same bundle in another version is beside the first; files with the same content are not registered again."""
    write_tree(tmp_path, small(3))
    bundle, later = new_uuid(), VERSION.replace("2024", "2025")
    uploader(dss).upload(plan(tmp_path, bundle=bundle))
    (tmp_path / "d0/file 000.json").write_bytes(b"changed")
    planned = plan(tmp_path, bundle=bundle, version=later)
    assert uploader(dss).upload(planned, resume=True).registered_file_count == 1
    assert [each["version"] for each in stored_of(dss, planned)["bundles"]] == [VERSION, later]
    assert len(stored_of(dss, planned)["files"]) == 4


# Files that change


def test_content_changed_between_tries(dss: LocalDSS, tmp_path: Path) -> None:
    """A file that is registered with other content is a permanent error with its name and advice."""
    write_tree(tmp_path, small(5) | {"large": large(new_uuid())})
    bundle = new_uuid()
    uploader(dss).upload(plan(tmp_path, bundle=bundle))
    before = stored_of(dss, plan(tmp_path, bundle=bundle))
    (tmp_path / "d1/file 001.json").write_bytes(b"changed")
    (tmp_path / "large").write_bytes(large("changed"))
    planned = plan(tmp_path, bundle=bundle)
    with pytest.raises(UploadError) as caught:
        uploader(dss).upload(planned, resume=True)
    assert [name for name, _ in caught.value.failures] == ["d1/file 001.json", "large"]
    assert "clear the DAG run, or set another bundle_version of the upload" in str(caught.value)
    assert (caught.value.permanent, caught.value.done, caught.value.total) == (True, 4, 6)
    for _ in range(2):  # without a look-up, the DSS itself refuses it, and for a copy that lost, the client
        with pytest.raises(UploadError) as caught:
            uploader(dss).upload(planned)
        assert "d1/file 001.json" in dict(caught.value.failures)
        assert caught.value.permanent
        (tmp_path / "d1/file 001.json").write_bytes(b"changed again")
        planned = plan(tmp_path, bundle=bundle)
    assert stored_of(dss, planned) == before


@pytest.mark.parametrize("change", ["added", "removed"])
def test_files_of_a_created_bundle_change_registers_nothing(dss: LocalDSS, tmp_path: Path, change: str) -> None:
    """A retry whose directory has other files than the bundle that the first try created is a permanent error."""
    first = plan(write_tree(tmp_path, small(3)))
    uploader(dss).upload(first)
    name = "d1/added.json" if change == "added" else first.files[1].name
    if change == "added":
        (tmp_path / name).write_bytes(b"{}")
    else:
        (tmp_path / name).unlink()
    again = plan(tmp_path, bundle=first.bundle_uuid)
    before = stored_of(dss, again)
    with pytest.raises(DSSConflictError, match=f"files were added or removed: {name}. Clear the DAG run") as caught:
        uploader(dss).upload(again, resume=True)
    assert caught.value.permanent
    assert stored_of(dss, again) == before


def test_a_copy_that_lost(dss: LocalDSS, tmp_path: Path) -> None:
    """A large file whose copy lost against other content is a conflict, although the DSS accepted it."""
    write_tree(tmp_path, {"large": large(new_uuid())})
    bundle = new_uuid()
    uploader(dss).upload(plan(tmp_path, bundle=bundle))
    (tmp_path / "large").write_bytes(large(new_uuid()))
    with pytest.raises(UploadError, match="another version") as caught:
        uploader(dss).upload(plan(tmp_path, bundle=bundle))
    assert [name for name, _ in caught.value.failures] == ["large"]
    assert caught.value.permanent


def _change(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def _rewrite(path: Path) -> None:
    """Change it, but not its length."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\1")


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("how", [_change, _truncate, _rewrite, _touch, Path.unlink])
def test_changed_since_it_was_planned(dss: LocalDSS, tmp_path: Path, how: Callable[[Path], None]) -> None:
    """All files that differ from their plan are reported in one error, and nothing is registered."""
    write_tree(tmp_path, small(10) | {"big": bytes(9 * MIB)})
    planned = plan(tmp_path)
    names = ["big", "d0/file 003.json", "d2/file 008.json"]
    for name in names:
        how(tmp_path / name)
    with pytest.raises(InvalidDirectoryError) as caught:
        uploader(dss).upload(planned)
    assert sorted(name for name, _ in caught.value.offenders) == names
    assert caught.value.directory == str(tmp_path)
    assert requests_seen(dss, "PUT", "/files/") == 0


@pytest.mark.parametrize(
    ("moment", "size", "how"),
    [
        ("before", 20, _truncate),
        ("after", 20, _change),
        ("while", 20, _change),
        ("while", 20, Path.unlink),
        ("while", 9 * MIB, _truncate),
        ("while", 9 * MIB, _rewrite),
        ("while", 65 * MIB, _truncate),
        ("while", 65 * MIB, _rewrite),
        ("while", 65 * MIB, Path.unlink),
    ],
)
def test_changed_while_it_is_sent(
    dss: LocalDSS, tmp_path: Path, how: Callable[[Path], None], moment: str, size: int
) -> None:
    """A file that changes while it is sent is reported immediately, and nothing is registered."""
    write_tree(tmp_path, small(5))
    path = write_sparse(tmp_path / "victim", size)
    planned = plan(tmp_path)
    uuid = next(file.uuid for file in planned.files if file.name == "victim")
    left = [{"before": 1, "while": 2, "after": 10**9}[moment]]
    tries: list[str] = []

    def meddle(key: str, sent: int) -> None:
        if uuid in key:
            tries.extend([key] if sent == 0 else [])
            left[0] -= 1
            if left[0] == 0 or (moment == "after" and sent == -1):
                left[0] = 10**9
                how(path)

    with pytest.raises(InvalidDirectoryError) as caught:
        uploader(dss, staging=Meddling(dss.bucket, meddle), policy=RetryPolicy(attempts=10)).upload(planned)
    assert [name for name, _ in caught.value.offenders] == ["victim"]
    assert len(tries) == 1
    assert requests_seen(dss, "PUT", "/files/") == 0
    assert open_uploads(dss, planned) == []
