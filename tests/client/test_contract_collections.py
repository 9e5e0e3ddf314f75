"""What the client promises of collections, on both transports, against a running DSS."""

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
SAID: dict[str, Any] = {"name": "n", "description": "d"}


def somebody(dss: LocalDSS, email: str = "", **claims: Any) -> DSSAPI:
    """Return the calls of somebody who has nothing yet."""
    token = dss.token(claims={EMAIL: email or f"{new_uuid()}@example.org", **claims})
    return DSSAPI(dss.url, auth=StaticToken(token), retry=QUICK)


@pytest.fixture
def me(dss: LocalDSS) -> DSSAPI:
    return somebody(dss)


def link(dss: LocalDSS, **changes: Any) -> dict[str, Any]:
    return {"type": "file", "uuid": some_file(dss), "version": VERSION, **changes}


def numbers(dss: LocalDSS, count: int) -> list[dict[str, Any]]:
    """Return links to many things."""
    file = dss.new_file(json.dumps([*range(count)]).encode())
    return [link(dss, type="number", uuid=file, fragment=f"/{number}") for number in range(count)]


@pytest.fixture
def collection(run: Run, me: DSSAPI, dss: LocalDSS) -> str:
    """Give the uuid of a collection of mine, of one link."""
    uuid = new_uuid()
    run(me.put_collection(uuid, VERSION, replica="aws", contents=[link(dss)], **SAID))
    return uuid


# PUT and GET


def test_a_collection_is_put(run: Run, me: DSSAPI, dss: LocalDSS) -> None:
    """A collection comes back as it was put, each link once, with its owner; uuids may be in upper case."""
    uuid, bundle = new_uuid(), new_uuid()
    dss.put_bundle([], bundle)
    contents = [
        link(dss),
        link(dss, type="bundle", uuid=bundle),
        link(dss, type="all", uuid=dss.new_file(b"{}"), fragment=""),
    ]
    loud = [each | {"uuid": each["uuid"].upper()} for each in contents]
    details = {"a": [1, None, "\u00fc"]}
    put = run(me.put_collection(uuid.upper(), VERSION, replica="aws", contents=loud * 2, details=details, **SAID))
    assert put == FQID(uuid, VERSION)
    found = run(me.get_collection(uuid, replica="aws"))
    assert found == run(me.get_collection(uuid.upper(), replica="aws", version=VERSION))
    assert {key: found[key] for key in ("name", "description", "details", "contents")} == {
        **SAID,
        "details": details,
        "contents": contents,
    }
    assert found["owner"].endswith("@example.org")


def test_a_put_overwrites(run: Run, me: DSSAPI, dss: LocalDSS, collection: str) -> None:
    """As the DSS does it, a PUT takes the place of what is there, and makes it the caller's."""
    other = somebody(dss)
    assert run(other.put_collection(collection, VERSION, replica="aws", **SAID)) == FQID(collection, VERSION)
    assert run(other.get_collection(collection, replica="aws"))["contents"] == []
    with pytest.raises(DSSAuthError):
        run(me.get_collection(collection, replica="aws"))


@pytest.mark.parametrize(
    "change", [{"uuid": new_uuid()}, {"type": "bundle"}, {"version": LATER}, {"type": "x", "fragment": "/nowhere"}]
)
def test_links_that_lead_nowhere(run: Run, me: DSSAPI, dss: LocalDSS, collection: str, change: dict[str, Any]) -> None:
    """A link to what is not there is refused, in PUT and in PATCH, and nothing is made."""
    wrong, uuid = link(dss, **change), new_uuid()
    for call in (
        me.put_collection(uuid, VERSION, replica="aws", contents=[link(dss), wrong], **SAID),
        me.patch_collection(collection, VERSION, replica="aws", add_contents=[wrong]),
        me.change_collection(collection, VERSION, replica="aws", add_contents=[wrong]),
    ):
        with pytest.raises(DSSResponseError) as caught:
            run(call)
        assert (caught.value.status, caught.value.code, caught.value.permanent) == (422, "invalid_link", True)
    with pytest.raises(DSSNotFoundError):
        run(me.get_collection(uuid, replica="aws"))
    assert run(me.get_collection(collection, replica="aws"))["contents"] == [link(dss)]


def test_a_collection_that_is_not_there(run: Run, me: DSSAPI, collection: str) -> None:
    """A collection, version or replica that is not there is a DSSNotFoundError with a request id, for each call."""
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


