"""Object stores that keep and check everything as those of the clouds do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.local.server import LocalDSS
from tests.stores import FakeGCS, LocalDSSWithStores, SeaweedFS


@pytest.fixture(scope="session")
def shared_dss_with_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDSS]:
    """Start a local DSS whose staging buckets are in SeaweedFS and in fake-gcs-server."""
    with ExitStack() as stack:
        seaweed = SeaweedFS(tmp_path_factory.mktemp("seaweed"))
        stack.callback(seaweed.stop)
        gcs = FakeGCS(tmp_path_factory.mktemp("gcs"))
        stack.callback(gcs.stop)
        state = tmp_path_factory.mktemp("dss-with-stores")
        yield stack.enter_context(
            LocalDSSWithStores(state, "--sync-delay", "off", s3=seaweed.endpoint, gcs_url=gcs.url)
        )


@pytest.fixture
def dss_with_stores(shared_dss_with_stores: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> LocalDSS:
    """Give it without faults, named in the environment as its users name it."""
    shared_dss_with_stores.control("DELETE", "faults")
    shared_dss_with_stores.control("DELETE", "requests")
    for name, value in shared_dss_with_stores.about["env"].items():
        monkeypatch.setenv(name, value)
    return shared_dss_with_stores
