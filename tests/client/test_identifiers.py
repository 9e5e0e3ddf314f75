from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_hca.client.identifiers import check_uuid, check_version, derive_uuid, make_version
from airflow_provider_hca.client.models import bundle_file, check_name, check_replica, replica_of

from .feeding import UUID, VERSION


def test_uuids_are_lower_cased() -> None:
    """A uuid in upper case, which a DSS does not find or even corrupts itself with, comes out in lower case."""
    assert check_uuid("CE55FD51-7833-469B-BE0B-5DA88EBEBFCD") == UUID
    assert check_uuid(UUID) == UUID


@pytest.mark.parametrize(
    "value",
    [
        "",
        "ce55fd51",
        UUID + "\n",
        f" {UUID}",
        f"{{{UUID}}}",
        f"urn:uuid:{UUID}",
        UUID.replace("-", ""),
        UUID.replace("c", "g"),
        UUID.replace("5", "\u0665"),
        UUID[:-1],
        f"{UUID}/../x",
        None,
        7,
        uuid.UUID(UUID),
    ],
)
def test_what_is_not_a_uuid_is_refused(value: Any) -> None:
    """Anything but 8-4-4-4-12 hexadecimal digits is a ValueError that names what it was for and quotes it."""
    with pytest.raises(ValueError, match="bundle uuid must be a uuid") as caught:
        check_uuid(value, "bundle uuid")
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [VERSION, "1000-01-01T000000.000000Z", "9999-12-31T235959.999999Z"])
def test_versions_pass_unchanged(value: str) -> None:
    """A DSS_VERSION is returned as it is."""
    assert check_version(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        "2018-12-31T23:59:59.000001Z",
        "2018-12-31T235959Z",
        "2018-12-31T235959.00001Z",
        "2018-12-31T235959.0000001Z",
        "2018-12-31T235959.000001",
        "2018-12-31T235959.000001z",
        "2018-12-31t235959.000001Z",
        "2018-12-31T235959.000001+00:00",
        "2018-02-30T000000.000000Z",
        "2018-13-01T000000.000000Z",
        "2018-12-31T240000.000000Z",
        "2016-12-31T235960.000000Z",
        "0999-12-31T235959.000001Z",
        "2018-12-31T235959.00000\u0661Z",
        VERSION + "\n",
        None,
        20181231,
    ],
)
def test_what_is_not_a_version_is_refused(value: Any) -> None:
    """Colons, missing digits, times that do not exist and years before 1000 are a ValueError that says the form."""
    with pytest.raises(ValueError, match="file version must be a DSS_VERSION such as"):
        check_version(value, "file version")


def test_versions_are_made_in_utc() -> None:
    """A moment in any time zone becomes the same DSS_VERSION."""
    moment = datetime(2018, 12, 31, 23, 59, 59, 1, tzinfo=UTC)
    assert make_version(moment) == VERSION
    assert make_version(moment.astimezone(timezone(timedelta(hours=-7)))) == VERSION


