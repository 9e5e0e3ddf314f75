"""Changes of any size to bundles, without a network and on a clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.models import Change
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSChangeError,
    DSSConflictError,
    DSSConnectionError,
    DSSError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

from .feeding import URL, UUID, VERSION, Answer, Clock, Fed, broken, converse, feed, ok, problem, refusal
from .shelf import LATE, START, UNCLEAR, BundleShelf, Done, KilledError, members, versions

FIRST, SECOND, THIRD = versions(3)


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=3))


@pytest.fixture
def shelf(clock: Clock) -> BundleShelf:
    """Give a bundle of two files."""
    return BundleShelf(clock, {START: members(["a", "b"])})


def change(
    dss: DSSAPI,
    shelf: BundleShelf,
    add: Iterable[Mapping[str, Any]] = (),
    remove: Iterable[Mapping[str, Any]] = (),
    *,
    version: str | None = START,
    uuid: str = UUID,
) -> Fed[Change]:
    call = dss.change_bundle(uuid, replica="aws", version=version, add_files=add, remove_files=remove)
    return converse(call, shelf, clock=shelf.clock)


# How it is cut


@pytest.mark.parametrize(("count", "pieces"), [(1, [1]), (1000, [1000]), (1001, [1000, 1]), (2500, [1000, 1000, 500])])
def test_additions_in_pieces(dss: DSSAPI, shelf: BundleShelf, count: int, pieces: list[int]) -> None:
    """Files are added by at most 1,000 a PATCH, each of the version that the one before made, and all come in order."""
    result = change(dss, shelf, members(range(count))).value
    made = versions(len(pieces))
    assert [len(body["add_files"]) for _, body in shelf.patches] == pieces
    assert shelf.named == [START, *made[:-1]]
    assert result == Change(UUID, made[-1], count + 2, len(pieces))
    assert shelf.names(made[-1]) == ["a", "b", *map(str, range(count))]


def test_removals_in_pieces(dss: DSSAPI, shelf: BundleShelf) -> None:
    """Files are removed by at most 1,000 a PATCH, along with what is added."""
    shelf.contents[START] = members(range(2500))
    result = change(dss, shelf, members(["a", "b"]), members(range(2400))).value
    sizes = [(len(body["add_files"]), len(body["remove_files"])) for _, body in shelf.patches]
    assert sizes == [(2, 1000), (0, 1000), (0, 400)]
    assert (result.count, shelf.names(result.version)) == (102, [*map(str, range(2400, 2500)), "a", "b"])


def test_replaced_files(dss: DSSAPI, shelf: BundleShelf) -> None:
    """Files that take the names of others come no earlier than those go, so that no name is there twice in between."""
    shelf.contents[START] = members(range(2500))
    newer = members(range(2499, -1, -1), version="2022-02-02T000000.000000Z")
    result = change(dss, shelf, newer, members(range(2500))).value
    assert sorted(shelf.contents[result.version], key=str) == sorted(newer, key=str)
    assert len(shelf.patches) == 3


def test_a_file_that_is_indexed_from_now_on(dss: DSSAPI, shelf: BundleShelf) -> None:
    """The same file, removed as it is and added as another, changes how it is indexed."""
    result = change(dss, shelf, members(["a"], indexed=True), members(["a"])).value
    assert shelf.contents[result.version] == members(["b"]) + members(["a"], indexed=True)
    assert change(dss, shelf, members(["a"], indexed=True), members(["a"])).value == replace(result, patches=0)


@pytest.mark.parametrize("version", [START, None])
def test_nothing_to_do(dss: DSSAPI, shelf: BundleShelf, version: str | None) -> None:
    """What is in already is not added again and what is out not removed, and then no version is made."""
    result = change(dss, shelf, members(["b", "a"]), members(["c"]), version=version).value
    assert (result, shelf.patches) == (Change(UUID, START, 2, 0), [])


def test_uuids_in_upper_case(dss: DSSAPI, shelf: BundleShelf) -> None:
    """A PATCH never carries a uuid in upper case, which would corrupt a DSS's store."""
    loud = [file | {"uuid": file["uuid"].upper()} for file in members(["c"])]
    fed = change(dss, shelf, loud, uuid=UUID.upper())
    assert fed.value.version == FIRST
    assert shelf.contents[FIRST] == members("abc")
    assert not [request for request in fed.requests if UUID.upper() in request.url]


# What is refused before anything is changed


