"""Fixtures of the local DSS's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import LocalDSS

SYNC_DELAY = 0.1  # seconds


@pytest.fixture(scope="session")
def synced_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS that copies everything to the other replica after SYNC_DELAY."""
    with LocalDSS(tmp_path_factory.mktemp("synced"), "--gcs", "--sync-delay", str(SYNC_DELAY)) as dss:
        yield dss
