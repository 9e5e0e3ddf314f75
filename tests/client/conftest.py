from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_hca.client import auth, retry, waiters
from airflow_provider_hca.client.api import DSSAPI, bundles, files, patching
from airflow_provider_hca.client.auth import ServiceAccountKey
from tests.local.server import LocalDSS

from .contract import QUICK, key_of
from .drivers import DRIVERS, Run, driver
from .feeding import Clock
from .server import Server


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove proxies, certificates and passwords of the machine."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of the client with one that tests put forward."""
    clock = Clock()
    for module in (auth, bundles, patching, retry, files, waiters):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture(params=DRIVERS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run calls on each transport."""
    with driver(request.param) as run:
        yield run


@pytest.fixture
def run_requests() -> Iterator[Run]:
    """Run calls on requests only, for tests that do not depend on the transport."""
    with driver("requests") as run:
        yield run


@pytest.fixture
def server() -> Iterator[Server]:
    """Start a web server with configurable replies."""
    with Server() as server:
        yield server


@pytest.fixture
def dss_auth(dss: LocalDSS) -> ServiceAccountKey:
    """Return a token source that the running DSS accepts."""
    return ServiceAccountKey(key_of(dss), audience=dss.about["audience"])


@pytest.fixture
def api(dss: LocalDSS, dss_auth: ServiceAccountKey) -> DSSAPI:
    """Return the calls of the running DSS."""
    return DSSAPI(dss.url, auth=dss_auth, retry=QUICK)