@pytest.mark.parametrize(
    ("add", "remove", "message"),
    [
        (members(["c", "c"], uuid=UUID)[:1] + members(["c"]), [], "add_files has 'c' more than once"),
        (members(["a"], uuid=UUID), [], r"bundle .*\.2020.* has another file of the name 'a' already: remove it"),
        (members(["b", "a"], uuid=UUID), [], "of the name 'a' already \\(and so for 1 more\\)"),
        (members(["a"], indexed=True), [], "has another file of the name 'a' already"),
        (members(["a"], uuid=UUID), members(["a"], version=FIRST), "has another file of the name 'a' already"),
        (members(["../c"]), [], "refuses the name"),
        ([], members(["a"], uuid="x"), "must be a uuid"),
    ],
)
def test_changes_that_cannot_be(
    dss: DSSAPI, shelf: BundleShelf, add: list[Any], remove: list[Any], message: str
) -> None:
    """A name that would be there twice, or one that no DSS takes, is a ValueError, and no PATCH is sent."""
    error = change(dss, shelf, add, remove).failed(ValueError)
    with pytest.raises(ValueError, match=message):
        raise error
    assert shelf.patches == []


@pytest.mark.parametrize("version", [FIRST, None])
def test_a_bundle_that_is_not_there(dss: DSSAPI, shelf: BundleShelf, version: str | None) -> None:
    """A bundle or a version that is not there is told as that."""
    if version is None:
        call = dss.change_bundle(UUID, replica="aws", add_files=members(["c"]))
        feed(call, problem(404, "not_found")).failed(DSSNotFoundError)
    else:
        change(dss, shelf, members(["c"]), version=version).failed(DSSNotFoundError)
    assert shelf.patches == []


def test_a_manifest_that_is_none(dss: DSSAPI, shelf: BundleShelf) -> None:
    """A manifest whose files lack what every file has comes from no DSS."""
    del shelf.contents[START][0]["indexed"]
    assert "a file without 'indexed'" in str(change(dss, shelf, members(["c"])).failed(DSSProtocolError))


# After the end of a process


