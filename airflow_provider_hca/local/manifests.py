"""Read manifests, optionally through a cache that becomes stale like that of a real DSS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .store import Store

_Key = tuple[str, str, str | None]  # replica, uuid, version or None for the latest


class ManifestCache:
    """Manifests by replica, uuid and version; caching is off by default.

    A process of a DSS caches each manifest that it has read or written, and never reads it again. PATCH changes the
    cached manifest of the old version, which has the new content from then on. Later versions and deletions are not
    noticed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache: dict[_Key, dict[str, Any]] | None = None

    def set_enabled(self, *, enabled: bool) -> None:
        """Turn caching on or off, and clear the cache."""
        self._cache = {} if enabled else None

    def get(self, replica: str, uuid: str, version: str | None) -> dict[str, Any] | None:
        """Return the manifest of a bundle, or None.

        :param version: version; the latest that is not deleted if None
        """
        cache = self._cache
        if cache is None:
            return self._store.bundle(replica, uuid, version)
        key = (replica, uuid, version)
        if key not in cache:
            manifest = self._store.bundle(replica, uuid, version)
            if manifest is None:
                return None
            cache[key] = manifest
        return cache[key]

    def update(self, replica: str, uuid: str, manifest: dict[str, Any], old: str | None = None) -> None:
        """Cache a manifest that this process wrote.

        :param old: version that was patched, if any
        """
        if self._cache is not None:
            self._cache[replica, uuid, manifest["version"]] = manifest
            if old is not None:
                self._cache[replica, uuid, old] = manifest
