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


def restored(watermark: BundleWatermark) -> BundleWatermark:
    return BundleWatermark.from_state(json.loads(json.dumps(watermark.to_state())))


def test_added_versions_are_known() -> None:
    first, second = bundle(), bundle()
    newer, older = bundle("2024-03-01T000000.000000Z", first["uuid"]), bundle("2024-01-02T000000.000000Z")
    watermark = BundleWatermark(LIMIT)
    watermark.add([first, second])
    assert watermark.unseen([newer, first, older, second, newer]) == [newer, older]
    assert watermark.unseen([newer, first, older, second]) == [newer, older]


def test_state_restores_the_watermark() -> None:
    known = [bundle() for _ in range(50)]
    watermark = BundleWatermark(LIMIT)
    watermark.add(known)
    again = restored(watermark)
    assert (again.newer_than, again.unseen(known), again.to_state()) == (LIMIT, [], watermark.to_state())


def test_known_versions_are_kept_until_the_limit_rises() -> None:
    days = [bundle(f"2024-02-{day:02}T120000.000000Z") for day in range(1, 11)]
    watermark = BundleWatermark(LIMIT)
    watermark.add(days)
    for variant in (watermark, restored(watermark)):
        assert variant.unseen([]) == []
        assert variant.unseen(days) == []
        variant.rise("2024-02-05T120000.000000Z")
        assert variant.newer_than == "2024-02-05T120000.000000Z"
        assert variant.unseen(days[4:]) == []
        assert len(variant.unseen(days)) == 4
        variant.rise(LIMIT)
        assert variant.newer_than == "2024-02-05T120000.000000Z"
    assert len(json.dumps(watermark.to_state())) == len(json.dumps(BundleWatermark(LIMIT).to_state())) + 6 * 12


def test_state_is_limited_to_64_kib(caplog: pytest.LogCaptureFixture) -> None:
    many = [bundle() for _ in range(MOST_KEPT)]
    watermark = BundleWatermark(LIMIT)
    watermark.add(many)
    assert restored(watermark).unseen(many) == []
    assert not caplog.records
    more = [bundle() for _ in range(500)]
    watermark.add(more)
    assert len(json.dumps(watermark.to_state())) <= 64 * 1024
    assert watermark.unseen([*many, *more]) == []
    assert len(restored(watermark).unseen([*many, *more])) == 500
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
def test_invalid_state_is_an_error(state: Any) -> None:
    with pytest.raises(ValueError, match="not written by a DSSNewBundleTrigger"):
        BundleWatermark.from_state(state)


def test_hundred_thousand_versions_do_not_collide() -> None:
    uuids = random.Random(1)  # noqa: S311 - reproducible
    known = [bundle(uuid=f"{uuids.getrandbits(128):032x}") for _ in range(50_000)]
    others = [bundle(uuid=f"{uuids.getrandbits(128):032x}") for _ in range(50_000)]
    watermark = BundleWatermark(LIMIT)
    watermark.add(known)
    assert len(watermark.unseen([*known, *others])) == 50_000
    assert fqid(known[0]) == f"{known[0]['uuid']}.2024-02-01T000000.000000Z"