@pytest.mark.parametrize("version", [START, None])
@pytest.mark.parametrize("done", ["done", "not done"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_repeat_goes_on(dss: DSSAPI, shelf: BundleShelf, version: str | None, done: Done, at: int) -> None:
    """After the end of the process in any PATCH, done or not, a repeat sends only what is left, and makes it right."""
    shelf.contents[START] = members(range(10, 2000))
    wanted = members([f"new {number}" for number in range(2500)]), members(range(10, 1600))
    shelf.kill = (at, done)
    change(dss, shelf, *wanted, version=version).failed(KilledError)
    shelf.kill = None
    result = change(dss, shelf, *wanted, version=version).value
    expected = [*map(str, range(1600, 2000)), *(f"new {number}" for number in range(2500))]
    assert shelf.names(result.version) == expected
    assert result.patches == 3 - at + (done == "not done")
    assert list(shelf.contents) == [START, *versions(3)]
    assert change(dss, shelf, *wanted, version=version).value == Change(UUID, result.version, 2900, 0)


def test_what_others_made_of_it_is_left_out(dss: DSSAPI, shelf: BundleShelf) -> None:
    """A version in between that has something else too is not taken for an earlier try's: the result lacks it."""
    shelf.contents[FIRST] = members(["a", "b", "theirs", "c"])
    result = change(dss, shelf, members(["c", "d"])).value
    assert shelf.named == [START]
    assert shelf.names(result.version) == ["a", "b", "c", "d"]


def test_what_others_made_of_an_earlier_try(dss: DSSAPI, shelf: BundleShelf) -> None:
    """Another's version on top of an earlier try's does not hide that one."""
    shelf.contents |= {FIRST: members(["a", "b", "c"]), SECOND: members(["a", "b", "c", "theirs"])}
    result = change(dss, shelf, members(["c", "d"])).value
    assert shelf.named == [FIRST]
    assert shelf.names(result.version) == ["a", "b", "c", "d"]


def test_a_version_without_any_of_it(dss: DSSAPI, shelf: BundleShelf) -> None:
    """A newer version that is no step of the change, such as one that takes a step back, is not gone on from."""
    shelf.contents |= {FIRST: members(["a", "b", "c"]), SECOND: members(["a", "b"])}
    change(dss, shelf, members(["c", "d"]))
    assert shelf.named == [FIRST]


def test_the_latest_is_the_newest(dss: DSSAPI, shelf: BundleShelf) -> None:
    """Without a version the newest is changed, although a server still tells an older one, as those of a DSS do."""
    shelf.contents[FIRST] = members(["a", "b", "theirs"])
    shelf.remembered = START
    result = change(dss, shelf, members(["c"]), version=None).value
    assert shelf.named == [FIRST]
    assert shelf.names(result.version) == ["a", "b", "theirs", "c"]


def test_a_version_that_is_shown_as_another(dss: DSSAPI, shelf: BundleShelf, caplog: pytest.LogCaptureFixture) -> None:
    """Where a server shows what a PATCH made in the place of what it changed, the change goes on from what it shows."""
    shelf.contents[FIRST] = members(["a", "b", "c"])
    shelf.shown = {START: FIRST}
    result = change(dss, shelf, members(["c", "d"])).value
    assert shelf.named == [FIRST]
    assert shelf.names(result.version) == ["a", "b", "c", "d"]
    assert f"{UUID}.{START} is shown as version {FIRST}" in caplog.text


def test_a_step_that_is_shown_as_another(dss: DSSAPI, shelf: BundleShelf) -> None:
    """What is shown in the place of another version is not taken for the content of that one."""
    shelf.contents |= {FIRST: members(["a", "b", "c"]), SECOND: members(["a", "b", "c", "d"])}
    shelf.shown, shelf.unlisted = {FIRST: SECOND}, frozenset({SECOND})
    result = change(dss, shelf, members(["c", "d"])).value
    assert shelf.named == [START]
    assert shelf.names(result.version) == ["a", "b", "c", "d"]


# Answers that leave open whether it was done


@pytest.mark.parametrize("done", ["done", "not done"])
@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
@pytest.mark.parametrize("at", [0, 1])
def test_unclear_answers(dss: DSSAPI, shelf: BundleShelf, answer: Answer, done: Done, at: int) -> None:
    """After an unclear answer a PATCH is sent again only if it was not done, and each version is made once."""
    shelf.troubles = [None] * at + [(answer, done)]
    result = change(dss, shelf, members(range(1500))).value
    assert (result.version, list(shelf.contents)) == (SECOND, [START, FIRST, SECOND])
    assert shelf.names(SECOND) == ["a", "b", *map(str, range(1500))]
    assert shelf.named == [START, FIRST] if done == "done" else [[START, START, FIRST], [START, FIRST, FIRST]][at]


@pytest.mark.parametrize("answer", ["502", "504", "read timeout", "dropped"])
def test_what_is_done_late(dss: DSSAPI, shelf: BundleShelf, answer: str) -> None:
    """Where only the gateway or nobody answered, the DSS is given time to finish, and the PATCH is not sent again."""
    shelf.troubles = [(UNCLEAR[answer], "late")]
    started = shelf.clock.now
    result = change(dss, shelf, members(["c"])).value
    assert (result.version, shelf.named) == (FIRST, [START])
    assert LATE <= shelf.clock.now - started <= 30


def test_the_look_does_not_end_with_the_connections_patience(clock: Clock, shelf: BundleShelf) -> None:
    """Also with a connection that retries nothing, a PATCH is looked for as long as a DSS may work at it."""
    impatient = DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=1, seconds=0))
    shelf.troubles = [(UNCLEAR["504"], "late")]
    assert change(impatient, shelf, members(["c"])).value.version == FIRST
    assert shelf.named == [START]


def test_another_version_is_not_taken_for_it(dss: DSSAPI, shelf: BundleShelf) -> None:
    """What somebody else made meanwhile is not taken for what an unclear PATCH made."""
    shelf.troubles = [(UNCLEAR["500"], "not done")]
    shelf.contents[FIRST] = members(["a", "b", "theirs"])
    result = change(dss, shelf, members(["c"])).value
    assert shelf.named == [START, START]
    assert (result.version, shelf.names(result.version)) == (SECOND, ["a", "b", "c"])


