from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_hca.links.dss import DSSBundleLink
from airflow_provider_hca.utils.ui_links import LINK_KEY, BundleAddress

UUID = "1b9d8b6e-4c2a-4a7b-9f5e-0a1b2c3d4e5f"
VERSION = "2026-03-01T123000.000000Z"


@pytest.mark.parametrize("version", [VERSION, None])
@pytest.mark.parametrize("conn_id", ["hca_dss_default", "a b&c=d#e/f?"])
@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("", "/plugin/dss/hca-dss/bundle"),
        ("https://airflow.example.org", "/plugin/dss/hca-dss/bundle"),
        ("https://example.org/tools/airflow/", "/tools/airflow/plugin/dss/tools/airflow/hca-dss/bundle"),
    ],
)
def test_address_can_be_read_from_its_link(conn_id: str, version: str | None, base_url: str, path: str) -> None:
    address = BundleAddress(conn_id, "gcp", UUID, version)
    link = address.on_page(base_url)
    assert link.split("?")[0] == path
    assert BundleAddress.of(link) == address


def test_address_is_validated() -> None:
    assert BundleAddress.checked("c", "aws", UUID.upper(), "").uuid == UUID
    for replica, uuid, version in (("azure", UUID, VERSION), ("aws", "x", VERSION), ("aws", UUID, "1")):
        with pytest.raises(ValueError, match="must be"):
            BundleAddress.checked("c", replica, uuid, version)


@pytest.mark.parametrize(
    "link",
    [
        None,
        3,
        "",
        "https://dss.example.org/v1/bundles/x?replica=aws",
        "/plugin/dss/hca-dss/bundle?connection=c&replica=aws",
        f"/plugin/dss/hca-dss/bundle?connection=c&replica=azure&uuid={UUID}",
        f"/plugin/dss/hca-dss/bundle?connection=c&replica=aws&uuid={UUID}&version=x",
        "http://[/plugin/dss?x",
    ],
)
def test_other_links_have_no_address(link: Any) -> None:
    assert BundleAddress.of(link) is None


def test_link_to_the_dss_has_replica_and_version() -> None:
    api = "https://dss.example.org/v1"
    assert BundleAddress("c", "aws", UUID).at_dss(api) == f"{api}/bundles/{UUID}?replica=aws"
    link = BundleAddress("c", "aws", UUID, VERSION).at_dss(api)
    assert link == f"{api}/bundles/{UUID}?replica=aws&version={VERSION}"


def test_link_key_is_that_of_airflow() -> None:
    assert f"_link_{DSSBundleLink.__name__}" == LINK_KEY
    assert getattr(DSSBundleLink(), "xcom_key", LINK_KEY) == LINK_KEY
