"""A trigger that starts DAGs when bundles appear in a Data Storage System (DSS), for an `AssetWatcher` of Airflow 3."""

from __future__ import annotations

import itertools
import logging
import random
import re
from asyncio import sleep, to_thread
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.triggers.base import TriggerEvent

from airflow_provider_hca.client.identifiers import check_version, make_version
from airflow_provider_hca.client.models import check_replica
from airflow_provider_hca.exceptions import DSSError
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.triggers.watermark import BundleWatermark, fqid

log = logging.getLogger(__name__)

# How long the triggerer may take to store an event that it was given: it needs a second or two.
_STORED_WITHIN = 5.0
# Airflow's triggerer stores events one by one and shows no sign of life meanwhile: after thousands at once, another one
# would take it for dead.
_AT_ONCE = 100
# A DSS can lose versions of one uuid that straddle a page boundary: with other pages, the next listing has them.
_PAGE_SIZES = (500, 491, 479)
_FAILURES = 5
_LONGEST_WAIT = 600.0


class DSSNewBundleTrigger(BaseEventTrigger):
    """Fire an event for each new bundle version of a replica (`GET /bundles/all`), for an `AssetWatcher`.

    An event's payload has `uuid`, `version`, `fqid` (`uuid.version`) and `replica`. Needs Airflow 3.

    What the DSS has when a watcher starts for the first time is known and fires nothing, unless `since` is given. From
    then on each bundle version fires **at least once**, whenever the triggerer is stopped or killed, as Airflow 3.3
    and newer keep the watcher's state with the asset. After a kill, what was fired within the last `poll_interval` may
    fire again, and of several bundles that one poll finds the last fires again with the next, so that Airflow starts a
    DAG run for all of them: what handles an event must not mind. One asset's state is kept, so DAGs that wait for the
    same bundles share one asset. On Airflow 3.0 to 3.2 the state is in memory: what is put while the triggerer is down
    fires only with `since`, which then fires all since that version again.

    Versions are chosen by those who put bundles, and may be older than what was there before: a retried or backfilled
    run names its bundle after its date. Such a bundle fires when its version is at most `lookback` older than the
    moment it appears; older ones are taken for known. What has a version that is no DSS_VERSION fires nothing, and is
    told in the log.

    While the DSS is in trouble, the trigger logs that and waits longer and longer. After five polls in a row that
    failed, and after one that would fail again (a connection that is wrong, an answer that no DSS gives), it raises
    the error, and Airflow's triggerer starts it again; without a state store it goes on, as it would forget.

    :param dss_conn_id: the Airflow connection; its credentials are not used
    :param replica: `aws` or `gcp`
    :param prefix: of the bundles' uuids, hexadecimal; all bundles by default
    :param since: a DSS_VERSION; a watcher that starts for the first time fires for each bundle newer than it
    :param lookback: how much older than now the version of a new bundle may be, in seconds or a `timedelta`; a day by
        default. Up to 5,000 bundles are remembered in it
    :param poll_interval: time between two polls, in seconds or a `timedelta`; 5 seconds or more
    :raises RuntimeError: on Airflow 2, which has no event-driven scheduling
    :raises ValueError: when an argument is not well-formed
    """

    def __init__(
        self,
        *,
        dss_conn_id: str = DSSHook.default_conn_name,
        replica: str = "aws",
        prefix: str = "",
        since: str | None = None,
        lookback: float | timedelta = 86_400.0,
        poll_interval: float | timedelta = 60.0,
    ) -> None:
        if not AIRFLOW_V_3_0_PLUS:
            raise RuntimeError(
                "DSSNewBundleTrigger is for an AssetWatcher, which begins with Airflow 3: on Airflow 2, let a "
                "scheduled DAG list the bundles, as example_dss_new_bundles_scheduled.py does"
            )
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow ships it so
        self.dss_conn_id = dss_conn_id
        self.replica = check_replica(replica)
        self.prefix = prefix.lower()
        self.since = None if since is None else check_version(since, "since")
        self.lookback = _seconds(lookback)
        self.poll_interval = _seconds(poll_interval)
        if not re.fullmatch(r"[0-9a-f-]{0,36}", self.prefix):
            raise ValueError(f"prefix must be how uuids begin, such as '0f3a', not {prefix!r}")
        if not 0 <= self.lookback < float("inf"):
            raise ValueError(f"lookback must be 0 seconds or more, not {lookback!r}")
        if not _STORED_WITHIN <= self.poll_interval < float("inf"):
            raise ValueError(f"poll_interval must be {_STORED_WITHIN:.0f} seconds or more, not {poll_interval!r}")
        self._page_sizes = itertools.cycle(_PAGE_SIZES)
        self._odd_versions: set[str] = set()
        self._next_limit = ""  # a restart keeps the limit: what came in days of standstill is above it

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of the class and its arguments; equal arguments are one watcher to Airflow."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "dss_conn_id": self.dss_conn_id,
            "replica": self.replica,
            "prefix": self.prefix,
            "since": self.since,
            "lookback": self.lookback,
            "poll_interval": self.poll_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll and yield an event per new bundle version, for ever."""
        seen: BundleWatermark | None = None
        new: list[dict[str, str]] = []
        several = False
        failures = 0
        while True:
            try:
                seen = seen or await self._begin()
                if not new:
                    new = await self._find(seen)
                    several = len(new) > 1
                failures = 0
            # Whatever it is: an error that ended the trigger at once would come again within a second or two, when the
            # triggerer starts it anew, and again.
            except Exception as error:
                failures += 1
                if await self._wait_out(error, failures):
                    raise
                continue
            batch, new = new[:_AT_ONCE], new[_AT_ONCE:]
            for bundle in batch:
                yield self._event(bundle)
            await sleep(_STORED_WITHIN if new else self._pause())
            if several and not new:
                # The first event starts a DAG run, which has no later one, and Airflow without apache/airflow#70972
                # (3.3.2 and older) starts none for those that come before that run is made: one more does, for all.
                yield self._event(batch[-1])
                await sleep(_STORED_WITHIN)
            if batch:
                # Only now: the triggerer stores an event some time after it was yielded. With a state that already has
                # the bundle, a kill in between would lose the event for ever.
                seen.add(batch)
                await self._keep(seen)

    def _event(self, bundle: dict[str, str]) -> TriggerEvent:
        about = {"uuid": bundle["uuid"], "version": bundle["version"], "fqid": fqid(bundle), "replica": self.replica}
        return TriggerEvent(about)  # type: ignore[no-untyped-call]  # Airflow ships it so

    async def _begin(self) -> BundleWatermark:
        """Return what is known from before, or, where nothing is, from now on."""
        state = await self._in_store("get", self._key)
        if state is not None:
            try:
                return BundleWatermark.from_state(state)
            except ValueError as error:
                raise ValueError(f"the asset's state {self._key!r} {error}. Delete it to begin anew") from None
        if self.since is not None:
            return BundleWatermark(self.since)
        seen = BundleWatermark(self._horizon())
        for _ in range(2):  # with two page sizes, so that what one listing lost is not new in the next poll
            seen.add(await self._list(seen.newer_than))
        # At once, unlike later: nothing was yielded, and what is put from now on is to be new after a restart too.
        await self._in_store("set", self._key, seen.to_state())
        log.info("watching for bundles from now on; those newer than %s are known", seen.newer_than)
        return seen

    async def _find(self, seen: BundleWatermark) -> list[dict[str, str]]:
        """Return the bundles that are new, and let the limit of what is known follow the time."""
        # All that the last listing had is known by now. The limit follows the clock, not the newest version: that one
        # may lie in the future, and would swallow all bundles until then.
        seen.rise(self._next_limit)
        horizon = self._horizon()
        found = seen.unseen(await self._list(seen.newer_than))
        self._next_limit = horizon
        return found

    async def _list(self, newer_than: str) -> list[dict[str, str]]:
        from airflow_provider_hca.hooks.connection import connected

        async with connected(self.dss_conn_id) as (api, transport):
            listed = await transport.run(
                api.get_bundles_all(
                    replica=self.replica, prefix=self.prefix, newer_than=newer_than, per_page=next(self._page_sizes)
                )
            )
        return [bundle for bundle in listed if self._is_usable(bundle)]

    def _is_usable(self, bundle: dict[str, str]) -> bool:
        """Return whether a bundle's version is one; say so, once, if not: an error would keep the others back."""
        version = bundle["version"]
        try:
            check_version(version)
        except ValueError as error:
            if version not in self._odd_versions:
                self._odd_versions.add(version)
                log.warning("bundle %s fires no event: %s", bundle["uuid"], error)
            return False
        return True

    async def _wait_out(self, error: Exception, failures: int) -> bool:
        """Say what is wrong and wait; return whether to raise then.

        :param failures: polls in a row that failed
        """
        permanent = not isinstance(error, DSSError) or error.permanent
        wait = self._pause()
        if not permanent:
            wait = max(wait, min(wait * 2 ** (failures - 1), _LONGEST_WAIT))
        log.error(
            "could not look for new bundles: %s. Waiting for %.0f s",
            *(str(error) or type(error).__name__, wait),
            exc_info=None if isinstance(error, DSSError | ValueError) else error,
        )
        await sleep(wait)
        return self._state_store is not None and (permanent or failures >= _FAILURES)

    async def _keep(self, seen: BundleWatermark) -> None:
        try:
            await self._in_store("set", self._key, seen.to_state())
        # Whatever a store raises: the events are stored. The state that the store still has makes them come again after
        # a restart; raising would restart at once, and make them come again and again.
        except Exception:
            log.warning("the state could not be saved; the next time it will be tried again", exc_info=True)

    async def _in_store(self, method: str, *arguments: Any) -> Any:
        """Call the asset's state store, if there is one; return what it returns."""
        store = self._state_store
        if store is None:
            return None
        call = getattr(store, f"a{method}", None)
        try:
            # Before Airflow 3.3.2 it has blocking calls only, which would hold up all triggers.
            return await (call(*arguments) if call else to_thread(getattr(store, method), *arguments))
        except ValueError as error:
            raise ValueError(
                "several assets have watchers with these same arguments, and only the state of one can be kept: let "
                f"them be one asset, or let the arguments differ ({error})"
            ) from None

    @property
    def _state_store(self) -> Any:
        # Airflow 3.0 to 3.2 have none, and no attribute for it.
        return getattr(self, "asset_state_store", None)

    def _pause(self) -> float:
        # Jitter: watchers that started together must not ask together for ever.
        return max(_STORED_WITHIN, self.poll_interval * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load

    def _horizon(self) -> str:
        return make_version(datetime.now(UTC) - timedelta(seconds=self.lookback))

    @property
    def _key(self) -> str:
        """Where the state is kept with the asset: apart for each set of bundles that is watched."""
        return "-".join(filter(None, ("dss-new-bundles", self.replica, self.prefix)))


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
