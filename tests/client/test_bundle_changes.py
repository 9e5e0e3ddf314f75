"""Changes of bundles, without network and with a test clock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.models import Change
from airflow_provider_hca.client.retry import RetryPolicy
from airflow_provider_hca.client.sansio import Request
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

from .feeding import OTHER, URL, UUID, VERSION, Answer, Clock, Fed, broken, converse, feed, ok, problem, refusal
from .shelf import LATE, START, UNCLEAR, BundleShelf, Done, KilledError, members, versions

FIRST, SECOND, THIRD = versions(3)


@pytest.fixture
def dss(clock: Clock) -> DSSAPI:
    return DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=3))


@pytest.fixture
def shelf(clock: Clock) -> BundleShelf:
    """Return a bundle of two files."""
    return BundleShelf(clock, {START: members(["a", "b"])})


def change(
    dss: DSSAPI,
    shelf: BundleShelf,
    add: Iterable[Mapping[str, Any]] = (),
    remove: Iterable[Mapping[str, Any]] = (),
    *,
    version: str | None = START,
    uuid: str = UUID,
    replacing: Iterable[Mapping[str, Any]] = (),
) -> Fed[Change]:
    call = dss.change_bundle(
        uuid, replica="aws", version=version, add_files=add, remove_files=remove, replace_files=replacing
    )
    return converse(call, shelf, clock=shelf.clock)


# Batches


@pytest.mark.parametrize(("count", "pieces"), [(1, [1]), (1000, [1000]), (1001, [1000, 1]), (2500, [1000, 1000, 500])])
def test_additions_are_sent_in_batches_of_1000_in_order(
    dss: DSSAPI, shelf: BundleShelf, count: int, pieces: list[int]
) -> None:
    result = change(dss, shelf, members(range(count))).value
    made = versions(len(pieces))
    assert [len(body["add_files"]) for _, body in shelf.patches] == pieces
    assert shelf.named == [START, *made[:-1]]
    assert result == Change(UUID, made[-1], count + 2, len(pieces))
    assert shelf.names(made[-1]) == ["a", "b", *map(str, range(count))]


def test_removals_are_sent_in_batches_of_1000_with_additions(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.contents[START] = members(range(2500))
    result = change(dss, shelf, members(["a", "b"]), members(range(2400))).value
    sizes = [(len(body["add_files"]), len(body["remove_files"])) for _, body in shelf.patches]
    assert sizes == [(2, 1000), (0, 1000), (0, 400)]
    assert (result.count, shelf.names(result.version)) == (102, [*map(str, range(2400, 2500)), "a", "b"])


def test_replacing_file_is_added_no_earlier_than_the_other_is_removed(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.contents[START] = members(range(2500))
    newer = members(range(2499, -1, -1), version="2022-02-02T000000.000000Z")
    result = change(dss, shelf, newer, members(range(2500))).value
    assert sorted(shelf.contents[result.version], key=str) == sorted(newer, key=str)
    assert len(shelf.patches) == 3


def test_indexed_flag_changes_by_removal_and_addition(dss: DSSAPI, shelf: BundleShelf) -> None:
    result = change(dss, shelf, members(["a"], indexed=True), members(["a"])).value
    assert shelf.contents[result.version] == members(["b"]) + members(["a"], indexed=True)
    assert change(dss, shelf, members(["a"], indexed=True), members(["a"])).value == replace(result, patches=0)


def test_replace_files_removes_those_of_the_same_names(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.contents[START] += members(["c", "d"])
    replacing = members(["a"], uuid=UUID) + members(["b"]) + members(["c"], indexed=True) + members(["new"])
    wanted = members(["e"]), members(["d"])
    result = change(dss, shelf, *wanted, replacing=replacing).value
    assert sorted(shelf.contents[result.version], key=str) == sorted(replacing + members(["e"]), key=str)
    (body,) = (body for _, body in shelf.patches)
    assert sorted(file["name"] for file in body["remove_files"]) == ["a", "c", "d"]
    assert change(dss, shelf, *wanted, replacing=replacing).value == replace(result, patches=0)


def test_replace_files_with_a_name_to_add_is_value_error(dss: DSSAPI, shelf: BundleShelf) -> None:
    error = change(dss, shelf, members(["c"]), replacing=members(["c"], uuid=UUID)).failed(ValueError)
    assert "'c' would be added more than once" in str(error)
    assert shelf.patches == []


@pytest.mark.parametrize("version", [START, None])
@pytest.mark.parametrize("done", ["done", "not done"])
@pytest.mark.parametrize("at", [1, 2])
def test_replace_files_repeated_after_kill_replaces_the_rest(
    dss: DSSAPI, shelf: BundleShelf, version: str | None, done: Done, at: int
) -> None:
    shelf.contents[START] = members(range(1500))
    replacing, shelf.kill = members(range(1200), uuid=UUID), (at, done)
    change(dss, shelf, version=version, replacing=replacing).failed(KilledError)
    shelf.kill = None
    result = change(dss, shelf, version=version, replacing=replacing).value
    expected = members(range(1200, 1500)) + replacing
    assert sorted(shelf.contents[result.version], key=str) == sorted(expected, key=str)
    assert result.patches == 2 - at + (done == "not done")


@pytest.mark.parametrize("version", [START, None])
def test_no_patch_without_differences(dss: DSSAPI, shelf: BundleShelf, version: str | None) -> None:
    result = change(dss, shelf, members(["b", "a"]), members(["c"]), version=version).value
    assert (result, shelf.patches) == (Change(UUID, START, 2, 0), [])


def test_upper_case_uuid_is_sent_in_lower_case(dss: DSSAPI, shelf: BundleShelf) -> None:
    """An upper-case UUID would corrupt a DSS's store."""
    loud = [file | {"uuid": file["uuid"].upper()} for file in members(["c"])]
    fed = change(dss, shelf, loud, uuid=UUID.upper())
    assert fed.value.version == FIRST
    assert shelf.contents[FIRST] == members("abc")
    assert not [request for request in fed.requests if UUID.upper() in request.url]


