"""Changes of collections, without network and with a test clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.models import Change
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSChangeError,
    DSSConnectionError,
    DSSError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

from .feeding import URL, UUID, Answer, Clock, Fed, broken, converse, problem, refusal
from .shelf import LATE, START, UNCLEAR, CollectionShelf, Done, KilledError, links, versions

FIRST, SECOND, THIRD = versions(3)


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=3))


def collection(numbers: Iterable[int], **changes: Any) -> dict[str, Any]:
    fields = {"owner": "me@example.org", "name": "n", "description": "d", "details": {"a": 1}}
    return {**fields, "contents": links(numbers), **changes}


@pytest.fixture
def shelf(clock: Clock) -> CollectionShelf:
    """Return a collection of two links."""
    return CollectionShelf(clock, {START: collection([1, 2])})


def change(
    dss: DSSAPI,
    shelf: CollectionShelf,
    add: Iterable[Mapping[str, Any]] = (),
    remove: Iterable[Mapping[str, Any]] = (),
    *,
    uuid: str = UUID,
    version: str = START,
    **options: Any,
) -> Fed[Change]:
    call = dss.change_collection(uuid, version, replica="aws", add_contents=add, remove_contents=remove, **options)
    return converse(call, shelf, clock=shelf.clock)


# Batches


@pytest.mark.parametrize(("count", "pieces"), [(1, [1]), (1000, [1000]), (1001, [1000, 1]), (2500, [1000, 1000, 500])])
def test_additions_are_sent_in_batches_of_1000_and_reported(
    dss: DSSAPI, shelf: CollectionShelf, count: int, pieces: list[int]
) -> None:
    reported: list[str] = []
    result = change(dss, shelf, links(range(10, 10 + count)), on_version=reported.append).value
    assert [len(body["add_contents"]) for _, body in shelf.patches] == pieces
    assert shelf.named == [START, *reported[:-1]]
    assert reported == versions(len(pieces))
    assert result == Change(UUID, reported[-1], count + 2, len(pieces))
    assert shelf.contents[reported[-1]]["contents"] == links([1, 2, *range(10, 10 + count)])


def test_removals_are_sent_in_batches_of_1000_with_additions(dss: DSSAPI, shelf: CollectionShelf) -> None:
    """A link in both lists stays."""
    shelf.contents[START] = collection(range(2500))
    result = change(dss, shelf, links([1, 1, 3000]), links(range(2400))).value
    sizes = [(len(body["add_contents"]), len(body["remove_contents"])) for _, body in shelf.patches]
    assert sizes == [(1, 1000), (0, 1000), (0, 399)]
    assert shelf.contents[result.version]["contents"] == links([1, *range(2400, 2500), 3000])


def test_changed_fields_are_sent_with_the_first_patch(dss: DSSAPI, shelf: CollectionShelf) -> None:
    result = change(dss, shelf, links(range(10, 1011)), name="new", description="d", details={"b": [2]}).value
    fields = [{key: body[key] for key in body if not key.endswith("contents")} for _, body in shelf.patches]
    assert fields == [{"name": "new", "details": {"b": [2]}}, {}]
    found = shelf.contents[result.version]
    assert (found["name"], found["description"], found["details"]) == ("new", "d", {"b": [2]})


def test_change_of_description_alone_is_one_patch(dss: DSSAPI, shelf: CollectionShelf) -> None:
    assert change(dss, shelf, description="").value == Change(UUID, FIRST, 2, 1)
    assert change(dss, shelf, version=FIRST, description="").value == Change(UUID, FIRST, 2, 0)


def test_no_patch_without_differences(dss: DSSAPI, shelf: CollectionShelf) -> None:
    result = change(dss, shelf, links([2, 1]), links([3]), name="n", details={"a": 1}).value
    assert (result, shelf.patches) == (Change(UUID, START, 2, 0), [])


def test_link_is_removed_with_all_its_keys(dss: DSSAPI, shelf: CollectionShelf) -> None:
    unusual = links([7], type="cell", fragment="/a", path="/a")[0]
    shelf.contents[START]["contents"].append(unusual)
    assert change(dss, shelf, remove=links([7], type="cell", fragment="/a")).value.patches == 0
    result = change(dss, shelf, remove=[unusual | {"uuid": unusual["uuid"].upper()}], uuid=UUID.upper()).value
    assert shelf.contents[result.version]["contents"] == links([1, 2])


@pytest.mark.parametrize(
    ("add", "remove", "message"),
    [
        (links([3], path="/a"), [], "path is unknown"),
        (links([3], type="cell"), [], "needs a fragment"),
        (links([3], version="1"), [], "must be a DSS_VERSION"),
        ([{"type": "file"}], [], "uuid, version is missing"),
        ([], links([3], uuid="x"), "must be a UUID"),
        ([], [{"uuid": UUID, "version": START}], "type is missing"),
    ],
)
def test_invalid_link_is_value_error_before_any_request(
    dss: DSSAPI, shelf: CollectionShelf, add: list[Any], remove: list[Any], message: str
) -> None:
    fed = change(dss, shelf, add, remove)
    with pytest.raises(ValueError, match=message):
        raise fed.failed(ValueError)
    assert fed.requests == []


def test_details_without_json_form_are_value_error_without_patch(dss: DSSAPI, shelf: CollectionShelf) -> None:
    for details in ({"a": float("nan")}, {"a": {1, 2}}):
        assert "cannot be encoded as JSON" in str(change(dss, shelf, details=details).failed(ValueError))
    assert shelf.patches == []


def test_missing_version_is_not_found(dss: DSSAPI, shelf: CollectionShelf) -> None:
    change(dss, shelf, links([3]), version=FIRST).failed(DSSNotFoundError)


# After a kill


@pytest.mark.parametrize(("at", "hint"), [(1, False), (2, True), (2, False), (3, True), (3, False)])
@pytest.mark.parametrize("done", ["done", "not done"])
def test_repeat_after_kill_has_each_link_once(
    dss: DSSAPI, shelf: CollectionShelf, hint: bool, done: Done, at: int
) -> None:
    shelf.contents[START] = collection(range(1200))
    wanted: dict[str, Any] = {"add": links(range(2000, 4500)), "remove": links(range(1100)), "name": "new"}
    reported: list[str] = []
    shelf.kill = (at, done)
    change(dss, shelf, **wanted, on_version=reported.append).failed(KilledError)
    shelf.kill, shelf.patches = None, []
    reached = reported[-1] if hint and reported else None
    result = change(dss, shelf, **wanted, resume_from=reached).value
    assert shelf.contents[result.version] == collection([*range(1100, 1200), *range(2000, 4500)], name="new")
    assert result.patches == len(shelf.patches) == (3 if reached is None else 4 - at)
    assert shelf.named[0] == (reached or START)
    again = change(dss, shelf, **wanted, resume_from=result.version).value
    assert again == Change(UUID, result.version, 2600, 0)


@pytest.mark.parametrize(
    "other",
    [
        collection([1, 2, 3, 99]),  # with another's link
        collection([1, 3]),  # without one
        collection([1, 2, 3], description="theirs"),
        None,
    ],
)
def test_resume_from_version_with_other_changes_is_ignored(
    dss: DSSAPI, shelf: CollectionShelf, other: dict[str, Any] | None
) -> None:
    if other:
        shelf.contents[FIRST] = other
    result = change(dss, shelf, links([3, 4]), resume_from=FIRST).value
    assert shelf.named == [START]
    assert shelf.contents[result.version] == collection([1, 2, 3, 4])


def test_resume_from_invalid_version_is_ignored(dss: DSSAPI, shelf: CollectionShelf) -> None:
    assert change(dss, shelf, links([3]), resume_from="x").value.version == FIRST


# Unclear responses


@pytest.mark.parametrize("done", ["done", "not done"])
@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
@pytest.mark.parametrize("at", [0, 1])
def test_unclear_response_resends_the_patch(
    dss: DSSAPI, shelf: CollectionShelf, answer: Answer, done: Done, at: int
) -> None:
    """A DSS does not return the version that the PATCH created."""
    shelf.troubles = [None] * at + [(answer, done)]
    result = change(dss, shelf, links(range(10, 1510)), links([1]), name="new").value
    assert shelf.contents[result.version] == collection([2, *range(10, 1510)], name="new")
    bases = [shelf.contents[version] for version in shelf.named]
    assert bases[at] == bases[at + 1]
    assert (len(bases), result.patches) == (3, 2)


@pytest.mark.parametrize("answer", ["502", "504", "read timeout", "dropped"])
def test_unclear_response_of_gateway_waits_before_resending(dss: DSSAPI, shelf: CollectionShelf, answer: str) -> None:
    shelf.troubles = [(UNCLEAR[answer], "late")]
    started = shelf.clock.now
    result = change(dss, shelf, links([3])).value
    assert shelf.contents[result.version] == collection([1, 2, 3])
    assert LATE <= shelf.clock.now - started <= 36


@pytest.mark.parametrize(
    "answer",
    [problem(429), problem(503, "read_only"), broken("dns"), broken("refused"), broken("connect timeout")],
)
def test_request_that_did_not_arrive_is_resent_without_check(
    dss: DSSAPI, shelf: CollectionShelf, answer: Answer
) -> None:
    shelf.troubles = [(answer, "not done")] * 2
    fed = change(dss, shelf, links([3]))
    assert fed.value.version == FIRST
    assert [sent.split()[0] for sent in fed.sent] == ["GET", "PATCH", "PATCH", "PATCH"]


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
def test_patch_is_sent_twice_at_most(dss: DSSAPI, shelf: CollectionShelf, answer: Answer) -> None:
    shelf.troubles = [(answer, "not done")] * 2
    fed = change(dss, shelf, links([3]))
    assert isinstance(fed.error, DSSConnectionError | DSSResponseError | DSSProtocolError)
    assert not fed.error.permanent
    assert (shelf.named, list(shelf.contents)) == ([START, START], [START])


# Failures


@pytest.mark.parametrize(
    ("answer", "kind", "permanent"),
    [
        (problem(400, "illegal_version"), DSSResponseError, True),
        (problem(403, "Forbidden"), DSSAuthError, True),
        (problem(404, "not_found"), DSSNotFoundError, True),
        (problem(422, "invalid_link"), DSSResponseError, True),
        (refusal(), DSSAuthError, True),
        (problem(408), DSSResponseError, False),
    ],
)
def test_refused_patch_is_not_checked(
    dss: DSSAPI, shelf: CollectionShelf, answer: Answer, kind: type[DSSError], permanent: bool
) -> None:
    shelf.troubles = [(answer, "not done")]
    first = change(dss, shelf, links(range(2500))).failed(kind)
    shelf.troubles, shelf.patches = [None, None, (answer, "not done")], []
    later = change(dss, shelf, links(range(2500))).failed(DSSChangeError)
    assert (later.resource, later.uuid, later.version, later.done) == ("collection", UUID, SECOND, 2)
    assert (later.reason, later.permanent, first.permanent) == (str(first).replace(START, SECOND), permanent, permanent)
    shelf.patches = []
    assert change(dss, shelf, links(range(2500)), resume_from=later.version).value.patches == 1


def test_repeat_without_progress_names_the_last_good_version(dss: DSSAPI, shelf: CollectionShelf) -> None:
    shelf.contents[FIRST] = collection([1, 2, 3])
    shelf.troubles = [(problem(422, "invalid_link"), "not done")]
    error = change(dss, shelf, links([3, 4]), resume_from=FIRST).failed(DSSChangeError)
    assert (error.version, error.done) == (FIRST, 0)
