from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .server import LocalDSS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_dss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    state = tmp_path_factory.mktemp("dss")
    with LocalDSS(state, "--gcs", "--file-wait", "1", "--async-above", "100000", "--copy-delay", "0.4") as dss:
        yield dss


@pytest.fixture
def dss(shared_dss: LocalDSS) -> LocalDSS:
    """Give the running server of the whole session, with all faults switched off."""
    shared_dss.control("DELETE", "faults")
    shared_dss.control("DELETE", "requests")
    return shared_dss
