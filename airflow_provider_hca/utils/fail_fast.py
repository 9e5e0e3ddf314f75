"""Which errors end a task for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_hca.exceptions import DSSError


@contextmanager
def fail_fast() -> Iterator[None]:
    """Turn an error that would come again in every try into an `AirflowFailException`, which ends the task.

    Those are a `DSSError` that says it is permanent, such as a refused token or a conflict, and a `ValueError`, which
    is a wrong argument. Other errors pass as they are, and Airflow retries as the task is told to.
    """
    try:
        yield
    except DSSError as error:
        if error.permanent:
            raise AirflowFailException(str(error)) from error
        raise
    except ValueError as error:
        raise AirflowFailException(str(error)) from error
