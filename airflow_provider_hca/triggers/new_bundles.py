"""Trigger that starts DAGs for new bundles, for an `AssetWatcher` of Airflow 3."""

from __future__ import annotations

import itertools
import logging
import random
import re
from asyncio import sleep, timeout, to_thread
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_4_PLUS
from airflow.triggers.base import TriggerEvent

from airflow_provider_hca.client.identifiers import check_uuid, check_version, make_version
from airflow_provider_hca.client.models import check_replica
from airflow_provider_hca.exceptions import DSSError, DSSProtocolError
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.triggers.watermark import BundleWatermark, fqid
from airflow_provider_hca.utils.validation import seconds

log = logging.getLogger(__name__)

# The triggerer stores an event one or two seconds after the trigger yields it.
_STORED_WITHIN = 5.0
# The triggerer sends no heartbeat while it stores events one by one: after thousands at once, another triggerer would
# take over its triggers.
_BATCH_SIZE = 100
# A DSS can omit versions of one UUID that cross a page boundary; the next listing, with other pages, includes them.
_PAGE_SIZES = (500, 491, 479)
_MAX_FAILURES = 5
_MAX_WAIT = 600.0
_MAX_POLL = 3600.0  # seconds
_MAX_NEW = 10_000  # bundles of one poll
_MAX_KNOWN = 500_000  # bundles at the first start; 64 MB
_MAX_LOGGED = 100  # invalid names