# Refused before any change


@pytest.mark.parametrize(
    ("add", "remove", "message"),
    [
        (members(["c", "c"], uuid=UUID)[:1] + members(["c"]), [], "'c' would be added more than once"),
        (members(["a"], uuid=UUID), [], r"bundle .*\.2020.* already has another file named 'a'; remove it"),
        (members(["b", "a"], uuid=UUID), [], "named 'a' \\(and 1 more such names\\)"),
        (members(["a"], indexed=True), [], "already has another file named 'a'"),
        (members(["a"], uuid=UUID), members(["a"], version=FIRST), "already has another file named 'a'"),
        (members(["../c"]), [], "refuses names with a segment '.'"),
        ([], members(["a"], uuid="x"), "must be a UUID"),
    ],
)
def test_invalid_change_is_value_error_without_patch(
    dss: DSSAPI, shelf: BundleShelf, add: list[Any], remove: list[Any], message: str
) -> None:
    error = change(dss, shelf, add, remove).failed(ValueError)
    with pytest.raises(ValueError, match=message):
        raise error
    assert shelf.patches == []


@pytest.mark.parametrize("version", [FIRST, None])
def test_missing_bundle_is_not_found(dss: DSSAPI, shelf: BundleShelf, version: str | None) -> None:
    if version is None:
        call = dss.change_bundle(UUID, replica="aws", add_files=members(["c"]))
        feed(call, problem(404, "not_found")).failed(DSSNotFoundError)
    else:
        change(dss, shelf, members(["c"]), version=version).failed(DSSNotFoundError)
    assert shelf.patches == []


def test_manifest_without_file_keys_is_protocol_error(dss: DSSAPI, shelf: BundleShelf) -> None:
    del shelf.contents[START][0]["indexed"]
    assert "a file without 'indexed'" in str(change(dss, shelf, members(["c"])).failed(DSSProtocolError))


# After a kill


