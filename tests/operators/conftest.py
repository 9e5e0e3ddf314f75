"""Fixtures of the tests of operators."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _shared_loader() -> Iterator[None]:
    """Parse botocore's descriptions of services once, not for each client: 0.1 s of CPU."""
    import botocore.session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield
