"""Contract of collections, on both transports against a running DSS."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.models import FQID
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSChangeError,
    DSSNotFoundError,
    DSSResponseError,
)
from tests.local.server import EMAIL, VERSION, LocalDSS, new_uuid

from .contract import LATER, QUICK, counted, fault, some_file
from .drivers import Run

GROUP = "https://auth.data.humancellatlas.org/group"
FIELDS: dict[str, Any] = {"name": "n", "description": "d"}


def new_user(dss: LocalDSS, email: str = "", **claims: Any) -> DSSAPI:
    """Return the calls of a user without collections."""
    token = dss.token(claims={EMAIL: email or f"{new_uuid()}@example.org", **claims})
    return DSSAPI(dss.url, auth=StaticToken(token), retry=QUICK)


@pytest.fixture
def me(dss: LocalDSS) -> DSSAPI:
    return new_user(dss)


def link(dss: LocalDSS, **changes: Any) -> dict[str, Any]:
    return {"type": "file", "uuid": some_file(dss), "version": VERSION, **changes}


def numbers(dss: LocalDSS, count: int) -> list[dict[str, Any]]:
    """Return links to many items."""
    file = dss.new_file(json.dumps([*range(count)]).encode())
    return [link(dss, type="number", uuid=file, fragment=f"/{number}") for number in range(count)]


@pytest.fixture
def collection(run: Run, me: DSSAPI, dss: LocalDSS) -> str:
    """Return the UUID of an own collection of one link."""
    uuid = new_uuid()
    run(me.put_collection(uuid, VERSION, replica="aws", contents=[link(dss)], **FIELDS))
    return uuid


# PUT and GET


def test_put_collection_returns_with_each_link_once_and_owner(run: Run, me: DSSAPI, dss: LocalDSS) -> None:
    uuid, bundle = new_uuid(), new_uuid()
    dss.put_bundle([], bundle)
    contents = [
        link(dss),
        link(dss, type="bundle", uuid=bundle),
        link(dss, type="all", uuid=dss.new_file(b"{}"), fragment=""),
    ]
    loud = [each | {"uuid": each["uuid"].upper()} for each in contents]
    details = {"a": [1, None, "\u00fc"]}
    put = run(me.put_collection(uuid.upper(), VERSION, replica="aws", contents=loud * 2, details=details, **FIELDS))
    assert put == FQID(uuid, VERSION)
    found = run(me.get_collection(uuid, replica="aws"))
    assert found == run(me.get_collection(uuid.upper(), replica="aws", version=VERSION))
    assert {key: found[key] for key in ("name", "description", "details", "contents")} == {
        **FIELDS,
        "details": details,
        "contents": contents,
    }
    assert found["owner"].endswith("@example.org")


def test_put_collection_overwrites_content_and_owner(run: Run, me: DSSAPI, dss: LocalDSS, collection: str) -> None:
    other = new_user(dss)
    assert run(other.put_collection(collection, VERSION, replica="aws", **FIELDS)) == FQID(collection, VERSION)
    assert run(other.get_collection(collection, replica="aws"))["contents"] == []
    with pytest.raises(DSSAuthError):
        run(me.get_collection(collection, replica="aws"))


@pytest.mark.parametrize(
    "change", [{"uuid": new_uuid()}, {"type": "bundle"}, {"version": LATER}, {"type": "x", "fragment": "/nowhere"}]
)
def test_link_to_missing_item_is_refused_by_put_and_patch(
    run: Run, me: DSSAPI, dss: LocalDSS, collection: str, change: dict[str, Any]
) -> None:
    wrong, uuid = link(dss, **change), new_uuid()
    for call in (
        me.put_collection(uuid, VERSION, replica="aws", contents=[link(dss), wrong], **FIELDS),
        me.patch_collection(collection, VERSION, replica="aws", add_contents=[wrong]),
        me.change_collection(collection, VERSION, replica="aws", add_contents=[wrong]),
    ):
        with pytest.raises(DSSResponseError) as caught:
            run(call)
        assert (caught.value.status, caught.value.code, caught.value.permanent) == (422, "invalid_link", True)
    with pytest.raises(DSSNotFoundError):
        run(me.get_collection(uuid, replica="aws"))
    assert run(me.get_collection(collection, replica="aws"))["contents"] == [link(dss)]


def test_missing_collection_is_not_found_with_request_id(run: Run, me: DSSAPI, collection: str) -> None:
    for call in (
        me.get_collection(new_uuid(), replica="aws"),
        me.get_collection(collection, replica="aws", version=LATER),
        me.get_collection(collection, replica="gcp"),
        me.patch_collection(new_uuid(), VERSION, replica="aws"),
        me.patch_collection(collection, LATER, replica="aws"),
        me.change_collection(collection, LATER, replica="aws", name="new"),
        me.delete_collection(new_uuid(), replica="aws"),
        me.delete_collection(collection, replica="gcp"),
    ):
        with pytest.raises(DSSNotFoundError) as caught:
            run(call)
        assert caught.value.code == "not_found"
        assert caught.value.request_id


def test_collections_without_token_group_or_ownership_are_refused(run: Run, dss: LocalDSS, collection: str) -> None:
    anonymous, outsider = DSSAPI(dss.url, retry=QUICK), new_user(dss, **{GROUP: "other"})
    for api, expected in ((anonymous, (401, "OAuthProblem")), (outsider, (403, "Forbidden"))):
        for call in (
            api.get_collections(),
            api.put_collection(collection, VERSION, replica="aws", **FIELDS),
            api.get_collection(collection, replica="aws"),
            api.patch_collection(collection, VERSION, replica="aws"),
            api.delete_collection(collection, replica="aws"),
        ):
            with pytest.raises(DSSAuthError) as caught:
                run(call)
            assert (caught.value.status, caught.value.code, caught.value.permanent) == (*expected, True)
    other = new_user(dss)
    for refused in (
        other.get_collection(collection, replica="aws"),
        other.patch_collection(collection, VERSION, replica="aws"),
        other.delete_collection(collection, replica="aws"),
        other.change_collection(collection, VERSION, replica="aws", name="new"),
    ):
        with pytest.raises(DSSAuthError) as caught:
            run(refused)
        assert (caught.value.status, caught.value.code, caught.value.permanent) == (500, "forbidden", True)


def test_get_collections_lists_own_puts_only(run: Run, me: DSSAPI, dss: LocalDSS) -> None:
    uuids = sorted(new_uuid() for _ in range(11))
    for uuid in uuids:
        run(me.put_collection(uuid, VERSION, replica="aws", **FIELDS))
    run(me.patch_collection(uuids[0], VERSION, replica="aws"))
    dss.control("DELETE", "requests")
    assert run(me.get_collections(per_page=10)) == [{"uuid": uuid, "version": VERSION} for uuid in uuids]
    assert counted(dss, "GET", "/collections") == {206: 1, 200: 1}
    assert run(new_user(dss).get_collections()) == []


# PATCH


def test_patch_collection_changes_links_and_fields(run: Run, me: DSSAPI, dss: LocalDSS, collection: str) -> None:
    another = link(dss, uuid=dss.new_file())
    patched = run(
        me.patch_collection(
            collection.upper(),
            VERSION,
            replica="aws",
            add_contents=[another, another],
            remove_contents=[link(dss)],
            name="new",
            details={"b": 2},
        )
    )
    assert patched.uuid == collection
    found = run(me.get_collection(collection, replica="aws", version=patched.version))
    assert (found["contents"], found["name"], found["description"], found["details"]) == (
        [another],
        "new",
        "d",
        {"b": 2},
    )
    old = run(me.get_collection(collection, replica="aws", version=VERSION))
    assert (old["contents"], old["name"]) == ([link(dss)], "n")


def test_patch_collection_without_changes_creates_a_version(run: Run, me: DSSAPI, collection: str) -> None:
    made = {run(me.patch_collection(collection, VERSION, replica="aws")).version for _ in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize("after", [False, True])
def test_patch_collection_is_sent_once(run: Run, me: DSSAPI, dss: LocalDSS, collection: str, after: bool) -> None:
    fault(dss, method="PATCH", path=collection, status=504, after=after)
    with pytest.raises(DSSResponseError):
        run(me.patch_collection(collection, VERSION, replica="aws", name="new"))
    assert counted(dss, "PATCH", f"/collections/{collection}") == {504: 1}
    assert run(me.get_collection(collection, replica="aws"))["name"] == ("new" if after else "n")


@pytest.mark.parametrize(
    "what",
    [
        {"status": 504, "after": True},
        {"action": "drop", "after": True},
        {"status": 429},
    ],
)
def test_change_collection_with_errors_has_each_link_once(
    run_requests: Run, me: DSSAPI, dss: LocalDSS, what: dict[str, Any]
) -> None:
    run, collection = run_requests, new_uuid()
    run(me.put_collection(collection, VERSION, replica="aws", contents=[link(dss)], **FIELDS))
    items = numbers(dss, 1001)
    fault(dss, method="PATCH", path=collection, action="slow", seconds=0)
    fault(dss, method="PATCH", path=collection, **what)
    options: dict[str, Any] = {"add_contents": items, "remove_contents": [link(dss)], "name": "new"}
    change = run(me.change_collection(collection, VERSION, replica="aws", **options))
    assert (change.count, change.patches) == (1001, 2)
    found = run(me.get_collection(collection, replica="aws", version=change.version))
    assert (found["contents"], found["name"]) == (items, "new")
    assert run(me.get_collection(collection, replica="aws")) == found
    assert sum(counted(dss, "PATCH", f"/collections/{collection}").values()) == 3


def test_change_collection_stopped_names_last_version_and_repeat_resumes(
    run: Run, me: DSSAPI, dss: LocalDSS, collection: str
) -> None:
    items = numbers(dss, 1001)
    fault(dss, method="PATCH", path=collection, action="slow", seconds=0)
    fault(dss, method="PATCH", path=collection, status=422)
    with pytest.raises(DSSChangeError) as caught:
        run(me.change_collection(collection, VERSION, replica="aws", add_contents=items))
    reached = caught.value.version
    assert len(run(me.get_collection(collection, replica="aws", version=reached))["contents"]) == 1001
    change = run(me.change_collection(collection, VERSION, replica="aws", add_contents=items, resume_from=reached))
    assert (change.count, change.patches) == (1002, 1)


# DELETE


def test_deleted_collection_stays_hidden(run: Run, me: DSSAPI, collection: str) -> None:
    run(me.delete_collection(collection.upper(), replica="aws"))
    run(me.put_collection(collection, LATER, replica="aws", **FIELDS))
    for call in (
        me.get_collection(collection, replica="aws"),
        me.get_collection(collection, replica="aws", version=LATER),
        me.patch_collection(collection, VERSION, replica="aws"),
        me.delete_collection(collection, replica="aws"),
    ):
        with pytest.raises(DSSNotFoundError):
            run(call)


@pytest.mark.parametrize("what", [{"action": "drop"}, {"status": 504}, {"status": 500}])
def test_delete_collection_without_response_is_success(
    run: Run, me: DSSAPI, dss: LocalDSS, collection: str, what: dict[str, Any]
) -> None:
    fault(dss, method="DELETE", path=collection, after=True, **what)
    run(me.delete_collection(collection, replica="aws"))
    assert counted(dss, "DELETE", f"/collections/{collection}")[404] == 1
