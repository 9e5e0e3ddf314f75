from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_hca.client.identifiers import make_version
from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.triggers import new_bundles
from airflow_provider_hca.triggers.dss import DSSNewBundleTrigger
from tests.local.server import LocalDSS, new_uuid
from tests.running import connection, requests_of
from tests.triggers.lossy import LossyDSS
from tests.triggers.triggerer import Script, Store, Triggerer


@pytest.fixture(autouse=True)
def _before_airflow_3_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each Airflow run the tests of the repeated event; tests with `repeats` have both cases."""
    monkeypatch.setattr(new_bundles, "AIRFLOW_V_3_4_PLUS", False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture(scope="module")
def file(shared_dss: LocalDSS) -> str:
    """Return the UUID of the file of all bundles."""
    return shared_dss.new_file()


def ago(**time: float) -> str:
    return make_version(datetime.now(UTC) - timedelta(**time))


class Bundles:
    """Bundles of one test, with a common UUID prefix."""

    def __init__(self, dss: LocalDSS, file: str) -> None:
        self._dss, self._file = dss, file
        self.prefix = new_uuid()[:8]
        self.fqids: list[str] = []

    def put(self, version: str = "", uuid: str = "", replica: str = "aws") -> str:
        """Create a bundle, with the current time as its version by default; return its FQID."""
        uuid, version = uuid or self.prefix + new_uuid()[8:], version or make_version()
        answer = self._dss.put_bundle([self._dss.entry("a", self._file)], uuid, version, replica=replica)
        assert answer.status_code == 201, answer.text
        self.fqids.append(f"{uuid}.{version}")
        return self.fqids[-1]

    def trigger(self, **options: Any) -> DSSNewBundleTrigger:
        """Return a trigger for these bundles."""
        return DSSNewBundleTrigger(prefix=self.prefix, **options)


@pytest.fixture
def bundles(dss: LocalDSS, file: str) -> Bundles:
    return Bundles(dss, file)


def script_of(bundles: Bundles) -> Script:
    """Return bundles to create at certain seconds, of all kinds that a trigger could miss."""
    same_version = ago(seconds=1)
    uuid = bundles.prefix + new_uuid()[8:]
    return {
        10: lambda: bundles.put(uuid=uuid),
        11: lambda: bundles.put(same_version),
        12: lambda: bundles.put(same_version),
        90: lambda: bundles.put(ago(hours=3)),  # older than others
        91: lambda: bundles.put(uuid=uuid),  # another version of a bundle
        180: lambda: bundles.put(make_version(datetime(2990, 1, 1, tzinfo=UTC))),
        270: lambda: bundles.put(),  # after one of the future
    }


@pytest.mark.parametrize("repeats", [1, 0])
def test_each_new_bundle_fires(bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch, repeats: int) -> None:
    """Bundles that exist before fire no event; before Airflow 3.4, the last one of several fires again."""
    monkeypatch.setattr(new_bundles, "AIRFLOW_V_3_4_PLUS", not repeats)
    bundles.put()
    assert Triggerer(store, monkeypatch, script=script_of(bundles)).run(bundles.trigger(), until=500)
    _, newest, *same_version, older, other_version, future, after = bundles.fqids
    first, second = [newest] * repeats, [other_version] * repeats
    assert store.fqids == [*sorted(same_version), newest, *first, older, other_version, *second, future, after]
    event = store.events[0]
    assert event == {
        "uuid": event["uuid"],
        "version": event["version"],
        "fqid": f"{event['uuid']}.{event['version']}",
        "replica": "aws",
    }


@pytest.mark.parametrize("repeats", [2, 0])
def test_no_event_is_lost_by_a_kill_at_any_step(
    dss: LocalDSS, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repeats: int
) -> None:
    """A kill repeats at most the events of one poll."""
    monkeypatch.setattr(new_bundles, "AIRFLOW_V_3_4_PLUS", not repeats)
    kill_at, finished, doubled = 0, False, 0
    while not finished:
        kill_at += 1
        bundles, store = Bundles(dss, file), Store(tmp_path / str(kill_at))
        script = script_of(bundles)
        random.seed(kill_at)  # reproducible jitter
        before = bundles.put()
        first = Triggerer(store, monkeypatch, script=script, kill_at=kill_at)
        finished = first.run(bundles.trigger(), until=500)
        after = Triggerer(store, monkeypatch, script=script, now=first.now + 3)
        assert after.run(bundles.trigger(), until=max(500, first.now) + 200)
        assert len(bundles.fqids) == 8
        assert set(store.fqids) == set(bundles.fqids) - {before}, f"killed at step {kill_at}"
        assert len(store.fqids) <= 7 + repeats + 4
        doubled += len(store.fqids) - 7 - repeats
    assert kill_at > 30
    assert doubled > 0


def test_restart_fires_only_bundles_created_meanwhile(
    bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [bundles.put(), bundles.put(ago(days=400))]
    first = Triggerer(store, monkeypatch, script={1: bundles.put})
    assert first.run(bundles.trigger(), until=200)
    meanwhile = [bundles.put(ago(hours=12)), bundles.put(), bundles.put(ago(days=-2))]
    week = 7 * 86_400
    second = Triggerer(store, monkeypatch, now=week)
    assert second.run(bundles.trigger(), until=week + 200)
    reported = [bundles.fqids[2], *meanwhile, meanwhile[-1]]
    assert store.fqids == reported
    assert Triggerer(store, monkeypatch, now=week + 200).run(bundles.trigger(), until=week + 400)
    assert store.fqids == reported
    assert not set(known) & set(store.fqids)


def test_lookback_limits_the_age_of_a_new_version(
    dss: LocalDSS, file: str, bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = bundles.trigger(lookback=timedelta(hours=1))
    script: Script = {10: lambda: bundles.put(ago(minutes=50)), 20: lambda: bundles.put(ago(minutes=70))}
    assert Triggerer(store, monkeypatch, script=script).run(trigger, until=200)
    assert store.fqids == [bundles.fqids[0]]
    other = Bundles(dss, file)
    script = {10: lambda: other.put(ago(days=300))}
    assert Triggerer(store, monkeypatch, script=script).run(other.trigger(lookback=400 * 86_400), until=200)
    assert store.fqids == [bundles.fqids[0], other.fqids[0]]


def test_state_forgets_versions_older_than_lookback(
    bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = 86_400
    script: Script = {60 * minute: lambda: bundles.put() and None for minute in range(1, 20)}
    script[4 * day] = lambda: bundles.put(ago(days=-4))
    trigger = bundles.trigger(poll_interval=1800)
    assert Triggerer(store, monkeypatch, script=script).run(trigger, until=day)
    ((state,),) = (store.state.values(),)
    assert len(state["seen"]) == 19 * 12
    assert Triggerer(store, monkeypatch, script=script, now=day).run(trigger, until=5 * day)
    assert {*store.fqids} == {*bundles.fqids}
    ((state,),) = (store.state.values(),)
    assert len(state["seen"]) == 12
    assert ago(days=-2) < state["newer_than"] < ago(days=-4)


def test_since_fires_newer_bundles_at_the_first_start_only(
    bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = ago(days=10)
    newer = [bundles.put(), bundles.put(ago(days=9)), bundles.put(ago(days=3))]
    bundles.put(since)
    bundles.put(ago(days=11))
    for _ in range(2):
        assert Triggerer(store, monkeypatch).run(bundles.trigger(since=since), until=200)
        assert store.fqids == [newer[1], newer[2], newer[0], newer[0]]


def test_replicas_and_prefixes_have_separate_states(
    dss: LocalDSS, bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper = DSSNewBundleTrigger(prefix=bundles.prefix.upper())
    script: Script = {
        10: lambda: bundles.put(uuid=new_uuid()),
        11: lambda: bundles.put(uuid=bundles.prefix + new_uuid()[8:]),
    }
    assert Triggerer(store, monkeypatch, script=script).run(upper, until=200)
    assert store.fqids == [bundles.fqids[1]]
    assert set(store.state) == {f"dss-new-bundles-aws-{bundles.prefix}"}
    assert Triggerer(store, monkeypatch).run(DSSNewBundleTrigger(replica="gcp"), until=100)
    assert set(store.state) == {f"dss-new-bundles-aws-{bundles.prefix}", "dss-new-bundles-gcp"}
    assert store.fqids == [bundles.fqids[1]]


def test_versions_lost_at_page_boundaries_fire_with_the_next_poll(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LossyDSS(uuids=300, versions=3) as lossy:
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps({"conn_type": "hca_dss", "host": lossy.url}))
        before = {*lossy.fqids}
        triggerer = Triggerer(store, monkeypatch, script={10: lossy.more})
        assert triggerer.run(DSSNewBundleTrigger(), until=500)
        assert lossy.lost > 0
        assert {*store.fqids} == {*lossy.fqids} - before
        assert len(store.fqids) <= len({*store.fqids}) + 3  # one more a poll
        assert len(lossy.page_sizes) >= 3


def test_invalid_version_is_logged_once_and_does_not_block_others(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    invalid = ["latest", "2099-13-01T000000.000000Z"]
    with LossyDSS(uuids=2, versions=1) as lossy:
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps({"conn_type": "hca_dss", "host": lossy.url}))
        before = {*lossy.fqids}

        def put() -> None:
            lossy.bundles += [(new_uuid(), version) for version in invalid]
            lossy.more()

        assert Triggerer(store, monkeypatch, script={10: put}).run(DSSNewBundleTrigger(), until=500)
        assert [caplog.text.count(f"got {version!r}") for version in invalid] == [1, 1]
        assert Triggerer(store, monkeypatch, script={10: lossy.more}).run(DSSNewBundleTrigger(), until=500)
        assert {*store.fqids} == {fqid for fqid in lossy.fqids if not fqid.endswith(tuple(invalid))} - before
        assert len({*store.fqids}) == 4


def test_many_bundles_fire_in_batches(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is saved after each batch."""
    with LossyDSS(uuids=350, versions=1) as lossy:
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps({"conn_type": "hca_dss", "host": lossy.url}))
        # All versions are older than `lookback`.
        late: dict[str, Any] = {"since": ago(days=1), "lookback": 0}
        triggerer = Triggerer(store, monkeypatch, script={})
        assert triggerer.run(DSSNewBundleTrigger(**late), until=100)
        assert sorted(store.fqids) == sorted([*lossy.fqids, store.fqids[-1]])
        assert triggerer.slept[:3] == [5, 5, 5]
        assert triggerer.slept[3] >= 54
        assert triggerer.slept[4] == 5
        again = Store(tmp_path / "again")
        killed = Triggerer(again, monkeypatch, kill_at=2 + 230)
        assert not killed.run(DSSNewBundleTrigger(**late), until=100)
        assert len(again.fqids) >= 100
        assert Triggerer(again, monkeypatch).run(DSSNewBundleTrigger(**late), until=100)
        assert set(again.fqids) == set(lossy.fqids)
        assert len(again.fqids) < 350 + 1 + 100


