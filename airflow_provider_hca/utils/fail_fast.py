"""Retries that cannot help, and the reasons of failures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    get_current_context,
)

from airflow_provider_hca.exceptions import DSSError

log = logging.getLogger(__name__)

_MAX_LENGTH = 2000  # characters; the log of the task has everything
# Their messages hold no secrets. Other exceptions of Airflow, such as a skip, are no failures.
_OUR_ERRORS = (DSSError, ValueError, AirflowFailException, AirflowNotFoundException, AirflowSensorTimeout)


@contextmanager
def fail_fast() -> Iterator[None]:
    """Raise invalid arguments and permanent errors as `AirflowFailException`, which fails the task without retries.

    These are `ValueError` and a `DSSError` that is `permanent`, such as a refused token or a conflict. Other errors are
    not changed. All are reported to the page in the Airflow UI.
    """
    with report_errors():
        try:
            yield
        except (DSSError, ValueError) as error:
            if isinstance(error, DSSError) and not error.permanent:
                raise
            # Airflow logs the exception with its causes, which would show the message twice.
            log.debug("permanent failure", exc_info=True)
            raise AirflowFailException(str(error)) from None


@contextmanager
def report_errors() -> Iterator[None]:
    """Store the reason of a failure as an XCom of the running task, for the page in the Airflow UI."""
    try:
        yield
    except AirflowTaskTimeout:  # not an Exception
        _report("The task exceeded its execution_timeout")
        raise
    except _OUR_ERRORS as error:
        _report(str(error)[:_MAX_LENGTH])
        raise
    except AirflowException:
        raise
    except Exception as error:
        _report(f"{type(error).__name__}: the log of the task has the message")
        raise


def _report(reason: str) -> None:
    from airflow_provider_hca.utils.ui_links import ERROR_KEY

    try:
        get_current_context()["ti"].xcom_push(key=ERROR_KEY, value=reason)
    except Exception as error:  # noqa: BLE001 - without Airflow there is no context; the failure itself must be raised
        log.debug("cannot report the reason of the failure: %s", error)
