"""Retries that cannot help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_hca.exceptions import DSSError


@contextmanager
def fail_fast() -> Iterator[None]:
    """Raise invalid arguments and permanent errors as `AirflowFailException`, which fails the task without retries.

    These are `ValueError` and a `DSSError` that is `permanent`, such as a refused token or a conflict. Other errors are
    not changed.
    """
    try:
        yield
    except DSSError as error:
        if error.permanent:
            raise AirflowFailException(str(error)) from error
        raise
    except ValueError as error:
        raise AirflowFailException(str(error)) from error
