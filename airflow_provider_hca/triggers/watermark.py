"""Which bundle versions a watcher knows, compactly enough for Airflow's state store."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterable
from datetime import date
from typing import Any

from airflow_provider_hca.client.identifiers import check_version

log = logging.getLogger(__name__)

# A key is the day of the version, by which old ones are found, and a hash: among so many, a new bundle is taken for a
# known one once in 10^10. In base64 they are 60,000 characters, below the 64 KiB that a state store takes by default.
_DAY, _HASH = 3, 6  # bytes
MOST_KEPT = 5000


class BundleWatermark:
    """The bundle versions that a watcher knows: all up to one of them, and single ones above it.

    Clients choose versions, so a bundle that is put now may be named after yesterday. One version as the limit of all
    that is known would swallow it; so the limit is a while ago, and what is above it is known one by one.

    :param newer_than: a DSS_VERSION; it and all older ones count as known
    :param keys: what `to_state` keeps of the single ones
    """

    def __init__(self, newer_than: str, keys: Iterable[bytes] = ()) -> None:
        self.newer_than = newer_than
        self._keys = set(keys)

    def add(self, bundles: Iterable[dict[str, str]]) -> None:
        """Know these from now on.

        :param bundles: each with `uuid` and `version`
        """
        self._keys.update(map(_key, bundles))

    def unseen(self, listed: Iterable[dict[str, str]]) -> list[dict[str, str]]:
        """Return what is not known of a listing, each once, ordered by version.

        :param listed: all bundles newer than `newer_than`, each with `uuid` and `version`
        """
        found = {_key(bundle): bundle for bundle in listed}
        unseen = [bundle for key, bundle in found.items() if key not in self._keys]
        return sorted(unseen, key=lambda bundle: (bundle["version"], bundle["uuid"]))

    def rise(self, newer_than: str) -> None:
        """Move the limit up, and forget single versions below it.

        :param newer_than: a DSS_VERSION; nothing happens when it is older than the limit
        """
        self.newer_than = max(self.newer_than, newer_than)
        oldest = _day(self.newer_than)
        self._keys = {key for key in self._keys if key >= oldest}

    def to_state(self) -> dict[str, str]:
        """Return all of this as JSON for a state store, at most 64 KiB.

        Of more than 5,000 single versions the others are left out: after a restart they are new again, not lost.
        """
        kept = sorted(self._keys)[-MOST_KEPT:]  # the newest
        if len(kept) < len(self._keys):
            log.warning(
                "%d bundle versions are newer than %s, and the state holds %d of them: a restart reports the others "
                "again. A shorter lookback, or a prefix, makes them fewer",
                *(len(self._keys), self.newer_than, len(kept)),
            )
        return {"newer_than": self.newer_than, "seen": base64.b64encode(b"".join(kept)).decode()}

    @classmethod
    def from_state(cls, state: Any) -> BundleWatermark:
        """Return what gave this state.

        :param state: from a state store
        :raises ValueError: when it is none
        """
        try:
            newer_than = check_version(state["newer_than"])
            keys = base64.b64decode(state["seen"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"was not written by a DSSNewBundleTrigger: {error}") from None
        size = _DAY + _HASH
        if len(keys) % size:
            raise ValueError("was not written by a DSSNewBundleTrigger: it has been cut off")
        return cls(newer_than, (keys[at : at + size] for at in range(0, len(keys), size)))


def fqid(bundle: dict[str, str]) -> str:
    """Return a bundle version as `uuid.version`.

    :param bundle: with `uuid` and `version`
    """
    return f"{bundle['uuid']}.{bundle['version']}"


def _key(bundle: dict[str, str]) -> bytes:
    return _day(bundle["version"]) + hashlib.blake2b(fqid(bundle).encode(), digest_size=_HASH).digest()


def _day(version: str) -> bytes:
    return date.fromisoformat(version[:10]).toordinal().to_bytes(_DAY)