class DSSNewBundleTrigger(BaseEventTrigger):
    """Fire an event for each new bundle version of a replica (`GET /bundles/all`), for an `AssetWatcher`.

    The payload of an event has `uuid`, `version`, `fqid` (`uuid.version`) and `replica`. Needs Airflow 3.

    Bundles that exist when a watcher first starts fire no event, unless `since` is given. From then on each bundle
    version fires **at least once**, even if the triggerer is stopped or killed: Airflow 3.3 and newer store the
    watcher's state with the asset. After a kill, events of the last `poll_interval` may fire again. Before Airflow 3.4,
    if a poll finds several bundles, the last one fires again after the others, so that Airflow starts a DAG run for all
    of them. Handlers of events therefore have to be idempotent. A poll ends after 10,000 new bundles; the next one
    finds others.

    Airflow stores the state of one asset only, so DAGs that wait for the same bundles have to share an asset. On
    Airflow 3.0 to 3.2 the state is in memory: bundles created while the triggerer is down fire only with `since`, which
    then fires all newer versions again.

    Clients choose versions, and a version may be older than existing ones: a retried or backfilled run names its bundle
    after its date. Such a bundle fires if its version is at most `lookback` older than the time it appears; older ones
    count as known. A bundle whose version is not a DSS_VERSION, or whose uuid is invalid, fires no event and is logged.

    Failed polls are logged and repeated with increasing delays. After five consecutive failures, or a permanent error
    (an invalid connection, an unexpected response), the trigger raises the error and the triggerer restarts it; without
    a state store it continues, since a restart would lose the state.

    :param dss_conn_id: Airflow connection of type `hca_dss`; its credentials are not used
    :param replica: Replica to watch, `aws` or `gcp`
    :param prefix: Prefix of the bundles' UUIDs, hexadecimal; all bundles by default
    :param since: DSS_VERSION after which all bundles fire when a watcher starts for the first time
    :param lookback: Maximum age of the version of a new bundle, in seconds or as a `timedelta`; one day by default. Up
        to 5,000 bundles are remembered within it
    :param poll_interval: Time between two polls, in seconds or as a `timedelta`; at least 5 seconds
    :raises RuntimeError: on Airflow 2, which has no event-driven scheduling
    :raises ValueError: if an argument is invalid
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
                "DSSNewBundleTrigger needs an AssetWatcher, available since Airflow 3: on Airflow 2, list the bundles "
                "in a scheduled DAG, as in example_dss_new_bundles_scheduled.py"
            )
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow does not type it
        self.dss_conn_id = dss_conn_id
        self.replica = check_replica(replica)
        self.prefix = prefix.lower()
        self.since = None if since is None else check_version(since, "since")
        self.lookback = seconds("lookback", lookback)
        self.poll_interval = seconds("poll_interval", poll_interval)
        if not re.fullmatch(r"[0-9a-f-]{0,36}", self.prefix):
            raise ValueError(f"prefix must be the beginning of a UUID, such as '0f3a', got {prefix!r}")
        if not 0 <= self.lookback < float("inf"):
            raise ValueError(f"lookback must be 0 seconds or more, got {lookback!r}")
        if not _STORED_WITHIN <= self.poll_interval < float("inf"):
            raise ValueError(f"poll_interval must be {_STORED_WITHIN:.0f} seconds or more, got {poll_interval!r}")
        self._page_sizes = itertools.cycle(_PAGE_SIZES)
        self._invalid_names: set[str] = set()
        self._next_limit = ""  # a restart keeps the limit: bundles created during days of downtime are above it

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path and the arguments of the trigger; equal arguments are the same watcher."""
        return "airflow_provider_hca.triggers.dss.DSSNewBundleTrigger", {
            "dss_conn_id": self.dss_conn_id,
            "replica": self.replica,
            "prefix": self.prefix,
            "since": self.since,
            "lookback": self.lookback,
            "poll_interval": self.poll_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll and yield an event for each new bundle, indefinitely."""
        watermark: BundleWatermark | None = None
        new: list[dict[str, str]] = []
        several = False
        failures = 0
        while True:
            try:
                watermark = watermark or await self._load()
                if not new:
                    new = await self._find_new(watermark)
                    several = len(new) > 1
                failures = 0
            # Any error: if the trigger ended, the triggerer would restart it within a second or two, again and again.
            except Exception as error:
                failures += 1
                if await self._back_off(error, failures):
                    raise
                continue
            batch, new = new[:_BATCH_SIZE], new[_BATCH_SIZE:]
            for bundle in batch:
                yield self._event(bundle)
            await sleep(_STORED_WITHIN if new else self._pause())
            if several and not new and not AIRFLOW_V_3_4_PLUS:
                # Before apache/airflow#70972 (3.4) Airflow starts a DAG run for the first event and drops those stored
                # before that run exists: one more event starts a run for all of them.
                yield self._event(batch[-1])
                await sleep(_STORED_WITHIN)
            if batch:
                # Not before: the triggerer stores an event some time after the yield. If the state already had the
                # bundle, a kill in between would lose the event.
                watermark.add(batch)
                await self._save(watermark)

    def _event(self, bundle: dict[str, str]) -> TriggerEvent:
        payload = {"uuid": bundle["uuid"], "version": bundle["version"], "fqid": fqid(bundle), "replica": self.replica}
        return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow does not type it

    async def _load(self) -> BundleWatermark:
        """Return the stored watermark; at the first start, one at which all existing bundles are known."""
        state = await self._call_store("get", self._key)
        if state is not None:
            try:
                return BundleWatermark.from_state(state)
            except ValueError as error:
                raise ValueError(f"state {self._key!r} of the asset: {error}. Delete it to start again") from None
        if self.since is not None:
            return BundleWatermark(self.since)
        watermark = BundleWatermark(self._horizon())
        for _ in range(2):  # with two page sizes: a bundle that one listing omits must not be new in the next poll
            async with aclosing(self._unseen(watermark)) as pages:
                async for bundles in pages:
                    watermark.add(bundles)
                    if watermark.count > _MAX_KNOWN:
                        raise ValueError(
                            f"more than {_MAX_KNOWN:,} bundle versions are newer than {watermark.newer_than}: use a "
                            "shorter lookback, or a prefix"
                        )
        # Saved at once: no event is pending, and bundles created from now on have to be new after a restart.
        await self._call_store("set", self._key, await to_thread(watermark.to_state))
        log.info("watching for bundles from now on; existing ones newer than %s are known", watermark.newer_than)
        return watermark

    async def _find_new(self, watermark: BundleWatermark) -> list[dict[str, str]]:
        """Return the new bundles ordered by version, and let the watermark follow the clock."""
        # All bundles of the last listing are known by now. The limit follows the clock, not the newest version, which
        # may lie in the future and would hide all bundles until then.
        await to_thread(watermark.rise, self._next_limit)
        horizon = self._horizon()
        new: dict[str, dict[str, str]] = {}
        async with aclosing(self._unseen(watermark)) as pages:
            async for bundles in pages:
                new.update((fqid(bundle), bundle) for bundle in bundles)
                if len(new) >= _MAX_NEW:
                    break
            else:
                self._next_limit = horizon
        return sorted(new.values(), key=lambda bundle: (bundle["version"], bundle["uuid"]))

    async def _unseen(self, watermark: BundleWatermark) -> AsyncGenerator[list[dict[str, str]], None]:
        """Yield the unknown bundles of each page: other triggers run between two pages, and no list is kept."""
        from airflow_provider_hca.hooks.connection import connected

        try:
            async with timeout(_MAX_POLL), connected(self.dss_conn_id, keep_alive=True) as (api, transport):
                for page in api.bundle_pages(replica=self.replica, prefix=self.prefix, per_page=next(self._page_sizes)):
                    newer = (b for b in await transport.run(page) if b["version"] > watermark.newer_than)
                    yield watermark.unseen(filter(self._has_valid_name, newer))
        except TimeoutError:
            raise DSSProtocolError(f"the list of bundles took more than {_MAX_POLL:.0f} s", permanent=False) from None

    def _has_valid_name(self, bundle: dict[str, str]) -> bool:
        """Return whether uuid and version are valid; log once if not, since an error would block other bundles."""
        try:
            check_uuid(bundle["uuid"])
            check_version(bundle["version"])
        except ValueError as error:
            name = fqid(bundle)
            if name not in self._invalid_names and len(self._invalid_names) < _MAX_LOGGED:
                self._invalid_names.add(name)
                log.warning("bundle %r fires no event: %s", name, error)
            return False
        return True

    async def _back_off(self, error: Exception, failures: int) -> bool:
        """Log an error and wait; return whether to raise it.

        :param error: Error of the poll
        :param failures: Number of consecutive failed polls
        """
        permanent = not isinstance(error, DSSError) or error.permanent
        delay = self._pause()
        if not permanent:
            delay = max(delay, min(delay * 2 ** (failures - 1), _MAX_WAIT))
        log.error(
            "cannot list new bundles: %s. Waiting for %.0f s",
            *(str(error) or type(error).__name__, delay),
            exc_info=None if isinstance(error, DSSError | ValueError) else error,
        )
        await sleep(delay)
        return self._state_store is not None and (permanent or failures >= _MAX_FAILURES)

    async def _save(self, watermark: BundleWatermark) -> None:
        try:
            await self._call_store("set", self._key, await to_thread(watermark.to_state))
        # Any error: the events are stored. With the previous state they fire again after a restart; raising would
        # restart the trigger at once, and fire them again and again.
        except Exception:
            log.warning("cannot save the state; the next poll tries again", exc_info=True)

    async def _call_store(self, method: str, *arguments: Any) -> Any:
        """Call the asset's state store; return None if there is no store."""
        store = self._state_store
        if store is None:
            return None
        call = getattr(store, f"a{method}", None)
        try:
            # Before Airflow 3.3.2 it has blocking calls only, which would block all triggers.
            return await (call(*arguments) if call else to_thread(getattr(store, method), *arguments))
        except ValueError as error:
            raise ValueError(
                "several assets have watchers with the same arguments, and Airflow can store the state of one only: "
                f"use one asset, or different arguments ({error})"
            ) from None

    @property
    def _state_store(self) -> Any:
        # Airflow 3.0 to 3.2 have no attribute for it.
        return getattr(self, "asset_state_store", None)

    def _pause(self) -> float:
        # Jitter: watchers that start together must not keep polling together.
        return max(_STORED_WITHIN, self.poll_interval * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load

    def _horizon(self) -> str:
        return make_version(datetime.now(UTC) - timedelta(seconds=self.lookback))

    @property
    def _key(self) -> str:
        """Key of the state, one for each set of watched bundles."""
        return "-".join(filter(None, ("dss-new-bundles", self.replica, self.prefix)))
