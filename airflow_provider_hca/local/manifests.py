"""Read manifests, optionally through caches that become stale like those of a real DSS."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .store import Store

_Key = tuple[str, str, str | None]  # replica, uuid, version or None for the latest
_Cache = dict[_Key, dict[str, Any]]


class Manifests:
    """Manifests as one process sees them.

    :param cache: manifests that the process has read or written; None to read the store each time
    """

    def __init__(self, store: Store, cache: _Cache | None) -> None:
        self._store = store
        self._cache = cache

    def get(self, replica: str, uuid: str, version: str | None) -> dict[str, Any] | None:
        """Return the manifest of a bundle, or None. A caller that changes it changes the cached one.

        :param version: version; the latest that is not deleted if None
        """
        key = (replica, uuid, version)
        manifest = None if self._cache is None else self._cache.get(key)
        if manifest is None:
            manifest = self._store.bundle(replica, uuid, version)
            if manifest is not None and self._cache is not None:
                self._cache[key] = manifest
        return manifest

    def keep(self, replica: str, uuid: str, manifest: dict[str, Any]) -> None:
        """Cache a manifest that this process has written."""
        if self._cache is not None:
            self._cache[replica, uuid, manifest["version"]] = manifest


class Processes:
    """The processes of a DSS, each with a cache of manifests that is never invalidated.

    Not thread-safe: used from the event loop only.

    :param count: number of processes; 0 for none that caches
    """

    def __init__(self, store: Store, count: int) -> None:
        self._store = store
        self.start(count)

    def start(self, count: int, seed: int | None = None, order: Iterable[int] = ()) -> None:
        """Start processes with empty caches, instead of the current ones.

        :param count: number of processes; 0 for none that caches
        :param seed: seed of a random choice of the process for each request; they take turns if None
        :param order: processes of the next requests, before that choice
        """
        self._caches: list[_Cache] = [{} for _ in range(count)]
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 - a repeatable choice
        self._order = list(order)
        self._turn = 0

    def manifests(self, process: int | None) -> Manifests:
        """Return the manifests for the next request.

        :param process: number of the process, from 0 on; the next one if None
        """
        if not self._caches:
            return Manifests(self._store, None)
        chosen = self._next() if process is None else process
        return Manifests(self._store, self._caches[chosen % len(self._caches)])

    def _next(self) -> int:
        if self._order:
            return self._order.pop(0)
        if self._random:
            return self._random.randrange(len(self._caches))
        self._turn += 1
        return self._turn - 1
