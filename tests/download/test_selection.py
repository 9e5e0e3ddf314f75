"""Test the selection of bundles from lists, manifests and collections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.models import FQID
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.download import selection as module
from airflow_provider_hca.download.selection import Choice, Selection, select, select_listed, select_manifest
from airflow_provider_hca.exceptions import DSSNotFoundError
from tests.local.server import EMAIL, VERSION, LocalDSS, new_uuid

ONE, TWO = "c485255e-24fc-4f07-a42e-b976690b9c50", "5efe6a37-6126-5d8f-acc8-6fd1be1702c4"
SHA256 = "ab" * 32

# Lists


@pytest.mark.parametrize(
    "item",
    [
        f"{ONE}.{VERSION}",
        f"{ONE.upper()}.{VERSION}",
        {"uuid": ONE, "version": VERSION, "file_count": 3},
        {"fqid": f"{ONE}.{VERSION}", "directory": "/data/a"},
        {"bundle_fqid": f"{ONE}.{VERSION}", "search_score": None},
        FQID(ONE, VERSION)._asdict(),
    ],
)
def test_list_has_texts_and_outputs_of_other_tasks(item: Any) -> None:
    assert select_listed([item, TWO, {"uuid": TWO}, item]) == Selection([Choice(ONE, VERSION), Choice(TWO)])


def test_empty_list_selects_nothing() -> None:
    """A search may find nothing."""
    assert select_listed([]) == Selection()


@pytest.mark.parametrize("bundles", ["all", ONE, {"uuid": ONE}, 3])
def test_list_of_another_type_is_an_error(bundles: Any) -> None:
    with pytest.raises(ValueError, match="bundles must be a list of UUIDs or FQIDs"):
        select_listed(bundles)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("x", "bundle uuid must be a UUID"),
        (f"{ONE}.1", "bundle version must be a DSS_VERSION"),
        ({"fqid": 3}, "bundle uuid must be a UUID"),
        ({"version": VERSION}, "bundle uuid must be a UUID"),
        (None, "bundle uuid must be a UUID"),
    ],
)
def test_invalid_item_is_an_error_with_its_number(item: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"bundles, item 2: {message}"):
        select_listed([ONE, item])


def test_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ITEMS", 1)
    with pytest.raises(ValueError, match="at most 1 bundles and files, got 2"):
        select_listed([ONE, TWO])


# Manifests


def write(directory: Path, *rows: tuple[str, ...]) -> str:
    path = directory / "manifest.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return str(path)


def test_manifest_of_the_original_client_selects_data_files(tmp_path: Path) -> None:
    head = ("bundle_uuid", "bundle_version", "file_name", "file_sha256", "file_size", "other")
    rows = [
        (ONE, VERSION, "a.gz", SHA256.upper(), "3", "x"),
        (TWO, "", "b.gz", "", "4", ""),
        (ONE, VERSION, "d/c.gz", SHA256, "5", ""),
    ]
    found = select_manifest(write(tmp_path, head, *rows))
    assert [choice.data_files for choice in found.bundles] == [{"a.gz": SHA256, "d/c.gz": SHA256}, {"b.gz": ""}]
    assert [choice.name for choice in found.bundles] == [f"{ONE}.{VERSION}", TWO]


def test_manifest_without_names_of_files_selects_all(tmp_path: Path) -> None:
    path = write(tmp_path, ("bundle_version", "bundle_uuid"), (VERSION, ONE), ("", TWO), (VERSION, ONE))
    assert select_manifest(path) == Selection([Choice(ONE, VERSION), Choice(TWO)])


def test_manifest_with_an_empty_name_selects_no_data_files(tmp_path: Path) -> None:
    path = write(tmp_path, ("bundle_uuid", "file_name"), (ONE, ""))
    assert select_manifest(path) == Selection([Choice(ONE, None, {})])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("bundle",), (ONE,)], "needs a column 'bundle_uuid'"),
        ([("bundle_uuid",), (ONE,), ("x",)], "row 3: bundle uuid must be a UUID"),
        ([("bundle_uuid", "bundle_version"), (ONE, "1")], "row 2: bundle version must be a DSS_VERSION"),
        ([("bundle_uuid", "file_name", "file_sha256"), (ONE, "a", "1")], "row 2: sha256 must be 64"),
        ([("bundle_uuid", "file_name"), (ONE,)], "row 2: expected 2 values"),
    ],
)
def test_invalid_manifest_is_an_error(tmp_path: Path, rows: list[tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=rf"manifest\.tsv.*{message}"):
        select_manifest(write(tmp_path, *rows))


def test_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        select_manifest(str(tmp_path / "manifest.tsv"))


# Collections


class Collections:
    """Collections of a user, and the selection from them."""

    def __init__(self, dss: LocalDSS) -> None:
        token = dss.token(claims={EMAIL: f"{new_uuid()}@example.org"})
        self.api, self.transport = DSSAPI(dss.url, auth=StaticToken(token)), RequestsTransport()

    def put(self, *links: tuple[str, str], uuid: str = "") -> str:
        """Create a collection of links: pairs of type and UUID; return its UUID."""
        uuid = uuid or new_uuid()
        contents = [
            {"type": kind, "uuid": linked, "version": VERSION, **({"fragment": "/0"} if kind == "number" else {})}
            for kind, linked in links
        ]
        call = self.api.put_collection(uuid, VERSION, replica="aws", name="n", description="d", contents=contents)
        self.transport.run(call)
        return uuid

    def select(self, uuid: str, version: str | None = None) -> Selection:
        """Return the selection from a collection."""
        options = {"collection_uuid": uuid, "collection_version": version}
        return select(self.api, self.transport, replica="aws", **options)


@pytest.fixture
def collections(dss: LocalDSS) -> Collections:
    return Collections(dss)


@pytest.fixture
def bundle(dss: LocalDSS) -> str:
    uuid = new_uuid()
    assert dss.put_bundle([dss.entry("a")], uuid).status_code == 201
    return uuid


@pytest.mark.parametrize("version", [None, VERSION])
def test_collection_selects_bundles_and_files(
    dss: LocalDSS, collections: Collections, bundle: str, version: str | None
) -> None:
    file, numbers = dss.new_file(), dss.new_file(b"[1]")
    links = [("file", file), ("bundle", bundle), ("number", numbers)]
    found = collections.select(collections.put(*links), version)
    assert found == Selection([Choice(bundle, VERSION)], [FQID(file, VERSION), FQID(numbers, VERSION)])


def test_nested_collections_are_read_once_also_in_a_cycle(collections: Collections, bundle: str) -> None:
    root = collections.put()
    inner = collections.put(("collection", root), ("bundle", bundle))
    collections.put(("collection", inner), ("collection", inner), ("bundle", bundle), uuid=root)
    assert collections.select(root, VERSION) == Selection([Choice(bundle, VERSION)])


def test_collections_are_bounded(collections: Collections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_COLLECTIONS", 2)
    inner = collections.put(("collection", collections.put()))
    assert collections.select(inner) == Selection()
    with pytest.raises(ValueError, match="contains more than 2 collections"):
        collections.select(collections.put(("collection", inner)))


def test_missing_collection_is_an_error(collections: Collections) -> None:
    with pytest.raises(DSSNotFoundError):
        collections.select(new_uuid())


@pytest.mark.parametrize("given", [{}, {"bundles": [], "manifest": "m.tsv"}, {"bundles": [], "collection_uuid": ONE}])
def test_exactly_one_source_is_given(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give one of bundles, collection_uuid and manifest"):
        select(DSSAPI("http://127.0.0.1:1/v1"), RequestsTransport(), replica="aws", **given)
