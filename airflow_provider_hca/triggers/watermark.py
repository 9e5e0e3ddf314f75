"""Known bundle versions of a watcher, in a form that fits Airflow's state store."""

from __future__ import annotations

import base64
import hashlib
import heapq
import logging
from collections.abc import Iterable
from datetime import date
from typing import Any

from airflow_provider_hca.client.identifiers import check_version

log = logging.getLogger(__name__)

# A key is the day of the version, to remove old ones, and a hash: with 5,000 keys the probability that a new bundle is
# taken for a known one is 10^-10. In base64 they have 60,000 characters; a state store takes 64 KiB by default.
_DAY, _HASH = 3, 6  # bytes
MOST_KEPT = 5000


class BundleWatermark:
    """Known bundle versions: all up to a limit, and individual ones above it.

    Clients choose versions, so a bundle created now may have yesterday's version, and a single limit would hide it.
    The limit therefore lags behind, and versions above it are known individually.

    :param newer_than: DSS_VERSION of the limit; it and all older versions are known
    :param keys: Keys of the individual versions, as in `to_state`
    """

    def __init__(self, newer_than: str, keys: Iterable[bytes] = ()) -> None:
        self.newer_than = newer_than
        self._keys = set(keys)

    @property
    def count(self) -> int:
        """Number of individual versions."""
        return len(self._keys)

    def add(self, bundles: Iterable[dict[str, str]]) -> None:
        """Mark bundles as known.

        :param bundles: Bundles, each with `uuid` and `version`
        """
        self._keys.update(map(_key, bundles))

    def unseen(self, listed: Iterable[dict[str, str]]) -> list[dict[str, str]]:
        """Return the unknown bundles of a listing, each once.

        :param listed: Bundles newer than `newer_than`, each with `uuid` and `version`
        """
        by_key = {_key(bundle): bundle for bundle in listed}
        return [bundle for key, bundle in by_key.items() if key not in self._keys]

    def rise(self, newer_than: str) -> None:
        """Raise the limit, and remove individual versions below it.

        :param newer_than: DSS_VERSION of the new limit; ignored if older than the present one
        """
        self.newer_than = max(self.newer_than, newer_than)
        oldest = _day(self.newer_than)
        self._keys = {key for key in self._keys if key >= oldest}

    def to_state(self) -> dict[str, str]:
        """Return the state as JSON for a state store, at most 64 KiB.

        It holds at most 5,000 individual versions; after a restart, further ones are new again.
        """
        kept = heapq.nlargest(MOST_KEPT, self._keys)  # the newest; lets other threads run, as sorted() does not
        if len(kept) < len(self._keys):
            log.warning(
                "%d bundle versions are newer than %s, and the state holds %d of them: after a restart the others fire "
                "again. Reduce them with a shorter lookback or a prefix",
                *(len(self._keys), self.newer_than, len(kept)),
            )
        return {"newer_than": self.newer_than, "seen": base64.b64encode(b"".join(kept[::-1])).decode()}

    @classmethod
    def from_state(cls, state: Any) -> BundleWatermark:
        """Return the watermark of a state.

        :param state: State from a state store
        :raises ValueError: if it is not the state of a watermark
        """
        try:
            newer_than = check_version(state["newer_than"])
            keys = base64.b64decode(state["seen"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not written by a DSSNewBundleTrigger: {error}") from None
        size = _DAY + _HASH
        if len(keys) % size:
            raise ValueError("not written by a DSSNewBundleTrigger: it is truncated")
        return cls(newer_than, (keys[at : at + size] for at in range(0, len(keys), size)))


def fqid(bundle: dict[str, str]) -> str:
    """Return the FQID of a bundle version: `uuid.version`.

    :param bundle: Bundle with `uuid` and `version`
    """
    return f"{bundle['uuid']}.{bundle['version']}"


def _key(bundle: dict[str, str]) -> bytes:
    return _day(bundle["version"]) + hashlib.blake2b(fqid(bundle).encode(), digest_size=_HASH).digest()


def _day(version: str) -> bytes:
    return date.fromisoformat(version[:10]).toordinal().to_bytes(_DAY)
