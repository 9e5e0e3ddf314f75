from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_hca.client.identifiers import make_version
from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.triggers.dss import DSSNewBundleTrigger
from tests.local.server import LocalDSS, new_uuid
from tests.running import connection, requests_of
from tests.triggers.lossy import LossyDSS
from tests.triggers.triggerer import Script, Store, Triggerer


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture(scope="module")
def file(shared_dss: LocalDSS) -> str:
    """Put the file that all bundles of these tests hold."""
    return shared_dss.new_file()


def ago(**time: float) -> str:
    return make_version(datetime.now(UTC) - timedelta(**time))


class Bundles:
    """Bundles of one test, whose uuids begin alike."""

    def __init__(self, dss: LocalDSS, file: str) -> None:
        self._dss, self._file = dss, file
        self.prefix = new_uuid()[:8]
        self.fqids: list[str] = []

    def put(self, version: str = "", uuid: str = "", replica: str = "aws") -> str:
        """Put a bundle with a version of now; return its FQID."""
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
    """Return puts at some seconds, of all kinds that could be missed."""
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


def test_each_new_bundle_fires(bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is an event a version, small and closed, none for what was there before, and one more for several."""
    bundles.put()
    assert Triggerer(store, monkeypatch, script=script_of(bundles)).run(bundles.trigger(), until=500)
    _, newest, *same_version, older, other_version, future, after = bundles.fqids
    assert store.fqids == [*sorted(same_version), newest, newest, older, other_version, other_version, future, after]
    event = store.events[0]
    assert event == {
        "uuid": event["uuid"],
        "version": event["version"],
        "fqid": f"{event['uuid']}.{event['version']}",
        "replica": "aws",
    }


def test_no_event_is_lost_wherever_it_is_killed(
    dss: LocalDSS, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any step and started again, each bundle has been reported; a kill repeats at most a poll's events."""
    kill_at, finished, doubled = 0, False, 0
    while not finished:
        kill_at += 1
        bundles, store = Bundles(dss, file), Store(tmp_path / str(kill_at))
        script = script_of(bundles)
        random.seed(kill_at)  # so that a failure can be repeated: polls come with jitter
        before = bundles.put()
        first = Triggerer(store, monkeypatch, script=script, kill_at=kill_at)
        finished = first.run(bundles.trigger(), until=500)
        after = Triggerer(store, monkeypatch, script=script, now=first.now + 3)
        assert after.run(bundles.trigger(), until=max(500, first.now) + 200)
        assert len(bundles.fqids) == 8
        assert set(store.fqids) == set(bundles.fqids) - {before}, f"killed at step {kill_at}"
        assert len(store.fqids) <= 9 + 4
        doubled += len(store.fqids) - 9
    assert kill_at > 30
    assert doubled > 0


def test_a_restart_reports_what_came_meanwhile_and_nothing_twice(
    bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the triggerer was down, what was put then is new, and what was reported is not."""
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


def test_lookback_says_how_late_a_version_may_come(
    dss: LocalDSS, file: str, bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is older than `lookback` when it appears is taken for known; a longer one finds it."""
    trigger = bundles.trigger(lookback=timedelta(hours=1))
    script: Script = {10: lambda: bundles.put(ago(minutes=50)), 20: lambda: bundles.put(ago(minutes=70))}
    assert Triggerer(store, monkeypatch, script=script).run(trigger, until=200)
    assert store.fqids == [bundles.fqids[0]]
    other = Bundles(dss, file)
    script = {10: lambda: other.put(ago(days=300))}
    assert Triggerer(store, monkeypatch, script=script).run(other.trigger(lookback=400 * 86_400), until=200)
    assert store.fqids == [bundles.fqids[0], other.fqids[0]]


def test_the_state_follows_the_time(bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is older than `lookback`, by a day, is no longer remembered, so that the state does not grow for ever."""
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


def test_since_reports_what_is_newer_at_the_first_start(
    bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `since` the first start fires for all that is newer, in the versions' order; a later start goes on."""
    since = ago(days=10)
    newer = [bundles.put(), bundles.put(ago(days=9)), bundles.put(ago(days=3))]
    bundles.put(since)
    bundles.put(ago(days=11))
    for _ in range(2):
        assert Triggerer(store, monkeypatch).run(bundles.trigger(since=since), until=200)
        assert store.fqids == [newer[1], newer[2], newer[0], newer[0]]


def test_replicas_and_prefixes_are_apart(
    dss: LocalDSS, bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher reports its replica and prefix only, names the replica, and keeps a state for each."""
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


def test_a_version_that_one_listing_lost_comes_with_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DSS that loses versions at the edges of its pages loses no event, makes none twice, and nothing old new."""
    with LossyDSS(uuids=300, versions=3) as lossy:
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps({"conn_type": "hca_dss", "host": lossy.url}))
        before = {*lossy.fqids}
        triggerer = Triggerer(store, monkeypatch, script={10: lossy.more})
        assert triggerer.run(DSSNewBundleTrigger(), until=500)
        assert lossy.lost > 0
        assert {*store.fqids} == {*lossy.fqids} - before
        assert len(store.fqids) <= len({*store.fqids}) + 3  # one more a poll
        assert len(lossy.page_sizes) >= 3


def test_a_version_that_is_none_stops_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bundle whose version is no DSS_VERSION fires nothing and is told once; the others fire, after a restart too."""
    odd = ["latest", "2099-13-01T000000.000000Z"]
    with LossyDSS(uuids=2, versions=1) as lossy:
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps({"conn_type": "hca_dss", "host": lossy.url}))
        before = {*lossy.fqids}

        def put() -> None:
            lossy.bundles += [(new_uuid(), version) for version in odd]
            lossy.more()

        assert Triggerer(store, monkeypatch, script={10: put}).run(DSSNewBundleTrigger(), until=500)
        assert [caplog.text.count(f"not {version!r}") for version in odd] == [1, 1]
        assert Triggerer(store, monkeypatch, script={10: lossy.more}).run(DSSNewBundleTrigger(), until=500)
        assert {*store.fqids} == {fqid for fqid in lossy.fqids if not fqid.endswith(tuple(odd))} - before
        assert len({*store.fqids}) == 4


def test_many_at_once_come_in_portions(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of new bundles fire a hundred at a time with seconds between, each kept before the next portion."""
    with LossyDSS(uuids=350, versions=1) as lossy:
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps({"conn_type": "hca_dss", "host": lossy.url}))
        # All of them are older than what a watcher that runs looks back on.
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


def test_a_dss_in_trouble_is_asked_less_and_less(
    dss: LocalDSS, bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Failed polls wait longer each time; the fifth in a row raises what is wrong; a good one begins anew."""
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
def test_what_would_fail_again_is_told_at_once(
    dss: LocalDSS,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: Any,
    message: str,
) -> None:
    """A wrong connection or a refusal is logged at once and raised a poll later, as the triggerer then starts again."""
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


def test_a_state_of_somebody_else_is_no_beginning(
    bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that cannot be read is an error that says what to delete: beginning anew would lose events."""
    key = f"dss-new-bundles-aws-{bundles.prefix}"
    store.state = {key: {"newer_than": "yesterday"}}
    with pytest.raises(ValueError, match=f"state '{key}' of the asset: not written by .* Delete it to start again"):
        Triggerer(store, monkeypatch).run(bundles.trigger(), until=500)
    assert store.state == {key: {"newer_than": "yesterday"}}


def test_two_assets_cannot_share_a_watcher(bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Airflow's store says when a trigger has two assets becomes an error that says what to change."""
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    both = AssetStateStoreAccessors(inlets=[Asset("one"), Asset("two")])
    with pytest.raises(ValueError, match="several assets have watchers with the same arguments"):
        Triggerer(store, monkeypatch).run(bundles.trigger(), until=500, state=both)


class BlockingStore:
    """The asset's state store of Airflow 3.3.0 and 3.3.1."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> Any:
        """Return a value."""
        return self._store.state.get(key)

    def set(self, key: str, value: Any) -> None:
        """Write a value."""
        self._store.state = {**self._store.state, key: value}


def test_a_store_with_blocking_calls_only(bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store of Airflow 3.3.0, which has no calls for an event loop, is used from a thread."""
    blocking = BlockingStore(store)
    assert Triggerer(store, monkeypatch, script={10: bundles.put}).run(bundles.trigger(), until=200, state=blocking)
    assert Triggerer(store, monkeypatch).run(bundles.trigger(), until=200, state=blocking)
    assert store.fqids == bundles.fqids


def test_a_store_in_trouble_stops_nothing(
    bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When the state cannot be saved, events go on; the next state has it all. Without a first state none is sent."""
    triggerer = Triggerer(store, monkeypatch, script={10: bundles.put, 100: bundles.put})
    left = {"failures": 1}

    async def aset(key: str, value: Any) -> None:
        if store.fqids and left["failures"]:
            left["failures"] -= 1
            raise OSError("database is locked")
        store.state = {**store.state, key: value}

    monkeypatch.setattr(triggerer, "aset", aset)
    assert triggerer.run(bundles.trigger(), until=300)
    assert "cannot save the state" in caplog.text
    assert Triggerer(store, monkeypatch).run(bundles.trigger(), until=300)
    assert store.fqids == bundles.fqids


def test_no_beginning_without_its_state(bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If what is there at first cannot be saved as known, the trigger raises after a poll and is started again."""
    triggerer = Triggerer(store, monkeypatch, script={10: bundles.put})

    async def aset(*_: Any) -> None:
        raise OSError("database is locked")

    monkeypatch.setattr(triggerer, "aset", aset)
    with pytest.raises(OSError, match="database is locked"):
        triggerer.run(bundles.trigger(), until=300)
    assert len(triggerer.slept) == 1
    assert store.fqids == []


def test_without_a_store_it_works_in_memory(
    dss: LocalDSS, bundles: Bundles, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Airflow 3.0 to 3.2 a watcher rides out any trouble, since raising would forget; `since` repeats all."""
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
        ({"replica": "azure"}, "replica must be one of"),
        ({"prefix": "xyz"}, "prefix must be the beginning of a UUID"),
        ({"prefix": "../"}, "prefix must be the beginning of a UUID"),
        ({"since": "2024-01-01"}, "since must be a DSS_VERSION"),
        ({"lookback": -1}, "lookback must be 0 seconds or more"),
        ({"lookback": "a day"}, "a day"),
        ({"poll_interval": 1}, "poll_interval must be 5 seconds or more"),
        ({"poll_interval": float("inf")}, "poll_interval must be 5 seconds or more"),
    ],
)
def test_wrong_arguments_fail_where_the_dag_is_parsed(options: dict[str, Any], message: str) -> None:
    """A mistake is an error of the DAG, not of the triggerer."""
    with pytest.raises(ValueError, match=message):
        DSSNewBundleTrigger(**options)


def test_equal_arguments_are_one_watcher() -> None:
    """However they are written, equal arguments are equal to Airflow, also after a round through its database."""
    trigger = DSSNewBundleTrigger(prefix="0F3A", lookback=timedelta(hours=2), poll_interval=30)
    same = DSSNewBundleTrigger(prefix="0f3a", lookback=7200.0, poll_interval=timedelta(seconds=30))
    other = DSSNewBundleTrigger(prefix="0f3b", lookback=7200)
    hashes = []
    for each in (trigger, same, other):
        path, arguments = each.serialize()
        row = Trigger(path, arguments)
        hashes += [BaseEventTrigger.hash(path, arguments), BaseEventTrigger.hash(row.classpath, row.kwargs)]
        assert path == "airflow_provider_hca.triggers.dss.DSSNewBundleTrigger"
        assert DSSNewBundleTrigger(**row.kwargs).serialize() == (path, arguments)
        assert json.loads(json.dumps(arguments)) == arguments
    assert len(set(hashes[:4])) == 1
    assert len(set(hashes)) == 2
