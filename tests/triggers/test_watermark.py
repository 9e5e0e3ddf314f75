from __future__ import annotations

import json
import random
from typing import Any

import pytest

from airflow_provider_hca.triggers.watermark import MOST_KEPT, BundleWatermark, fqid
from tests.local.server import new_uuid

LIMIT = "2024-01-01T000000.000000Z"


def bundle(version: str = "2024-02-01T000000.000000Z", uuid: str = "") -> dict[str, str]:
    return {"uuid": uuid or new_uuid(), "version": version}


def restored(seen: BundleWatermark) -> BundleWatermark:
    return BundleWatermark.from_state(json.loads(json.dumps(seen.to_state())))


def test_what_was_added_is_known() -> None:
    """Versions are told apart, also of one uuid; what is unseen comes once, ordered by version."""
    first, second = bundle(), bundle()
    newer, older = bundle("2024-03-01T000000.000000Z", first["uuid"]), bundle("2024-01-02T000000.000000Z")
    seen = BundleWatermark(LIMIT)
    seen.add([first, second])
    assert seen.unseen([newer, first, older, second, newer]) == [older, newer]
    assert seen.unseen([newer, first, older, second]) == [older, newer]


def test_a_state_keeps_all_of_it() -> None:
    """What is known, and up to which version all is, goes through JSON and back."""
    known = [bundle() for _ in range(50)]
    seen = BundleWatermark(LIMIT)
    seen.add(known)
    again = restored(seen)
    assert (again.newer_than, again.unseen(known), again.to_state()) == (LIMIT, [], seen.to_state())


def test_what_is_known_stays_so_until_it_is_old() -> None:
    """A known version that listings lack is still known when one has it again; the limit's rise ends that."""
    days = [bundle(f"2024-02-{day:02}T120000.000000Z") for day in range(1, 11)]
    seen = BundleWatermark(LIMIT)
    seen.add(days)
    for each in (seen, restored(seen)):
        assert each.unseen([]) == []
        assert each.unseen(days) == []
        each.rise("2024-02-05T120000.000000Z")
        assert each.newer_than == "2024-02-05T120000.000000Z"
        assert each.unseen(days[4:]) == []
        assert len(each.unseen(days)) == 4
        each.rise(LIMIT)
        assert each.newer_than == "2024-02-05T120000.000000Z"
    assert len(json.dumps(seen.to_state())) == len(json.dumps(BundleWatermark(LIMIT).to_state())) + 6 * 12


def test_a_state_has_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    """A state fits into 64 KiB; what does not fit is new again after a restart, and a warning says so."""
    many = [bundle() for _ in range(MOST_KEPT)]
    seen = BundleWatermark(LIMIT)
    seen.add(many)
    assert restored(seen).unseen(many) == []
    assert not caplog.records
    more = [bundle() for _ in range(500)]
    seen.add(more)
    assert len(json.dumps(seen.to_state())) <= 64 * 1024
    assert seen.unseen([*many, *more]) == []
    assert len(restored(seen).unseen([*many, *more])) == 500
    assert "5500 bundle versions are newer than 2024-01-01T000000.000000Z, and the state holds 5000" in caplog.text


@pytest.mark.parametrize(
    "state",
    [
        {},
        [],
        "seen",
        {"newer_than": LIMIT},
        {"newer_than": "yesterday", "seen": ""},
        {"newer_than": LIMIT, "seen": 5},
        {"newer_than": LIMIT, "seen": "AAAA"},
        {"newer_than": LIMIT, "seen": "not base64!"},
    ],
)
def test_another_state_is_refused(state: Any) -> None:
    """What somebody else wrote into the store is not taken for a state."""
    with pytest.raises(ValueError, match="not written by a DSSNewBundleTrigger"):
        BundleWatermark.from_state(state)


def test_no_two_of_many_are_mistaken_for_each_other() -> None:
    """Of a hundred thousand versions none is taken for another one, although each is kept in nine bytes."""
    uuids = random.Random(1)  # noqa: S311 - the same ones each time
    known = [bundle(uuid=f"{uuids.getrandbits(128):032x}") for _ in range(50_000)]
    others = [bundle(uuid=f"{uuids.getrandbits(128):032x}") for _ in range(50_000)]
    seen = BundleWatermark(LIMIT)
    seen.add(known)
    assert len(seen.unseen([*known, *others])) == 50_000
    assert fqid(known[0]) == f"{known[0]['uuid']}.2024-02-01T000000.000000Z"
