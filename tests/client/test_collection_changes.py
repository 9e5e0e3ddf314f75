"""Changes of any size to collections, without a network and on a clock."""

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
    DSSResponseError,
)

from .feeding import URL, UUID, Answer, Clock, Fed, broken, converse, problem, refusal
from .shelf import LATE, START, UNCLEAR, CollectionShelf, Done, KilledError, links, versions

FIRST, SECOND, THIRD = versions(3)


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=3))


def collection(numbers: Iterable[int], **changes: Any) -> dict[str, Any]:
    said = {"owner": "me@example.org", "name": "n", "description": "d", "details": {"a": 1}}
    return {**said, "contents": links(numbers), **changes}


@pytest.fixture
def shelf(clock: Clock) -> CollectionShelf:
    """Give a collection of two links."""
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


# How it is cut


@pytest.mark.parametrize(("count", "pieces"), [(1, [1]), (1000, [1000]), (1001, [1000, 1]), (2500, [1000, 1000, 500])])
def test_links_in_pieces(dss: DSSAPI, shelf: CollectionShelf, count: int, pieces: list[int]) -> None:
    """Links are added by at most 1,000 a PATCH, each of the version that the one before made, and each is told."""
    told: list[str] = []
    result = change(dss, shelf, links(range(10, 10 + count)), on_version=told.append).value
    assert [len(body["add_contents"]) for _, body in shelf.patches] == pieces
    assert shelf.named == [START, *told[:-1]]
    assert told == versions(len(pieces))
    assert result == Change(UUID, told[-1], count + 2, len(pieces))
    assert shelf.contents[told[-1]]["contents"] == links([1, 2, *range(10, 10 + count)])


def test_links_that_go(dss: DSSAPI, shelf: CollectionShelf) -> None:
    """Links are removed by at most 1,000 a PATCH, along with what is added; what is in both lists stays."""
    shelf.contents[START] = collection(range(2500))
    result = change(dss, shelf, links([1, 1, 3000]), links(range(2400))).value
    sizes = [(len(body["add_contents"]), len(body["remove_contents"])) for _, body in shelf.patches]
    assert sizes == [(1, 1000), (0, 1000), (0, 399)]
    assert shelf.contents[result.version]["contents"] == links([1, *range(2400, 2500), 3000])


def test_what_is_said_changes_once(dss: DSSAPI, shelf: CollectionShelf) -> None:
    """Name, description and details are sent with the first PATCH only, and only those that change."""
    result = change(dss, shelf, links(range(10, 1011)), name="new", description="d", details={"b": [2]}).value
    said = [{key: body[key] for key in body if not key.endswith("contents")} for _, body in shelf.patches]
    assert said == [{"name": "new", "details": {"b": [2]}}, {}]
    found = shelf.contents[result.version]
    assert (found["name"], found["description"], found["details"]) == ("new", "d", {"b": [2]})


def test_only_what_is_said_changes(dss: DSSAPI, shelf: CollectionShelf) -> None:
    """A change of the description alone is one PATCH, and none when it is that already."""
    assert change(dss, shelf, description="").value == Change(UUID, FIRST, 2, 1)
    assert change(dss, shelf, version=FIRST, description="").value == Change(UUID, FIRST, 2, 0)


def test_nothing_to_do(dss: DSSAPI, shelf: CollectionShelf) -> None:
    """Links that are in already are not added, and those that are out not removed, and then no version is made."""
    result = change(dss, shelf, links([2, 1]), links([3]), name="n", details={"a": 1}).value
    assert (result, shelf.patches) == (Change(UUID, START, 2, 0), [])


def test_a_link_is_removed_with_all_that_it_has(dss: DSSAPI, shelf: CollectionShelf) -> None:
    """A DSS removes what is the same in every field, also in those that no link made here has."""
    odd = links([7], type="cell", fragment="/a", path="/a")[0]
    shelf.contents[START]["contents"].append(odd)
    assert change(dss, shelf, remove=links([7], type="cell", fragment="/a")).value.patches == 0
    result = change(dss, shelf, remove=[odd | {"uuid": odd["uuid"].upper()}], uuid=UUID.upper()).value
    assert shelf.contents[result.version]["contents"] == links([1, 2])


@pytest.mark.parametrize(
    ("add", "remove", "message"),
    [
        (links([3], path="/a"), [], "path means nothing"),
        (links([3], type="cell"), [], "needs a fragment"),
        (links([3], version="1"), [], "must be a DSS_VERSION"),
        ([{"type": "file"}], [], "uuid, version is missing"),
        ([], links([3], uuid="x"), "must be a uuid"),
        ([], [{"uuid": UUID, "version": START}], "type is missing"),
    ],
)
def test_links_that_are_none(
    dss: DSSAPI, shelf: CollectionShelf, add: list[Any], remove: list[Any], message: str
) -> None:
    """A link that is not well-formed is a ValueError before any request."""
    fed = change(dss, shelf, add, remove)
    with pytest.raises(ValueError, match=message):
        raise fed.failed(ValueError)
    assert fed.requests == []


def test_details_that_json_cannot_hold(dss: DSSAPI, shelf: CollectionShelf) -> None:
    """Details that are no JSON are a ValueError that says so, and no PATCH is sent."""
    for details in ({"a": float("nan")}, {"a": {1, 2}}):
        assert "cannot be encoded as JSON" in str(change(dss, shelf, details=details).failed(ValueError))
    assert shelf.patches == []


