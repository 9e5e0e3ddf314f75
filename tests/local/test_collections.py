"""PUT, GET, PATCH and DELETE of collections, and their list."""

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
    """Somebody who has collections."""

    def put(self, uuid: str = "", version: str = VERSION, **changes: Any) -> requests.Response:
        """Put a collection, changed from an empty one."""
        body = {"name": "n", "description": "d", "details": {"a": [1, None]}, "contents": []} | changes
        return self.call("PUT", "/collections", body, uuid=uuid or new_uuid(), version=version, replica="aws")

    def get(self, uuid: str, **query: Any) -> requests.Response:
        """Get a collection from aws, or from elsewhere."""
        return self.call("GET", f"/collections/{uuid}", **{"replica": "aws", **query})

    def patch(self, uuid: str, body: Any, version: str = VERSION) -> requests.Response:
        """Patch a collection in aws."""
        return self.call("PATCH", f"/collections/{uuid}", body, version=version, replica="aws")

    def delete(self, uuid: str) -> requests.Response:
        """Delete a collection from aws."""
        return self.call("DELETE", f"/collections/{uuid}", replica="aws")

    def list(self, **query: Any) -> requests.Response:
        """List the collections, a page of them."""
        return self.call("GET", "/collections", **query)


@pytest.fixture
def owner(dss: LocalDSS) -> Caller:
    return Caller(dss)


def _item(file: str, **changes: Any) -> dict[str, Any]:
    return {"type": "file", "uuid": file, "version": VERSION, **changes}


def test_put_then_get(owner: Caller) -> None:
    """PUT answers 201 with uuid and version, also repeated; GET gives what was put, and the owner, but no version."""
    uuid = new_uuid()
    for _ in range(2):
        answer = owner.put(uuid)
        assert (answer.status_code, answer.json()) == (201, {"uuid": uuid, "version": VERSION})
    said = {"name": "n", "description": "d", "details": {"a": [1, None]}, "contents": []}
    assert owner.get(uuid).json() == said | {"owner": owner.email}


def test_put_overwrites(dss: LocalDSS, owner: Caller) -> None:
    """A PUT of the same uuid and version overwrites silently, even another owner's collection."""
    uuid, other = new_uuid(), Caller(dss)
    owner.put(uuid)
    assert other.put(uuid, name="mine now").status_code == 201
    assert other.get(uuid).json()["name"] == "mine now"
    assert code_of(owner.get(uuid)) == (403, "Forbidden")


def test_links_are_kept_once_each(dss: LocalDSS, owner: Caller) -> None:
    """Links to files, bundles, collections and fragments are kept in order with all their fields, each once."""
    file, bundle, inner, uuid = dss.new_file(b'{"a": {"b/c": [7]}}'), new_uuid(), new_uuid(), new_uuid()
    dss.put_bundle([], bundle)
    owner.put(inner)
    links = [
        _item(file),
        _item(bundle, type="bundle"),
        _item(inner, type="collection"),
        _item(file, type="number", fragment="/a/b~1c/0", note={"why": None}),
        _item(file, type="all", fragment=""),
    ]
    assert owner.put(uuid, contents=[*links, *links, links[0]]).status_code == 201
    assert owner.get(uuid).json()["contents"] == links


def test_links_must_lead_somewhere(dss: LocalDSS, owner: Caller) -> None:
    """A link to what is not there, in the version given or in the replica, is 422 invalid_link, in PUT and PATCH."""
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
    answer = owner.call("PUT", "/collections", body, uuid=new_uuid(), version=VERSION, replica="gcp")
    assert code_of(answer) == (422, "invalid_link")


def test_patch(dss: LocalDSS, owner: Caller) -> None:
    """PATCH makes a version with links added and removed and what is said changed, and leaves the old one."""
    a, b, uuid = _item(dss.new_file()), _item(dss.new_file()), new_uuid()
    owner.put(uuid, contents=[a])
    change = {"add_contents": [a, b, b], "remove_contents": [a | {"note": "another"}], "description": "new"}
    answer = owner.patch(uuid, change)
    assert answer.status_code == 200
    assert answer.json() == {"uuid": uuid, "version": answer.json()["version"]}
    found = owner.get(uuid, version=answer.json()["version"]).json()
    assert (found["contents"], found["name"], found["description"]) == ([a, b], "n", "new")
    assert owner.get(uuid, version=VERSION).json()["contents"] == [a]
    last = owner.patch(uuid, {"remove_contents": [a, b], "details": {}}, answer.json()["version"]).json()["version"]
    found = owner.get(uuid).json()
    assert (found["contents"], found["details"], found["description"]) == ([], {}, "new")
    assert last > answer.json()["version"] > VERSION


def test_every_patch_makes_a_version(owner: Caller) -> None:
    """A PATCH that changes nothing makes a version all the same, each time another."""
    uuid = new_uuid()
    owner.put(uuid)
    assert len({owner.patch(uuid, {}).json()["version"] for _ in range(3)}) == 3


def test_whose_it_is(dss: LocalDSS, owner: Caller) -> None:
    """Others get 403 from GET and DELETE, and from PATCH a 500 of the usual shape without Retry-After."""
    uuid, other = new_uuid(), Caller(dss)
    owner.put(uuid)
    assert code_of(other.get(uuid)) == (403, "Forbidden")
    assert code_of(other.delete(uuid)) == (403, "Forbidden")
    answer = other.patch(uuid, {})
    assert code_of(answer) == (500, "unhandled_exception")
    assert "Retry-After" not in answer.headers
    assert owner.get(uuid).status_code == 200