def test_later_versions_sort_after_earlier_ones() -> None:
    """`later` adds microseconds, across the second, and the texts sort as the times do."""
    moment = datetime(2018, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    made = [make_version(moment, later=step) for step in range(3)]
    assert made == ["2018-12-31T235959.999999Z", "2019-01-01T000000.000000Z", "2019-01-01T000000.000001Z"]
    assert made == sorted(made)


def test_a_version_of_now_is_one() -> None:
    """Without a moment the version is of now."""
    before = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")
    assert before <= check_version(make_version()) <= datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")


def test_a_moment_without_time_zone_is_refused() -> None:
    """A naive time, which would be read in the worker's own zone, is a ValueError."""
    with pytest.raises(ValueError, match="give a datetime with a time zone"):
        make_version(datetime(2018, 12, 31))


def test_a_year_no_version_can_hold_is_refused() -> None:
    """A moment before the year 1000 is a ValueError rather than a version the DSS refuses."""
    with pytest.raises(ValueError, match="DSS_VERSION"):
        make_version(datetime(999, 1, 1, tzinfo=UTC))


def test_derived_uuids_are_stable() -> None:
    """The same parts give the same uuid in every process and release, or each pipeline would upload all data again."""
    assert derive_uuid("dag", "run", 1, "a/b.txt") == "b8b666d0-1b64-5d8e-933d-f1db42b94e13"
    assert check_uuid(derive_uuid()) == derive_uuid()


def test_derived_uuids_depend_on_every_part() -> None:
    """Parts, their order and where one ends and the next begins all count."""
    parts: list[tuple[str | int, ...]] = [
        ("a", "bc"),
        ("ab", "c"),
        ("abc",),
        ("bc", "a"),
        ("a", "b", "c"),
        ("a", "bc", ""),
        ("1:a,2:bc,",),
        ("\u00e9",),
        ("e\u0301",),
    ]
    assert len({derive_uuid(*each) for each in parts}) == len(parts)


@pytest.mark.parametrize(
    "name", ["a", "a/b.txt", ".hidden", "a b", "\u00fcber/\u65e5\u672c.txt", "a.", "a..b", "~", "a~/b", "-", "*", "a:b"]
)
def test_names_a_dss_takes_pass(name: str) -> None:
    """What a DSS accepts and a file system can hold is returned unchanged."""
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/a", "~/a", "./a", "../a", "a/./b", "a/../b", "a/..", "a/.", "a/.hidden", "a./b", "a../b"),
        *("a\\b", "a\nb", "a\rb", "a\n", "a\0b", "a//b", "a/", "\udcff"),
    ],
)
def test_names_a_dss_refuses_are_refused_before(name: str) -> None:
    """What a DSS refuses, or no file system can hold, is a ValueError here."""
    with pytest.raises(ValueError, match=r"a DSS refuses the name|not UTF-8"):
        check_name(name)


def test_replicas() -> None:
    """There are two replicas, and where an object is staged says in which of them its file lands."""
    assert [check_replica("aws"), check_replica("gcp")] == ["aws", "gcp"]
    assert [replica_of("s3://bucket/a/b"), replica_of("gs://bucket/a")] == ["aws", "gcp"]


@pytest.mark.parametrize("name", ["", "AWS", "azure", " aws", None])
def test_other_replicas_are_refused(name: Any) -> None:
    """Any other replica is a ValueError."""
    with pytest.raises(ValueError, match="replica must be one of aws, gcp, not"):
        check_replica(name)


@pytest.mark.parametrize(
    "url", ["", "bucket/key", "/a/b", "file:///a/b", "https://bucket/key", "wasb://bucket/key", "s3://bucket"]
)
def test_what_is_no_staged_object_is_refused(url: str) -> None:
    """A source that is not an object in S3 or GCS is a ValueError that quotes it."""
    with pytest.raises(ValueError, match="a staged object is 's3://bucket/key' or 'gs://bucket/key'"):
        replica_of(url)


@pytest.mark.parametrize("url", ["s3://bucket/", "s3:///key", "gs://bucket/"])
def test_a_staged_object_has_bucket_and_key(url: str) -> None:
    """A URL without bucket or key, for which a DSS answers 500 for a minute, is refused."""
    with pytest.raises(ValueError, match="a staged object is"):
        replica_of(url)


def test_members_keep_the_four_keys_only() -> None:
    """A bundle's file made of a manifest's entry has the four keys that a PUT takes, its uuid in lower case."""
    entry = {"uuid": UUID.upper(), "version": VERSION, "name": "a", "indexed": True, "size": 7, "s3_etag": "x"}
    assert bundle_file(entry) == {"uuid": UUID, "version": VERSION, "name": "a", "indexed": True}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"uuid": "x"}, "uuid of file 'a'"),
        ({"version": "1"}, "version of file 'a'"),
        ({"name": "/a"}, "a DSS refuses the name"),
        ({"name": None}, "must be text"),
        ({"indexed": "false"}, "indexed of file 'a' must be true or false"),
        ({"indexed": None}, "indexed of file 'a' must be true or false"),
    ],
)
def test_members_are_checked(change: dict[str, Any], told: str) -> None:
    """A member with a value the DSS would refuse, or that would be taken for another, is a ValueError."""
    with pytest.raises(ValueError, match=told):
        bundle_file({"uuid": UUID, "version": VERSION, "name": "a", "indexed": True} | change)


def test_missing_keys_are_named_together() -> None:
    """All keys that a member lacks are named in one error."""
    with pytest.raises(ValueError, match="version, indexed is missing"):
        bundle_file({"uuid": UUID, "name": "a"})
