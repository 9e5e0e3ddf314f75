"""Routes of collections."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests

from .server import VERSION, User, code_of, new_uuid

if TYPE_CHECKING:
    from .server import LocalDSS

LATER = "2025-01-01T000000.000000Z"


class Caller(User):
    """A user who has collections."""

    def put(self, uuid: str = "", version: str = VERSION, **changes: Any) -> requests.Response:
        """Put an empty collection with some fields changed."""
        body = {"name": "n", "description": "d", "details": {"a": [1, None]}, "contents": []} | changes
        return self.call("PUT", "/collections", body, uuid=uuid or new_uuid(), version=version, replica="aws")

    def get(self, uuid: str, **query: Any) -> requests.Response:
        """Get a collection, from aws by default."""
        return self.call("GET", f"/collections/{uuid}", **{"replica": "aws", **query})

    def patch(self, uuid: str, body: Any, version: str = VERSION) -> requests.Response:
        """Patch a collection in aws."""
        return self.call("PATCH", f"/collections/{uuid}", body, version=version, replica="aws")

    def delete(self, uuid: str) -> requests.Response:
        """Delete a collection from aws."""
        return self.call("DELETE", f"/collections/{uuid}", replica="aws")

    def list(self, **query: Any) -> requests.Response:
        """List a page of collections."""
        return self.call("GET", "/collections", **query)


@pytest.fixture
def owner(dss: LocalDSS) -> Caller:
    return Caller(dss)


def _item(file: str, **changes: Any) -> dict[str, Any]:
    return {"type": "file", "uuid": file, "version": VERSION, **changes}


def test_get_collection_returns_stored_fields_and_owner(owner: Caller) -> None:
    uuid = new_uuid()
    for _ in range(2):
        response = owner.put(uuid)
        assert (response.status_code, response.json()) == (201, {"uuid": uuid, "version": VERSION})
    fields = {"name": "n", "description": "d", "details": {"a": [1, None]}, "contents": []}
    assert owner.get(uuid).json() == fields | {"owner": owner.email}


def test_put_collection_overwrites_that_of_another_owner(dss: LocalDSS, owner: Caller) -> None:
    uuid, other = new_uuid(), Caller(dss)
    owner.put(uuid)
    assert other.put(uuid, name="mine now").status_code == 201
    assert other.get(uuid).json()["name"] == "mine now"
    assert owner.get(uuid).status_code == 500


def test_put_collection_removes_duplicate_links(dss: LocalDSS, owner: Caller) -> None:
    file, bundle, inner, uuid = dss.new_file(b'{"a": {"b/c": [7]}}'), new_uuid(), new_uuid(), new_uuid()
    dss.put_bundle([], bundle)
    owner.put(inner)
    links = [
        _item(file),
        _item(bundle, type="bundle"),
        _item(inner, type="collection"),
        _item(file, type="number", fragment="/a/b~1c/0", note="why"),
        _item(file, type="all", fragment=""),
    ]
    assert owner.put(uuid, contents=[*links, *links, links[0]]).status_code == 201
    assert owner.get(uuid).json()["contents"] == links


def test_link_to_missing_target_returns_422(dss: LocalDSS, owner: Caller) -> None:
    file, text, uuid = dss.new_file(b'{"a": 1}'), dss.new_file(b"no JSON"), new_uuid()
    owner.put(uuid)
    wrong = [
        _item(new_uuid()),
        _item(file, type="bundle"),
        _item(file, type="collection"),
        _item(file, version=LATER),
        _item(file.upper()),
        _item(file, type="fragment"),
        _item(file, type="fragment", fragment="/b"),
        _item(file, type="fragment", fragment="a"),
        _item(text, type="fragment", fragment=""),
        _item(new_uuid(), type="fragment", fragment=""),
    ]
    for item in wrong:
        assert code_of(owner.put(contents=[_item(file), item])) == (422, "invalid_link")
        assert code_of(owner.patch(uuid, {"add_contents": [item]})) == (422, "invalid_link")
    body = {"name": "n", "description": "d", "details": {}, "contents": [_item(file)]}
    response = owner.call("PUT", "/collections", body, uuid=new_uuid(), version=VERSION, replica="gcp")
    assert code_of(response) == (422, "invalid_link")


def test_patch_collection_changes_fields_in_new_version(dss: LocalDSS, owner: Caller) -> None:
    a, b, uuid = _item(dss.new_file()), _item(dss.new_file()), new_uuid()
    owner.put(uuid, contents=[a])
    change = {"add_contents": [a, b, b], "remove_contents": [a | {"note": "another"}], "description": "new"}
    response = owner.patch(uuid, change)
    assert response.status_code == 200
    assert response.json() == {"uuid": uuid, "version": response.json()["version"]}
    found = owner.get(uuid, version=response.json()["version"]).json()
    assert (found["contents"], found["name"], found["description"]) == ([a, b], "n", "new")
    assert owner.get(uuid, version=VERSION).json()["contents"] == [a]
    last = owner.patch(uuid, {"remove_contents": [a, b], "details": {}}, response.json()["version"]).json()["version"]
    found = owner.get(uuid).json()
    assert (found["contents"], found["details"], found["description"]) == ([], {}, "new")
    assert last > response.json()["version"] > VERSION


def test_patch_collection_without_changes_creates_version(owner: Caller) -> None:
    uuid = new_uuid()
    owner.put(uuid)
    assert len({owner.patch(uuid, {}).json()["version"] for _ in range(3)}) == 3


def test_deleted_collection_returns_404_even_after_put(owner: Caller) -> None:
    uuid = new_uuid()
    owner.put(uuid)
    owner.put(uuid, LATER)
    response = owner.delete(uuid)
    assert (response.status_code, response.json()) == (200, {})
    assert owner.list().json() == {"collections": []}
    assert owner.put(uuid).status_code == 201
    for response in (owner.get(uuid), owner.get(uuid, version=LATER), owner.patch(uuid, {}), owner.delete(uuid)):
        assert code_of(response) == (404, "not_found")


def test_unknown_collection_returns_404(owner: Caller) -> None:
    uuid = new_uuid()
    owner.put(uuid)
    responses = [
        owner.get(new_uuid()),
        owner.get(uuid, version="no version"),
        owner.get(uuid, replica="gcp"),
        owner.patch(new_uuid(), {}),
        owner.patch(uuid, {}, LATER),
        owner.delete(new_uuid()),
    ]
    assert [code_of(response) for response in responses] == [(404, "not_found")] * 6


def test_list_collections_returns_pages_without_patched_versions(dss: LocalDSS, owner: Caller) -> None:
    uuids = sorted(new_uuid() for _ in range(12))
    for uuid in uuids:
        owner.put(uuid)
    owner.put(uuids[0], LATER)
    owner.patch(uuids[0], {})
    Caller(dss).put()
    listed: list[dict[str, str]] = []
    pages = []
    query: dict[str, Any] = {"per_page": 10}
    while query:
        response = owner.list(**query)
        page = response.json()["collections"]
        listed += page
        pages.append((response.status_code, response.headers["X-OpenAPI-Pagination"], len(page)))
        assert response.headers["X-OpenAPI-Paginated-Content-Key"] == "collections"
        link = re.fullmatch(r"<(.*)>; rel='next'", response.headers.get("Link", "<>; rel='next'"))
        assert link
        query = dict(re.findall(r"(\w+)=(\w+)", link[1]))
    first = [{"uuid": uuids[0], "version": version} for version in (VERSION, LATER)]
    assert listed == first + [{"uuid": uuid, "version": VERSION} for uuid in uuids[1:]]
    assert pages == [(206, "true", 10), (200, "false", 3)]
    for size in (9, 501):
        assert code_of(owner.list(per_page=size)) == (400, "illegal_arguments")


def test_collection_with_illegal_version_returns_400(dss: LocalDSS, owner: Caller) -> None:
    item = _item(dss.new_file(), version="1")
    responses = [
        owner.put(version="1"),
        owner.put(contents=[item]),
        owner.patch(new_uuid(), {}, "1"),
        owner.patch(new_uuid(), {"add_contents": [item]}),
        owner.patch(new_uuid(), {"remove_contents": [item]}),
    ]
    assert [code_of(response) for response in responses] == [(400, "illegal_version")] * 5


@pytest.mark.parametrize(
    "change",
    [
        {"name": 1},
        {"details": "x"},
        {"contents": [{"type": "file", "uuid": new_uuid()}]},
        {"contents": [_item("short")]},
        {"contents": [_item(new_uuid(), fragment=7)]},
    ],
)
def test_put_collection_with_malformed_body_returns_400(owner: Caller, change: dict[str, Any]) -> None:
    assert code_of(owner.put(**change)) == (400, "illegal_arguments")


@pytest.mark.parametrize(
    "details",
    ['{"a": NaN}', '{"a": -Infinity}', '{"a": "\\ud800"}', '{"\\udfff": 1}', '{"a":' + "[" * 200 + "]" * 200 + "}"],
)
def test_put_collection_with_non_strict_json_returns_400(dss: LocalDSS, owner: Caller, details: str) -> None:
    """Non-finite numbers, unpaired surrogates and deep nesting cannot be returned as JSON."""
    text = f'{{"name": "n", "description": "d", "details": {details}, "contents": []}}'
    headers = {**dss.authorization, "Content-Type": "application/json"}
    query = {"uuid": new_uuid(), "version": VERSION, "replica": "aws"}
    response = requests.put(f"{dss.url}/collections", data=text, params=query, headers=headers, timeout=10)
    assert code_of(response) == (400, "illegal_arguments")


def test_get_collection_returns_any_text_unchanged(owner: Caller) -> None:
    uuid, text = new_uuid(), "Größe 😀 \u0000 \u2028 NaN"
    owner.put(uuid, name=text, details={text: text})
    found = owner.get(uuid).json()
    assert (found["name"], found["details"]) == (text, {text: text})


def test_collection_accepts_1000_links_per_request(dss: LocalDSS, owner: Caller) -> None:
    """PATCH can extend a collection beyond 1,000 links."""
    file, uuid = dss.new_file(), new_uuid()
    many = [_item(file, note=number) for number in range(1001)]
    assert code_of(owner.put(contents=many)) == (400, "illegal_arguments")
    assert owner.put(uuid, contents=many[:1000]).status_code == 201
    for name in ("add_contents", "remove_contents"):
        assert code_of(owner.patch(uuid, {name: many})) == (400, "illegal_arguments")
    assert owner.patch(uuid, {"add_contents": many[1:]}).status_code == 200
    assert owner.get(uuid).json()["contents"] == many


def test_upper_case_uuid_of_collection_is_lowered(owner: Caller) -> None:
    uuid = new_uuid()
    assert owner.put(uuid.upper()).json()["uuid"] == uuid
    assert owner.get(uuid.upper()).json() == owner.get(uuid).json()
    assert json.loads(owner.patch(uuid.upper(), {}).text)["uuid"] == uuid
