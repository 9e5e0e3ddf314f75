"""Sending a PATCH so that it is done once, although it may be answered unclearly.

A PATCH is never repeated blindly: after an answer that leaves open whether it was done, the DSS is looked at first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from airflow_provider_hca.client.api.base import Calls
from airflow_provider_hca.client.models import FQID
from airflow_provider_hca.client.retry import RetryPolicy, is_unclear
from airflow_provider_hca.client.sansio import Call, pause
from airflow_provider_hca.exceptions import DSSConnectionError, DSSResponseError

log = logging.getLogger(__name__)

_TRIES = 2
# The gateway of a DSS gives up after 25 to 30 seconds, and what is behind it ends then too. Whoever has a PATCH sent
# again sooner may have it done twice, whatever the connection's own patience.
_LOOKING = RetryPolicy(attempts=100, seconds=35.0)

# Looks whether a PATCH was done: the version it made, "" when it was done and the version cannot be known, else None.
Look = Callable[[], Call[str | None]]


class Patches(Calls):
    """What the changes of bundles and of collections have in common."""

    def _patch(self, send: Callable[[], Call[FQID]], look: Look) -> Call[str]:
        """Return the version that a PATCH made; send it again only when it was seen not to be done.

        :param send: sends it
        :param look: looks whether it was done
        """
        tries = 0
        while True:
            tries += 1
            try:
                return (yield from send()).version
            except (DSSConnectionError, DSSResponseError) as error:
                if not is_unclear(error):
                    raise
                failure = error
            log.warning("%s. Looking whether it was done", failure)
            version = yield from _looked(look, patiently=_may_go_on(failure))
            if version:
                log.info("it was done: version %s", version)
                return version
            if tries == _TRIES:
                raise failure
            log.info(
                "it was %s: sending it again", "not done" if version is None else "done, in a version nobody tells"
            )


def _looked(look: Look, *, patiently: bool) -> Call[str | None]:
    """Look whether a PATCH was done; again and again if the DSS may still be working at it."""
    attempt, started = 1, time.monotonic()
    while True:
        version = yield from look()
        delay = _LOOKING.delay(attempt, time.monotonic() - started, None) if patiently else None
        if version is not None or delay is None:
            return version
        yield pause(delay)
        attempt += 1


def _may_go_on(error: DSSConnectionError | DSSResponseError) -> bool:
    """Return whether the DSS may still be at work, since only the gateway before it answered, or nobody."""
    return isinstance(error, DSSConnectionError) or error.status in {502, 504}