def watch_lossy(monkeypatch: pytest.MonkeyPatch, lossy: LossyDSS) -> None:
    """Let the default connection lead to a DSS."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps({"conn_type": "hca_dss", "host": lossy.url}))


def test_poll_ends_after_10000_new_bundles_and_the_next_one_finds_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_bundles, "_MAX_NEW", 400)
    with LossyDSS(uuids=1_100, versions=1) as lossy:
        watch_lossy(monkeypatch, lossy)
        triggerer = Triggerer(store, monkeypatch)
        # A limit that follows the clock would hide what the first poll has not read.
        assert triggerer.run(DSSNewBundleTrigger(since=ago(days=1), lookback=0), until=900)
        assert set(store.fqids) == set(lossy.fqids)
        assert len(store.fqids) == 1_100 + 3
        assert store.fqids[:500] == sorted(store.fqids[:500], key=lambda fqid: fqid.partition(".")[::-1])


def test_more_known_bundles_than_fit_into_memory_are_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_bundles, "_MAX_KNOWN", 600)
    with LossyDSS(uuids=700, versions=1) as lossy:
        watch_lossy(monkeypatch, lossy)
        with pytest.raises(ValueError, match="more than 600 bundle versions are newer than"):
            Triggerer(store, monkeypatch).run(DSSNewBundleTrigger(), until=100)
        assert store.state == {}


def test_at_most_100_invalid_names_are_logged(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with LossyDSS(uuids=1, versions=1) as lossy:
        lossy.bundles += [(new_uuid(), f"version {number}") for number in range(150)]
        lossy.bundles += [(f"uuid\n{number}", ago()) for number in range(150)]
        watch_lossy(monkeypatch, lossy)
        assert Triggerer(store, monkeypatch).run(DSSNewBundleTrigger(), until=300)
    assert caplog.text.count("fires no event") == 100
    assert "uuid\n" not in caplog.text


def test_slow_list_ends_the_poll_and_is_repeated(
    dss: LocalDSS,
    bundles: Bundles,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundles.put()
    slow = {"method": "GET", "path": "/bundles/all", "action": "slow", "seconds": 5, "times": 1}
    dss.control("POST", "faults", slow)
    trigger, limit = bundles.trigger(since=ago(days=1)), 2.0
    monkeypatch.setattr(new_bundles, "_MAX_POLL", limit)
    assert Triggerer(store, monkeypatch).run(trigger, until=300)
    assert f"the list of bundles took more than {limit:.0f} s" in caplog.text
    assert store.fqids == bundles.fqids


def test_watcher_of_many_bundles_lets_other_triggers_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step takes a large part of the processor time of the event loop, however fast the machine is."""
    gaps: list[float] = []

    async def heartbeat() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.0005)
            gaps.append(time.thread_time() - last)
            last += gaps[-1]

    async def first_event() -> Any:
        return await anext(DSSNewBundleTrigger().run())

    async def watch() -> None:
        beats = asyncio.create_task(heartbeat())
        ended = asyncio.Event()

        async def pause(_: float) -> None:
            ended.set()
            await asyncio.sleep(3600)

        monkeypatch.setattr(new_bundles, "sleep", pause)
        watcher = asyncio.create_task(first_event())
        await ended.wait()
        for task in (watcher, beats):
            task.cancel()
        await asyncio.gather(watcher, beats, return_exceptions=True)

    with LossyDSS(uuids=20_000, versions=1) as lossy:
        watch_lossy(monkeypatch, lossy)
        gc.disable()  # a collection of all objects of the test process is not a step of the watcher
        try:
            asyncio.run(watch())
        finally:
            gc.enable()
        assert len(lossy.page_sizes) == 3
    assert max(gaps) < sum(gaps) / 10


