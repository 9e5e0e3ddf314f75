"""Apply a PATCH once, even if its response leaves open whether it was applied.

A PATCH is never repeated blindly: after an unclear failure the DSS is checked first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from airflow_provider_hca.client.api.base import Calls
from airflow_provider_hca.client.models import FQID
from airflow_provider_hca.client.retry import is_unclear
from airflow_provider_hca.client.sansio import Call, pause
from airflow_provider_hca.exceptions import DSSError, DSSResponseError

log = logging.getLogger(__name__)

_ATTEMPTS = 2
# The gateway of a DSS gives up after 25 to 30 seconds, and the code behind it ends then too. A PATCH that is repeated
# earlier may be applied twice, whatever the timeouts of the connection.
_POLL_SECONDS = 35.0
_FIRST_INTERVAL, _MAX_INTERVAL = 0.5, 10.0  # seconds

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
    """Check whether a PATCH was applied; repeatedly, and once after the DSS has ended, if it may still be working."""
    interval, deadline = _FIRST_INTERVAL, time.monotonic() + _POLL_SECONDS
    while True:
        is_last = not repeat or time.monotonic() >= deadline
        version = yield from check()
        if version is not None or is_last:
            return version
        yield pause(min(interval, max(0.0, deadline - time.monotonic())))
        interval = min(_MAX_INTERVAL, interval * 2)


def _may_continue(error: DSSError) -> bool:
    """Return whether the DSS may still be working, since only its gateway answered, or no server, or with 202."""
    return not isinstance(error, DSSResponseError) or error.status in {502, 504}
