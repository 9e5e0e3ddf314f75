"""Prefixes of buckets become the bundles that directories become; the stores copy, and workers read what they must."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import storage

from airflow_provider_hca.exceptions import InvalidDirectoryError, StagingError
from airflow_provider_hca.upload.checksums import MIB, checksum_stream
from airflow_provider_hca.upload.entries import Names
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import plan_directory
from airflow_provider_hca.upload.sources.base import check_source
from tests.local.server import VERSION, LocalDSS, new_uuid, opened, sums
from tests.proxy import Proxy, proxies
from tests.upload.support import assert_stored, fault, plan, uploader, write_sparse, write_tree

# One worker starts the stores.
pytestmark = pytest.mark.xdist_group("stores")

FILES = {
    "a.json": b'{"a": 1}',
    "b/cell 1.json": b"{}",
    "b/empty": b"",
    "b/reads, 100%#1.fastq.gz": bytes(range(256)) * 4_000,
    "\u00fc.txt": b"\xc3\xbc",
}
PREFIX = "incoming/experiment_42"


class Bucket:
    """A bucket in which objects are put as others put them.

    :param dss: whose staging bucket it is
    """

    def __init__(self, dss: LocalDSS, replica: str) -> None:
        self.name, self.replica = dss.bucket, replica
        self._s3 = dss.s3
        self._gcs = storage.Client(project="p", credentials=None).bucket(dss.bucket) if replica == "gcp" else None

    @property
    def url(self) -> str:
        """URL of the prefix."""
        return f"{'gs' if self.replica == 'gcp' else 's3'}://{self.name}/{PREFIX}"

    def put(
        self, name: str, content: bytes | Path, labels: dict[str, str] | None = None, *, prefix: str = PREFIX
    ) -> None:
        """Put content or a file there, perhaps with checksums."""
        with opened(content) as file:
            if self._gcs is not None:
                blob = self._gcs.blob(f"{prefix}/{name}")
                blob.metadata = labels
                blob.upload_from_file(file, size=file.seek(0, os.SEEK_END), rewind=True)
            else:
                # boto3 before 1.44 trips over an empty body that is given.
                body = {"Body": file} if content else {}
                self._s3.put_object(Bucket=self.name, Key=f"{prefix}/{name}", Metadata=labels or {}, **body)

    def tag(self, name: str, labels: dict[str, str]) -> None:
        """Give an object tags."""
        tags = [{"Key": key, "Value": value} for key, value in labels.items()]
        self._s3.put_object_tagging(Bucket=self.name, Key=f"{PREFIX}/{name}", Tagging={"TagSet": tags})

    def clear(self) -> None:
        """Remove what is under the prefix."""
        if self._gcs is not None:
            for blob in self._gcs.client.list_blobs(self._gcs, prefix=f"{PREFIX}/"):
                blob.delete()
            return
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{PREFIX}/"):
            for each in page.get("Contents", []):
                self._s3.delete_object(Bucket=self.name, Key=each["Key"])


@pytest.fixture(params=["s3", "s3-moto", "gs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[tuple[LocalDSS, Bucket]]:
    """Give a bucket of SeaweedFS, of moto or of fake-gcs-server, and the DSS that is staged for in it."""
    dss = request.getfixturevalue("dss" if request.param == "s3-moto" else "dss_with_stores")
    made = Bucket(dss, "gcp" if request.param == "gs" else "aws")
    yield dss, made
    made.clear()


@pytest.mark.parametrize("labelled", [True, False])
def test_a_prefix_becomes_the_bundle_of_the_directory(
    bucket: tuple[LocalDSS, Bucket], tmp_path: Path, labelled: bool
) -> None:
    """Objects, with checksums or without, become the same files under the same uuids as a directory with them."""
    dss, objects = bucket
    local = plan(write_tree(tmp_path, FILES))
    for name, content in FILES.items():
        objects.put(name, content, sums(content) if labelled else None)
    objects.put("beside it.json", b"{}", prefix=f"{PREFIX}1")
    remote = plan_directory(f"{objects.url}/", bundle_uuid=local.bundle_uuid, bundle_version=VERSION)
    assert remote.digest == local.digest
    assert (remote.size, [file.content_type for file in remote.files]) == (
        local.size,
        [file.content_type for file in local.files],
    )
    report = uploader(dss, replica=objects.replica).upload(remote)
    assert_stored(dss, local, objects.replica)
    assert (report.staged_file_count, report.registered_file_count) == (len(FILES), len(FILES))


@pytest.mark.parametrize(("labelled", "replica"), [(True, "aws"), (False, "aws"), (False, "gcp")])
def test_a_large_object_is_copied_in_the_parts_that_a_dss_wants(
    dss: LocalDSS, dss_with_stores: LocalDSS, tmp_path: Path, replica: str, labelled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Above 64 MiB the copy has the ETag of parts of 64 MiB, although the object was put in one piece."""
    service = dss_with_stores if replica == "gcp" else dss
    for name, value in service.about["env"].items():
        monkeypatch.setenv(name, value)
    objects = Bucket(service, replica)
    path = write_sparse(tmp_path / "big.bin", 65 * MIB + 5)
    local = plan(tmp_path)
    objects.put("big.bin", path, sums(path) if labelled else None)
    remote = plan_directory(objects.url, bundle_uuid=local.bundle_uuid, bundle_version=VERSION)
    uploader(service, replica=replica).upload(remote)
    assert_stored(service, local, replica)
    again = uploader(service, replica=replica).upload(remote, resume=True)
    assert (again.skipped_file_count, again.staged_file_count, again.created) == (1, 0, False)
    objects.clear()