def test_failed_polls_back_off_and_the_fifth_raises(
    dss: LocalDSS, bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    trouble = {"method": "GET", "path": "/bundles/all", "action": "status", "status": 503}
    assert Triggerer(store, monkeypatch).run(bundles.trigger(), until=10)
    bundles.put()
    dss.control("POST", "faults", {**trouble, "times": 4})
    passing = Triggerer(store, monkeypatch)
    assert passing.run(bundles.trigger(), until=1100)
    assert store.fqids == bundles.fqids
    assert "cannot list new bundles: GET /v1/bundles/all: 503" in caplog.text
    dss.control("DELETE", "requests")
    dss.control("POST", "faults", {**trouble, "times": 99})
    lasting = Triggerer(store, monkeypatch)
    with pytest.raises(DSSError, match="503"):
        lasting.run(bundles.trigger(), until=9999)
    assert requests_of(dss, "GET", "/v1/bundles/all") == 5
    assert all(54 * 2**number <= wait <= 66 * 2**number for number, wait in enumerate(lasting.slept[:4]))
    assert lasting.slept[4:] == [600]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"host": "no address"}, "its host must be the full URL"),
        ({"host": "https://dss.example.org/v1", "extra": {"retry_attempts": "many"}}, "must be a number"),
        (None, "hca_dss_default"),
        (403, "403"),
        (404, "404"),
    ],
)
def test_permanent_errors_are_logged_and_raised_after_one_interval(
    dss: LocalDSS,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: Any,
    message: str,
) -> None:
    if wrong is None:
        monkeypatch.delenv("AIRFLOW_CONN_HCA_DSS_DEFAULT")
    elif isinstance(wrong, int):
        fault = {"method": "GET", "path": "/bundles/all", "action": "status", "status": wrong, "times": 99}
        dss.control("POST", "faults", fault)
    else:
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps({"conn_type": "hca_dss", **wrong}))
    triggerer = Triggerer(store, monkeypatch)
    with pytest.raises(Exception, match=message):
        triggerer.run(DSSNewBundleTrigger(), until=500)
    assert len(triggerer.slept) == 1
    assert triggerer.slept[0] >= 54
    assert requests_of(dss, "GET", "/v1/bundles/all") == (1 if isinstance(wrong, int) else 0)
    assert message in caplog.text