@pytest.mark.parametrize("version", [START, None])
@pytest.mark.parametrize("done", ["done", "not done"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_repeat_after_kill_sends_only_the_remaining_changes(
    dss: DSSAPI, shelf: BundleShelf, version: str | None, done: Done, at: int
) -> None:
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


def test_version_with_foreign_changes_is_not_resumed(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.contents[FIRST] = members(["a", "b", "theirs", "c", "d"])
    result = change(dss, shelf, members(["c", "d", "e"])).value
    assert shelf.named == [START]
    assert shelf.names(result.version) == ["a", "b", "c", "d", "e"]


def test_version_of_another_creator_is_not_resumed(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.contents[FIRST] = members(["a", "b", "c"])
    shelf.creators = {FIRST: 2}
    result = change(dss, shelf, members(["c", "d"])).value
    assert shelf.named == [START]
    assert shelf.names(result.version) == ["a", "b", "c", "d"]


def test_foreign_version_does_not_hide_an_earlier_attempt(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.contents |= {FIRST: members(["a", "b", "c"]), SECOND: members(["a", "b", "c", "theirs"])}
    result = change(dss, shelf, members(["c", "d"])).value
    assert shelf.named == [FIRST]
    assert shelf.names(result.version) == ["a", "b", "c", "d"]


def test_newer_version_without_progress_is_not_resumed(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.contents |= {FIRST: members(["a", "b", "c"]), SECOND: members(["a", "b"])}
    change(dss, shelf, members(["c", "d"]))
    assert shelf.named == [FIRST]


def test_latest_version_is_the_newest_in_the_list(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.contents[FIRST] = members(["a", "b", "theirs"])
    result = change(dss, shelf, members(["c"]), version=None).value
    assert shelf.named == [FIRST]
    assert shelf.names(result.version) == ["a", "b", "theirs", "c"]


@pytest.mark.parametrize("version", [START, None])
def test_deleted_version_in_a_cache_is_not_found(dss: DSSAPI, shelf: BundleShelf, version: str | None) -> None:
    shelf.unlisted = frozenset({START})
    error = change(dss, shelf, members(["c"]), version=version).failed(DSSNotFoundError)
    assert f"GET /v1/bundles/{UUID}: 404 not_found: bundle {UUID}" in str(error)
    assert "does not exist in aws, or was deleted" in str(error)
    assert shelf.patches == []


# Caches that a failed PATCH changed

GONE = members(["gone"], uuid=UUID)


def own_failed_attempt(dss: DSSAPI, shelf: BundleShelf) -> None:
    """Fail because a file is not registered yet, after the removal of "a" in the cache of process 0."""
    shelf.missing, shelf.order = {OTHER: ok(status=500)}, [0]
    change(dss, shelf, members(["c"]), members(["a"])).failed(DSSResponseError)
    shelf.missing = {}


def foreign_removal_failed(_: DSSAPI, shelf: BundleShelf) -> None:
    shelf.missing = {UUID: ok(status=500)}
    assert shelf.foreign_patch(0, GONE, members(["b"])) == ok(status=500)


def foreign_addition_failed(_: DSSAPI, shelf: BundleShelf) -> None:
    assert shelf.foreign_patch(0, members(["c", "b"])) == problem(400, "duplicate_filename")


def foreign_replacement_failed(dss: DSSAPI, shelf: BundleShelf) -> None:
    """Leave "c" and another "b" in the cache of process 0, each once."""
    shelf.foreign_patch(0, members(["c"]) + members(["b"], version=FIRST))
    foreign_removal_failed(dss, shelf)


def foreign_clash_failed(dss: DSSAPI, shelf: BundleShelf) -> None:
    """Leave another "c" in the cache of process 0, so that the addition of "c" is refused."""
    shelf.foreign_patch(0, members(["c"], version=FIRST) + members(["b"]))
    foreign_removal_failed(dss, shelf)


def foreign_patch_succeeded(_: DSSAPI, shelf: BundleShelf) -> None:
    shelf.foreign_patch(0, members(["theirs"]), members(["b"]))


FALSE = [
    own_failed_attempt,
    foreign_removal_failed,
    foreign_addition_failed,
    foreign_replacement_failed,
    foreign_clash_failed,
    foreign_patch_succeeded,
]
CHOICE = random.Random(7)  # noqa: S311 - a repeatable choice
ORDERS = [CHOICE.choices(range(4), k=40) for _ in range(100)]  # of requests to four processes
WORST = [*itertools.product([0, 1], repeat=6)]  # only to those that have false files, or will have some after a kill


@pytest.mark.parametrize("falsify", FALSE)
@pytest.mark.parametrize("kill", [None, "done", "not done"])
def test_change_reports_what_is_stored_whichever_processes_answer(
    dss: DSSAPI, clock: Clock, falsify: Callable[[DSSAPI, BundleShelf], None], kill: Done | None
) -> None:
    failed = 0
    for order in ORDERS + WORST:
        shelf = BundleShelf(clock, {START: members(["a", "b"])}, caches={process: {} for process in range(4)})
        falsify(dss, shelf)
        shelf.missing, shelf.patches, shelf.order = {}, [], [*order]
        wanted = members(["c"]), members(["a"])
        if kill:
            shelf.kill = (1, kill)
            change(dss, shelf, *wanted)
            shelf.kill, shelf.order = None, [*order]
        fed = change(dss, shelf, *wanted)
        if fed.error is None:
            assert sorted(shelf.names(fed.value.version)) == ["b", "c"], order
            assert fed.value.count == 2
        else:
            failed += order in ORDERS
            assert isinstance(fed.error, DSSChangeError | DSSProtocolError), order
            assert not fed.error.permanent
            assert "not store" in str(fed.error) or "from the caches of the DSS" in str(fed.error)
    assert failed <= 10


@pytest.mark.parametrize("falsify", FALSE)
def test_change_of_a_bundle_that_only_false_caches_show_fails(
    dss: DSSAPI, shelf: BundleShelf, falsify: Callable[[DSSAPI, BundleShelf], None]
) -> None:
    shelf.caches = {0: {}}
    falsify(dss, shelf)
    shelf.missing, shelf.patches = {}, []
    error = change(dss, shelf, members(["c"]), members(["a"])).failed(DSSProtocolError)
    assert not error.permanent
    assert shelf.patches == []


def test_false_files_of_large_bundle_are_corrected(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.contents[START], shelf.caches = members(range(1000)), {0: {}, 1: {}}
    shelf.missing = {UUID: ok(status=500)}
    shelf.foreign_patch(1, GONE, members(range(3)))
    shelf.order = [0, 0, 1, 0]
    result = change(dss, shelf, members(range(1000, 3200)), members(range(10, 20))).value
    assert {*shelf.names(result.version)} == {*map(str, range(3200))} - {*map(str, range(10, 20))}
    assert (result.count, result.patches) == (3190, 4)


def test_change_without_answer_to_the_comparison_is_made_anyway(
    dss: DSSAPI, shelf: BundleShelf, caplog: pytest.LogCaptureFixture
) -> None:
    """A DSS cannot compare a large bundle in its time limit."""
    shelf.put = problem(504, "timed_out")
    assert change(dss, shelf, members(["a"])).value == Change(UUID, FIRST, 2, 1)
    assert change(dss, shelf, members(["c"])).value.count == 3
    assert f"The files of bundle {UUID}.{START} cannot be confirmed" in caplog.text


def test_change_of_few_files_takes_five_requests(dss: DSSAPI, shelf: BundleShelf) -> None:
    fed = change(dss, shelf, members(range(10)))
    assert [sent.partition("?")[0] for sent in fed.sent] == [
        "GET /bundles/all",
        f"GET /bundles/{UUID}",
        f"PUT /bundles/{UUID}",
        f"PATCH /bundles/{UUID}",
        f"GET /bundles/{UUID}",
    ]


# Unclear responses


@pytest.mark.parametrize("done", ["done", "not done"])
@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
@pytest.mark.parametrize("at", [0, 1])
def test_unclear_response_resends_only_if_not_applied(
    dss: DSSAPI, shelf: BundleShelf, answer: Answer, done: Done, at: int
) -> None:
    shelf.troubles = [None] * at + [(answer, done)]
    result = change(dss, shelf, members(range(1500))).value
    assert (result.version, list(shelf.contents)) == (SECOND, [START, FIRST, SECOND])
    assert shelf.names(SECOND) == ["a", "b", *map(str, range(1500))]
    assert shelf.named == [START, FIRST] if done == "done" else [[START, START, FIRST], [START, FIRST, FIRST]][at]


@pytest.mark.parametrize("answer", ["502", "504", "read timeout", "dropped"])
def test_unclear_response_of_gateway_waits_for_late_application(dss: DSSAPI, shelf: BundleShelf, answer: str) -> None:
    shelf.troubles = [(UNCLEAR[answer], "late")]
    started = shelf.clock.now
    result = change(dss, shelf, members(["c"])).value
    assert (result.version, shelf.named) == (FIRST, [START])
    assert LATE <= shelf.clock.now - started <= 36


def test_check_after_unclear_response_ignores_the_retry_policy_of_the_connection(
    clock: Clock, shelf: BundleShelf
) -> None:
    impatient = DSSAPI(URL, auth=StaticToken("tok-3"), retry=RetryPolicy(attempts=1, seconds=0))
    shelf.troubles = [(UNCLEAR["504"], "late")]
    assert change(impatient, shelf, members(["c"])).value.version == FIRST
    assert shelf.named == [START]


def test_check_after_unclear_response_ignores_foreign_versions(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.troubles = [(UNCLEAR["500"], "not done")]
    shelf.contents[FIRST] = members(["a", "b", "theirs"])
    result = change(dss, shelf, members(["c"])).value
    assert shelf.named == [START, START]
    assert (result.version, shelf.names(result.version)) == (SECOND, ["a", "b", "c"])


def overtaken(shelf: BundleShelf, names: Iterable[str]) -> Callable[[Request], Answer]:
    """Return a DSS that does not do the first PATCH, while another client creates a version with these files."""
    shelf.troubles = [(UNCLEAR["500"], "not done")]

    def answer(request: Request) -> Answer:
        answered = shelf(request)
        if request.method == "PATCH":
            shelf.contents.setdefault(FIRST, members(names))
        return answered

    return answer


def test_check_after_unclear_response_ignores_versions_of_other_creators(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.creators = {FIRST: 2}
    call = dss.change_bundle(UUID, replica="aws", version=START, add_files=members(["c"]))
    fed = converse(call, overtaken(shelf, ["a", "b", "c"]), clock=shelf.clock)
    assert fed.value == Change(UUID, SECOND, 3, 1)


def test_check_after_unclear_response_ignores_versions_without_the_removal(dss: DSSAPI, shelf: BundleShelf) -> None:
    call = dss.change_bundle(UUID, replica="aws", version=START, remove_files=members(["a"]))
    fed = converse(call, overtaken(shelf, ["a", "b", "theirs"]), clock=shelf.clock)
    assert fed.value == Change(UUID, SECOND, 1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        problem(429),
        problem(503, "read_only"),
        refusal("read_only"),
        broken("dns"),
        broken("refused"),
        broken("connect timeout"),
    ],
)
def test_request_that_did_not_arrive_is_resent_without_check(dss: DSSAPI, shelf: BundleShelf, answer: Answer) -> None:
    shelf.troubles = [(answer, "not done")] * 2
    fed = change(dss, shelf, members(["c"]))
    assert fed.value.version == FIRST
    assert [sent.split()[0] for sent in fed.sent] == ["GET", "GET", "PUT", "PATCH", "PATCH", "PATCH", "GET"]


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
def test_patch_is_sent_twice_at_most(dss: DSSAPI, shelf: BundleShelf, answer: Answer) -> None:
    shelf.troubles = [(answer, "not done")] * 2
    fed = change(dss, shelf, members(["c"]))
    assert isinstance(fed.error, DSSConnectionError | DSSResponseError | DSSProtocolError)
    assert not fed.error.permanent
    assert (shelf.named, list(shelf.contents)) == ([START, START], [START])


# Failures


@pytest.mark.parametrize(
    ("answer", "kind", "permanent"),
    [
        (problem(400, "illegal_version"), DSSResponseError, True),
        (problem(401, "Unauthorized"), DSSAuthError, True),
        (problem(403, "Forbidden"), DSSAuthError, True),
        (problem(404, "not_found"), DSSNotFoundError, True),
        (problem(409), DSSConflictError, True),
        (problem(422, "invalid_link"), DSSResponseError, True),
        (problem(408), DSSResponseError, False),
    ],
)
def test_refused_patch_is_not_checked(
    dss: DSSAPI, shelf: BundleShelf, answer: Answer, kind: type[DSSError], permanent: bool
) -> None:
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
    assert later.reason == str(first).replace(START, SECOND)
    assert f"bundle {UUID}: stopped after 2 PATCHes at version {SECOND}: PATCH" in str(later)
    assert shelf.named == [START, FIRST, SECOND]


def test_repeat_without_progress_names_the_last_version(dss: DSSAPI, shelf: BundleShelf) -> None:
    shelf.kill = (2, "done")
    change(dss, shelf, members(range(2500))).failed(KilledError)
    shelf.kill, shelf.troubles = None, [(problem(400), "not done")]
    error = change(dss, shelf, members(range(2500))).failed(DSSChangeError)
    assert (error.version, error.done) == (SECOND, 0)
    assert "stopped after 0 PATCHes" in str(error)
    assert change(dss, shelf, members(range(2500))).value == Change(UUID, THIRD, 2502, 1)


def test_failing_check_raises_and_repeat_resumes(dss: DSSAPI, shelf: BundleShelf) -> None:
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
def test_missing_file_is_named_after_bare_500(dss: DSSAPI, shelf: BundleShelf, answer: Answer, sent: int) -> None:
    shelf.missing = {UUID: answer}
    error = change(dss, shelf, members(["c"]) + members(["gone"], uuid=UUID)).failed(DSSResponseError)
    assert (error.status, error.code, error.permanent) == (500, "file_missing", False)
    assert f"PATCH /v1/bundles/{UUID}: 500 file_missing: file {UUID}.{VERSION} ('gone') does not exist in aws" in str(
        error
    )
    assert list(shelf.contents) == [START]
    assert len(shelf.patches) == sent
