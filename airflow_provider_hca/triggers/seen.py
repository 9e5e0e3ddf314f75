"""Which bundle versions a watcher knows, compactly enough for Airflow's state store."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterable
from typing import Any

from airflow_provider_hca.client.identifiers import check_version

log = logging.getLogger(__name__)

# 8 bytes of a hash each: a new bundle is taken for a known one once in 10^15. In base64 so many are 64,000 characters,
# just below the 64 KiB that a state store takes by default.
_SIZE = 8
MOST_KEPT = 6000


class SeenBundles:
    """The bundle versions that a watcher knows: all up to one of them, and single ones above it.

    Clients choose versions, so a bundle that is put now may be named after yesterday. One version as the limit of all
    that is known would swallow it; so the limit is a while ago, and what is above it is known one by one.

    :param newer_than: a DSS_VERSION; it and all older ones count as known
    :param keys: what `to_state` keeps of the single ones
    """

    def __init__(self, newer_than: str, keys: Iterable[bytes] = ()) -> None:
        self.newer_than = newer_than
        self._keys = set(keys)
        self._lately = set(self._keys)

    def add(self, bundles: Iterable[dict[str, str]]) -> None:
        """Know these from now on.

        :param bundles: each with `uuid` and `version`
        """
        keys = {_key(bundle) for bundle in bundles}
        self._keys |= keys
        self._lately |= keys

    def unseen(self, listed: Iterable[dict[str, str]]) -> list[dict[str, str]]:
        """Return what is not known of a listing, each once, ordered by version.

        :param listed: all bundles newer than `newer_than`, each with `uuid` and `version`
        """
        found = {_key(bundle): bundle for bundle in listed}
        # What was deleted, or is older than the limit by now, is not listed any more. It is forgotten only when missing
        # twice: a DSS can leave a version out of one listing, and the next would make it new again.
        self._keys &= self._lately | found.keys()
        self._lately = set(found)
        unseen = [bundle for key, bundle in found.items() if key not in self._keys]
        return sorted(unseen, key=lambda bundle: (bundle["version"], bundle["uuid"]))

    def to_state(self) -> dict[str, str]:
        """Return all of this as JSON for a state store, at most 64 KiB.

        Of more than 6,000 single versions the others are left out: after a restart they are new again, not lost.
        """
        kept = sorted(self._keys)[:MOST_KEPT]
        if len(kept) < len(self._keys):
            log.warning(
                "%d bundle versions are newer than %s, and the state holds %d of them: a restart reports the others "
                "again. A shorter lookback, or a prefix, makes them fewer",
                *(len(self._keys), self.newer_than, len(kept)),
            )
        return {"newer_than": self.newer_than, "seen": base64.b64encode(b"".join(kept)).decode()}

    @classmethod
    def from_state(cls, state: Any) -> SeenBundles:
        """Return what gave this state.

        :param state: from a state store
        :raises ValueError: when it is none
        """
        try:
            newer_than = check_version(state["newer_than"])
            keys = base64.b64decode(state["seen"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"is none of a watcher for bundles: {error}") from None
        if len(keys) % _SIZE:
            raise ValueError("is none of a watcher for bundles: it has been cut off")
        return cls(newer_than, (keys[at : at + _SIZE] for at in range(0, len(keys), _SIZE)))


def fqid(bundle: dict[str, str]) -> str:
    """Return a bundle version as `uuid.version`.

    :param bundle: with `uuid` and `version`
    """
    return f"{bundle['uuid']}.{bundle['version']}"


def _key(bundle: dict[str, str]) -> bytes:
    return hashlib.blake2b(fqid(bundle).encode(), digest_size=_SIZE).digest()