@pytest.mark.parametrize(
    "answer",
    [problem(429), problem(503, "read_only"), broken("dns"), broken("refused"), broken("connect timeout")],
)
def test_what_did_not_arrive(dss: DSSAPI, shelf: BundleShelf, answer: Answer) -> None:
    """A PATCH that no DSS worked at is sent again without a look."""
    shelf.troubles = [(answer, "not done")] * 2
    fed = change(dss, shelf, members(["c"]))
    assert fed.value.version == FIRST
    assert [sent.split()[0] for sent in fed.sent] == ["GET", "GET", "PATCH", "PATCH", "PATCH"]


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
def test_it_is_sent_twice_at_most(dss: DSSAPI, shelf: BundleShelf, answer: Answer) -> None:
    """A second unclear answer to a PATCH that was not done ends it; nothing was made."""
    shelf.troubles = [(answer, "not done")] * 2
    fed = change(dss, shelf, members(["c"]))
    assert isinstance(fed.error, DSSConnectionError if isinstance(answer, DSSConnectionError) else DSSResponseError)
    assert (shelf.named, list(shelf.contents)) == ([START, START], [START])


# Ends in the middle


@pytest.mark.parametrize(
    ("answer", "kind", "permanent"),
    [
        (problem(400, "duplicate_filename"), DSSResponseError, True),
        (problem(401, "Unauthorized"), DSSAuthError, True),
        (problem(403, "Forbidden"), DSSAuthError, True),
        (problem(404, "not_found"), DSSNotFoundError, True),
        (problem(409), DSSConflictError, True),
        (problem(422, "invalid_link"), DSSResponseError, True),
        (problem(408), DSSResponseError, False),
    ],
)
def test_a_clear_refusal(
    dss: DSSAPI, shelf: BundleShelf, answer: Answer, kind: type[DSSError], permanent: bool
) -> None:
    """A PATCH that was refused is not looked for; the error is the DSS's, or tells the last good version as well."""
    shelf.troubles = [(answer, "not done")]
    first = change(dss, shelf, members(range(2500))).failed(kind)
    assert first.permanent is permanent
    shelf.troubles, shelf.patches = [None, None, (answer, "not done")], []
    later = change(dss, shelf, members(range(2500))).failed(DSSChangeError)
    assert (later.resource, later.uuid, later.version, later.done, later.permanent) == (
        "bundle",
        UUID,
        SECOND,
        2,
        permanent,
    )
    assert later.reason == str(first)
    assert f"bundle {UUID}: stopped after 2 PATCHes; the last good version is {SECOND}: PATCH" in str(later)
    assert shelf.named == [START, FIRST, SECOND]


def test_a_repeat_that_gets_no_further(dss: DSSAPI, shelf: BundleShelf) -> None:
    """A repeat that fails at its first PATCH tells the version that an earlier try had reached."""
    shelf.kill = (2, "done")
    change(dss, shelf, members(range(2500))).failed(KilledError)
    shelf.kill, shelf.troubles = None, [(problem(400), "not done")]
    error = change(dss, shelf, members(range(2500))).failed(DSSChangeError)
    assert (error.version, error.done) == (SECOND, 0)
    assert "stopped after 0 PATCHes" in str(error)
    assert change(dss, shelf, members(range(2500))).value == Change(UUID, THIRD, 2502, 1)


def test_a_look_that_fails(dss: DSSAPI, shelf: BundleShelf) -> None:
    """When the DSS goes away altogether, it ends with what is known, and a repeat finds what was done."""
    shelf.troubles = [None, (UNCLEAR["dropped"], "done")]

    def answer(request: Any) -> Answer:
        return broken("refused") if request.method and len(shelf.patches) == 2 else shelf(request)

    call = dss.change_bundle(UUID, replica="aws", version=START, add_files=members(range(1500)))
    error = converse(call, answer, clock=shelf.clock).failed(DSSChangeError)
    assert (error.version, error.permanent) == (FIRST, False)
    assert change(dss, shelf, members(range(1500))).value == Change(UUID, SECOND, 1502, 0)


@pytest.mark.parametrize(
    ("answer", "sent"), [(ok({"message": "Internal server error"}, 500), 2), (refusal("file_missing"), 1)]
)
def test_a_missing_file_is_named(dss: DSSAPI, shelf: BundleShelf, answer: Answer, sent: int) -> None:
    """Where a DSS answers 500 since a file to add is not there, the error names it, and a retry may help."""
    shelf.missing = {UUID: answer}
    error = change(dss, shelf, members(["c"]) + members(["gone"], uuid=UUID)).failed(DSSResponseError)
    assert (error.status, error.code, error.permanent) == (500, "file_missing", False)
    assert f"PATCH /v1/bundles/{UUID}: 500 file_missing: there is no file {UUID}.{VERSION} ('gone') in aws" in str(
        error
    )
    assert list(shelf.contents) == [START]
    assert len(shelf.patches) == sent