@pytest.fixture
def seen(dss_with_stores: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LocalDSS, Bucket, Proxy]]:
    """Give a bucket whose requests pass a proxy."""
    objects = Bucket(dss_with_stores, "aws")
    with proxies(dss_with_stores.about["env"]["AWS_ENDPOINT_URL_S3"], rate=float("inf")) as (store,):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.url)
        yield dss_with_stores, objects, store
    objects.clear()


def read(store: Proxy) -> list[str]:
    """Return the keys of the objects that were read."""
    return [
        each.path.partition("/")[2].partition("/")[2]
        for each in store.requests
        if each.method == "GET" and not {"tagging", "list-type", "uploads"} & set(each.query)
    ]


def sent(store: Proxy) -> int:
    """Return how many bytes of content were sent, with neither tags nor lists of parts."""
    return sum(each.size for each in store.requests if each.method == "PUT" and "tagging" not in each.query)


def copied(store: Proxy) -> int:
    """Return the number of copy requests."""
    return sum(each.method == "PUT" and not each.size and "tagging" not in each.query for each in store.requests)


def test_what_has_its_checksums_does_not_pass_the_worker(seen: tuple[LocalDSS, Bucket, Proxy]) -> None:
    """Objects with checksums in metadata or tags are neither read nor sent; others are read once."""
    dss, objects, store = seen
    objects.put("in metadata.json", b"{}", sums(b"{}"))
    objects.put("in tags.json", b"[]")
    objects.tag("in tags.json", sums(b"[]"))
    objects.put("nowhere.json", b"0")
    objects.put("of another.json", b"1", sums(b"2"))
    objects.put("not all.json", b"3", {name: sum_ for name, sum_ in sums(b"3").items() if "sha1" not in name})
    remote = plan_directory(objects.url, bundle_uuid=new_uuid(), bundle_version=VERSION)
    uploader(dss).upload(remote)
    names = ["not all.json", "nowhere.json", "of another.json"]
    assert sorted(read(store)) == [f"{PREFIX}/{name}".replace(" ", "%20") for name in names]
    assert (sent(store), copied(store)) == (0, 5)


@pytest.fixture
def seen_moto(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LocalDSS, Bucket, Proxy]]:
    """Give the same of moto, which gives copies ETags of their own, as S3 does and SeaweedFS does not."""
    objects = Bucket(dss, "aws")
    with proxies(dss.about["env"]["AWS_ENDPOINT_URL_S3"], rate=float("inf")) as (store,):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.url)
        yield dss, objects, store
    objects.clear()