def test_a_collection_that_is_not_there(dss: DSSAPI, shelf: CollectionShelf) -> None:
    """A version that is not there is told as that."""
    change(dss, shelf, links([3]), version=FIRST).failed(DSSNotFoundError)


# After the end of a process


@pytest.mark.parametrize(("at", "hint"), [(1, False), (2, True), (2, False), (3, True), (3, False)])
@pytest.mark.parametrize("done", ["done", "not done"])
def test_a_repeat_makes_it_right(dss: DSSAPI, shelf: CollectionShelf, hint: bool, done: Done, at: int) -> None:
    """After the end of the process in any PATCH, a repeat makes the same links once each, and goes on where it can."""
    shelf.contents[START] = collection(range(1200))
    wanted: dict[str, Any] = {"add": links(range(2000, 4500)), "remove": links(range(1100)), "name": "new"}
    told: list[str] = []
    shelf.kill = (at, done)
    change(dss, shelf, **wanted, on_version=told.append).failed(KilledError)
    shelf.kill, shelf.patches = None, []
    reached = told[-1] if hint and told else None
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
def test_a_hint_that_is_not_on_the_way(dss: DSSAPI, shelf: CollectionShelf, other: dict[str, Any] | None) -> None:
    """A version that has something else than the one to change, or is gone, is not gone on from."""
    if other:
        shelf.contents[FIRST] = other
    result = change(dss, shelf, links([3, 4]), resume_from=FIRST).value
    assert shelf.named == [START]
    assert shelf.contents[result.version] == collection([1, 2, 3, 4])


def test_a_hint_that_is_rubbish(dss: DSSAPI, shelf: CollectionShelf) -> None:
    """A hint that is no version is left alone."""
    assert change(dss, shelf, links([3]), resume_from="x").value.version == FIRST


# Answers that leave open whether it was done


@pytest.mark.parametrize("done", ["done", "not done"])
@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
@pytest.mark.parametrize("at", [0, 1])
def test_unclear_answers(dss: DSSAPI, shelf: CollectionShelf, answer: Answer, done: Done, at: int) -> None:
    """After an unclear answer a PATCH is sent again, of the same version, since a DSS tells nobody what it made."""
    shelf.troubles = [None] * at + [(answer, done)]
    result = change(dss, shelf, links(range(10, 1510)), links([1]), name="new").value
    assert shelf.contents[result.version] == collection([2, *range(10, 1510)], name="new")
    bases = [shelf.contents[version] for version in shelf.named]
    assert bases[at] == bases[at + 1]
    assert (len(bases), result.patches) == (3, 2)


@pytest.mark.parametrize("answer", ["502", "504", "read timeout", "dropped"])
def test_what_is_done_late(dss: DSSAPI, shelf: CollectionShelf, answer: str) -> None:
    """Where only the gateway or nobody answered, the DSS is given time to finish before the PATCH is sent again."""
    shelf.troubles = [(UNCLEAR[answer], "late")]
    started = shelf.clock.now
    result = change(dss, shelf, links([3])).value
    assert shelf.contents[result.version] == collection([1, 2, 3])
    assert LATE <= shelf.clock.now - started <= 30


@pytest.mark.parametrize(
    "answer",
    [problem(429), problem(503, "read_only"), broken("dns"), broken("refused"), broken("connect timeout")],
)
def test_what_did_not_arrive(dss: DSSAPI, shelf: CollectionShelf, answer: Answer) -> None:
    """A PATCH that no DSS worked at is sent again without a look."""
    shelf.troubles = [(answer, "not done")] * 2
    fed = change(dss, shelf, links([3]))
    assert fed.value.version == FIRST
    assert [sent.split()[0] for sent in fed.sent] == ["GET", "PATCH", "PATCH", "PATCH"]


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
def test_it_is_sent_twice_at_most(dss: DSSAPI, shelf: CollectionShelf, answer: Answer) -> None:
    """A second unclear answer ends it."""
    shelf.troubles = [(answer, "not done")] * 2
    fed = change(dss, shelf, links([3]))
    assert isinstance(fed.error, DSSConnectionError if isinstance(answer, DSSConnectionError) else DSSResponseError)
    assert (shelf.named, list(shelf.contents)) == ([START, START], [START])


# Ends in the middle


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
def test_a_clear_refusal(
    dss: DSSAPI, shelf: CollectionShelf, answer: Answer, kind: type[DSSError], permanent: bool
) -> None:
    """A PATCH that was refused is not looked for; the error is the DSS's, or tells the last good version as well."""
    shelf.troubles = [(answer, "not done")]
    first = change(dss, shelf, links(range(2500))).failed(kind)
    shelf.troubles, shelf.patches = [None, None, (answer, "not done")], []
    later = change(dss, shelf, links(range(2500))).failed(DSSChangeError)
    assert (later.resource, later.uuid, later.version, later.done) == ("collection", UUID, SECOND, 2)
    assert (later.reason, later.permanent, first.permanent) == (str(first), permanent, permanent)
    shelf.patches = []
    assert change(dss, shelf, links(range(2500)), resume_from=later.version).value.patches == 1


def test_a_repeat_that_gets_no_further(dss: DSSAPI, shelf: CollectionShelf) -> None:
    """A repeat that fails at its first PATCH tells the version that an earlier try had reached."""
    shelf.contents[FIRST] = collection([1, 2, 3])
    shelf.troubles = [(problem(422, "invalid_link"), "not done")]
    error = change(dss, shelf, links([3, 4]), resume_from=FIRST).failed(DSSChangeError)
    assert (error.version, error.done) == (FIRST, 0)