def test_unreadable_state_is_an_error(bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting again would lose events."""
    key = f"dss-new-bundles-aws-{bundles.prefix}"
    store.state = {key: {"newer_than": "yesterday"}}
    with pytest.raises(ValueError, match=f"state '{key}' of the asset: not written by .* Delete it to start again"):
        Triggerer(store, monkeypatch).run(bundles.trigger(), until=500)
    assert store.state == {key: {"newer_than": "yesterday"}}


def test_two_assets_with_the_same_watcher_are_an_error(
    bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    both = AssetStateStoreAccessors(inlets=[Asset("one"), Asset("two")])
    with pytest.raises(ValueError, match="several assets have watchers with the same arguments"):
        Triggerer(store, monkeypatch).run(bundles.trigger(), until=500, state=both)


class BlockingStore:
    """Asset state store of Airflow 3.3.0 and 3.3.1."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> Any:
        """Return a value."""
        return self._store.state.get(key)

    def set(self, key: str, value: Any) -> None:
        """Store a value."""
        self._store.state = {**self._store.state, key: value}


def test_state_store_without_async_methods(bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    blocking = BlockingStore(store)
    assert Triggerer(store, monkeypatch, script={10: bundles.put}).run(bundles.trigger(), until=200, state=blocking)
    assert Triggerer(store, monkeypatch).run(bundles.trigger(), until=200, state=blocking)
    assert store.fqids == bundles.fqids


def test_failed_save_does_not_stop_events(
    bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    triggerer = Triggerer(store, monkeypatch, script={10: bundles.put, 100: bundles.put})
    remaining = {"failures": 1}

    async def aset(key: str, value: Any) -> None:
        if store.fqids and remaining["failures"]:
            remaining["failures"] -= 1
            raise OSError("database is locked")
        store.state = {**store.state, key: value}

    monkeypatch.setattr(triggerer, "aset", aset)
    assert triggerer.run(bundles.trigger(), until=300)
    assert "cannot save the state" in caplog.text
    assert Triggerer(store, monkeypatch).run(bundles.trigger(), until=300)
    assert store.fqids == bundles.fqids


def test_failed_first_save_is_raised(bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    triggerer = Triggerer(store, monkeypatch, script={10: bundles.put})

    async def aset(*_: Any) -> None:
        raise OSError("database is locked")

    monkeypatch.setattr(triggerer, "aset", aset)
    with pytest.raises(OSError, match="database is locked"):
        triggerer.run(bundles.trigger(), until=300)
    assert len(triggerer.slept) == 1
    assert store.fqids == []


def test_without_a_state_store_no_error_is_raised(
    dss: LocalDSS, bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Airflow 3.0 to 3.2, where a restart would lose the state."""
    refused = {"method": "GET", "path": "/bundles/all", "action": "status", "status": 403, "times": 7}

    def trouble() -> None:
        bundles.put()
        dss.control("POST", "faults", refused)

    triggerer = Triggerer(store, monkeypatch, script={10: bundles.put, 100: trouble})
    assert triggerer.run(bundles.trigger(), until=900, state=None)
    assert store.fqids == bundles.fqids
    assert store.state == {}
    assert Triggerer(store, monkeypatch).run(bundles.trigger(), until=100, state=None)
    assert store.fqids == bundles.fqids
    assert Triggerer(store, monkeypatch).run(bundles.trigger(since=ago(days=1)), until=100, state=None)
    assert store.fqids == [*bundles.fqids, *bundles.fqids, bundles.fqids[-1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replica": "azure"}, "replica must be 'aws' or 'gcp'"),
        ({"prefix": "xyz"}, "prefix must be the beginning of a UUID"),
        ({"prefix": "../"}, "prefix must be the beginning of a UUID"),
        ({"since": "2024-01-01"}, "since must be a DSS_VERSION"),
        ({"lookback": -1}, "lookback must be 0 seconds or more"),
        ({"lookback": "a day"}, "a day"),
        ({"poll_interval": 1}, "poll_interval must be 5 seconds or more"),
        ({"poll_interval": float("inf")}, "poll_interval must be 5 seconds or more"),
    ],
)
def test_invalid_arguments_are_errors_when_the_dag_is_parsed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DSSNewBundleTrigger(**options)


def test_equal_arguments_are_the_same_watcher() -> None:
    trigger = DSSNewBundleTrigger(prefix="0F3A", lookback=timedelta(hours=2), poll_interval=30)
    same = DSSNewBundleTrigger(prefix="0f3a", lookback=7200.0, poll_interval=timedelta(seconds=30))
    other = DSSNewBundleTrigger(prefix="0f3b", lookback=7200)
    hashes = []
    for variant in (trigger, same, other):
        path, arguments = variant.serialize()
        row = Trigger(path, arguments)
        hashes += [BaseEventTrigger.hash(path, arguments), BaseEventTrigger.hash(row.classpath, row.kwargs)]
        assert path == "airflow_provider_hca.triggers.dss.DSSNewBundleTrigger"
        assert DSSNewBundleTrigger(**row.kwargs).serialize() == (path, arguments)
        assert json.loads(json.dumps(arguments)) == arguments
    assert len(set(hashes[:4])) == 1
    assert len(set(hashes)) == 2