def test_who_may(run: Run, dss: LocalDSS, collection: str) -> None:
    """Without a token, or without the group, nothing can be done, and with another's only what a DSS lets him."""
    nobody, outsider = DSSAPI(dss.url, retry=QUICK), somebody(dss, **{GROUP: "other"})
    for api, expected in ((nobody, (401, "OAuthProblem")), (outsider, (403, "Forbidden"))):
        for call in (
            api.get_collections(),
            api.put_collection(collection, VERSION, replica="aws", **SAID),
            api.get_collection(collection, replica="aws"),
            api.patch_collection(collection, VERSION, replica="aws"),
            api.delete_collection(collection, replica="aws"),
        ):
            with pytest.raises(DSSAuthError) as caught:
                run(call)
            assert (caught.value.status, caught.value.code, caught.value.permanent) == (*expected, True)
    other = somebody(dss)
    for call in (other.get_collection(collection, replica="aws"), other.delete_collection(collection, replica="aws")):
        with pytest.raises(DSSAuthError) as caught:
            run(call)
        assert caught.value.status == 403
    with pytest.raises(DSSResponseError) as failed:
        run(other.patch_collection(collection, VERSION, replica="aws"))
    assert failed.value.status == 500
    with pytest.raises(DSSAuthError):
        run(other.change_collection(collection, VERSION, replica="aws", name="new"))


def test_the_list(run: Run, me: DSSAPI, dss: LocalDSS) -> None:
    """All that I put is listed, page by page, and neither what PATCHes made nor what others have."""
    uuids = sorted(new_uuid() for _ in range(11))
    for uuid in uuids:
        run(me.put_collection(uuid, VERSION, replica="aws", **SAID))
    run(me.patch_collection(uuids[0], VERSION, replica="aws"))
    dss.control("DELETE", "requests")
    assert run(me.get_collections(per_page=10)) == [{"uuid": uuid, "version": VERSION} for uuid in uuids]
    assert counted(dss, "GET", "/collections") == {206: 1, 200: 1}
    assert run(somebody(dss).get_collections()) == []


# PATCH


def test_a_collection_is_patched(run: Run, me: DSSAPI, dss: LocalDSS, collection: str) -> None:
    """PATCH makes a version with links added, each once, and removed, and what is said changed; the old one stays."""
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


def test_each_patch_makes_a_version(run: Run, me: DSSAPI, collection: str) -> None:
    """PATCH makes a version even when nothing changes."""
    made = {run(me.patch_collection(collection, VERSION, replica="aws")).version for _ in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize("after", [False, True])
def test_a_patch_is_sent_once(run: Run, me: DSSAPI, dss: LocalDSS, collection: str, after: bool) -> None:
    """`patch_collection` does not repeat what may have been done."""
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
def test_a_change_makes_the_right_contents(run_requests: Run, me: DSSAPI, dss: LocalDSS, what: dict[str, Any]) -> None:
    """A change whose second PATCH meets trouble sends it again, and has each link once."""
    run, collection = run_requests, new_uuid()
    run(me.put_collection(collection, VERSION, replica="aws", contents=[link(dss)], **SAID))
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


def test_a_change_that_stops_half_way(run: Run, me: DSSAPI, dss: LocalDSS, collection: str) -> None:
    """A change that stops tells the last good version, from which a repeat goes on."""
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


def test_a_collection_is_deleted(run: Run, me: DSSAPI, collection: str) -> None:
    """A deleted collection is unknown, also to a further deletion, and what is put there later stays hidden."""
    run(me.delete_collection(collection.upper(), replica="aws"))
    run(me.put_collection(collection, LATER, replica="aws", **SAID))
    for call in (
        me.get_collection(collection, replica="aws"),
        me.get_collection(collection, replica="aws", version=LATER),
        me.patch_collection(collection, VERSION, replica="aws"),
        me.delete_collection(collection, replica="aws"),
    ):
        with pytest.raises(DSSNotFoundError):
            run(call)


@pytest.mark.parametrize("what", [{"action": "drop"}, {"status": 504}, {"status": 500}])
def test_a_deletion_through_troubles(
    run: Run, me: DSSAPI, dss: LocalDSS, collection: str, what: dict[str, Any]
) -> None:
    """A deletion that was done and not answered is a success, although its repeat finds nothing."""
    fault(dss, method="DELETE", path=collection, after=True, **what)
    run(me.delete_collection(collection, replica="aws"))
    assert counted(dss, "DELETE", f"/collections/{collection}")[404] == 1