def test_sums_are_believed_whatever_parts_an_object_was_put_in(seen_moto: tuple[LocalDSS, Bucket, Proxy]) -> None:
    """An object that others put in parts is not read if it has its sums; wrong ones show in the copy's ETag."""
    dss, objects, store = seen_moto
    content = bytes(range(256)) * 30_000
    put = {"Bucket": objects.name, "ContentType": "text/plain"}
    for name, labelled in (("right.bin", content), ("wrong.bin", b"another")):
        where = put | {"Key": f"{PREFIX}/{name}", "Metadata": sums(labelled)}
        upload = dss.s3.create_multipart_upload(**where)["UploadId"]
        parts = []
        for number, piece in enumerate((content[: 5 * MIB], content[5 * MIB :]), 1):
            answer = dss.s3.upload_part(
                Bucket=objects.name, Key=where["Key"], UploadId=upload, PartNumber=number, Body=piece
            )
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        dss.s3.complete_multipart_upload(
            Bucket=objects.name, Key=where["Key"], UploadId=upload, MultipartUpload={"Parts": parts}
        )
    remote = plan_directory(objects.url, bundle_uuid=new_uuid(), bundle_version=VERSION)
    assert [file.revision[-2:] for file in remote.files] == ["-2", "-2"]
    uploader(dss).upload(remote)
    stored = {file["uuid"]: file["sha256"] for file in dss.control("GET", "store")["files"]}
    assert {stored[file.uuid] for file in remote.files} == {sums(content)["hca-dss-sha256"]}
    assert set(read(store)) == {f"{PREFIX}/wrong.bin"}
    assert sent(store) == 0
    again = uploader(dss).upload(remote, resume=True)
    assert (again.skipped_file_count, again.created) == (2, False)


def test_a_retry_copies_only_what_is_missing(seen: tuple[LocalDSS, Bucket, Proxy], tmp_path: Path) -> None:
    """After a try that failed while registering, nothing is copied again, and missing files are registered."""
    dss, objects, store = seen
    for name, content in FILES.items():
        objects.put(name, content, sums(content))
    local = plan(write_tree(tmp_path, FILES))
    remote = plan_directory(objects.url, bundle_uuid=local.bundle_uuid, bundle_version=VERSION)
    fault(dss, method="PUT", path=f"/files/{remote.files[-1].uuid}", action="status", status=403)
    with pytest.raises(Exception, match="403"):
        uploader(dss).upload(remote)
    dss.control("DELETE", "faults")
    before = copied(store)
    report = uploader(dss).upload(remote, resume=True)
    assert (before, copied(store), report.skipped_file_count) == (len(FILES), len(FILES), len(FILES))
    assert_stored(dss, local)


def test_a_changed_object_is_refused(bucket: tuple[LocalDSS, Bucket]) -> None:
    """An object that is replaced or removed after planning is reported, and nothing is registered."""
    dss, objects = bucket
    for name in ("kept.json", "replaced.json", "removed.json"):
        objects.put(name, b'{"old": 1}', sums(b'{"old": 1}'))
    remote = plan_directory(objects.url, bundle_uuid=new_uuid(), bundle_version=VERSION)
    objects.clear()
    objects.put("kept.json", b'{"old": 1}', sums(b'{"old": 1}'))
    objects.put("replaced.json", b'{"new": 1}', sums(b'{"new": 1}'))
    with pytest.raises(InvalidDirectoryError) as caught:
        uploader(dss, replica=objects.replica).upload(remote)
    changed = {name for name, _ in caught.value.offenders}
    assert changed - {"kept.json"} == {"removed.json", "replaced.json"}
    assert not caught.value.permanent
    assert not [file for file in dss.control("GET", "store")["files"] if file["uuid"] in {f.uuid for f in remote.files}]


def test_names_and_patterns_are_as_with_directories(bucket: tuple[LocalDSS, Bucket]) -> None:
    """Hidden objects and placeholders of directories are left out, patterns apply, and invalid names are reported."""
    _, objects = bucket
    for name in ("a.json", "b.txt", ".hidden/c.json", "d/"):
        objects.put(name, b"")
    options: dict[str, Any] = {"bundle_uuid": new_uuid(), "bundle_version": VERSION}
    assert [file.name for file in plan_directory(objects.url, **options).files] == ["a.json", "b.txt"]
    every = plan_directory(objects.url, UploadOptions(hidden="include", exclude=["*.txt"]), **options)
    assert [(file.name, file.indexed) for file in every.files] == [
        (".hidden/c.json", True),
        ("a.json", True),
    ]
    objects.put("d/.e.json", b"")  # which no DSS takes
    assert [file.name for file in plan_directory(objects.url, **options).files] == ["a.json", "b.txt"]
    objects.put("dot./a.json", b"")
    with pytest.raises(InvalidDirectoryError, match="names with a segment that ends with a dot") as caught:
        plan_directory(objects.url, **options)
    assert {name for name, _ in caught.value.offenders} == {"dot./a.json"}