def test_delete(owner: Caller) -> None:
    """After DELETE every version is 404 and not listed, and stays 404 though it can be put again."""
    uuid = new_uuid()
    owner.put(uuid)
    owner.put(uuid, LATER)
    answer = owner.delete(uuid)
    assert (answer.status_code, answer.json()) == (200, {})
    assert owner.list().json() == {"collections": []}
    assert owner.put(uuid).status_code == 201
    for answer in (owner.get(uuid), owner.get(uuid, version=LATER), owner.patch(uuid, {}), owner.delete(uuid)):
        assert code_of(answer) == (404, "not_found")


def test_unknown(owner: Caller) -> None:
    """An unknown collection is 404, and so is an unknown version or one of the other replica."""
    uuid = new_uuid()
    owner.put(uuid)
    answers = [
        owner.get(new_uuid()),
        owner.get(uuid, version="no version"),
        owner.get(uuid, replica="gcp"),
        owner.patch(new_uuid(), {}),
        owner.patch(uuid, {}, LATER),
        owner.delete(new_uuid()),
    ]
    assert [code_of(answer) for answer in answers] == [(404, "not_found")] * 6


def test_list(dss: LocalDSS, owner: Caller) -> None:
    """The list has what its caller put, in pages of 10 to 500, and no versions made by PATCH."""
    uuids = sorted(new_uuid() for _ in range(12))
    for uuid in uuids:
        owner.put(uuid)
    owner.put(uuids[0], LATER)
    owner.patch(uuids[0], {})
    Caller(dss).put()
    found, pages = [], []
    query: dict[str, Any] = {"per_page": 10}
    while query:
        answer = owner.list(**query)
        found += answer.json()["collections"]
        pages.append((answer.status_code, answer.headers["X-OpenAPI-Pagination"], len(answer.json()["collections"])))
        assert answer.headers["X-OpenAPI-Paginated-Content-Key"] == "collections"
        link = re.fullmatch(r"<(.*)>; rel='next'", answer.headers.get("Link", "<>; rel='next'"))
        assert link
        query = dict(re.findall(r"(\w+)=(\w+)", link[1]))
    first = [{"uuid": uuids[0], "version": version} for version in (VERSION, LATER)]
    assert found == first + [{"uuid": uuid, "version": VERSION} for uuid in uuids[1:]]
    assert pages == [(206, "true", 10), (200, "false", 3)]
    for size in (9, 501):
        assert code_of(owner.list(per_page=size)) == (400, "illegal_arguments")


def test_illegal_versions(dss: LocalDSS, owner: Caller) -> None:
    """A version that is no DSS_VERSION is 400 in PUT and PATCH, also in a link."""
    item = _item(dss.new_file(), version="1")
    answers = [
        owner.put(version="1"),
        owner.put(contents=[item]),
        owner.patch(new_uuid(), {}, "1"),
        owner.patch(new_uuid(), {"add_contents": [item]}),
        owner.patch(new_uuid(), {"remove_contents": [item]}),
    ]
    assert [code_of(answer) for answer in answers] == [(400, "illegal_version")] * 5


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
def test_bodies(owner: Caller, change: dict[str, Any]) -> None:
    """A body of the wrong form is 400 illegal_arguments."""
    assert code_of(owner.put(**change)) == (400, "illegal_arguments")


@pytest.mark.parametrize(
    "details",
    ['{"a": NaN}', '{"a": -Infinity}', '{"a": "\\ud800"}', '{"\\udfff": 1}', '{"a":' + "[" * 200 + "]" * 200 + "}"],
)
def test_what_is_no_plain_json(dss: LocalDSS, owner: Caller, details: str) -> None:
    """What could not be given back as JSON is 400: numbers JSON has not, half characters, and very deep nesting."""
    text = f'{{"name": "n", "description": "d", "details": {details}, "contents": []}}'
    headers = {**dss.authorization, "Content-Type": "application/json"}
    query = {"uuid": new_uuid(), "version": VERSION, "replica": "aws"}
    answer = requests.put(f"{dss.url}/collections", data=text, params=query, headers=headers, timeout=10)
    assert code_of(answer) == (400, "illegal_arguments")


def test_any_text(owner: Caller) -> None:
    """What is put comes back as it was, whatever the characters."""
    uuid, text = new_uuid(), "Größe 😀 \u0000 \u2028 NaN"
    owner.put(uuid, name=text, details={text: text})
    found = owner.get(uuid).json()
    assert (found["name"], found["details"]) == (text, {text: text})


def test_how_many_links(dss: LocalDSS, owner: Caller) -> None:
    """PUT and PATCH take a thousand links and refuse more with 400; PATCH can so bring a collection beyond that."""
    file, uuid = dss.new_file(), new_uuid()
    many = [_item(file, note=number) for number in range(1001)]
    assert code_of(owner.put(contents=many)) == (400, "illegal_arguments")
    assert owner.put(uuid, contents=many[:1000]).status_code == 201
    for name in ("add_contents", "remove_contents"):
        assert code_of(owner.patch(uuid, {name: many})) == (400, "illegal_arguments")
    assert owner.patch(uuid, {"add_contents": many[1:]}).status_code == 200
    assert owner.get(uuid).json()["contents"] == many


def test_upper_case_uuid(owner: Caller) -> None:
    """The uuid of a collection may be written in upper case and is stored in lower case."""
    uuid = new_uuid()
    assert owner.put(uuid.upper()).json()["uuid"] == uuid
    assert owner.get(uuid.upper()).json() == owner.get(uuid).json()
    assert json.loads(owner.patch(uuid.upper(), {}).text)["uuid"] == uuid
