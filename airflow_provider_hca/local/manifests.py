"""The manifests that are read: those stored, or, switched on, what a process of a DSS would remember of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .store import Store

_Place = tuple[str, str, str | None]  # replica, uuid, version or None for the latest


class Manifests:
    """Finds manifests.

    A process of a DSS remembers each manifest it has read or written, and never looks again. PATCH changes the one that
    it remembers under the old version, which shows the new content from then on. It does not notice that there is a
    later version, or that one was deleted.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._remembered: dict[_Place, dict[str, Any]] | None = None

    def remember(self, *, on: bool) -> None:
        """Switch remembering on or off; either way all is forgotten.

        :param on: whether it is on
        """
        self._remembered = {} if on else None

    def find(self, replica: str, uuid: str, version: str | None) -> dict[str, Any] | None:
        """Return the manifest of a bundle, by default of the latest version that is not deleted.

        :param replica: where
        :param uuid: which bundle
        :param version: which version of it
        """
        remembered = self._remembered
        if remembered is None:
            return self._store.bundle(replica, uuid, version)
        place = (replica, uuid, version)
        if place not in remembered:
            manifest = self._store.bundle(replica, uuid, version)
            if manifest is None:
                return None
            remembered[place] = manifest
        return remembered[place]

    def written(self, replica: str, uuid: str, manifest: dict[str, Any], old: str | None = None) -> None:
        """Take notice of a manifest that this process wrote.

        :param replica: where
        :param uuid: which bundle
        :param manifest: the manifest
        :param old: the version that was patched to make it
        """
        if self._remembered is not None:
            self._remembered[replica, uuid, manifest["version"]] = manifest
            if old is not None:
                self._remembered[replica, uuid, old] = manifest
