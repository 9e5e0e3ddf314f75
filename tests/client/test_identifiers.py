from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_hca.client.identifiers import check_uuid, check_version, derive_uuid, make_version
from airflow_provider_hca.client.models import bundle_file, check_name, check_replica, replica_of

from .feeding import UUID, VERSION


def test_uuid_is_returned_in_lower_case() -> None:
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
def test_invalid_uuid_is_value_error_with_name_and_quote(value: Any) -> None:
    with pytest.raises(ValueError, match="bundle uuid must be a UUID") as caught:
        check_uuid(value, "bundle uuid")
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [VERSION, "1000-01-01T000000.000000Z", "9999-12-31T235959.999999Z"])
def test_version_is_returned_unchanged(value: str) -> None:
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
def test_invalid_version_is_value_error_with_the_format(value: Any) -> None:
    with pytest.raises(ValueError, match="file version must be a DSS_VERSION such as"):
        check_version(value, "file version")


def test_version_of_any_time_zone_is_in_utc() -> None:
    moment = datetime(2018, 12, 31, 23, 59, 59, 1, tzinfo=UTC)
    assert make_version(moment) == VERSION
    assert make_version(moment.astimezone(timezone(timedelta(hours=-7)))) == VERSION


def test_later_versions_sort_after_earlier_ones() -> None:
    moment = datetime(2018, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    made = [make_version(moment, later=step) for step in range(3)]
    assert made == ["2018-12-31T235959.999999Z", "2019-01-01T000000.000000Z", "2019-01-01T000000.000001Z"]
    assert made == sorted(made)


def test_version_of_now_is_valid() -> None:
    before = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")
    assert before <= check_version(make_version()) <= datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")


def test_naive_moment_is_value_error() -> None:
    with pytest.raises(ValueError, match="pass a datetime with a time zone"):
        make_version(datetime(2018, 12, 31))


def test_moment_before_year_1000_is_value_error() -> None:
    with pytest.raises(ValueError, match="DSS_VERSION"):
        make_version(datetime(999, 1, 1, tzinfo=UTC))


def test_derived_uuids_are_stable() -> None:
    """If they changed, each pipeline would upload all data again."""
    assert derive_uuid("dag", "run", 1, "a/b.txt") == "b8b666d0-1b64-5d8e-933d-f1db42b94e13"
    assert check_uuid(derive_uuid()) == derive_uuid()


def test_derived_uuid_depends_on_parts_their_order_and_limits() -> None:
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
def test_valid_name_is_returned_unchanged(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/a", "~/a", "./a", "../a", "a/./b", "a/../b", "a/..", "a/.", "a/.hidden", "a./b", "a../b"),
        *("a\\b", "a\nb", "a\rb", "a\n", "a\0b", "a//b", "a/", "\udcff"),
    ],
)
def test_invalid_name_is_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="a DSS refuses names"):
        check_name(name)


def test_replica_follows_from_the_scheme_of_the_url() -> None:
    assert [check_replica("aws"), check_replica("gcp")] == ["aws", "gcp"]
    assert [replica_of("s3://bucket/a/b"), replica_of("gs://bucket/a")] == ["aws", "gcp"]


@pytest.mark.parametrize("name", ["", "AWS", "azure", " aws", None])
def test_unknown_replica_is_value_error(name: Any) -> None:
    with pytest.raises(ValueError, match="replica must be 'aws' or 'gcp', got"):
        check_replica(name)


@pytest.mark.parametrize(
    "url", ["", "bucket/key", "/a/b", "file:///a/b", "https://bucket/key", "wasb://bucket/key", "s3://bucket"]
)
def test_url_of_another_store_is_value_error_with_quote(url: str) -> None:
    with pytest.raises(ValueError, match="the URL of a staged object must be 's3://bucket/key' or 'gs://bucket/key'"):
        replica_of(url)


@pytest.mark.parametrize("url", ["s3://bucket/", "s3:///key", "gs://bucket/"])
def test_url_without_bucket_or_key_is_value_error(url: str) -> None:
    """A DSS would answer 500 for a minute."""
    with pytest.raises(ValueError, match="the URL of a staged object must be"):
        replica_of(url)


def test_bundle_file_keeps_four_keys() -> None:
    entry = {"uuid": UUID.upper(), "version": VERSION, "name": "a", "indexed": True, "size": 7, "s3_etag": "x"}
    assert bundle_file(entry) == {"uuid": UUID, "version": VERSION, "name": "a", "indexed": True}


@pytest.mark.parametrize(
    ("change", "arguments"),
    [
        ({"uuid": "x"}, "uuid of file 'a'"),
        ({"version": "1"}, "version of file 'a'"),
        ({"name": "/a"}, "a DSS refuses names that start with '/' or '~/', got '/a'"),
        ({"name": None}, "must be text"),
        ({"indexed": "false"}, "indexed of file 'a' must be true or false"),
        ({"indexed": None}, "indexed of file 'a' must be true or false"),
    ],
)
def test_bundle_file_with_invalid_value_is_value_error(change: dict[str, Any], arguments: str) -> None:
    with pytest.raises(ValueError, match=arguments):
        bundle_file({"uuid": UUID, "version": VERSION, "name": "a", "indexed": True} | change)


def test_bundle_file_names_all_missing_keys() -> None:
    with pytest.raises(ValueError, match="version, indexed is missing"):
        bundle_file({"uuid": UUID, "name": "a"})
