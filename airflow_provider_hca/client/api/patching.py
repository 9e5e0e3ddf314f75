"""Apply a PATCH once, even if its response leaves open whether it was applied.

A PATCH is never repeated blindly: after an unclear failure the DSS is checked first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from airflow_provider_hca.client.api.base import Calls
from airflow_provider_hca.client.models import FQID
from airflow_provider_hca.client.retry import RetryPolicy, is_unclear
from airflow_provider_hca.client.sansio import Call, pause
from airflow_provider_hca.exceptions import DSSError, DSSResponseError

log = logging.getLogger(__name__)

_ATTEMPTS = 2
# The gateway of a DSS gives up after 25 to 30 seconds, and the code behind it ends then too. A PATCH that is repeated
# earlier may be applied twice, whatever the timeouts of the connection.
_POLLING = RetryPolicy(attempts=100, seconds=35.0)

# Returns the version that a PATCH created, "" if it was applied but its version is unknown, None if it was not applied.
Check = Callable[[], Call[str | None]]


class Patches(Calls):
    """Code shared by the changes of bundles and of collections."""

    def _patch(self, send: Callable[[], Call[FQID]], check: Check) -> Call[str]:
        """Return the version that a PATCH creates; repeat it only if a check shows that it was not applied.

        :param send: Sends the PATCH
        :param check: Checks whether it was applied
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return (yield from send()).version
            except DSSError as error:
                if not is_unclear(error):
                    raise
                failure = error
            log.warning("%s. Checking whether the PATCH was applied", failure)
            version = yield from _poll(check, repeat=_may_continue(failure))
            if version:
                log.info("the PATCH was applied: version %s", version)
                return version
            if attempt == _ATTEMPTS:
                raise failure
            log.info("the PATCH was %s; resending", "not applied" if version is None else "applied, version unknown")


def _poll(check: Check, *, repeat: bool) -> Call[str | None]:
    """Check whether a PATCH was applied; repeatedly if the DSS may still be working on it."""
    attempt, started = 1, time.monotonic()
    while True:
        version = yield from check()
        delay = _POLLING.delay(attempt, time.monotonic() - started, None) if repeat else None
        if version is not None or delay is None:
            return version
        yield pause(delay)
        attempt += 1


def _may_continue(error: DSSError) -> bool:
    """Return whether the DSS may still be working, since only its gateway answered, or no server, or with 202."""
    return not isinstance(error, DSSResponseError) or error.status in {502, 504}