def test_a_range_of_names_is_listed(bucket: tuple[LocalDSS, Bucket]) -> None:
    """A shard's plan has the objects of its range, the first of it included and the end left out."""
    _, objects = bucket
    names = [f"{letter}/{number}.json" for letter in "ab" for number in range(6)]
    for name in names:
        objects.put(name, b"{}")
    options: dict[str, Any] = {"bundle_uuid": new_uuid(), "bundle_version": VERSION}
    found = []
    for first, before in (("", "a/2.json"), ("a/2.json", "b/1.json"), ("b/1.json", None)):
        found.append([file.name for file in plan_directory(objects.url, names=Names(first, before), **options).files])
    assert found == [names[:2], names[2:7], names[7:]]


def test_missing_bucket_or_prefix_is_reported(bucket: tuple[LocalDSS, Bucket]) -> None:
    """A bucket that is not there, and a prefix with nothing under it, are errors that name them."""
    _, objects = bucket
    options: dict[str, Any] = {"bundle_uuid": new_uuid(), "bundle_version": VERSION}
    with pytest.raises(StagingError, match=r"nowhere/.*there is no such bucket.*: check directory") as caught:
        plan_directory(objects.url.replace(objects.name, "nowhere"), **options)
    assert caught.value.permanent
    with pytest.raises(InvalidDirectoryError, match=f"{objects.url}_not cannot be uploaded as a bundle.*\n.*no files"):
        plan_directory(f"{objects.url}_not", **options)


@pytest.mark.parametrize(
    ("directory", "replica", "staged", "message"),
    [
        ("s3://data/x", "gcp", "gs://staging/", "give replica='aws'"),
        ("gs://data/x", "aws", "s3://staging/", "give replica='gcp'"),
        ("s3://staging", "aws", "s3://staging/", "would be in s3://staging"),
        ("s3://staging/x", "aws", "s3://staging/x/y/", "would be in s3://staging/x"),
        ("s3://", "aws", "s3://staging/", "'s3://bucket/prefix'"),
    ],
)
def test_what_cannot_be_staged_there_is_refused(directory: str, replica: str, staged: str, message: str) -> None:
    """A source in another cloud, one that would contain the staged objects, and one without a bucket are refused."""
    with pytest.raises(ValueError, match=message):
        check_source(directory, replica=replica, staged=staged)


@pytest.mark.parametrize("directory", ["/data/s3", "s3://data/x", "s3://staging/x", "s3://staging/xy"])
def test_what_can_be_staged_is_not_refused(directory: str) -> None:
    """A directory, another bucket and another prefix of the same bucket are taken."""
    check_source(directory, replica="aws", staged="s3://staging/xx/")


def test_nothing_is_staged_from_another_cloud(dss: LocalDSS) -> None:
    """The engine itself refuses a plan of another cloud before it looks at anything."""
    objects = Bucket(dss, "aws")
    objects.put("a.json", b"{}")
    remote = plan_directory(objects.url, bundle_uuid=new_uuid(), bundle_version=VERSION)
    with pytest.raises(ValueError, match="give replica='aws'"):
        uploader(dss, replica="gcp").upload(remote)
    objects.clear()


@pytest.mark.parametrize(
    ("size", "step"),
    [(0, MIB), (1, MIB), (64 * MIB, 3 * MIB + 7), (64 * MIB + 1, MIB), (66 * MIB, 3 * MIB + 7), (128 * MIB, MIB)],
)
def test_sums_of_a_stream(tmp_path: Path, size: int, step: int) -> None:
    """However a content is cut, its sums are those that S3 computes of it in parts of 64 MiB."""
    path = write_sparse(tmp_path / "content", size)
    with path.open("rb") as file:
        pieces = iter(lambda: file.read(step), b"")
        assert checksum_stream(pieces, size).as_metadata() == sums(path)
